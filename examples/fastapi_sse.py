"""The graph behind HTTP: whole answers, and answers while they are written (server-sent events).

`python examples/fastapi_sse.py`, with no key; it needs `pip install fastapi uvicorn`. Then, elsewhere:

    curl "http://127.0.0.1:8000/answer?question=How+do+bees+find+home%3F"
    curl -N "http://127.0.0.1:8000/stream?question=How+do+bees+find+home%3F"

The model is that of the environment variable SOT_MODEL; left out, it is the offline demo. In a browser, close the
`EventSource` at the events `end` and `failed`: it connects again by itself, and would pay for another answer.
"""

import argparse
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse

from sot_graph import DemoChatModel, astream_answer, create_sot_graph

app = FastAPI()
graph = create_sot_graph(os.environ.get("SOT_MODEL") or DemoChatModel(), on_error="keep")
Question = Annotated[str, Query(pattern=r"\S", max_length=4_000)]


@app.get("/answer")
async def answer(question: Question) -> dict[str, Any]:
    """Answer a question, as JSON."""
    result = await graph.ainvoke({"question": question})
    return {"answer": result["answer"], "points": result["points"]}


@app.get("/stream")
async def stream(question: Question) -> StreamingResponse:
    """Answer a question, as events."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold the chunks back
    return StreamingResponse(events(question), media_type="text/event-stream", headers=headers)


async def events(question: str) -> AsyncIterator[str]:
    """The answer's chunks as events, and one that says how it ended. A client that leaves cancels the model calls."""
    try:
        async with aclosing(astream_answer(graph, {"question": question})) as chunks:
            async for chunk in chunks:
                yield event("chunk", {"text": chunk})
    except Exception as error:
        logging.getLogger(__name__).exception("The answer failed.")
        yield event("failed", {"error": type(error).__name__})  # its text may be none of the client's
    else:
        yield event("end", {})


def event(name: str, data: dict[str, Any]) -> str:
    """A server-sent event; JSON keeps the text's line breaks out of the format."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def main() -> None:
    """Run the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, port=parser.parse_args().port)


if __name__ == "__main__":
    main()
