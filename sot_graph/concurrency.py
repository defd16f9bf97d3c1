"""How calls run beside each other: a thread for one that may be left, the concurrency limit of a run, many runs."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from heapq import heappop, heappush
from itertools import count
from typing import Any, Literal, TypeVar, cast

from langchain_core.messages.ai import UsageMetadata

Item = TypeVar("Item")
Result = TypeVar("Result")
_END: Literal["end"] = "end"


def in_thread(name: str, function: Callable[[], object]) -> "Future[None]":
    """Run a function in a thread of its own, which the process does not wait for; returns what is done with it."""
    done: Future[None] = Future()

    def settle() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=copy_context().run, args=(settle,), name=name, daemon=True).start()
    return done


Place = tuple[int, ...]
"""Where the text of a call stands: the number of its question among many, if there are many, and its own index."""


class ConcurrencyLimit:
    """So many calls at once; of those that wait, the first in reading order is the next."""

    def __init__(self, limit: int) -> None:
        self._limit, self._busy, self._lock = float(limit), 0, threading.RLock()
        self._waiting: list[tuple[Place, int, Future[None]]] = []
        self._numbers = count()
        self._is_closed = False

    def acquire(self, place: Place) -> "Future[None]":
        """Returns what is done once the call of the text at this place has a slot."""
        granted: Future[None] = Future()
        with self._lock:
            if self._is_closed:
                granted.cancel()
                return granted
            heappush(self._waiting, (place, next(self._numbers), granted))
            self._grant()
        return granted

    def acquire_at_once(self) -> bool:
        """Take a slot if one is free; returns whether it was."""
        with self._lock:
            return self._take()

    @contextmanager
    def waiting(self, place: Place) -> "Iterator[Future[None]]":
        """Wait for a slot inside; one that was granted to a wait that was stopped is given back."""
        granted = self.acquire(place)
        try:
            yield granted
        except BaseException:
            if not granted.cancel():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the next call."""
        with self._lock:
            self._give_back()
            self._grant()

    def close(self) -> None:
        """Refuse the calls that wait, and later ones: they end with a `CancelledError`."""
        with self._lock:
            self._is_closed = True
            for *_place, granted in self._waiting:
                granted.cancel()
            self._waiting.clear()

    def note(self, sent: float, usage: UsageMetadata | None, error: Exception | None) -> bool:  # noqa: ARG002 - for a `Throttle`
        """An attempt has ended; returns whether it was refused because of too many others, and these wait now, too."""
        return False

    def _take(self) -> bool:
        """Take a slot, if a call may start now."""
        is_free = self._busy + 1 <= self._limit
        self._busy += is_free
        return is_free

    def _grant(self) -> None:
        while self._waiting and self._take():
            *_place, granted = heappop(self._waiting)
            if granted.set_running_or_notify_cancel():
                granted.set_result(None)
            else:
                self._give_back()

    def _give_back(self) -> None:
        self._busy -= 1


Held = list[ConcurrencyLimit]
"""The limits that a call has a slot of."""


@contextmanager
def slot(limits: Sequence[ConcurrencyLimit], place: Place) -> Iterator[Held]:
    """Wait in a thread until all limits allow one more call; see `release`."""
    held: Held = []
    try:
        for limit in limits:
            with limit.waiting(place) as granted:
                granted.result()
            held.append(limit)
        yield held
    finally:
        release(held)


@asynccontextmanager
async def aslot(limits: Sequence[ConcurrencyLimit], place: Place) -> AsyncIterator[Held]:
    """Wait in a task until all limits allow one more call; see `slot`."""
    held: Held = []
    try:
        for limit in limits:
            with limit.waiting(place) as granted:
                await asyncio.wrap_future(granted)
            held.append(limit)
        yield held
    finally:
        release(held)


def add_slot(limits: Sequence[ConcurrencyLimit], held: Held) -> bool:
    """Take one more slot if all limits have one free; returns whether they had."""
    taken: Held = []
    for limit in limits:
        if not limit.acquire_at_once():
            release(taken)
            return False
        taken.append(limit)
    held.extend(taken)
    return True


def release(held: Held) -> None:
    """Release the slots, once, whichever thread comes first: the call's own, or one that leaves the call."""
    with suppress(IndexError):
        while True:
            held.pop().release()


async def as_ready(
    rows: AsyncGenerator[Item, None], answer: Callable[[Item], Coroutine[Any, Any, Result]], most: int
) -> AsyncGenerator[Result, None]:
    """Answer each row, at most so many at once, and yield each result when it is ready."""
    running: set[asyncio.Task[Result]] = set()
    upcoming: asyncio.Task[Item | Literal["end"]] | None = _next(rows)
    failed: Exception | None = None
    try:
        while running or upcoming:
            waiting: set[asyncio.Task[Any]] = {*running, *([upcoming] if upcoming and len(running) < most else [])}
            done, _ = await asyncio.wait(waiting, return_when=FIRST_COMPLETED)
            if upcoming in done:
                failed = cast("Exception | None", upcoming.exception())
                row: Any = _END if failed else upcoming.result()
                upcoming = None if row is _END else _next(rows)
                running |= set() if row is _END else {asyncio.create_task(answer(row))}
            for task in done & running:
                running.discard(task)
                yield task.result()
    finally:
        left: list[asyncio.Task[Any]] = [*running, *([upcoming] if upcoming else [])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await rows.aclose()
    if failed:
        raise failed


def _next(rows: AsyncIterator[Item]) -> "asyncio.Task[Item | Literal['end']]":
    async def read() -> Item | Literal["end"]:
        return await anext(rows, _END)

    return asyncio.create_task(read())


def as_ready_in_threads(
    rows: Iterator[Item], answer: Callable[[Item], Result], most: int, stop: Callable[[], object]
) -> Generator[Result, None, None]:
    """As `as_ready`, in threads: they are told to stop when the generator is closed, and waited for."""
    running: set[Future[Result]] = set()
    row: Any = None
    failed: Exception | None = None
    with ThreadPoolExecutor(most, "sot-batch") as pool:
        try:
            while running or row is not _END:
                while row is not _END and len(running) < most:
                    try:
                        row = next(rows, _END)
                    except Exception as error:  # noqa: BLE001 - raised once the questions before are answered
                        row, failed = _END, error
                    if row is not _END:
                        running.add(pool.submit(copy_context().run, answer, row))
                done, running = wait(running, return_when=FIRST_COMPLETED) if running else (set(), running)
                yield from (future.result() for future in done)
        finally:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
    if failed:
        raise failed
