"""How close a run comes to the time of its slowest calls: skeleton call plus slowest point.

Run it by hand: `python -m tests.benchmarks.parallel`. A server in a process of its own answers with 300 ms to the
first token and 10 ms a token; a run asks for 8 points of 60 tokens. The figures to compare are the ratios.
"""

import asyncio
import statistics
import time
from collections.abc import Callable

from sot_graph import SotInput, create_sot_graph
from tests.benchmarks.server import Server, serving
from tests.fake_openai import Reply, Request, outline_json

POINTS, TOKENS, FIRST_TOKEN, PER_TOKEN = 8, 60, 0.3, 0.01
RUNS = 5
QUESTION: SotInput = {"question": "How can I sleep better?"}


def script(request: Request) -> Reply:
    titles = [f"Point {name}" for name in "abcdefgh"[:POINTS]]
    text = outline_json(titles) if request.stage == "skeleton" else " ".join(["word"] * TOKENS)
    return Reply(text, first_token=FIRST_TOKEN, per_token=PER_TOKEN)


def measure(ask: Callable[[], object], server: Server) -> tuple[float, float, int, int]:
    """One run: its wall time, its bound (skeleton call plus slowest point), requests, most in flight."""
    began = time.perf_counter()
    ask()
    wall = time.perf_counter() - began
    calls, most = server.report()
    seconds = {stage: max(end - begin for s, _, begin, end in calls if s == stage) for stage in ("skeleton", "expand")}
    return wall, sum(seconds.values()), len(calls), most


def report(name: str, ask: Callable[[], object], server: Server) -> None:
    runs = [measure(ask, server) for _ in range(RUNS + 1)]
    walls, bounds, requests, most = zip(*runs[1:], strict=True)  # the first one warms up
    ratio = statistics.median(wall / bound for wall, bound in zip(walls, bounds, strict=True))
    print(
        f"{name:<6}wall {statistics.median(walls):.3f} s, bound {statistics.median(bounds):.3f} s, "
        f"wall/bound {ratio:.3f}, requests {max(requests)}, most in flight {max(most)}"
    )


def main() -> None:
    # One event loop for all runs: OpenAI's async client does not outlive its loop.
    with serving(script) as server, asyncio.Runner() as loop:
        graph = create_sot_graph(server.model())
        report("sync", lambda: graph.invoke(QUESTION), server)
        report("async", lambda: loop.run(graph.ainvoke(QUESTION)), server)


if __name__ == "__main__":
    main()
