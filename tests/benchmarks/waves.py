"""Points that need others: how near a run comes to its slowest chain, and when each text can be read.

Run it by hand: `python -m tests.benchmarks.waves`. A server in a process of its own answers with 100 to 500 ms to the
first token and 10 ms a token; each of the answers has eight points that need others at random, or none.
"""

import asyncio
import random
import statistics
import time
from typing import Any

from sot_graph import astream_answer, create_sot_graph
from tests.benchmarks.server import serving
from tests.fake_openai import Reply, Request

POINTS, TOKENS, PER_TOKEN = 8, 40, 0.01
ANSWERS = 15
QUESTION = "How can I sleep better?"


def script(request: Request) -> Reply:
    wait = 0.1 + 0.4 * random.Random(request.title).random()
    return Reply(" ".join([request.title.split()[1]] * TOKENS), first_token=wait, per_token=PER_TOKEN)


def outline(seed: int) -> list[Any]:
    """Points of which the later ones need up to two of those before them."""
    chance = random.Random(seed)
    needs = [sorted(chance.sample(range(1, n), min(n - 1, chance.choice([0, 0, 1, 2])))) for n in range(1, POINTS + 1)]
    return [{"title": f"Point {name}{seed}", "needs": own} for name, own in zip("abcdefgh", needs, strict=True)]


async def readable(graph: Any, given: list[Any]) -> list[float]:
    """Seconds until the first text of each point can be read, in order."""
    began, texts, times = time.perf_counter(), "", list[float]()
    async for chunk in astream_answer(graph, {"question": QUESTION, "outline": given}):
        texts += chunk
        times += [time.perf_counter() - began] * (len(texts.split("\n\n")) - len(times))
    return times


async def compare() -> None:
    with serving(script) as server:
        graph = create_sot_graph(server.model())
        await graph.ainvoke({"question": QUESTION, "outline": outline(0)})  # warms up
        ratios, waited, plain = list[float](), list[list[float]](), list[list[float]]()
        for seed in range(1, ANSWERS + 1):
            began = time.perf_counter()
            result = await graph.ainvoke({"question": QUESTION, "outline": outline(seed)})
            wall = time.perf_counter() - began
            ratios.append(wall / result["messages"][-1].response_metadata["sot"]["critical_path_seconds"])
            waited.append(await readable(graph, outline(seed)))
            plain.append(await readable(graph, [item["title"] for item in outline(seed)]))
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    print(f"wall / slowest chain: {median:.3f} ({low:.3f} to {high:.3f}); target at most 1.05")
    print("seconds until the first text of each point can be read, medians")
    for name, rows in (("with needs", waited), ("without", plain)):
        print(f"{name:<12}" + "".join(f"{statistics.median(column):7.2f}" for column in zip(*rows, strict=True)))


if __name__ == "__main__":
    asyncio.run(compare())
