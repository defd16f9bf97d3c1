"""Runs a second with several in flight, on one core, and the memory that each of them holds."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from tests.benchmarks import ways as names
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Section, Table, Target, ratio, spread
from tests.benchmarks.load import Load
from tests.benchmarks.server import on_own_cores

ROUNDS = 2
PACED = Load(8, (60,), first_token=0.1)
HELD, HELD_RUNS = Load(8, (60,), first_token=1.5), 20
"""The server holds all points of all runs at once."""
IN_FLIGHT = {1: 6, 10: 40, 100: 120, 500: 500}
"""How many runs are in flight, and how many are made of them."""
COMPARED = (names.SDK, names.BY_HAND, names.OURS)
MOST_ROUNDS, LEFT_OUT = {500: 1}, {(500, names.BY_HAND)}
"""Half a thousand runs take long, and differ little."""


def measure(bench: Bench, rounds: int | None) -> Section:
    section = Section()
    with on_own_cores(bench.server) as is_bound:
        _throughput(bench, rounds or ROUNDS, section, is_bound=is_bound)
    _memory(bench, rounds or ROUNDS, section)
    return section


def _throughput(bench: Bench, rounds: int, section: Section, *, is_bound: bool) -> None:
    ways = bench.compared(PACED, COMPARED)
    where = "the client on one core, the server on the others" if is_bound else "client and server on any core"
    table = Table(f"Runs a second, {where}; each reply takes 100 ms", ("", "in flight", "runs/s", "times the SDK"))
    for way in ways.values():
        bench.wait(_many(way, 10, 10))
    for at_once, runs in IN_FLIGHT.items():
        found: dict[str, list[float]] = {name: [] for name in ways if (at_once, name) not in LEFT_OUT}
        for _ in range(min(rounds, MOST_ROUNDS.get(at_once, rounds))):
            for name, speeds in found.items():
                gc.collect()
                began = time.perf_counter()
                bench.wait(_many(ways[name], runs, at_once))
                speeds.append(runs / (time.perf_counter() - began))
                bench.server.report()
        for name, speeds in found.items():
            of_sdk = ratio(speeds, found[names.SDK])
            table.rows.append((name, f"{at_once}", spread(speeds).shown(1), of_sdk.shown()))
            section.figures.setdefault(name, {})[f"{at_once} in flight"] = {
                "runs_a_second": spread(speeds),
                "of_sdk": of_sdk,
            }
    section.tables.append(table)
    of_sdk = section.figures[names.OURS]["100 in flight"]["of_sdk"]
    section.targets.append(Target("throughput of 100 in flight / SDK's", of_sdk, 0.8, at_most=False))


async def _many(way: Callable[[], Any], runs: int, at_once: int) -> None:
    """Make so many runs; one that ends is followed by the next."""
    left = iter(range(runs))

    async def one_after_another() -> None:
        for _ in left:
            await way()

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))


def _memory(bench: Bench, rounds: int, section: Section) -> None:
    ways = bench.compared(HELD, COMPARED)
    table = Table(f"Memory of a run, {HELD_RUNS} in flight, all their points at once", ("", "KiB", "times the SDK"))
    for way in ways.values():
        bench.wait(_many(way, 2, 2))
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(min(rounds, 2)):
        for name, way in ways.items():
            found[name].append(peak_bytes(bench, lambda way=way: _many(way, HELD_RUNS, HELD_RUNS)) / HELD_RUNS / 1024)  # type: ignore[misc]
            bench.server.report()
    for name, sizes in found.items():
        of_sdk = ratio(sizes, found[names.SDK])
        table.rows.append((name, spread(sizes).shown(0), of_sdk.shown()))
        section.figures[name]["kib_in_flight"] = spread(sizes)
    section.tables.append(table)


def peak_bytes(bench: Bench, way: Callable[[], Any]) -> int:
    """The most memory that Python's allocator gave a run, beyond what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        bench.wait(way())
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
