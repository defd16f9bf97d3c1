"""What must not get through: characters that nobody can send or store, and keys in what people read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, LLMResult

from sot_graph.keys import TOLD_HEADERS, is_secret

HIDDEN = "***"
# Keys that no model of ours has told: a server may say back what it was sent, or a client name its URL. What has no
# digit and is not long is a word: "bearer or basic authentication", "sk-learning".
_IS_KEY = r"(?=[\w.~+/=-]*\d|[\w.~+/=-]{20})"
_KEY = re.compile(
    rf"(?<=bearer ){_IS_KEY}[\w.~+/=-]+|(?<=basic ){_IS_KEY}[\w+/=]+|(?<=://)[^\s/@]+(?=@)"
    rf"|\b(?:sk-|gsk_|hf_|ghp_|xai-|pplx-|lsv2_|AIza){_IS_KEY}[\w-]+"
    rf"|(?P<before>(?<![a-z])(?:api)?(?:key|token|secret|password)[\"']?\s?[=:]\s?[\"']?){_IS_KEY}[\w.~+/-]{{12,}}",
    re.IGNORECASE,
)
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


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """Take keys out of a text that people will read."""
    for secret in secrets:
        # What looks like a word may be a part of others: a header's "server" of "observer".
        text = re.sub(rf"\b{secret}\b", HIDDEN, text) if secret.isalpha() else text.replace(secret, HIDDEN)
    return _KEY.sub(rf"\g<before>{HIDDEN}", text)


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
        pending += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
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
        if isinstance(serialized, dict):
            serialized.pop("repr", None)  # of a model that LangChain cannot serialize: all that it is made with
        params, metadata = kwargs.get("invocation_params"), kwargs.get("metadata")
        for part in (serialized, params, kwargs.get("options")):
            if isinstance(part, dict):
                changed = {key: told for key, each in part.items() if (told := self._told(each, key)) is not each}
                part.update(changed)
                if part is params and metadata is not None:
                    metadata.update(changed)  # the tracer adds the parameters as they were to what is not there already

    def on_llm_error(self, error: BaseException, *, response: LLMResult | None = None, **_kwargs: Any) -> None:
        """Take keys out of the error, and of the server's reply that some clients' errors carry."""
        hide_in(error, self._secrets)
        for generation in (each for batch in response.generations for each in batch) if response else ():
            if isinstance(generation, ChatGeneration):
                message = generation.message
                message.response_metadata = self._told(message.response_metadata)

    def on_chain_error(self, error: BaseException, **_kwargs: Any) -> None:
        """Take keys out of an error of what else the caller has put into the graph."""
        hide_in(error, self._secrets)

    on_tool_error = on_retriever_error = on_chain_error

    def _told(self, value: Any, name: str = "") -> Any:
        """The same value without keys and without the values of headers; the very same object where it has none."""
        return _hidden(_without_named(value, name), self._secrets)


def _without_named(value: Any, name: str = "") -> Any:
    """The same value, with what is a key by its name hidden, and all headers that may be one."""
    if isinstance(value, str) and is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping) and "header" in name.lower():
        return {key: each if str(key).lower() in TOLD_HEADERS else HIDDEN for key, each in value.items()}
    changed: Any = value
    if isinstance(value, Mapping):
        changed = {key: _without_named(each, str(key)) for key, each in value.items()}
    elif isinstance(value, list):
        changed = [_without_named(each, name) for each in value]
    return value if changed == value else changed


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
