"""Keys for LangGraph's node cache: the same question to the same model is the same call."""

import hashlib
import inspect
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from types import CodeType
from typing import Any
from uuid import uuid4

from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.types import CachePolicy

logger = logging.getLogger(__name__)
_UNSTABLE = re.compile(r"\bat 0x[0-9a-f]{6}|Runnable(?:Lambda|Generator)\(")
"""An address, which another object may have later; a function inside a chain, whose code is not in its name."""


def digest(*parts: object) -> str:
    """A short name for what a call depends on, without the random ids of messages."""
    told = ("type", "role", "name", "content", "status", "tool_calls", "invalid_tool_calls")

    def plain(value: object) -> object:
        if isinstance(value, BaseMessage):
            return [getattr(value, key, None) for key in told]
        return repr(value)

    return hashlib.sha256(json.dumps(parts, default=plain).encode()).hexdigest()[:32]


def with_key(
    policy: CachePolicy[Any] | None, model: object, fields: tuple[str, ...], *options: object
) -> CachePolicy[Any] | None:
    """Give a cache policy a key that fits a node, unless the caller's policy has one of its own.

    LangGraph's key holds all of the node's input, with random message ids and the last turn's points, so it would never
    match; and nothing of the model, so two graphs that share a cache would mix. This one depends on the model, on these
    fields of the input, and on the options. What has no name that is the same in another process is not cached.
    """
    if policy is None:
        return policy
    if (own := policy.key_func) is not CachePolicy().key_func:
        return replace(policy, key_func=lambda payload: str(uuid4()) if _is_new(payload) else own(payload))
    names = [stable_name(each) for each in (model, *options)]
    if None in names:
        unnamed = (model, *options)[names.index(None)]
        logger.warning(
            "Nothing that %r makes is cached, because it has no stable name: use a function of a module, or a "
            "CachePolicy with a key_func of your own.",
            unnamed,
        )
        return None
    common = digest(names)

    def key_func(payload: Mapping[str, Any]) -> str:
        # A failed point that is written again must not be read from the cache, nor what is written without it.
        has_failed = "points" in fields and any(point["status"] == "failed" for point in payload.get("points") or ())
        if has_failed or _is_new(payload):
            return str(uuid4())
        return digest(common, *(payload.get(field) for field in fields))

    return replace(policy, key_func=key_func)


def _is_new(payload: Any) -> bool:
    """Whether a point must not be read from the cache; see `dispatch_points`."""
    return isinstance(payload, Mapping) and bool(payload.get("is_new"))


def stable_name(value: object) -> str | None:
    """A name for an option that stays the same in another process, and changes with its settings; None without one."""
    if isinstance(value, RunnableLambda):
        value = value.func if hasattr(value, "func") else value.afunc
    if inspect.isfunction(value):
        name = f"{value.__module__}.{value.__qualname__}"
        text = f"{name} {_code_of(value.__code__)} {value.__defaults__!r} {value.__kwdefaults__!r}"
        # A lambda, or a function within another one, may hold different values under the same name.
        return None if "<" in name or _UNSTABLE.search(text) else text
    if isinstance(value, BaseMessage):
        return digest(value)
    text = dumps(value) if isinstance(value, Runnable) else repr(value)
    return None if _UNSTABLE.search(text) else text


def _code_of(code: CodeType) -> str:
    """What a function does, as far as its own code tells, without its place in a file."""
    values = (sorted(each, key=repr) if isinstance(each, frozenset) else each for each in code.co_consts)
    constants = [_code_of(each) if isinstance(each, CodeType) else repr(each) for each in values]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
