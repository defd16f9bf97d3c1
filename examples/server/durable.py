"""An answer that is written without its reader: start it, read a part, leave, come back, read it in order.

`cd examples/server && langgraph dev --no-browser`, then `python durable.py` elsewhere; neither needs a key.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

NAME = "skeleton_of_thought"
FROM_THE_BEGINNING = "-1"


async def start(client: LangGraphClient, question: str) -> tuple[str, str]:
    """Start a run in the background; returns its thread and its id."""
    thread = await client.threads.create()
    run = await client.runs.create(
        thread["thread_id"], NAME, input={"question": question}, stream_mode=["custom"], stream_resumable=True
    )
    return thread["thread_id"], run["run_id"]


async def read(client: LangGraphClient, thread: str, run: str, had: int = 0) -> AsyncGenerator[str]:
    """The text of a run's answer after so many characters, in order, until the run ends.

    The ids of the server's events are milliseconds: whoever continues after one of them lacks the others of that
    millisecond, and what is sent while the stored events are, comes twice. So this reads from the beginning, also when
    the client has connected again by itself, and goes by where each chunk starts.
    """
    while True:
        async for part in client.runs.join_stream(thread, run, stream_mode="custom", last_event_id=FROM_THE_BEGINNING):
            if part.event != "custom" or part.data["type"] != "answer":
                continue
            if part.data["start"] > had:
                break  # something is missing
            if new := part.data["text"][had - part.data["start"] :]:
                had += len(new)
                yield new
        else:
            return


async def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", default="http://127.0.0.1:2024", help="the server's; left out, that of `langgraph dev`"
    )
    parser.add_argument("--question", default="How do bees find their way home?")
    options = parser.parse_args()

    text = ""
    async with get_client(url=options.url) as client:
        thread, run = await start(client, options.question)
        async with aclosing(read(client, thread, run)) as chunks:
            async for chunk in chunks:
                print(chunk, end="", flush=True)
                text += chunk
                if len(text) > 50:  # noqa: PLR2004 - somewhere in the middle
                    break
    print("\n\n[The reader has gone; the server writes on.]\n")

    async with get_client(url=options.url) as client:
        async for chunk in read(client, thread, run, len(text)):
            print(chunk, end="", flush=True)
            text += chunk
        state: Any = await client.threads.get_state(thread)
    print(f"\n\nRead in two parts, it is the answer: {text == state['values']['answer']}")


if __name__ == "__main__":
    asyncio.run(main())
