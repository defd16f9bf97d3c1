"""Look at the outline before its points are written: accept it, edit it, or send it back with a remark.

`python examples/review_outline.py`, with no key. On a terminal it asks you; elsewhere it plays a person's part.
"""

import argparse
import sys
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from sot_graph import DemoChatModel, create_sot_graph

THREAD: RunnableConfig = {"configurable": {"thread_id": "review"}}


def verdict(titles: list[str], played: list[Any]) -> Any:
    """What a person says to an outline: True, a list of titles, or a remark as text."""
    for number, title in enumerate(titles, start=1):
        print(f"  {number}. {title}")
    if not sys.stdin.isatty():
        said = played.pop(0)
        print(f"> {said}\n")
        return said
    said = input("Enter: write it so. Numbers, such as 3 1 2: these, in this order. Anything else is a remark.\n> ")
    if not said.strip():
        return True
    numbers = said.split()
    if all(number.isdigit() and 1 <= int(number) <= len(titles) for number in numbers):
        return [titles[int(number) - 1] for number in numbers]
    return said


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--question", default="How can I improve my time management skills?")
    options = parser.parse_args()

    graph = create_sot_graph(options.model or DemoChatModel(), review=True, headings=True, checkpointer=InMemorySaver())
    played = ["say something on meetings", ["Why time runs away", "Saying no to meetings", "A weekly plan"]]
    result: dict[str, Any] = graph.invoke({"question": options.question}, THREAD)
    while interrupts := result.get("__interrupt__"):
        print(interrupts[0].value["question"])
        result = graph.invoke(Command(resume=verdict(interrupts[0].value["titles"], played)), THREAD)
    print(result["answer"])


if __name__ == "__main__":
    main()
