"""What an answer cost: tokens and seconds, of each attempt, point and stage, and in total."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import cache, reduce
from typing import Any, NotRequired, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import LLMResult
from typing_extensions import TypedDict

STEPS = (("agent",), ("skeleton", "lead"), ("expand",), ("closing",), ("direct", "merge"))
"""The stages in order; those of one step run at the same time."""
PLAIN = {"calls": 1, "seconds": 0.0, "sequential_seconds": 0.0, "critical_path_seconds": 0.0}
"""The figures of a graph that wrote a reply, if none did."""


class Attempt(TypedDict):
    """One attempt of a call, successful or not; times in seconds."""

    stage: str
    index: int | None  # of the point
    began: float  # when it was due, since the epoch: its task started, or the attempt before had failed
    waiting_seconds: float  # then, until the request: the queue of the concurrency limit, the pause before a retry
    first_token_seconds: float | None  # from the request to the first token; None if the reply was not streamed
    seconds: float  # from the request to its end
    sequential_seconds: float  # the same; if a SoT graph wrote the reply, by that graph's figures
    critical_path_seconds: float  # the same, with the pause before a retry, without the queue
    requests: int  # several if an expander, a route or a merge sent them
    usage: UsageMetadata | None
    error: str | None
    needs: NotRequired[list[int]]  # indexes of the points that it had waited for
    is_hedge: NotRequired[bool]  # sent beside a request that had not been answered; see `create_sot_graph(hedge=...)`
    is_lost: NotRequired[bool]  # of such two requests, the one that is not read


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

    calls: int  # number of requests, retries, hedges and failures included
    hedges: int  # of them, those that were sent beside another one
    seconds: float  # while calls ran or waited; a pause between two runs of a thread does not count
    critical_path_seconds: float  # the slowest call of each step, with retries and their pauses, without queueing
    sequential_seconds: float  # how long the same calls take one after the other
    parallel_gain: float | None  # sequential_seconds / seconds; no speed-up over a plain answer, which is another call
    stages: dict[str, Figures]
    points: list[PointFigures]
    timeline: list[dict[str, Any]]  # every attempt in order; `began` counts from the first one


class RequestCounter(BaseCallbackHandler):
    """Counts the requests and tokens of a Runnable that may call several models, or none."""

    run_inline = True
    _current: ContextVar[UUID | None] = ContextVar("sot_current_run", default=None)
    """The chat model run that is in progress in this context, or the last one."""

    def __init__(self) -> None:
        self.usages: dict[UUID, UsageMetadata | None] = {}  # of each request
        self.reply: AIMessage | None = None  # the last one, also if its parser failed
        self._open: set[UUID] = set()

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **_kwargs: Any) -> None:  # noqa: ARG002 - the handler's signature
        """Count a request; a model that wraps another one sends only one."""
        if self._current.get() not in self._open:
            self._open.add(run_id)
            self.usages[run_id] = None
            self._current.set(run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_kwargs: Any) -> None:
        """Keep the reply, and its tokens."""
        messages = [getattr(each, "message", None) for batch in response.generations for each in batch]
        replies = [message for message in messages if isinstance(message, AIMessage)]
        self.reply = replies[-1] if replies else self.reply
        if run_id in self._open:
            self._open.discard(run_id)
            self.usages[run_id] = total_usage(reply.usage_metadata for reply in replies)


def attempt_record(
    stage: str,
    times: tuple[float, float, float, float | None],  # when it was due, in the queue, sent, and when it wrote a token
    reply: object,
    *,
    index: int | None = None,
    error: str | None = None,
    counter: RequestCounter | None = None,  # without one it sent one request, or what its reply says
) -> Attempt:
    """The record of an attempt that ends now."""
    due, queued, sent, first_token = times
    seconds = round(time.time() - sent, 3)
    message = reply if isinstance(reply, AIMessage) else None
    inner = {**PLAIN, **(message.response_metadata.get("sot", {}) if message else {})}
    around = max(0.0, seconds - inner["seconds"])
    sent_inside = list(counter.usages.values()) if counter else []
    return Attempt(
        stage=stage,
        index=index,
        began=round(due, 3),
        waiting_seconds=max(0.0, round(sent - due, 3)),
        first_token_seconds=None if first_token is None else round(first_token - sent, 3),
        seconds=seconds,
        sequential_seconds=round(inner["sequential_seconds"] + around, 3),
        critical_path_seconds=round(queued - due + inner["critical_path_seconds"] + around, 3),
        requests=len(sent_inside) if counter and (sent_inside or not message) else inner["calls"],
        usage=total_usage(sent_inside) or (message.usage_metadata if message else None),
        error=error,
    )


def lost_record(record: Attempt, ended: float, other: Attempt) -> Attempt:
    """The record of a request that was raced with another one, and is not read.

    Nobody says what a cancelled request cost. A provider may bill its input, which is that of the other one.
    """
    tokens = other["usage"]["input_tokens"] if other["usage"] and not record["error"] else 0
    billed = UsageMetadata(input_tokens=tokens, output_tokens=0, total_tokens=tokens) if tokens else None
    sent = _sent(record)
    # The time until the other one was sent belongs to the path, and so does the pause before a first one.
    waited = 0.0 if record.get("is_hedge") else max(0.0, record["critical_path_seconds"] - record["seconds"])
    return {
        **record,
        "seconds": max(0.0, round(ended - sent, 3)),
        "sequential_seconds": 0.0,
        "critical_path_seconds": round(waited, 3),
        "usage": record["usage"] or billed,
        "is_lost": record["error"] is None,
    }


def total_usage(usages: Iterable[UsageMetadata | None]) -> UsageMetadata | None:
    """Add up token counts; None if there are none."""
    return reduce(add_usage, filter(None, usages), cast("UsageMetadata | None", None))


def summarize(
    attempts: Sequence[Attempt], points: Sequence[Mapping[str, Any]] = (), cached: Collection[int | None] = ()
) -> SotMetadata:
    """Sum up the attempts of an answer, and its points, of which a cache answered those with the `cached` indexes."""
    # A function of the caller's sends no request; a merge takes its time all the same.
    made = [each for each in attempts if each["requests"] or each["error"] or each["stage"] == "merge"]
    calls = _grouped(made, lambda each: (each["stage"], each["index"]))
    paths = {name: sum(each["critical_path_seconds"] for each in calls[name]) for name in calls}
    steps = [[name for name in calls if name[0] in step] for step in STEPS]
    critical = [name for step in steps if step for name in _slowest_chain(step, calls, paths)]
    titles = {point["index"]: point["title"] for point in points}
    start = min((each["began"] for each in made), default=0.0)
    timeline = [
        {
            **attempt,
            "title": titles.get(attempt["index"]),
            "attempt": number,
            "began": round(attempt["began"] - start, 3),
            "is_critical": name in critical,
        }
        for name, attempts in calls.items()
        for number, attempt in enumerate(attempts, start=1)
    ]
    total = _figures(made)
    return SotMetadata(
        calls=total["calls"],
        hedges=sum(each.get("is_hedge", False) for each in made),
        seconds=total["seconds"],
        critical_path_seconds=round(sum(paths[name] for name in critical), 3),
        sequential_seconds=total["sequential_seconds"],
        parallel_gain=round(total["sequential_seconds"] / total["seconds"], 2) if total["seconds"] else None,
        stages={stage: _figures(each) for stage, each in _grouped(made, lambda each: each["stage"]).items()},
        points=[_point_figures(point, calls.get(("expand", point["index"]), []), cached) for point in points],
        timeline=sorted(timeline, key=lambda entry: (entry["began"], entry["index"] or 0)),
    )


def _slowest_chain(
    step: Sequence[tuple[str, int | None]], calls: Mapping[Any, Sequence[Attempt]], paths: Mapping[Any, float]
) -> list[tuple[str, int | None]]:
    """The slowest calls of a step that had to wait for each other: of points, those that the last one needs."""

    @cache
    def chain(name: tuple[str, int | None]) -> list[tuple[str, int | None]]:
        needs = [(name[0], index) for index in calls[name][0].get("needs", [])]
        return [*max((chain(each) for each in needs if each in calls), key=length, default=[]), name]

    def length(names: Sequence[tuple[str, int | None]]) -> float:
        return sum(paths[name] for name in names)

    return max(map(chain, step), key=length)


def _grouped(attempts: Sequence[Attempt], key: Callable[[Attempt], Any]) -> dict[Any, list[Attempt]]:
    groups: dict[Any, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(key(attempt), []).append(attempt)
    return groups


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
        sequential_seconds=round(sum(each["sequential_seconds"] for each in attempts), 3),
        waiting_seconds=round(sum(each["waiting_seconds"] for each in attempts), 3),
        first_token_seconds=round(min(firsts) - start, 3) if firsts else None,
        usage=total_usage(each["usage"] for each in attempts),
    )


def _sent(attempt: Attempt) -> float:
    return attempt["began"] + attempt["waiting_seconds"]


def _point_figures(
    point: Mapping[str, Any], attempts: Sequence[Attempt], cached: Collection[int | None]
) -> PointFigures:
    own = {key: point[key] for key in ("index", "title", "status")}
    figures: Any = {**_figures(attempts), **own, "attempts": len(attempts), "cached": point["index"] in cached}
    return cast("PointFigures", figures)
