"""What a reader sees: time to the first text, longest pause, total; of a plain call, the graph, the graph with `lead`.

Run it by hand: `python -m tests.benchmarks.reading`. A server in a process of its own answers with 100 ms to the first
token and 10 ms a token; the points have 5 to 90 tokens, and the plain answer as many as all of them together.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

from sot_graph import SotInput, astream_answer, create_sot_graph
from sot_graph.prompts import LEAD
from tests.benchmarks.server import serving
from tests.fake_openai import Reply, Request, outline_json

LENGTHS = {"Point a": 30, "Point b": 5, "Point c": 90, "Point d": 60, "Point e": 15, "Point f": 45}
OPENING = 25
FIRST_TOKEN, PER_TOKEN = 0.1, 0.01
RUNS = 5
QUESTION: SotInput = {"question": "How can I sleep better?"}


def script(request: Request) -> Reply:
    if request.stage == "skeleton":
        text = outline_json(list(LENGTHS))
    elif request.stage == "expand":
        text = " ".join(["word"] * LENGTHS[request.title])
    else:
        text = " ".join(["word"] * (OPENING if LEAD in request.prompt else sum(LENGTHS.values())))
    return Reply(text, first_token=FIRST_TOKEN, per_token=PER_TOKEN)


async def read(chunks: AsyncIterator[str]) -> tuple[float, float, float, int]:
    """Read to the end: seconds to the first text, longest pause after that, total, and how many pieces there were."""
    began = time.perf_counter()
    times = [time.perf_counter() - began async for chunk in chunks if chunk]
    return times[0], max(later - earlier for earlier, later in pairwise(times)), times[-1], len(times)


async def measure(name: str, chunks: Callable[[], AsyncIterator[str]]) -> float:
    runs = [await read(chunks()) for _ in range(RUNS + 1)][1:]  # the first one warms up
    first, pause, total, count = (float(statistics.median(column)) for column in zip(*runs, strict=True))
    print(f"{name:<16}first text {first:.3f} s, longest pause {pause:.3f} s, total {total:.3f} s, {count:.0f} pieces")
    return first


async def compare() -> None:
    with serving(script) as server:
        model = server.model()

        async def plain() -> AsyncIterator[str]:
            async for chunk in model.astream(str(QUESTION["question"])):
                yield chunk.text

        graph, led = create_sot_graph(model), create_sot_graph(model, lead=True)
        first = await measure("plain call", plain)
        server.report()
        await measure("graph", lambda: astream_answer(graph, QUESTION))
        with_lead = await measure("graph with lead", lambda: astream_answer(led, QUESTION))
        print(f"first text with lead / of a plain call: {with_lead / first:.2f}")


if __name__ == "__main__":
    asyncio.run(compare())
