"""How calls run beside each other: a thread for one that may be left, and the concurrency limit of a run."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from heapq import heappop, heappush
from itertools import count


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


class ConcurrencyLimit:
    """So many calls at once; of those that wait, the first in reading order is the next."""

    def __init__(self, limit: int) -> None:
        self._free, self._lock = limit, threading.Lock()
        self._waiting: list[tuple[int, int, Future[None]]] = []
        self._numbers = count()

    def acquire(self, index: int) -> "Future[None]":
        """Returns what is done once the call of the text at this index has a slot."""
        granted: Future[None] = Future()
        with self._lock:
            if self._free:
                self._free -= 1
                granted.set_result(None)
            else:
                heappush(self._waiting, (index, next(self._numbers), granted))
        return granted

    def acquire_at_once(self) -> bool:
        """Take a slot if one is free; returns whether it was."""
        with self._lock:
            is_free = self._free > 0
            self._free -= is_free
            return is_free

    @contextmanager
    def waiting(self, index: int) -> "Iterator[Future[None]]":
        """Wait for a slot inside; one that was granted to a wait that was stopped is given back."""
        granted = self.acquire(index)
        try:
            yield granted
        except BaseException:
            if not granted.cancel():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the next call."""
        with self._lock:
            while self._waiting:
                _index, _number, granted = heappop(self._waiting)
                if granted.set_running_or_notify_cancel():
                    granted.set_result(None)
                    return
            self._free += 1


Held = list[ConcurrencyLimit]
"""The limits that a call has a slot of."""


@contextmanager
def slot(limits: Sequence[ConcurrencyLimit], index: int) -> Iterator[Held]:
    """Wait in a thread until all limits allow one more call; see `release`."""
    held: Held = []
    try:
        for limit in limits:
            with limit.waiting(index) as granted:
                granted.result()
            held.append(limit)
        yield held
    finally:
        release(held)


@asynccontextmanager
async def aslot(limits: Sequence[ConcurrencyLimit], index: int) -> AsyncIterator[Held]:
    """Wait in a task until all limits allow one more call; see `slot`."""
    held: Held = []
    try:
        for limit in limits:
            with limit.waiting(index) as granted:
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
