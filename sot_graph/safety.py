"""What must not get through: characters that nobody can send or store, and keys in what people read."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig
from pydantic import SecretStr

_HIDDEN = "***"
# Keys that no model of ours has told: a server may say back what it was sent, or a client name its URL. What has no
# digit and is not long is a word: "bearer or basic authentication", "sk-learning".
_IS_KEY = r"(?=[\w.~+/=-]*\d|[\w.~+/=-]{20})"
_KEY = re.compile(
    rf"(?<=bearer ){_IS_KEY}[\w.~+/=-]+|(?<=basic ){_IS_KEY}[\w+/=]+|\bsk-{_IS_KEY}[\w-]+|(?<=://)[^\s/@]+(?=@)",
    re.IGNORECASE,
)
_TOLD_HEADERS = frozenset({"accept", "content-type", "user-agent", "http-referer", "referer", "x-title"})
_SHORTEST_KEY = 6
"""A shorter one is a placeholder, such as "none", and hiding it would garble other words."""


ERROR_LIMIT = 500
"""How many characters of an error's message are kept."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_STAND_IN = "\N{REPLACEMENT CHARACTER}"


def encodable(text: str) -> str:
    """Put the replacement character for lone surrogates, which nobody can send."""
    return text if text.isascii() else _SURROGATE.sub(_STAND_IN, text)


def storable(text: str) -> str:
    """Put the replacement character for lone surrogates and for null characters, which no JSON column takes."""
    return encodable(text).replace("\x00", _STAND_IN)


def secrets_of(*models: object) -> list[str]:
    """The keys and the headers' values that these models are made with."""
    found = {secret for model in models if isinstance(model, BaseChatModel) for secret in _secrets_in(model)}
    # The longest first, in case one is a part of another.
    return sorted((secret for secret in found if len(secret) >= _SHORTEST_KEY), key=lambda s: (-len(s), s))


def _secrets_in(model: BaseChatModel) -> Iterator[str]:
    for name, value in vars(model).items():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseChatModel):  # a model around another
            yield from _secrets_in(value)
        elif "header" in name and isinstance(value, Mapping):
            yield from (
                text for key, text in value.items() if isinstance(text, str) and key.lower() not in _TOLD_HEADERS
            )


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """Take keys out of a text that people will read."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return _KEY.sub(_HIDDEN, text)


def hide_in(error: BaseException, secrets: Iterable[str] = ()) -> None:
    """Take keys out of what an error says, and out of the errors that it came from.

    In the error itself, because it is raised as it is: a server's refusal may say back the key that it refused, and the
    engine logs and stores what is raised.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += [each.__cause__, each.__context__]
        for name, value in [("args", each.args), *vars(each).items()]:
            hidden = _hidden(value, secrets)
            if hidden is not value:
                with suppress(Exception):  # a field that cannot be set stays as it is
                    setattr(each, name, hidden)


class Hider(BaseCallbackHandler):
    """Takes keys out of what a model's run tells, before a tracer notes it."""

    run_inline = True  # before those that come after it, in async runs too

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def __hash__(self) -> int:
        # LangChain merges two managers' handlers as sets, which lose their order. With this hash, one that went in
        # first comes out first again.
        return 0

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:  # noqa: ARG002 - the handler's form
        """Take keys and headers out of how the model is made; LangChain itself knows of the API key only."""
        params, metadata = kwargs.get("invocation_params"), kwargs.get("metadata")
        for part in (serialized, params):
            if isinstance(part, dict):
                part.update(_hidden(_without_headers(part), self._secrets))
        if params and metadata is not None:  # the tracer adds the parameters as they were to what is not there already
            metadata.update({key: value for key, value in params.items() if "header" in key})

    def on_llm_error(self, error: BaseException, *, response: LLMResult | None = None, **_kwargs: Any) -> None:
        """Take keys out of the error, and of the server's reply that some clients' errors carry."""
        hide_in(error, self._secrets)
        for generation in (each for batch in response.generations for each in batch) if response else ():
            if isinstance(generation, ChatGeneration):
                message = generation.message
                message.response_metadata = _hidden(message.response_metadata, self._secrets)


def _without_headers(value: Any) -> Any:
    """The same value, with the values of HTTP headers hidden that may be keys."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: {name: each if name.lower() in _TOLD_HEADERS else _HIDDEN for name, each in part.items()}
        if "header" in str(key) and isinstance(part, Mapping)
        else _without_headers(part)
        for key, part in value.items()
    }


def first_hearing(config: RunnableConfig, *first: BaseCallbackHandler) -> RunnableConfig:
    """The same config, with these to hear of the calls before all others do."""
    manager = config.get("callbacks")
    if not isinstance(manager, BaseCallbackManager):
        return {**config, "callbacks": [*first, *(manager or [])]}
    manager = manager.copy()
    for handlers in (manager.handlers, manager.inheritable_handlers):
        handlers[:0] = first
    return {**config, "callbacks": manager}


def describe(error: object) -> str:
    """An error as a short text that can be stored."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return storable(text)[:ERROR_LIMIT]


def _hidden(value: Any, secrets: Iterable[str]) -> Any:
    """The same value without keys; the very same object where it has none."""
    changed: Any = value
    if isinstance(value, str):
        changed = hide(value, secrets)
    elif type(value) in {list, tuple}:
        changed = type(value)(_hidden(each, secrets) for each in value)
    elif type(value) is dict:
        changed = {key: _hidden(each, secrets) for key, each in value.items()}
    return value if changed == value else changed
