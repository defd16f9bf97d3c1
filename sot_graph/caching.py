"""Keys for the engine's node cache: the same question to the same model is the same call."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import SystemMessage
from langgraph.types import CachePolicy

from sot_graph.prompt import digest


def keyed(
    policy: CachePolicy[Any] | None,
    model: BaseChatModel,
    system_prompt: SystemMessage | None,
    fields: tuple[str, ...],
    *options: object,
) -> CachePolicy[Any] | None:
    """Give a cache policy a key that fits a node, unless the caller's policy has one of its own.

    The engine's default key holds everything in the node's input, random message ids and the last turn's points
    included, so it would never match; and nothing of the model, so two graphs that share a cache would mix.

    Args:
        policy: The caller's.
        model: The model that the node calls.
        system_prompt: The caller's own.
        fields: The keys of the node's input that its reply depends on.
        options: What else it depends on.
    """
    if policy is None or policy.key_func is not CachePolicy().key_func:
        return policy
    made_by = digest(dumps(model), system_prompt, *options)

    def key_func(payload: Mapping[str, Any]) -> str:
        return digest(made_by, *(payload.get(field) for field in fields))

    return replace(policy, key_func=key_func)
