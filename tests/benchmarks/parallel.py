"""How close a run comes to the time of its slowest calls: skeleton call plus slowest point.

Run it by hand: `python -m tests.benchmarks.parallel`. A server in a process of its own answers with 300 ms to the
first token and 10 ms a token; a run asks for 8 points of 60 tokens. The figures to compare are the ratios.
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from sot_graph import SotInput, create_sot_graph
from tests.fake_openai import Asked, Host, Reply

POINTS, TOKENS, FIRST_TOKEN, PER_TOKEN = 8, 60, 0.3, 0.01
RUNS = 5
QUESTION: SotInput = {"question": "How can I sleep better?"}


def script(asked: Asked) -> Reply:
    titles = [f"Point {name}" for name in "abcdefgh"[:POINTS]]
    text = json.dumps({"points": titles}) if asked.stage == "skeleton" else " ".join(["word"] * TOKENS)
    return Reply(text, first_token=FIRST_TOKEN, per_token=PER_TOKEN)


def serve(pipe: Connection) -> None:
    """Serve until told to stop; asked about a run, tell when its requests began and ended."""
    host = Host()
    host.mind.script = script
    with host.running():
        pipe.send(host.url)
        while pipe.recv() == "report":
            pipe.send([(asked.stage, asked.began, asked.ended) for asked in host.mind.asked])
            pipe.send(host.mind.most_in_flight)
            host.fresh_mind().script = script


@contextmanager
def server() -> Iterator[tuple[str, Connection]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv(), here
    finally:
        here.send("stop")
        process.join()


def measure(ask: Callable[[], object], pipe: Connection) -> tuple[float, float, int, int]:
    """One run: its wall time, its bound (skeleton call plus slowest point), requests, most in flight."""
    began = time.perf_counter()
    ask()
    wall = time.perf_counter() - began
    pipe.send("report")
    calls, most = pipe.recv(), pipe.recv()
    seconds = {stage: max(e - b for s, b, e in calls if s == stage) for stage in ("skeleton", "expand")}
    return wall, sum(seconds.values()), len(calls), most


def report(name: str, ask: Callable[[], object], pipe: Connection) -> None:
    runs = [measure(ask, pipe) for _ in range(RUNS + 1)]
    walls, bounds, requests, most = zip(*runs[1:], strict=True)  # the first one warms up
    ratio = statistics.median(wall / bound for wall, bound in zip(walls, bounds, strict=True))
    print(
        f"{name:<6}wall {statistics.median(walls):.3f} s, bound {statistics.median(bounds):.3f} s, "
        f"wall/bound {ratio:.3f}, requests {max(requests)}, most in flight {max(most)}"
    )


def main() -> None:
    # One event loop for all runs: OpenAI's async client does not outlive its loop.
    with server() as (url, pipe), asyncio.Runner() as loop:
        graph = create_sot_graph(ChatOpenAI(model="fake", base_url=url, api_key=SecretStr("none")))
        report("sync", lambda: graph.invoke(QUESTION), pipe)
        report("async", lambda: loop.run(graph.ainvoke(QUESTION)), pipe)


if __name__ == "__main__":
    main()
