"""What `hedge` gives where one call in twenty waits for five seconds: the time of ten-point answers, and the calls.

Run it by hand: `python -m tests.benchmarks.stragglers`. A server in a process of its own waits for a log-normal time to
the first token (median 400 ms), and for 5 s more in 5 % of the calls; then it writes 60 ms a token. The answers of all
variants run at the same time, three of each, so that all meet the same server.
"""

import argparse
import asyncio
import math
import os
import random
import statistics
import time
from typing import Any

from sot_graph import SotInput, create_sot_graph
from tests.benchmarks.server import serving
from tests.fake_openai import Reply, Request, outline_json

POINTS, TOKENS, PER_TOKEN = 10, 10, 0.06
MEDIAN, SIGMA = 0.4, 0.3
STUCK, SHARE = 5.0, 0.05
AT_ONCE = 3
QUESTION: SotInput = {"question": "How can I sleep better?"}
VARIANTS: dict[str, Any] = {"no hedge": None, "hedge=1.0": 1.0, 'hedge="2x"': "2x"}
MOST_TIME, MOST_CALLS = 1.35, 1.12


def script(request: Request) -> Reply:
    stuck = STUCK if random.random() < SHARE else 0.0
    first = random.lognormvariate(math.log(MEDIAN), SIGMA) + stuck
    titles = [f"Point {name}" for name in "abcdefghij"[:POINTS]]
    text = outline_json(titles) if request.stage == "skeleton" else " ".join(["word"] * TOKENS)
    return Reply(text, first_token=first, per_token=PER_TOKEN)


async def measure(graph: Any, answers: int) -> list[tuple[float, int]]:
    """Seconds and calls of each answer."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one() -> tuple[float, int]:
        async with room:
            began = time.perf_counter()
            result = await graph.ainvoke(QUESTION)
            return time.perf_counter() - began, result["messages"][-1].response_metadata["sot"]["calls"]

    return await asyncio.gather(*(one() for _ in range(answers)))


def row(name: str, runs: list[tuple[float, int]]) -> str:
    seconds = [each for each, _ in runs]
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    median, p95, p99 = cuts[49], cuts[94], cuts[98]
    calls = sum(each for _, each in runs) / len(runs)
    return (
        f"{name:<14}{median:>8.2f} s{p95:>8.2f} s{p99:>8.2f} s{p95 / median:>11.2f}{calls:>14.2f}"
        f"{calls / (POINTS + 1):>10.2f}"
    )


async def compare(answers: int) -> None:
    with serving(script) as server:
        graphs = {name: create_sot_graph(server.model(), hedge=hedge) for name, hedge in VARIANTS.items()}
        await asyncio.gather(*(measure(graph, 5) for graph in graphs.values()))  # a median of earlier outlines
        runs = [measure(graph, answers) for graph in graphs.values()]
        print(f"{'':<14}{'median':>10}{'p95':>10}{'p99':>10}{'p95/median':>11}{'calls/answer':>14}{'of 11':>10}")
        for name, measured in zip(graphs, await asyncio.gather(*runs), strict=True):
            print(row(name, measured))
    print(f"Targets: p95 at most {MOST_TIME} times the median, at most {MOST_CALLS} times the calls.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=400, help="of each variant")
    os.environ["LANGSMITH_TRACING"] = "false"
    asyncio.run(compare(parser.parse_args().answers))


if __name__ == "__main__":
    main()
