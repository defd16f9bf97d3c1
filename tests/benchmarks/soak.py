"""Whether a process that makes many runs grows: 2,000 of them, sync and async, whole, stopped, retried and failing.

Run it by hand: `python -m tests.benchmarks.soak`. The server is a process of its own, and not measured. It ends with 1
when memory has grown by more than 5 % since the warm-up.
"""

import asyncio
import gc
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import openai
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, SotInput, astream_answer, create_sot_graph, stream_answer
from sot_graph.graph import SotGraph
from tests.benchmarks.server import Server, serving
from tests.fake_openai import TITLES, Reply, Request, usual

RUNS, WARM_UP, STEP = 2000, 500, 250
AT_ONCE = 4
MOST_GROWTH = 0.05
KINDS = ("whole", "read", "stopped", "kept", "point fails", "outline fails", "retried", "whole")


def script(request: Request) -> Reply:
    """The question says what is to happen."""
    if "point fails" in request.prompt or "kept" in request.prompt:
        return Reply(status=401) if request.title == TITLES[1] else usual(request)
    if "outline fails" in request.prompt:
        return Reply(status=401)
    if "retried" in request.prompt and request.title == TITLES[2]:
        return Reply("Half a text", drop_after=1) if request.attempt % 2 else usual(request)
    return usual(request)


class Figures(NamedTuple):
    """What a process holds."""

    runs: int
    seconds: float
    rss: float
    """In MB."""
    objects: int
    threads: int
    files: int

    def row(self) -> str:
        return (
            f"{self.runs:>6}{self.seconds:>8.0f} s{self.rss:>9.1f} MB"
            f"{self.objects:>10}{self.threads:>9}{self.files:>12}"
        )


HEADER = f"{'runs':>6}{'time':>10}{'memory':>12}{'objects':>10}{'threads':>9}{'open files':>12}"


def figures(runs: int, began: float) -> Figures:
    gc.collect()
    return Figures(
        runs,
        time.monotonic() - began,
        _rss(),
        len(gc.get_objects()),
        threading.active_count(),
        len(os.listdir("/dev/fd")),  # noqa: PTH208 - its entries are no paths
    )


def _rss() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # the most it ever was, in bytes on macOS


class Soak:
    """The runs, and how many of them ended how."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ends: Counter[str] = Counter()
        policy = RetryPolicy(initial_interval=0.001, jitter=False)
        self._raising = create_sot_graph(server.model(), retry_policy=policy)
        self._keeping = create_sot_graph(server.model(), retry_policy=policy, on_error="keep")

    def steps(self, loop: asyncio.Runner) -> Iterator[Figures]:
        """Make all runs, half of each step sync and half async; gives the figures after each step."""
        began = time.monotonic()
        yield figures(0, began)
        for done in range(0, RUNS, STEP):
            middle = done + STEP // 2
            with ThreadPoolExecutor(AT_ONCE) as pool:
                self.ends.update(pool.map(self._run, range(done, middle)))
            self.ends.update(loop.run(self._arun_all(range(middle, done + STEP))))
            self.server.report()  # which empties what it keeps
            yield figures(done + STEP, began)

    def _case(self, number: int) -> tuple[str, SotGraph, SotInput]:
        kind = KINDS[number % len(KINDS)]
        return kind, self._keeping if kind == "kept" else self._raising, {"question": f"{number}: {kind}?"}

    def _run(self, number: int) -> str:
        kind, graph, given = self._case(number)
        try:
            if kind in {"read", "stopped"}:
                with closing(stream_answer(graph, given)) as chunks:
                    list(islice(chunks, 2) if kind == "stopped" else chunks)
            else:
                graph.invoke(given)
        except (ExpansionError, openai.AuthenticationError) as error:
            return type(error).__name__
        return kind

    async def _arun(self, number: int) -> str:
        kind, graph, given = self._case(number)
        try:
            if kind in {"read", "stopped"}:
                async with aclosing(astream_answer(graph, given)) as chunks:
                    async for _ in chunks:
                        if kind == "stopped":
                            break
            else:
                await graph.ainvoke(given)
        except (ExpansionError, openai.AuthenticationError) as error:
            return type(error).__name__
        return kind

    async def _arun_all(self, numbers: range) -> list[str]:
        turn = asyncio.Semaphore(AT_ONCE)

        async def in_turn(number: int) -> str:
            async with turn:
                return await self._arun(number)

        return await asyncio.gather(*map(in_turn, numbers))


def main() -> int:
    with serving(script) as server, asyncio.Runner() as loop:
        table: list[Figures] = []
        soak = Soak(server)
        print(HEADER)
        for row in soak.steps(loop):
            table.append(row)
            print(row.row(), flush=True)
    print("; ".join(f"{count} {end}" for end, count in sorted(soak.ends.items())))
    warm, last = next(row for row in table if row.runs >= WARM_UP), table[-1]
    growth = last.rss / warm.rss - 1
    print(
        f"after {WARM_UP} runs of warm-up: memory {growth:+.1%}, objects {last.objects / warm.objects - 1:+.1%}, "
        f"threads {last.threads - warm.threads:+d}, open files {last.files - warm.files:+d}"
    )
    return 1 if growth > MOST_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
