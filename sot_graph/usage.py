"""What an answer cost: tokens and seconds, for each attempt, point and stage, and in total."""

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NotRequired
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import get_runtime
from typing_extensions import TypedDict

_AROUND: ContextVar[UUID | None] = ContextVar("sot_around", default=None)
"""The model run that is under way here, or the last one: what is asked meanwhile is asked by that model."""
METER = "__sot_meter"
"""Where a node's config holds the `Meter` of its attempt."""


class Attempt(TypedDict):
    """One attempt at a call, whatever came of it."""

    began: float
    """When it could have begun, in seconds since the epoch: its task was there, or the attempt before had failed."""
    waited: float
    """For how many seconds it then waited: for a place, or between two attempts."""
    queued: NotRequired[float]
    """For how many of these it waited for a place."""
    first_token: float | None
    """Seconds from the request to the first token; None where the reply was not streamed."""
    seconds: float
    """Seconds from the request to its end."""
    requests: int
    """How many requests it took: more than one where an expander, a route or a merge makes several."""
    usage: UsageMetadata | None
    """The provider's token counts; None where it told none."""
    error: str | None
    """Why it failed."""
    inner: NotRequired[dict[str, float] | None]
    """Of a graph of ours that wrote the point: the times of its own calls (see `INNER`)."""


INNER = ("seconds", "sequential_seconds", "critical_path_seconds")
"""What counts of a graph that is one call to another: its calls run side by side, and wait for each other."""


class CallRecord(TypedDict):
    """One call of a stage, with all of its attempts."""

    stage: str
    index: int | None
    """Of the point that it wrote."""
    attempts: list[Attempt]


def merge_calls(left: dict[str, CallRecord], right: dict[str, CallRecord]) -> dict[str, CallRecord]:
    """Reduce calls by name: what a resumed run tried comes behind what was tried before."""
    merged = dict(left)
    for name, call in right.items():
        before = left[name]["attempts"] if name in left else []
        merged[name] = {**call, "attempts": [*before, *call["attempts"]]}
    return merged


class Meter(BaseCallbackHandler):
    """Listens to the model calls of one attempt, the failed ones among them."""

    run_inline = True

    def __init__(self, arrived: float, earlier: Sequence[Attempt] = (), queued: float = 0.0) -> None:
        """Begin to measure: the request is about to be sent.

        Args:
            arrived: When the attempt's node began to run, in seconds since the epoch.
            earlier: The call's attempts before this one.
            queued: For how many seconds it has waited for a place.
        """
        self.queued = queued
        self.earlier = list(earlier)
        self.began = _sent(earlier[-1]) + earlier[-1]["seconds"] if earlier else arrived
        self.sent = time.time()
        self.reply: AIMessage | None = None
        """The last reply, which a structured call does not give where it cannot parse it."""
        self.requests = 0
        self._first_token: float | None = None
        self._usage: UsageMetadata | None = None
        self._open: set[UUID] = set()
        self._lock = threading.Lock()  # an expander's calls may run in several threads

    def on_chat_model_start(
        self,
        serialized: Any,  # noqa: ARG002 - the handler's form
        messages: Any,  # noqa: ARG002 - the same
        *,
        run_id: UUID,
        **_kwargs: Any,
    ) -> None:
        """Count a request; a model around another one makes only one."""
        with self._lock:
            if _AROUND.get() in self._open:
                return
            self.requests += 1
            self._open.add(run_id)
        _AROUND.set(run_id)

    def on_llm_new_token(self, token: Any, **_kwargs: Any) -> None:
        """Take the time of the first token."""
        if self._first_token is None and token:
            self._first_token = time.time()

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_kwargs: Any) -> None:
        """Keep the reply, and add up its tokens."""
        self.reply = self._count(response, run_id) or self.reply

    def on_llm_error(
        self,
        error: BaseException,  # noqa: ARG002 - the handler's form
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **_kwargs: Any,
    ) -> None:
        """Add up the tokens of a reply that broke off, where they were told."""
        self._count(response or LLMResult(generations=[]), run_id)

    def _count(self, response: LLMResult, run_id: UUID) -> AIMessage | None:
        message = None
        with self._lock:
            is_counted = run_id in self._open
            self._open.discard(run_id)
        for generation in (each for batch in response.generations for each in batch):
            if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
                message = generation.message
                if is_counted:
                    with self._lock:
                        self._usage = total_usage([self._usage, message.usage_metadata])
        return message

    def attempt(self, *, error: str | None = None, reply: BaseMessage | None = None) -> Attempt:
        """What the attempt cost, which ends now.

        Args:
            error: Why it failed.
            reply: What came back; it tells of calls that no callback told of, as those on a server.
        """
        unheard = self.requests == 0
        # A reply that its client raised over comes without its tokens to those who listen.
        usage = reply.usage_metadata if isinstance(reply, AIMessage) else None
        first = self._first_token
        return Attempt(
            began=round(self.began, 3),
            waited=max(0.0, round(self.sent - self.began, 3)),
            queued=round(self.queued, 3),
            first_token=None if first is None else round(first - self.sent, 3),
            seconds=round(time.time() - self.sent, 3),
            requests=requests_of(reply) if reply and unheard else self.requests,
            usage=self._usage or usage,
            error=error,
            inner=inner_times(reply),
        )


