"""A long document: every point of the outline is written by another SoT graph, with an outline of its own.

`python examples/long_document.py`, with no key. Two levels of at most 4 x 3 points are at most 1 + 4 * (1 + 3) = 17
calls, all those of one level in flight at once.
"""

import argparse

from sot_graph import DemoChatModel, create_sot_graph, stream_answer


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--question", default="How can I improve my time management skills?")
    options = parser.parse_args()

    model = options.model or DemoChatModel()
    part = create_sot_graph(model, max_points=3, system_prompt="Write a paragraph of five sentences for each point.")
    document = create_sot_graph(model, max_points=4, expander=part, headings=True)

    for piece in stream_answer(document, {"question": options.question}):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
