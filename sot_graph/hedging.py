"""Hedging: a request that nobody has begun to answer in time is sent once more, and the first reply is read.

One call in a hundred may wait ten times as long as the others, and an answer of ten points waits for its slowest call.
(Dean and Barroso, "The Tail at Scale", Communications of the ACM 56, 2013.)
"""

import asyncio
import math
import re
import statistics
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from langchain_core.runnables import Runnable

from sot_graph.concurrency import in_thread

KEY = "sot_hedge"
"""In the metadata of a run: the request that was sent once more. In those of an expander: it may be called twice."""
FEWEST = 2
"""Requests of an answer that may be sent once more, however few points it has; otherwise a quarter of the points."""
KNOWN = 5
"""Earlier calls of a stage without siblings that a median needs."""
GRACE = 0.5
"""Seconds for a cancelled request to end."""
_MULTIPLE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[x×]\s*")  # noqa: RUF001 - as people write it

Waiting = Generator[tuple[Sequence[Future[Any]], float | None], None, "Lane"]


class LostError(Exception):
    """The other request was answered first."""


class Request(Protocol):
    """One of the two requests."""

    sent: float
    race: "Race | None"


@dataclass
class Hedge:
    """When the requests of a stage are sent once more."""

    seconds: float | None = None
    multiple: float | None = None  # of the median time to the first token
    earlier: deque[float] = field(default_factory=lambda: deque(maxlen=50))  # of the stage's calls, in seconds

    @classmethod
    def read(cls, option: float | str | None) -> "Hedge | None":
        """Read the option: seconds, a multiple such as "3x", or None.

        Raises:
            ValueError: It is neither.
        """
        found = _MULTIPLE.fullmatch(option) if isinstance(option, str) else None
        if option is None or (found and float(found[1]) > 1):
            return cls(multiple=float(found[1])) if found else None
        if not isinstance(option, str) and 0 < option < math.inf:
            return cls(seconds=float(option))
        msg = (
            "hedge must be a number of seconds above 0, a multiple above 1 of the median time to the first token, such "
            f"as '3x', or None; got {option!r}."
        )
        raise ValueError(msg)

    def pace(self) -> "Pace":
        """The pace of a call without siblings: that of the earlier ones."""
        return Pace(self.earlier)


class Pace:
    """How soon calls begin to reply: those of the earlier runs, or the siblings in this run."""

    def __init__(self, earlier: deque[float] | None = None, siblings: int = 0) -> None:
        self.median: Future[float] = Future()  # in seconds
        self._times: deque[float] = deque() if earlier is None else earlier
        self._needed, self._lock = (siblings + 1) // 2, threading.Lock()
        if earlier is not None and len(earlier) >= KNOWN:
            self.median.set_result(statistics.median([*earlier]))

    def note(self, seconds: float) -> None:
        """A call has begun to reply. Half of the siblings tell the median of all."""
        with self._lock:
            self._times.append(seconds)
            if self._needed and len(self._times) == self._needed:
                self.median.set_result(max(self._times))


def most(points: int) -> int:
    """How many requests of an answer with so many points may be sent once more."""
    return max(FEWEST, math.ceil(points / 4))


def may_be_called_twice(runnable: Runnable[Any, Any]) -> bool:
    """Whether a Runnable of the caller's own says so, in the metadata of its config."""
    return bool(((getattr(runnable, "config", None) or {}).get("metadata") or {}).get(KEY))


@dataclass(eq=False)
class Lane:
    """One of the two requests, and how it ended."""

    request: Any
    done: Future[None] = field(default_factory=Future)
    ended: float = 0.0  # when it was done, or had lost
    error: BaseException | None = None

    def finish(self, error: BaseException | None) -> None:
        """The request has ended, or was cancelled."""
        self.error, self.ended = error, self.ended or time.time()
        self.done.set_result(None)


