"""Read an answer from a LangGraph server, live: two questions in one thread.

`cd examples/server && langgraph dev --no-browser`, then `python client.py` elsewhere; neither needs a key. The server
takes its model from the environment variable SOT_MODEL; left out, it is the offline demo.
"""

import argparse
from uuid import uuid4

from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_sync_client

from sot_graph import stream_answer


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", default="http://127.0.0.1:2024", help="the server's; left out, that of `langgraph dev`"
    )
    parser.add_argument("--question", default="How do bees find their way home?")
    options = parser.parse_args()

    with get_sync_client(url=options.url) as client:
        graph = RemoteGraph("skeleton_of_thought", sync_client=client)
        graph = graph.with_config(configurable={"thread_id": str(uuid4())})
        for question in (options.question, "And at night?"):
            print(f"> {question}\n")
            for piece in stream_answer(graph, {"question": question}):
                print(piece, end="", flush=True)
            print("\n")
        values = graph.get_state({}).values
        print(
            "The thread on the server:", *(f"  {m['type']}: {m['content']:.60}" for m in values["messages"]), sep="\n"
        )


if __name__ == "__main__":
    main()
