"""Kill a process in the middle of an answer, and finish the answer in another one: no written point is paid for twice.

`python examples/resume_after_crash.py`, with no key. It needs `pip install langgraph-checkpoint-sqlite`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from sot_graph import DemoChatModel, create_sot_graph

QUESTION = "How can I improve my time management skills?"
THREAD: RunnableConfig = {"configurable": {"thread_id": "crash"}}


def run(model: str | None, database: str, given: Any) -> None:
    """Run the graph with what is stored in a database, and tell what happens."""
    with SqliteSaver.from_conn_string(database) as saver:
        graph = create_sot_graph(model or DemoChatModel(), checkpointer=saver)
        asked: set[int] = set()
        for event in graph.stream(given, THREAD, stream_mode="custom"):
            if event["type"] == "outline":
                print("outline:", "; ".join(event["titles"]), flush=True)
            elif event["type"] == "token" and event["index"] not in asked:
                asked.add(event["index"])
                print(f"point {event['index']}: the model begins to write", flush=True)
            elif event["type"] == "point":
                print(f"point {event['index']}: {event['status']}", flush=True)
        answer = graph.get_state(THREAD).values.get("answer")
        print(f"\n{answer}", flush=True)


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--database", help=argparse.SUPPRESS)  # of the process that is killed
    options = parser.parse_args()
    if options.database:
        run(options.model, options.database, {"question": QUESTION})
        return

    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "threads.sqlite")
        more = ["--model", options.model] if options.model else []
        line = [sys.executable, __file__, "--database", database, *more]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this very file
            written = 0
            for told in process.stdout or []:
                print("  first process |", told.rstrip())
                written += told.endswith(": written\n")
                if written == 2:  # noqa: PLR2004 - somewhere in the middle
                    time.sleep(0.1)  # a point that is told as written is stored a moment later
                    process.kill()
                    break
        print("  first process | killed\n")
        run(options.model, database, None)  # None: go on with the thread


if __name__ == "__main__":
    main()
