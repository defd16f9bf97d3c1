"""An agent that may answer by an outline, and does so live: `python examples/agent_middleware.py`, with no key.

With a key or a server of your own, name a model: `python examples/agent_middleware.py --model openai:gpt-5.5`.
"""

import argparse
from typing import Any, cast

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.tools import tool

from sot_graph import DemoChatModel, SkeletonOfThoughtMiddleware


@tool
def look_up(topic: str) -> str:
    """Look up facts on a topic."""
    return f"An encyclopedia has 12 pages on {topic}, with 3 pictures."


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--question", default="How do bees find their way home?")
    options = parser.parse_args()

    model = options.model or DemoChatModel()
    agent = create_agent(model, [look_up], middleware=[SkeletonOfThoughtMiddleware(model)])
    messages: list[Any] = []
    for mode, part in agent.stream({"messages": [HumanMessage(options.question)]}, stream_mode=["messages", "values"]):
        if mode == "values":
            messages = cast("dict[str, Any]", part)["messages"]
        elif isinstance(part[0], AIMessageChunk):
            print(part[0].text, end="", flush=True)

    print("\n\nThe thread afterwards:", *(f"  {m.type}: {m.text:.60}" for m in messages), sep="\n")
    if sot := messages[-1].response_metadata.get("sot"):
        stages = ", ".join(f"{stage} {told['calls']}" for stage, told in sot["stages"].items())
        print(f"Calls: {stages}. {sot['seconds']} s; one after the other: {sot['sequential_seconds']} s.")


if __name__ == "__main__":
    main()
