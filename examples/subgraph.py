"""The graph as a node of a larger graph, which looks something up first: `python examples/subgraph.py`, with no key."""

import argparse

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import DemoChatModel, create_sot_graph, stream_answer

NOTES = (
    "From our notes: bees steer by the sun, by the polarised light of the sky, by landmarks and, near home, by scent."
)


def look_up(state: MessagesState) -> dict[str, list[AIMessage]]:  # noqa: ARG001 - a node is given the state
    """Add what is known to the conversation; every point is written with it in view."""
    return {"messages": [AIMessage(NOTES)]}


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--question", default="How do bees find their way home?")
    options = parser.parse_args()

    builder = StateGraph(MessagesState)
    builder.add_node("look_up", look_up)
    builder.add_node("write", create_sot_graph(options.model or DemoChatModel()))
    builder.add_edge(START, "look_up")
    builder.add_edge("look_up", "write")
    graph = builder.compile()

    for piece in stream_answer(graph, {"messages": [HumanMessage(options.question)]}):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
