"""Ask a question and look at the answer: `python examples/quickstart.py`, with no key.

With a key or a server of your own, name a model: `python examples/quickstart.py --model openai:gpt-5.5`.
"""

import argparse

from sot_graph import DemoChatModel, create_sot_graph


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--question", default="How can I improve my time management skills?")
    options = parser.parse_args()

    graph = create_sot_graph(options.model or DemoChatModel(), headings=True)
    result = graph.invoke({"question": options.question})

    print(result["answer"], end="\n\n")
    sot = result["messages"][-1].response_metadata["sot"]
    print(
        f"{len(result['points'])} points in {sot['seconds']} s; "
        f"one after the other, the calls would have taken {sot['sequential_seconds']} s."
    )


if __name__ == "__main__":
    main()
