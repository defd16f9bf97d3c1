"""What an answer cost: tokens and seconds, of each attempt, point and stage, and in total."""

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import LLMResult
from typing_extensions import TypedDict

INNER_TIMES = ("seconds", "sequential_seconds", "critical_path_seconds")
STEPS = (("agent",), ("skeleton", "lead"), ("expand",), ("direct", "merge"))
"""The stages in order; those of one step run at the same time."""


class Attempt(TypedDict):
    """One attempt of a call, successful or not; times in seconds."""

    stage: str
    index: int | None  # of the point
    began: float  # when it was due, since the epoch: its task started, or the attempt before had failed
    waiting_seconds: float  # then, until the request: the queue of the concurrency limit, the pause before a retry
    queued_seconds: float  # the part of it in the queue
    first_token_seconds: float | None  # from the request to the first token; None if the reply was not streamed
    seconds: float  # from the request to its end
    requests: int  # several if an expander, a route or a merge sent them
    usage: UsageMetadata | None
    error: str | None
    inner: dict[str, float]  # the `INNER_TIMES` of a SoT graph that wrote the point


Calls = dict[str, list[Attempt]]
"""The attempts of each call, by its name."""


class Figures(TypedDict):
    """What a stage took; times in seconds."""

    calls: int  # number of requests, retries and failures included
    seconds: float
    sequential_seconds: float  # how long the same calls take one after the other
    waiting_seconds: float
    first_token_seconds: float | None
    usage: UsageMetadata | None


class PointFigures(Figures):
    """What a point took."""

    index: int
    title: str
    status: str
    attempts: int
    cached: bool


class SotMetadata(TypedDict):
    """`response_metadata["sot"]` of the answer's message; times in seconds."""

    calls: int  # number of requests, retries and failures included
    seconds: float  # while calls ran or waited; a pause between two runs of a thread does not count
    critical_path_seconds: float  # the slowest call of each step, with retries and their pauses, without queueing
    sequential_seconds: float  # how long the same calls take one after the other
    parallel_gain: float | None  # sequential_seconds / seconds; no speed-up over a plain answer, which is another call
    stages: dict[str, Figures]
    points: list[PointFigures]
    timeline: list[dict[str, Any]]  # every attempt in order; `began` counts from the first one


def call_name(stage: str, index: int | None = None) -> str:
    """The name of a call in the state: its stage, and the index of its point."""
    return stage if index is None else f"{stage} {index}"


def calls_of(stage: str, index: int | None, attempts: Sequence[Attempt]) -> Calls:
    """The attempts of one call under its name; `{}` if no request was sent, except by a merge, which takes its time."""
    made = [each for each in attempts if each["requests"] or each["error"] or stage == "merge"]
    return {call_name(stage, index): made} if made else {}


def merge_calls(left: Calls, right: Calls) -> Calls:
    """Reduce calls by name: the attempts of a resumed run follow those of the run before."""
    return {**left, **{name: [*left.get(name, []), *attempts] for name, attempts in right.items()}}


class RequestCounter(BaseCallbackHandler):
    """Counts the requests and tokens of a Runnable that may call several models, or none."""

    run_inline = True
    _current: ContextVar[UUID | None] = ContextVar("sot_current_run", default=None)
    """The chat model run that is in progress in this context, or the last one."""

    def __init__(self) -> None:
        self.requests = 0
        self.usage: UsageMetadata | None = None
        self.reply: AIMessage | None = None  # the last one, also if its parser failed
        self._open: set[UUID] = set()
        self._lock = threading.Lock()  # models may be called in several threads

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **_kwargs: Any) -> None:  # noqa: ARG002 - the handler's signature
        """Count a request; a model that wraps another one sends only one."""
        with self._lock:
            if self._current.get() in self._open:
                return
            self.requests += 1
            self._open.add(run_id)
        self._current.set(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_kwargs: Any) -> None:
        """Keep the reply, and add up its tokens."""
        messages = [getattr(each, "message", None) for batch in response.generations for each in batch]
        replies = [message for message in messages if isinstance(message, AIMessage)]
        with self._lock:
            self.reply = replies[-1] if replies else self.reply
            if run_id in self._open:
                self._open.discard(run_id)
                self.usage = total_usage([self.usage, *(reply.usage_metadata for reply in replies)])


def attempt_record(
    stage: str,
    index: int | None = None,
    *,
    times: tuple[float, float, float, float | None],
    reply: object = None,
    error: str | None = None,
    counter: RequestCounter | None = None,
) -> Attempt:
    """The record of an attempt that ends now.

    Args:
        stage: The stage of the call.
        index: The index of its point.
        times: When it was due, when it entered the queue, when it was sent and when the first token arrived.
        reply: What it returned.
        error: Why it failed.
        counter: Counted its requests; without one it sent one, or what its reply says.
    """
    due, ready, sent, first_token = times
    message = reply if isinstance(reply, AIMessage) else None
    return Attempt(
        stage=stage,
        index=index,
        began=round(due, 3),
        waiting_seconds=max(0.0, round(sent - due, 3)),
        queued_seconds=max(0.0, round(sent - ready, 3)),
        first_token_seconds=None if first_token is None else round(first_token - sent, 3),
        seconds=round(time.time() - sent, 3),
        requests=counter.requests if counter and (counter.requests or not message) else requests_of(message),
        usage=(counter and counter.usage) or (message.usage_metadata if message else None),
        error=error,
        inner=inner_times(message),
    )


