"""The concurrency limit: so many at once, and of those that wait the first in reading order."""

import asyncio
import threading
import time

import pytest

from sot_graph.concurrency import ConcurrencyLimit, Held, add_slot, aslot, release, slot
from sot_graph.hedging import Hedge, Pace, most


def test_in_threads_the_first_in_reading_order_is_next() -> None:
    limit, order = ConcurrencyLimit(1), list[int]()

    def call(index: int) -> None:
        with slot([limit], (index,)):
            order.append(index)

    threads = [threading.Thread(target=call, args=(index,)) for index in (5, 3, 4, 1)]
    with slot([limit], (2,)):
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert order == [1, 3, 4, 5]


async def test_in_tasks_the_first_in_reading_order_is_next() -> None:
    limit, order = ConcurrencyLimit(1), list[int]()

    async def call(index: int) -> None:
        async with aslot([limit], (index,)):
            order.append(index)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, aslot([limit], (2,)):
        for index in (5, 3, 4, 1):
            group.create_task(call(index))
        await asyncio.sleep(0.02)
    assert order == [1, 3, 4, 5]


async def test_a_task_that_is_cancelled_while_it_waits_takes_no_slot() -> None:
    limit = ConcurrencyLimit(1)

    async def call() -> None:
        async with aslot([limit], (1,)):
            await asyncio.sleep(60)

    async with aslot([limit], (0,)):
        tasks = [asyncio.create_task(call()) for _ in range(2)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        await asyncio.sleep(0)
    # The other one has its slot by now, but its task has not yet run.
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert add_slot([limit], [])


def test_one_more_slot_is_taken_from_all_limits_or_from_none() -> None:
    wide, narrow = ConcurrencyLimit(2), ConcurrencyLimit(1)
    held: Held = []
    assert add_slot([wide, narrow], held)
    assert not add_slot([wide, narrow], held)
    assert add_slot([wide], []), "what the narrow one refused is given back"
    release(held)
    release(held)
    assert held == []
    assert add_slot([narrow], [])


def test_half_of_the_siblings_tell_the_median_of_all() -> None:
    pace = Pace(siblings=5)
    for seconds in (0.2, 0.3):
        pace.note(seconds)
        assert not pace.median.done()
    pace.note(0.5)
    assert pace.median.result() == 0.5
    pace.note(9.0)
    assert pace.median.result() == 0.5


def test_five_earlier_calls_tell_the_median_of_the_next() -> None:
    hedge = Hedge(multiple=3)
    for seconds in (0.1, 0.2, 0.9, 0.3, 0.4):
        pace = hedge.pace()
        assert not pace.median.done()
        pace.note(seconds)
    assert hedge.pace().median.result() == 0.3


@pytest.mark.parametrize(("points", "hedges"), [(0, 2), (1, 2), (8, 2), (9, 3), (12, 3), (40, 10)])
def test_the_bound_of_an_answer(points: int, hedges: int) -> None:
    assert most(points) == hedges


@pytest.mark.parametrize(("option", "seconds", "multiple"), [(2, 2.0, None), (0.5, 0.5, None), ("2.5x", None, 2.5)])
def test_the_option_is_seconds_or_a_multiple(
    option: float | str, seconds: float | None, multiple: float | None
) -> None:
    hedge = Hedge.read(option)
    assert hedge is not None
    assert (hedge.seconds, hedge.multiple) == (seconds, multiple)
    assert Hedge.read(" 3 x ") == Hedge(multiple=3.0)
    assert Hedge.read(None) is None
