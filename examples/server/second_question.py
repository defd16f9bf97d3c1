"""A second question while the first one is being answered: the four strategies of the server.

`cd examples/server && langgraph dev --no-browser`, then `python second_question.py` elsewhere; neither needs a key.
"""

import argparse
import asyncio
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError
from langgraph_sdk.schema import MultitaskStrategy

NAME = "skeleton_of_thought"
STRATEGIES: tuple[MultitaskStrategy, ...] = ("reject", "enqueue", "interrupt", "rollback")


async def ask_twice(client: LangGraphClient, strategy: MultitaskStrategy, *questions: str) -> tuple[str, list[str]]:
    """Ask two questions in a thread; returns how the first one's run ended, and the types of the thread's messages."""
    first, second = questions
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, NAME, input={"question": first}, stream_mode=["custom"])
    async for part in client.runs.join_stream(thread, run["run_id"], stream_mode="custom"):
        if part.data.get("type") == "answer":
            break  # in the middle of the answer
    try:
        other = await client.runs.create(thread, NAME, input={"question": second}, multitask_strategy=strategy)
        await client.runs.join(thread, other["run_id"])
    except ConflictError:
        await client.runs.join(thread, run["run_id"])
    ends = {each["run_id"]: each["status"] for each in await client.runs.list(thread)}
    state: Any = await client.threads.get_state(thread)
    return ends.get(run["run_id"], "deleted"), [message["type"] for message in state["values"]["messages"]]


async def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", default="http://127.0.0.1:2024", help="the server's; left out, that of `langgraph dev`"
    )
    options = parser.parse_args()
    async with get_client(url=options.url) as client:
        for strategy in STRATEGIES:
            end, messages = await ask_twice(client, strategy, "How do bees find their way home?", "And at night?")
            print(f"{strategy:<10}the first run: {end:<12}the thread: {', '.join(messages)}")


if __name__ == "__main__":
    asyncio.run(main())
