"""When batched decoding pays on this machine: points in one batch, one after the other, and one plain call.

Run with: uv run --extra local python -m tests.benchmarks.batching

All three ways write the same number of tokens with the local model. The second table is about what points share: a
conversation that the slots copy from each other, or that each slot computes for itself.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_openai import ChatOpenAI

from sot_graph import local_chat_model

POINTS, LENGTH = 12, 32
CONTEXT = 3_072
NUMBERS = count(100)
"""Of the conversations, so that each is new."""
TITLES = [f"A point on bees, number {number}" for number in range(1, POINTS + 1)]
SENTENCE = "The bees of hive {} fly to the flowers in the morning. "
TOKENS_OF_SENTENCE = 16


def conversation(tokens: int, name: str) -> list[BaseMessage]:
    """A conversation of about so many tokens; another name makes another one, which no slot has computed."""
    sentences = max(1, tokens // TOKENS_OF_SENTENCE)
    text = "".join(SENTENCE.format(f"{name}{number % 10}") for number in range(sentences))
    return [HumanMessage(f"{text}What do bees do?"), AIMessage("; ".join(TITLES))]


class Ways:
    """The ways to write an answer, each with a conversation that is new."""

    def __init__(self, model: ChatOpenAI, tokens: int = 400) -> None:
        self.model, self.tokens = model, tokens

    def _shared(self) -> list[BaseMessage]:
        return conversation(self.tokens, f"{next(NUMBERS)}")

    async def _call(self, messages: list[BaseMessage], title: str, length: int) -> int:
        reply = await self.model.bind(max_tokens=length).ainvoke([*messages, HumanMessage(f"Tell me about {title}.")])
        usage: Any = reply.usage_metadata
        assert usage["output_tokens"] == length
        return int(usage.get("input_token_details", {}).get("cache_read", 0))

    async def plain(self) -> int:
        """One call that writes all tokens."""
        return await self._call(self._shared(), "all of it", POINTS * LENGTH)

    async def in_turn(self) -> int:
        """A call for each point, one after the other."""
        shared = self._shared()
        return sum([await self._call(shared, title, LENGTH) for title in TITLES])

    async def in_batch(self, length: int = LENGTH) -> int:
        """A call for each point, all at once; returns how many tokens of the prompts were there already."""
        shared = self._shared()
        return sum(await asyncio.gather(*(self._call(shared, title, length) for title in TITLES)))


async def timed(way: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    """Seconds that a way takes, and what it returns."""
    began = time.perf_counter()
    result = await way()
    return time.perf_counter() - began, result


def models(slots: int) -> tuple[ChatOpenAI, ChatOpenAI]:
    """The local model, and a client of the same server that knows nothing of slots."""
    options: dict[str, Any] = {"temperature": 0, "extra_body": {"ignore_eos": True}}
    local = local_chat_model(slots=slots, context=CONTEXT, **options)
    plain = ChatOpenAI(model="m", base_url=local.openai_api_base, api_key=local.openai_api_key, **options)
    return local, plain


async def batching(slots: int, runs: int) -> None:
    """Print a row: tokens a second each way, and the speed-up over a plain call."""
    ways = Ways(models(slots)[0])
    await ways.in_batch(1)
    columns = (ways.plain, ways.in_turn, ways.in_batch)
    rows = [[(await timed(way))[0] for way in columns] for _ in range(runs)]
    speeds = [POINTS * LENGTH / statistics.median(column) for column in zip(*rows, strict=True)]
    gains = [spread([row[0] / row[i] for row in rows]) for i in (1, 2)]
    print(f"| {slots} | {' | '.join(f'{speed:.0f}' for speed in speeds)} | {' | '.join(gains)} |", flush=True)


async def sharing(slots: int, runs: int) -> None:
    """Print rows: what it takes to read a conversation, and to write the points, with shared slots and without."""
    local, plain = models(slots)
    for tokens in (100, 400, 700, 1_800):
        found: dict[str, list[tuple[float, float, int]]] = {"yes": [], "no": []}
        for _ in range(runs):
            for shared, model in (("yes", local), ("no", plain)):
                ways = Ways(model, tokens)
                read, _cached = await timed(lambda ways=ways: ways.in_batch(1))  # type: ignore[misc]
                found[shared].append((read, *await timed(ways.in_batch)))
        for shared, rows in found.items():
            read, wall, cached = (statistics.median(column) for column in zip(*rows, strict=True))
            gain = spread([no[1] / row[1] for row, no in zip(rows, found["no"], strict=True)])
            print(f"| {tokens} | {shared} | {cached:.0f} | {read:.2f} | {wall:.2f} | {gain} |", flush=True)


def spread(values: Sequence[float]) -> str:
    """A median with the lowest and the highest value."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _in_process(task: Callable[[int, int], Any], slots: int, runs: int) -> None:
    asyncio.run(task(slots, runs))


def main() -> None:
    """Measure each number of slots in a process of its own, because a model runs once in a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()

    def run(task: Callable[[int, int], Any], slots: int) -> None:
        process = multiprocessing.get_context("spawn").Process(target=_in_process, args=(task, slots, chosen.runs))
        process.start()
        process.join()

    print(f"{POINTS} points of {LENGTH} tokens; {os.cpu_count()} cores; median (lowest to highest) of {chosen.runs}\n")
    print("| slots | plain call, tokens/s | in turn | in one batch | in turn : plain | in one batch : plain |")
    print("|---|---|---|---|---|---|")
    for slots in chosen.slots:
        run(batching, slots)
    print("\n| conversation, tokens | shared | tokens there already | reading it, s | all, s | not shared : this |")
    print("|---|---|---|---|---|---|")
    run(sharing, max(chosen.slots))


if __name__ == "__main__":
    main()
