"""How much CPU one answer costs the client: the graph beside clients that send the very same prompts.

Run it by hand: `python -m tests.benchmarks.cpu`, or with `--rounds 40`. A run asks for 1 outline and 8 points of 60
tokens. A server in a process of its own answers at once, and is not measured. The variants take turns, so that all meet
the same noise. The figures to compare are the ratios. Nothing here fails. `instructor` has rows where it is installed;
it is no dependency, since it wants a jiter that is too old for the newest openai.
"""

import argparse
import asyncio
import gc
import importlib.util
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel

from sot_graph import SotInput, create_sot_graph
from tests.benchmarks.server import Server, serving
from tests.fake_openai import Host, Reply, Request, outline_json

POINTS, TOKENS, ROUNDS = 8, 60, 15
QUESTION: SotInput = {"question": "How can I sleep better?"}
TEXT = " ".join(["word"] * TOKENS)
Call = Callable[[Any], Awaitable[Any]]


class Outline(BaseModel):
    points: list[str]


class PointText(BaseModel):
    text: str


def script(request: Request) -> Reply:
    if request.stage != "skeleton":
        return Reply(TEXT)
    if PointText.__name__ in str(request.body):
        return Reply(PointText(text=TEXT).model_dump_json())
    return Reply(outline_json([f"Point {name}" for name in "abcdefgh"[:POINTS]]))


def graph_prompts() -> list[list[dict[str, Any]]]:
    """The prompts of the graph's own requests, the outline's first."""
    with Host().running() as host:
        host.fake.script = script
        create_sot_graph(host.fake.model()).invoke(QUESTION)
        return [request.messages for request in host.fake.requests]


async def consume(chunks: AsyncIterator[object]) -> None:
    async for _ in chunks:
        pass


def asking(call: Callable[..., Awaitable[Any]], **options: Any) -> Call:
    return lambda prompt: call(model="fake", messages=prompt, **options)


def make_variants(server: Server, loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[], object]]:
    """Make every variant, by its name; all async ones share a loop, since OpenAI's clients do not outlive theirs."""
    prompts = graph_prompts()
    client = AsyncOpenAI(base_url=server.url, api_key="none")
    sdk = client.chat.completions
    parse, create = asking(sdk.parse, response_format=Outline), asking(sdk.create)
    stream = asking(sdk.create, stream=True, stream_options={"include_usage": True})
    model = server.model().model_copy(update={"stream_usage": True})
    run = loop.run_until_complete
    structured, graph = model.with_structured_output(Outline), create_sot_graph(server.model())

    async def by_hand(outline: Call, point: Call) -> None:
        await outline(prompts[0])
        await asyncio.gather(*map(point, prompts[1:]))

    async def read(prompt: object) -> None:
        await consume(await stream(prompt))

    variants: dict[str, Callable[[], object]] = {
        "openai": lambda: run(by_hand(parse, create)),
        "ChatOpenAI ainvoke": lambda: run(by_hand(structured.ainvoke, model.ainvoke)),
        "graph ainvoke": lambda: run(graph.ainvoke(QUESTION)),
        "graph invoke, sync": lambda: graph.invoke(QUESTION),
        "openai, streamed": lambda: run(by_hand(parse, read)),
        "ChatOpenAI astream": lambda: run(by_hand(structured.ainvoke, lambda prompt: consume(model.astream(prompt)))),
        "graph astream, messages": lambda: run(consume(graph.astream(QUESTION, stream_mode="messages"))),
    }
    if importlib.util.find_spec("instructor"):
        instructor = importlib.import_module("instructor")
        ask = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA).create
        outline, text, parsed = (asking(ask, response_model=form) for form in (Outline, None, PointText))
        variants["instructor"] = lambda: run(by_hand(outline, text))
        variants["instructor, all parsed"] = lambda: run(by_hand(outline, parsed))  # as its own recipe does
    return variants


def cpu_ms(run: Callable[[], object], server: Server) -> float:
    gc.collect()  # so that no variant pays for what the one before it left
    began = time.process_time()
    run()
    spent = 1000 * (time.process_time() - began)
    if len(server.report()[0]) != 1 + POINTS:
        print(f"A run did not make {1 + POINTS} requests: it compares with no other.")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = max(2, parser.parse_args().rounds)
    os.environ["LANGSMITH_TRACING"] = "false"
    with serving(script) as server, asyncio.Runner() as runner:
        variants = make_variants(server, runner.get_loop())
        turns = [{name: cpu_ms(run, server) for name, run in variants.items()} for _ in range(rounds + 1)]
    print(f"{'':<26}{'CPU, ms a run (min-max)':<28}times the SDK (quartiles)")
    for name in variants:
        baseline = "openai, streamed" if "stream" in name else "openai"
        times = [turn[name] for turn in turns[1:]]  # the first one warms up
        low, middle, high = statistics.quantiles([t[name] / t[baseline] for t in turns[1:]], n=4, method="inclusive")
        cpu = f"{statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f})"
        print(f"{name:<26}{cpu:<28}{middle:.2f} ({low:.2f}-{high:.2f})")
    print("Targets: graph ainvoke at most 1.50 and below instructor; graph astream, messages at most 1.15.")


if __name__ == "__main__":
    main()
