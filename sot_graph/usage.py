"""What an answer cost: tokens and seconds, per stage and in total."""

import time
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langgraph.runtime import get_runtime
from typing_extensions import TypedDict


class CallRecord(TypedDict):
    """One model call that gave a reply."""

    stage: str
    began: float
    """When the call was begun, in seconds since the epoch."""
    seconds: float
    """How long the call took, from the request to the last token."""
    attempts: int
    """How many requests it took; 1 unless it was retried, or an expander made several."""
    usage: UsageMetadata | None
    """The provider's token counts; None where it tells none."""


def this_attempt() -> int:
    """The how-manieth attempt the engine is making at the running node, from 1."""
    info = get_runtime().execution_info
    return info.node_attempt if info else 1


def this_task() -> str:
    """The running task's id, which stays the same from one attempt to the next."""
    info = get_runtime().execution_info
    return info.task_id if info else ""


def record_call(stage: str, reply: BaseMessage | None, began: float) -> CallRecord:
    """Note what one call cost, from within the node that made it.

    Args:
        stage: The stage that made the call.
        reply: What came back.
        began: When the call was begun, in seconds since the epoch.
    """
    usage = reply.usage_metadata if isinstance(reply, AIMessage) else None
    requests = requests_of(reply) if reply else 1
    return CallRecord(
        stage=stage,
        began=round(began, 3),
        seconds=round(time.time() - began, 3),
        attempts=this_attempt() - 1 + requests,
        usage=usage,
    )


def requests_of(reply: BaseMessage) -> int:
    """How many requests a reply took: more than one, if a graph made it that counts them."""
    requests: int = reply.response_metadata.get("sot", {}).get("calls", 1)
    return requests


def total_usage(usages: Iterable[UsageMetadata | None]) -> UsageMetadata | None:
    """Add up the tokens of several calls; None when no call told any."""
    total: UsageMetadata | None = None
    for usage in usages:
        if usage is not None:
            total = add_usage(total, usage)
    return total


def summarize(calls: Iterable[CallRecord]) -> dict[str, Any]:
    """Put together what the answer's message carries as `response_metadata["sot"]`.

    Returns:
        `calls` (requests of the calls that gave a reply, their retries included), `seconds` (how long the answer
        took), `sequential_seconds` (how long its calls would have taken one after the other), and `stages`: the same
        for each stage, with its `usage`.
    """
    by_stage: dict[str, list[CallRecord]] = {}
    for call in calls:
        by_stage.setdefault(call["stage"], []).append(call)
    stages = {stage: _summarize_stage(records) for stage, records in by_stage.items()}
    totals = {
        key: round(sum(stage[key] for stage in stages.values()), 3)
        for key in ("calls", "seconds", "sequential_seconds")
    }
    return {**totals, "stages": stages}


def add_call(message: AIMessage, call: CallRecord) -> AIMessage:
    """Give an answer's message the usage and the timings of one more call, which was made before the graph ran."""
    graph, own = message.response_metadata.get("sot") or summarize([]), summarize([call])
    totals = {key: round(graph[key] + own[key], 3) for key in own if key != "stages"}
    sot = {**totals, "stages": {**own["stages"], **graph["stages"]}}
    usage = add_usage(message.usage_metadata, call["usage"]) if call["usage"] else message.usage_metadata
    update = {"usage_metadata": usage, "response_metadata": {**message.response_metadata, "sot": sot}}
    return message.model_copy(update=update)


def _summarize_stage(calls: list[CallRecord]) -> dict[str, Any]:
    """One stage's figures."""
    return {
        "calls": sum(call["attempts"] for call in calls),
        "seconds": round(_busy(calls), 3),
        "sequential_seconds": round(sum(call["seconds"] for call in calls), 3),
        "usage": total_usage(call["usage"] for call in calls),
    }


def _busy(calls: list[CallRecord]) -> float:
    """For how long at least one of these calls was under way. A pause between two runs of a thread does not count."""
    seconds, end = 0.0, 0.0
    for call in sorted(calls, key=itemgetter("began")):
        ends = call["began"] + call["seconds"]
        seconds += max(0.0, ends - max(end, call["began"]))
        end = max(end, ends)
    return seconds


def answer_message(answer: str, calls: Sequence[CallRecord], message_id: str | None) -> AIMessage:
    """Make the answer's message, with the usage and the timings of all calls."""
    return AIMessage(
        answer,
        id=message_id,
        usage_metadata=total_usage(call["usage"] for call in calls),
        response_metadata={"sot": summarize(calls)},
    )
