"""Points that a local model decodes as one batch over one conversation: their time with shared slots and without.

Run with: uv run --extra local python -m tests.benchmarks.batching --slots 1 4 8 --tokens 100 700
"""

import argparse
import asyncio
import multiprocessing
import time
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_openai import ChatOpenAI

from sot_graph import local_chat_model

TITLES = [f"{number}. A point about bees" for number in range(1, 13)]
SENTENCE = "The bees of hive {} fly to the flowers in the morning. "
TOKENS_OF_SENTENCE = 13


def conversation(tokens: int, name: str) -> list[BaseMessage]:
    """A conversation of about so many tokens; another name makes another one, which no slot has computed."""
    count = max(1, tokens // TOKENS_OF_SENTENCE)
    text = "".join(SENTENCE.format(f"{name}{number % 10}") for number in range(count))
    return [HumanMessage(f"{text}What do bees do?"), AIMessage("\n".join(TITLES))]


async def answer(model: ChatOpenAI, points: int, tokens: int, name: str) -> tuple[float, list[int]]:
    """Write the points at once; returns the seconds, and the tokens of each prompt that its slot had."""
    shared = conversation(tokens, name)
    began = time.perf_counter()
    replies = await asyncio.gather(
        *(model.ainvoke([*shared, HumanMessage(f"Write point {title}")]) for title in TITLES[:points])
    )
    seconds = time.perf_counter() - began
    usages = [
        reply.usage_metadata or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0) for reply in replies
    ]
    return seconds, [usage.get("input_token_details", {}).get("cache_read", 0) for usage in usages]


def measure(slots: int, sizes: list[int], points: int, length: int) -> None:
    """Print a line for each size, with shared slots and by plain requests to the same server."""

    async def run() -> None:
        await shared.ainvoke("Hello")
        for tokens in sizes:
            for label, model in (("shared", shared), ("plain", plain)):
                seconds, cached = await answer(model, points, tokens, label)
                print(f"{slots:5} {tokens:6} {label:>7} {seconds:8.2f} s   {cached}", flush=True)

    options: dict[str, Any] = {"max_tokens": length, "temperature": 0, "extra_body": {"ignore_eos": True}}
    shared = local_chat_model(slots=slots, context=4096, **options)
    assert shared.openai_api_key
    plain = ChatOpenAI(
        model=shared.model_name, base_url=shared.openai_api_base, api_key=shared.openai_api_key, **options
    )
    asyncio.run(run())


def main() -> None:
    """Measure each number of slots in a process of its own, because a model runs once in a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--tokens", type=int, nargs="+", default=[100, 700, 1800])
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--length", type=int, default=30, help="Tokens of each point.")
    chosen = parser.parse_args()
    print("slots tokens   slots  seconds   tokens of each prompt that its slot had")
    for slots in chosen.slots:
        arguments = (slots, chosen.tokens, chosen.points, chosen.length)
        process = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
        process.start()
        process.join()


if __name__ == "__main__":
    main()
