"""What must not get through: characters that nobody can send or store, and keys in what people read."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

_HIDDEN = "***"
# Keys that no model of ours has told: a server may say back what it was sent, or a client name its URL.
_KEY = re.compile(
    r"(?<=bearer )[^\s\"',;}]+|(?<=basic )[\w+/=]{8,}|\bsk-[\w-]{6,}|(?<=://)[^\s/@]+(?=@)", re.IGNORECASE
)
_SHORTEST_KEY = 6
"""A shorter one is a placeholder, such as "none", and hiding it would garble other words."""


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
            yield from (secret for secret in value.values() if isinstance(secret, str))


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
        with suppress(Exception):  # an error whose fields cannot be set stays as it is
            each.args = _hidden(each.args, secrets)
        for name, value in list(vars(each).items()):
            if isinstance(value, str | list | tuple | dict):
                with suppress(Exception):
                    setattr(each, name, _hidden(value, secrets))


def _hidden(value: Any, secrets: Iterable[str]) -> Any:
    if isinstance(value, str):
        return hide(value, secrets)
    if isinstance(value, list | tuple):
        changed = [_hidden(each, secrets) for each in value]
        # A named tuple takes its fields one by one; what is neither is left as it is.
        return type(value)(changed) if type(value) in {list, tuple} else value
    if isinstance(value, dict):
        return {key: _hidden(each, secrets) for key, each in value.items()}
    return value
