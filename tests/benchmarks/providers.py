"""Requests that each client sends to a server that is overloaded, alone and in a graph with three attempts.

Run it by hand: `python -m tests.benchmarks.providers` (a minute; Gemini's own client waits long).
"""

import asyncio
import logging
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from langgraph.types import RetryPolicy

from sot_graph import create_sot_graph
from tests.clients import CLIENTS
from tests.script_server import ScriptServer, response, script_server

QUESTION: Any = {"question": "How can I sleep better?", "outline": ["Light"]}
OVERLOADED = response({"error": {"message": "overloaded", "code": 503}}, 503)


def requests(server: ScriptServer, call: Any) -> int:
    server.requests.clear()
    with suppress(Exception):
        call()
    return len(server.requests)


def main() -> None:
    logging.disable(logging.CRITICAL)
    print("| client | version | alone | in the graph | in the graph, async and streamed |\n|---|---|---|---|---|")
    with script_server() as server:
        server.script = lambda _request: OVERLOADED
        for name, client in CLIENTS.items():
            model = client.make(server.url)
            graph = create_sot_graph(model, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))

            async def stream(graph: Any = graph) -> None:
                async for _ in graph.astream(QUESTION, stream_mode="messages"):
                    pass

            began = time.monotonic()
            alone = requests(server, lambda model=model: model.invoke("Hi"))
            seconds = time.monotonic() - began
            whole = requests(server, lambda graph=graph: graph.invoke(QUESTION))
            streamed = requests(server, lambda stream=stream: asyncio.run(stream()))
            package = type(model).__module__.partition(".")[0].replace("_", "-")
            shown = f"`{type(model).__name__}`{' (Responses)' if name == 'responses' else ''}"
            print(f"| {shown} | {package} {version(package)} | {alone} in {seconds:.1f} s | {whole} | {streamed} |")


if __name__ == "__main__":
    main()
