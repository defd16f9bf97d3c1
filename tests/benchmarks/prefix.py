"""What the points' input costs where a provider caches prefixes, and how long an answer takes.

Run it by hand: `python -m tests.benchmarks.prefix` (ten minutes). A server in a process of its own applies
each provider's rule, bills by it, and takes 300 ms to the first token, 10 ms a token, and 1 ms for twenty tokens of the
prompt that it does not read from its cache. A run asks for 8 points of 60 tokens, in a conversation that no run before
had; the faster of two is shown. Each way is put around the graph's own calls, but for "the graph":

- the graph: as it is.
- before: no marks; the outline by a schema.
- marks: the question marked in all calls; the outline by a schema.
- plain outline: the same, the outline as plain text.
- first point: marks in the points' calls; the other points wait for the first token of the first one.

The same with `lead=True`, where the opening's call has the mark, and with an outline of the caller's. Keys are not
shown: the server is one machine.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from sot_graph import create_sot_graph
from sot_graph.calls import Call
from sot_graph.nodes.base import Node
from sot_graph.nodes.expand import Expand
from sot_graph.nodes.lead import Lead
from sot_graph.nodes.skeleton import Skeleton
from sot_graph.prefix import cache_of, with_mark
from tests.benchmarks.prefix_server import CHARACTERS, PROVIDERS, TITLES, Bill, Provider, serving

QUESTION = "How can I sleep better?"
CONTEXTS = (0, 4_000, 40_000)
KEY: Any = SecretStr("none")
_numbers = itertools.count(1)


class Way(NamedTuple):
    """A way to make the calls of an answer."""

    name: str
    marked: tuple[type[Node], ...] = ()
    is_plain: bool = False
    is_first_ahead: bool = False
    is_wrapped: bool = True


WAYS = {
    "": [
        Way("the graph", is_wrapped=False),
        Way("before"),
        Way("marks", (Skeleton, Expand)),
        Way("plain outline", (Skeleton, Expand), is_plain=True),
        Way("first point", (Expand,), is_first_ahead=True),
    ],
    "opening": [Way("the graph", is_wrapped=False), Way("before"), Way("marks", (Lead, Expand))],
    "own outline": [Way("before"), Way("first point", (Expand,), is_first_ahead=True)],
}


class Figures(NamedTuple):
    """Of one run."""

    points: Bill
    all_calls: Bill
    seconds: float


def model_of(provider: Provider, url: str) -> BaseChatModel:
    if provider.model.startswith("claude"):
        return ChatAnthropic(model_name=provider.model, base_url=url, api_key=KEY)  # type: ignore[call-arg]
    return ChatOpenAI(model=provider.model, base_url=f"{url}/v1", api_key=KEY, use_responses_api=False)


def conversation(size: int) -> list[tuple[str, str]]:
    if not size:
        return [("user", QUESTION)]
    text = f"Conversation {next(_numbers):04}. " + "Bees steer by the sun. " * size
    return [("user", text[: CHARACTERS * size]), ("ai", "I see."), ("user", QUESTION)]


@contextmanager
def made(way: Way) -> Iterator[None]:
    """Put a way around the graph's own calls."""
    messages, arun = Node.messages, Call.arun
    first = asyncio.Event()

    def marked(self: Node, said: Sequence[BaseMessage], turns: Sequence[str] = ()) -> list[BaseMessage]:
        plain = messages(self, said, turns)
        model: Any = self.model
        count = len(plain) - len(turns)
        return with_mark(cache_of(model), model, plain, count) if isinstance(self, way.marked) else plain

    async def ahead(self: Call) -> Any:
        if self.index == 1 and self.writer:
            write = self.writer.write

            def noted(chunk: str) -> None:
                first.set()
                write(chunk)

            self.writer.write = noted  # type: ignore[method-assign]
        elif self.stage == "expand":
            await first.wait()
        return await arun(self)

    with ExitStack() as patches:
        # The loopback stands for the providers' own servers.
        patches.enter_context(patch("sot_graph._engine.client_url", lambda _model: "https://api.openai.com/v1"))
        if way.is_wrapped:
            patches.enter_context(patch.object(Node, "messages", marked))
            patches.enter_context(patch("sot_graph.prefix.warms", lambda *_: way.is_plain))
        if way.is_wrapped and not way.marked:
            patches.enter_context(patch("sot_graph.prefix.cache_of", lambda _model: None))
        if way.is_plain:
            patches.enter_context(patch.object(Skeleton, "_structured", lambda _self, _model: None))
        if way.is_first_ahead:
            patches.enter_context(patch.object(Call, "arun", ahead))
        yield


async def run(provider: Provider, url: str, group: str, way: Way, size: int) -> Figures:
    graph = create_sot_graph(model_of(provider, url), lead=group == "opening")
    given: Any = {"messages": conversation(size)} | ({"outline": TITLES} if group == "own outline" else {})
    result: Any = None
    with made(way):
        began = time.perf_counter()
        async for mode, part in graph.astream(given, stream_mode=["messages", "values"]):
            result = part if mode == "values" else result
        seconds = time.perf_counter() - began
    stages = result["messages"][-1].response_metadata["sot"]["stages"]
    bills = {stage: _bill(figures["usage"]) for stage, figures in stages.items()}
    assert stages["expand"]["calls"] == len(TITLES)
    return Figures(bills["expand"], Bill(*map(sum, zip(*bills.values(), strict=True))), seconds)


def _bill(usage: Any) -> Bill:
    details = usage["input_token_details"]
    read, written = details.get("cache_read") or 0, details.get("cache_creation") or 0
    return Bill(read, written, usage["input_tokens"] - read - written)


async def measure(url: str, runs: int) -> None:
    print("| conversation | provider | way | points' input | read | points' bill | whole bill | time | of before |")
    print("|---|---|---|---|---|---|---|---|---|")
    await run(PROVIDERS[0], url, "", WAYS[""][0], 0)  # warms up
    for size, provider in itertools.product(CONTEXTS, PROVIDERS):
        whole = 0  # of the plain graph's calls without a cache
        for group, ways in WAYS.items() if size else [("", WAYS[""][1:2])]:
            every = {way: await fastest(provider, url, group, way, size, runs) for way in ways}
            before = next(figures for way, figures in every.items() if way.name == "before")
            whole = whole or sum(before.all_calls)
            for way, figures in every.items():
                print(
                    row(size, provider, ", ".join(filter(None, (way.name, group))), figures, before, whole), flush=True
                )


async def fastest(provider: Provider, url: str, group: str, way: Way, size: int, runs: int) -> Figures:
    every = [await run(provider, url, group, way, size) for _ in range(runs)]
    return every[0]._replace(seconds=min(each.seconds for each in every))


def row(size: int, provider: Provider, name: str, figures: Figures, before: Figures, whole: int) -> str:
    points = figures.points
    cells = [
        f"{size:,} tokens" if size else "a question",
        provider.name,
        name,
        f"{sum(points):,}",
        f"{points.read / sum(points):.0%}",
        f"{provider.cost(points) / sum(points):.0%}",
        f"{provider.cost(figures.all_calls) / whole:.0%}",
        f"{figures.seconds:.2f} s",
        f"{figures.seconds / before.seconds:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    with serving() as server:
        asyncio.run(measure(server, arguments.runs))
