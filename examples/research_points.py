"""Each point is researched on its own: an agent with a tool writes it.

`python examples/research_points.py`, with no key. The tool here knows a few sentences; yours would search.
"""

import argparse

from langchain.agents import create_agent
from langchain_core.tools import tool

from sot_graph import DemoChatModel, create_sot_graph

LIBRARY = {
    "sleep": "Adults who go to bed at the same time each day fall asleep sooner (Smith 2019).",
    "light": "Bright light in the evening delays the release of melatonin (Jones 2021).",
    "caffeine": "Six hours after a cup of coffee half of its caffeine is still in the blood (Lee 2013).",
}


@tool
def look_up(subject: str) -> str:
    """Look a subject up in the library."""
    print(f"  look_up({subject!r})")
    found = [text for word, text in LIBRARY.items() if word in subject.lower()]
    return " ".join(found) or "The library has nothing on this."


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    options = parser.parse_args()

    model = options.model or DemoChatModel()
    researcher = create_agent(
        model, [look_up], system_prompt="Look a point up before you write it, and name the source."
    )
    graph = create_sot_graph(model, expander=researcher, headings=True, on_error="keep")
    outline = ["Regular sleep hours", "Less evening light", "Caffeine after noon"]
    result = graph.invoke({"question": "How can I sleep better?", "outline": outline})

    print(f"\n{result['answer']}\n")
    sot = result["messages"][-1].response_metadata["sot"]
    print(f"{sot['calls']} model calls in {sot['seconds']} s; one after the other: {sot['sequential_seconds']} s.")


if __name__ == "__main__":
    main()