def requests_of(reply: BaseMessage | None) -> int:
    """Number of requests behind a reply: several if a SoT graph wrote it."""
    return int((reply.response_metadata.get("sot", {}) if reply else {}).get("calls", 1))


def inner_times(reply: BaseMessage | None) -> dict[str, float]:
    """The `INNER_TIMES` of a reply that a SoT graph wrote; else `{}`."""
    sot = reply.response_metadata.get("sot", {}) if reply else {}
    return {key: sot[key] for key in INNER_TIMES} if INNER_TIMES[-1] in sot else {}


def total_usage(usages: Iterable[UsageMetadata | None]) -> UsageMetadata | None:
    """Add up token counts; None if there are none."""
    total: UsageMetadata | None = None
    for usage in usages:
        total = add_usage(total, usage) if usage else total
    return total


def summarize(
    calls: Mapping[str, list[Attempt]], points: Sequence[Mapping[str, Any]] = (), cached: Collection[str] = ()
) -> SotMetadata:
    """Sum up the calls of an answer and its points; `cached` calls, which a cache answered, count nothing."""
    made = {name: attempts for name, attempts in calls.items() if name not in cached and attempts}
    steps = [[name for name in made if made[name][0]["stage"] in step] for step in STEPS]
    critical = [max(step, key=lambda name: _without_queue(made[name])) for step in steps if step]
    by_stage: dict[str, list[Attempt]] = {}
    for attempts in made.values():
        by_stage.setdefault(attempts[0]["stage"], []).extend(attempts)
    total = _figures([attempt for attempts in made.values() for attempt in attempts])
    return SotMetadata(
        calls=total["calls"],
        seconds=total["seconds"],
        critical_path_seconds=round(sum(_without_queue(made[name]) for name in critical), 3),
        sequential_seconds=total["sequential_seconds"],
        parallel_gain=round(total["sequential_seconds"] / total["seconds"], 2) if total["seconds"] else None,
        stages={stage: _figures(attempts) for stage, attempts in by_stage.items()},
        points=[_point_figures(point, made, cached) for point in points],
        timeline=_timeline(made, {point["index"]: point["title"] for point in points}, critical),
    )


def _figures(attempts: Sequence[Attempt]) -> Figures:
    start = min((each["began"] for each in attempts), default=0.0)
    firsts = [_sent(each) + each["first_token_seconds"] for each in attempts if each["first_token_seconds"] is not None]
    busy, end = 0.0, 0.0  # while at least one attempt ran or waited
    for began, ends in sorted((each["began"], _sent(each) + each["seconds"]) for each in attempts):
        busy += max(0.0, ends - max(end, began))
        end = max(end, ends)
    return Figures(
        calls=sum(each["requests"] for each in attempts),
        seconds=round(busy, 3),
        sequential_seconds=round(sum(_time(each, "sequential_seconds") for each in attempts), 3),
        waiting_seconds=round(sum(each["waiting_seconds"] for each in attempts), 3),
        first_token_seconds=round(min(firsts) - start, 3) if firsts else None,
        usage=total_usage(each["usage"] for each in attempts),
    )


def _point_figures(point: Mapping[str, Any], calls: Calls, cached: Collection[str]) -> PointFigures:
    name = call_name("expand", point["index"])
    attempts = calls.get(name, [])
    own = {key: point[key] for key in ("index", "title", "status")}
    figures: Any = {**_figures(attempts), **own, "attempts": len(attempts), "cached": name in cached}
    return cast("PointFigures", figures)


def _timeline(calls: Calls, titles: Mapping[int, str], critical: Collection[str]) -> list[dict[str, Any]]:
    start = min((attempts[0]["began"] for attempts in calls.values()), default=0.0)
    entries = [
        {
            **attempt,
            "title": titles.get(attempt["index"] or 0),
            "attempt": number,
            "began": round(attempt["began"] - start, 3),
            "is_critical": name in critical,
        }
        for name, attempts in calls.items()
        for number, attempt in enumerate(attempts, start=1)
    ]
    return sorted(entries, key=lambda entry: (entry["began"], entry["index"] or 0))


def _without_queue(attempts: Sequence[Attempt]) -> float:
    """Seconds that a call took, with the pauses before its retries, without the queue of the concurrency limit."""
    pauses = (each["waiting_seconds"] - each["queued_seconds"] for each in attempts)
    return sum(_time(each, "critical_path_seconds") for each in attempts) + sum(max(0.0, pause) for pause in pauses)


def _time(attempt: Attempt, key: str) -> float:
    """One of the `INNER_TIMES`, plus the time around the inner graph; of a plain call, its seconds."""
    inner = attempt["inner"]
    return inner[key] + max(0.0, attempt["seconds"] - inner["seconds"]) if inner else attempt["seconds"]


def _sent(attempt: Attempt) -> float:
    return attempt["began"] + attempt["waiting_seconds"]
