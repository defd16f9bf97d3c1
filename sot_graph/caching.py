"""Keys for LangGraph's node cache: the same question to the same model is the same call."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langgraph.types import CachePolicy


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
    fields of the input, and on the options.
    """
    if policy is None or policy.key_func is not CachePolicy().key_func:
        return policy
    common = digest(dumps(model), *options)

    def key_func(payload: Mapping[str, Any]) -> str:
        # A failed point that is written again must not be read from the cache.
        return str(uuid4()) if payload.get("again") else digest(common, *(payload.get(field) for field in fields))

    return replace(policy, key_func=key_func)