class Race:
    """One request, and the same once more if it is due: the first that is answered is read."""

    def __init__(
        self,
        first: Request,
        hedge: Hedge,
        pace: Pace,
        again: Callable[[], Request | None],  # makes the second request, if there may be one
        on_cancelled: Callable[[], object],  # the loser has ended before the winner
    ) -> None:
        self._hedge, self._pace, self._again, self._on_cancelled = hedge, pace, again, on_cancelled
        self._began: Future[Request] = Future()
        self._lock = threading.Lock()
        self.lanes: list[Lane] = []
        self._add(first)

    def claim(self, request: Request) -> None:
        """A request has begun to be answered.

        Raises:
            LostError: The other one was first.
        """
        with self._lock:
            if not self._began.done():
                self._pace.note(time.time() - request.sent)
                for lane in self.lanes:
                    lane.ended = lane.ended or (time.time() if lane.request is not request else 0.0)
                self._began.set_result(request)
        if self._began.result() is not request:
            raise LostError

    @property
    def leader(self) -> Request | None:
        """The request that is read; None while neither has begun to be answered."""
        return self._began.result() if self._began.done() else None

    def leads(self, request: Request) -> bool:
        """Whether a request is the one that is read.

        Raises:
            LostError: The other one is.
        """
        if self.leader not in {None, request}:
            raise LostError
        return self.leader is request

    def lane_of(self, request: Request) -> Lane:
        """The lane of a request."""
        return next(lane for lane in self.lanes if lane.request is request)

    def run(self, read: Callable[[Any], None]) -> Lane:
        """Run it in threads. The loser ends at its next chunk: a thread cannot be cancelled."""

        def start(lane: Lane) -> None:
            done = in_thread("sot-hedge", partial(read, lane.request))
            done.add_done_callback(lambda done: lane.finish(done.exception()))

        steps = self._steps(start, lambda _lane: None)
        try:
            while True:
                futures, timeout = next(steps)
                wait(futures, timeout, FIRST_COMPLETED)
        except StopIteration as end:
            lane: Lane = end.value
            return lane

    async def arun(self, read: Callable[[Any], Awaitable[None]]) -> Lane:
        """Run it in tasks. The loser is cancelled."""
        tasks: dict[Lane, asyncio.Task[None]] = {}

        async def target(lane: Lane) -> None:
            error = None
            try:
                await read(lane.request)
            except BaseException as raised:  # noqa: BLE001 - the waiting task raises it
                error = raised
            lane.finish(error)

        def start(lane: Lane) -> None:
            tasks[lane] = asyncio.create_task(target(lane))

        def cancel(lane: Lane) -> None:
            tasks[lane].add_done_callback(lambda _task: self._on_cancelled())
            tasks[lane].cancel()

        steps = self._steps(start, cancel)
        try:
            while True:
                futures, timeout = next(steps)
                await asyncio.wait(map(asyncio.wrap_future, futures), timeout=timeout, return_when=FIRST_COMPLETED)
        except StopIteration as end:
            lane: Lane = end.value
            return lane
        finally:
            is_open = (task for task in tasks.values() if not task.done())
            if open_tasks := [task for task in is_open if task.cancelling() or task.cancel()]:
                await asyncio.wait(open_tasks, timeout=GRACE)

    def _steps(self, start: Callable[[Lane], None], cancel: Callable[[Lane], object]) -> Waiting:
        """Yields what to wait for, and how many seconds at most; returns the lane that is read."""
        start(self.lanes[0])
        delay = yield from self._until_due()
        while not self._is_decided() and len(self.lanes) == 1:
            if again := self._again():
                self._add(again)
                start(self.lanes[1])
            else:  # the concurrency limit may allow it later
                yield [self.lanes[0].done, self._began], delay
        while not self._is_decided():
            yield [self._began, *(lane.done for lane in self.lanes if not lane.done.done())], None
        if not self._began.done():
            return self.lanes[-1]  # all have failed
        for lane in self.lanes:
            if lane.request is self._began.result():
                read = lane
            elif not lane.done.done():
                cancel(lane)
        yield [read.done], None
        return read

    def _until_due(self) -> Generator[tuple[Sequence[Future[Any]], float | None], None, float | None]:
        lane, delay = self.lanes[0], self._hedge.seconds
        if self._hedge.multiple:
            yield [lane.done, self._began, self._pace.median], None
            delay = self._hedge.multiple * self._pace.median.result() if self._pace.median.done() else None
        if delay is not None and not self._is_decided():
            yield [lane.done, self._began], max(0.0, lane.request.sent + delay - time.time())
        return delay

    def _is_decided(self) -> bool:
        return self._began.done() or all(lane.done.done() for lane in self.lanes)

    def _add(self, request: Request) -> None:
        request.race = self
        self.lanes.append(Lane(request))