def meter_of(config: RunnableConfig) -> Meter:
    """The meter of the running attempt."""
    meter: Meter = config["configurable"][METER]
    return meter


def record_call(
    config: RunnableConfig,
    stage: str,
    reply: BaseMessage | None,
    index: int | None = None,
    *,
    is_callers: bool = False,
) -> dict[str, CallRecord]:
    """Note what a call cost that has just been made, by its name; `{}` if nothing was asked.

    Args:
        config: The node's.
        stage: The stage that made the call.
        reply: What came back.
        index: Of the point that it wrote.
        is_callers: Whether it was work of the caller's own, which takes its time even where no model was asked.
    """
    meter = meter_of(config)
    attempts = [*meter.earlier, meter.attempt(reply=reply)]
    if not (is_callers or any(attempt["requests"] for attempt in attempts)):
        return {}
    return {call_name(stage, index): CallRecord(stage=stage, index=index, attempts=attempts)}


def single_call(stage: str, reply: AIMessage, began: float) -> CallRecord:
    """Note what a call cost that was made outside the graph, and has just ended.

    Args:
        stage: What the call is told under.
        reply: What came back.
        began: When it was begun, in seconds since the epoch.
    """
    attempt = Attempt(
        began=round(began, 3),
        waited=0.0,
        first_token=None,
        seconds=round(time.time() - began, 3),
        requests=1,
        usage=reply.usage_metadata,
        error=None,
    )
    return CallRecord(stage=stage, index=None, attempts=[attempt])


def this_attempt() -> int:
    """The how-manieth attempt the engine is making at the running node, from 1."""
    info = get_runtime().execution_info
    return info.node_attempt if info else 1


def this_task() -> str:
    """The running task's id, which stays the same from one attempt to the next."""
    info = get_runtime().execution_info
    return info.task_id if info else ""


def requests_of(reply: BaseMessage) -> int:
    """How many requests a reply took: more than one, if a graph made it that counts them."""
    requests: int = reply.response_metadata.get("sot", {}).get("calls", 1)
    return requests


def inner_times(reply: BaseMessage | None) -> dict[str, float] | None:
    """The `INNER` times of a reply that a graph of ours made."""
    sot = reply.response_metadata.get("sot", {}) if reply else {}
    return {key: sot[key] for key in INNER} if all(key in sot for key in INNER) else None


def total_usage(usages: Iterable[UsageMetadata | None]) -> UsageMetadata | None:
    """Add up the tokens of several calls; None when no call told any."""
    total: UsageMetadata | None = None
    for usage in usages:
        if usage is not None:
            total = add_usage(total, usage)
    return total


def summarize(
    calls: Mapping[str, CallRecord], points: Sequence[Mapping[str, Any]] = (), cached: Collection[str] = ()
) -> dict[str, Any]:
    """Put together what the answer's message carries as `response_metadata["sot"]`; all times are in seconds.

    Args:
        calls: All calls of the answer, by name.
        points: Its points.
        cached: The names of those calls that a cache has answered. They count nothing.

    Returns:
        `calls` (how many requests were made, retries and failures included), `seconds` (how long the answer took),
        `critical_path_seconds` (how long it takes if no call waits for a place: the slowest call of each step, with its
        retries and the pauses before them),
        `sequential_seconds` (how long its calls take one after the other), `speed_up` (that, divided by `seconds`),
        `stages` and `points` (the same for each of them, with `waiting_seconds`, `first_token_seconds` from its
        beginning, and `usage`), and `timeline`: every attempt in the order in which they began, with `began` counted
        from the first one, and `first_token_seconds` and `seconds` from its request.
    """
    made = {name: call for name, call in calls.items() if name not in cached and call["attempts"]}
    critical = _critical_path(made)
    by_stage: dict[str, list[Attempt]] = {}
    for call in made.values():
        by_stage.setdefault(call["stage"], []).extend(call["attempts"])
    total = _figures([attempt for call in made.values() for attempt in call["attempts"]])
    return {
        "calls": total["calls"],
        "seconds": total["seconds"],
        "critical_path_seconds": round(sum(_taken(made[name]) for name in critical), 3),
        "sequential_seconds": total["sequential_seconds"],
        "speed_up": _ratio(total["sequential_seconds"], total["seconds"]),
        "stages": {stage: _figures(attempts) for stage, attempts in by_stage.items()},
        "points": [_point(point, calls, cached) for point in points],
        "timeline": _timeline(made, {point["index"]: point["title"] for point in points}, critical),
    }


