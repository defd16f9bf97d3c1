"""What tracing costs an answer: its time with tracing off, on, and on where LangSmith does not answer.

Run it by hand: `python -m tests.benchmarks.tracing`. A server in a process of its own answers at once, so that what is
left is this process's work; a run asks for 8 points of 30 tokens, and the ways take turns. The figures to compare are
the ratios.
"""

import asyncio
import statistics
import time
from collections.abc import Callable

from langchain_core.runnables import RunnableConfig

from sot_graph import SotInput, create_sot_graph
from tests.benchmarks.server import serving
from tests.fake_openai import Reply, Request, outline_json
from tests.langsmith_sink import langsmith_sink

POINTS, TOKENS, RUNS = 8, 30, 30
QUESTION: SotInput = {"question": "How can I sleep better?"}


def script(request: Request) -> Reply:
    titles = [f"Point {name}" for name in "abcdefgh"[:POINTS]]
    return Reply(outline_json(titles) if request.stage == "skeleton" else " ".join(["word"] * TOKENS))


def report(form: str, ask: Callable[[RunnableConfig], object], ways: dict[str, RunnableConfig]) -> None:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(RUNS + 1):
        for way, config in ways.items():
            began = time.perf_counter()
            ask(config)
            times[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(each[1:]) for way, each in times.items()}  # the first one warms up
    for way, seconds in medians.items():
        print(f"{form:<6}{way:<20}{1000 * seconds:6.1f} ms, {seconds / medians['off']:.2f} of tracing off")


def main() -> None:
    # One event loop for all runs: OpenAI's async client does not outlive its loop.
    with serving(script) as server, langsmith_sink() as sink, langsmith_sink() as dead, asyncio.Runner() as loop:
        dead.open.clear()
        graph = create_sot_graph(server.model())
        ways: dict[str, RunnableConfig] = {
            "off": {},
            "on": {"callbacks": [sink.tracer()]},
            "on, no answer": {"callbacks": [dead.tracer()]},
        }
        report("sync", lambda config: graph.invoke(QUESTION, config), ways)
        report("async", lambda config: loop.run(graph.ainvoke(QUESTION, config)), ways)
        dead.open.set()


if __name__ == "__main__":
    main()
