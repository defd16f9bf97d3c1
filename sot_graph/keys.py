"""Which keys and headers the models are made with that a graph calls."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from inspect import getclosurevars
from itertools import islice
from types import FunctionType, MethodType
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import SecretStr

TOLD_HEADERS = frozenset({"accept", "content-type", "user-agent", "http-referer", "referer", "x-title"})
"""Those that hold no key."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LAST_WORDS = frozenset({"key", "keys", "token", "auth", "pat", "pwd", "jwt"})
_WORDS = ("apikey", "secret", "password", "passwd", "passphrase", "authorization", "credential", "credentials")
_SHORTEST = 6
"""A shorter key is a placeholder, such as "none", and hiding it would garble other words."""
_SHORTEST_IN_ENVIRONMENT = 16
"""There, a shorter one may be a word like any other: `PGPASSWORD=postgres`."""
_MOST_PARTS = 5_000
"""How many objects are looked at to find the models within a chain or a graph."""


def is_secret(name: str) -> bool:
    """Whether what has that name is a key: a parameter (`apiKey`), a header (`X-API-Key`), a variable (`API_KEY`)."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and (words[-1] in _LAST_WORDS or any(word.endswith(_WORDS) for word in words))


def secrets_of(*parts: object) -> list[str]:
    """The keys and the headers' values that these and the models within them are made with, and the environment's keys.

    Args:
        parts: Models, or what calls models: chains, agents, graphs, functions.
    """
    found = {secret for part in _within(*parts) for secret in _secrets_in(_settings(part))}
    in_environment = {value for name, value in os.environ.items() if is_secret(name)}
    secrets = {secret for secret in found if len(secret) >= _SHORTEST}
    secrets |= {secret for secret in in_environment if len(secret) >= _SHORTEST_IN_ENVIRONMENT}
    # The longest first, in case one is a part of another.
    return sorted(secrets, key=lambda secret: (-len(secret), secret))


def _settings(part: object) -> Mapping[str, Any]:
    """What a model is made with, or what a binding gives it."""
    if isinstance(part, RunnableBinding):
        return part.kwargs
    return vars(part) if isinstance(part, BaseChatModel) else {}


def _secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """The secrets in a value, by its name and by the names in it."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, str) and is_secret(name):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(each, str) and "header" in name.lower() and str(key).lower() not in TOLD_HEADERS:
                yield each
            else:
                yield from _secrets_in(each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _secrets_in(each, name)


def _within(*roots: object) -> Iterator[object]:
    """These objects and what they call, as far as that can be seen: steps, bindings, nodes, what functions refer to."""
    seen: dict[int, object] = {}
    pending = deque(roots)
    while pending and len(seen) < _MOST_PARTS:
        each = pending.popleft()
        if id(each) not in seen and not isinstance(each, str | bytes | int | float | None):
            seen[id(each)] = each
            pending.extend(islice(_parts(each), _MOST_PARTS))
            yield each


def _parts(whole: object) -> Iterable[object]:
    """What an object holds that may be, or hold, a model."""
    if isinstance(whole, Mapping):
        return whole.values()
    if isinstance(whole, list | tuple):
        return whole
    if isinstance(whole, partial | MethodType | FunctionType):
        return _referred(whole)
    if isinstance(whole, Runnable) or type(whole).__module__.startswith(("langchain", "langgraph")):
        return _fields(whole)
    # Of an object of the caller's own only what it calls, not all that it may be connected with.
    return (each for each in _fields(whole) if isinstance(each, Runnable | list | tuple | Mapping))


def _referred(function: partial[Any] | MethodType | FunctionType) -> Iterable[object]:
    """What a function refers to."""
    if isinstance(function, partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, MethodType):
        return [function.__func__, function.__self__]
    with suppress(ValueError):  # it may refer to what is not there yet
        names = getclosurevars(function)
        own = (each for each in names.globals.values() if _is_of(function.__module__, each))
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        return [*names.nonlocals.values(), *defaults, *own]
    return []


def _is_of(module: str, value: object) -> bool:
    """Whether a module's variable is something that is called there: a Runnable, or a function of its own."""
    return isinstance(value, Runnable) or (isinstance(value, FunctionType) and value.__module__ == module)


def _fields(owner: object) -> list[object]:
    slots = (name for cls in type(owner).__mro__ for name in getattr(cls, "__slots__", ()))
    return [*getattr(owner, "__dict__", {}).values(), *(getattr(owner, name, None) for name in slots)]