def add_call(message: AIMessage, call: CallRecord) -> AIMessage:
    """Give an answer's message the usage and the timings of one more call, which was made before the graph ran."""
    own = summarize({call["stage"]: call})
    graph = message.response_metadata.get("sot") or summarize({})
    totals = {
        key: round(own[key] + graph[key], 3)
        for key in ("calls", "seconds", "critical_path_seconds", "sequential_seconds")
    }
    later = [{**each, "began": round(each["began"] + own["seconds"], 3)} for each in graph["timeline"]]
    sot = {
        **graph,
        **totals,
        "speed_up": _ratio(totals["sequential_seconds"], totals["seconds"]),
        "stages": {**own["stages"], **graph["stages"]},
        "timeline": [*own["timeline"], *later],
    }
    usage = total_usage([message.usage_metadata, *(attempt["usage"] for attempt in call["attempts"])])
    update = {"usage_metadata": usage, "response_metadata": {**message.response_metadata, "sot": sot}}
    return message.model_copy(update=update)


def _figures(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """What a call, a stage or the whole answer took."""
    begins = min((each["began"] for each in attempts), default=0.0)
    firsts = [_sent(each) + each["first_token"] for each in attempts if each["first_token"] is not None]
    return {
        "calls": sum(each["requests"] for each in attempts),
        "seconds": round(_busy(attempts), 3),
        "sequential_seconds": round(sum(_inner(each, "sequential_seconds") for each in attempts), 3),
        "waiting_seconds": round(sum(each["waited"] for each in attempts), 3),
        "first_token_seconds": round(min(firsts) - begins, 3) if firsts else None,
        "usage": total_usage(each["usage"] for each in attempts),
    }


def _point(point: Mapping[str, Any], calls: Mapping[str, CallRecord], cached: Collection[str]) -> dict[str, Any]:
    name = call_name("expand", point["index"])
    is_cached = name in cached
    attempts = calls[name]["attempts"] if name in calls and not is_cached else []
    figures = _figures(attempts)
    del figures["sequential_seconds"]  # its attempts come one after the other
    told = {key: point[key] for key in ("index", "title", "status")}
    return {**told, "attempts": len(attempts), **figures, "cached": is_cached}


def _timeline(
    calls: Mapping[str, CallRecord], titles: Mapping[int, str], critical: Collection[str]
) -> list[dict[str, Any]]:
    begins = min((call["attempts"][0]["began"] for call in calls.values()), default=0.0)
    entries = [
        {
            "stage": call["stage"],
            "index": call["index"],
            "title": titles.get(call["index"] or 0),
            "attempt": number,
            "began": round(each["began"] - begins, 3),
            "waiting_seconds": each["waited"],
            "first_token_seconds": each["first_token"],
            "seconds": each["seconds"],
            "usage": each["usage"],
            "error": each["error"],
            "is_critical": name in critical,
        }
        for name, call in calls.items()
        for number, each in enumerate(call["attempts"], start=1)
    ]
    return sorted(entries, key=lambda entry: (entry["began"], entry["index"] or 0))


STEPS = (("agent",), ("skeleton", "lead"), ("expand",), ("direct", "merge"))
"""The stages in their order; those of one step run at the same time."""


def _critical_path(calls: Mapping[str, CallRecord]) -> list[str]:
    """The names of the calls that the answer could not have come without sooner: the slowest of each step."""
    steps = [[name for name, call in calls.items() if call["stage"] in step] for step in STEPS]
    return [max(step, key=lambda name: _taken(calls[name])) for step in steps if step]


def _taken(call: CallRecord) -> float:
    """How long a call took, with the pauses before its retries, but without its waiting for a place."""
    return sum(
        _inner(each, "critical_path_seconds") + max(0.0, each["waited"] - each.get("queued", each["waited"]))
        for each in call["attempts"]
    )


def _inner(attempt: Attempt, key: str) -> float:
    """One of the `INNER` times and what else the attempt did; of a single call, how long it took."""
    inner = attempt.get("inner")
    return inner[key] + max(0.0, attempt["seconds"] - inner["seconds"]) if inner else attempt["seconds"]


def _sent(attempt: Attempt) -> float:
    return attempt["began"] + attempt["waited"]


def _busy(attempts: Sequence[Attempt]) -> float:
    """For how long any of these was under way or waited. A pause between two runs of a thread does not count."""
    seconds, end = 0.0, 0.0
    for began, ends in sorted((each["began"], _sent(each) + each["seconds"]) for each in attempts):
        seconds += max(0.0, ends - max(end, began))
        end = max(end, ends)
    return seconds


def _ratio(sequential: float, seconds: float) -> float | None:
    return round(sequential / seconds, 2) if seconds else None


def call_name(stage: str, index: int | None = None) -> str:
    """The name of a call in the state: that of its stage, and the number of its point."""
    return stage if index is None else f"{stage} {index}"
