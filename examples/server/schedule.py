"""A question that the server asks by itself, by the clock, and whose answer it sends to a URL of yours.

`cd examples/server && langgraph dev --no-browser`, then `python schedule.py --webhook https://example.com/answers`
elsewhere. The server refuses a webhook on its own machine, unless langgraph.json has
`"webhooks": {"url": {"disable_loopback": false}}`.
"""

import argparse
import asyncio
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

NAME = "skeleton_of_thought"


async def schedule(client: LangGraphClient, question: str, times: str, webhook: str) -> str:
    """Have a question answered at these times, each time in a new thread; returns the schedule's id.

    The webhook gets the run with its `status`, and the state as `values`: the answer is `values["answer"]`.
    """
    cron: Any = await client.crons.create(
        NAME, schedule=times, input={"question": question}, webhook=webhook, on_run_completed="keep"
    )
    return str(cron["cron_id"])


async def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", default="http://127.0.0.1:2024", help="the server's; left out, that of `langgraph dev`"
    )
    parser.add_argument("--question", default="What is there to do in a garden this month?")
    parser.add_argument("--times", default="0 8 1 * *", help="in cron's words, UTC; left out, 8:00 on each first day")
    parser.add_argument("--webhook", required=True, help="where the answer is sent")
    options = parser.parse_args()
    async with get_client(url=options.url) as client:
        cron: Any = await schedule(client, options.question, options.times, options.webhook)
        print(f"Scheduled. To end it: DELETE {options.url}/runs/crons/{cron}")


if __name__ == "__main__":
    asyncio.run(main())
