"""Answers that outlive the process that writes them: FastAPI with several workers, and the threads in Postgres.

It needs `pip install fastapi uvicorn langgraph-checkpoint-postgres "psycopg[binary]"` and a Postgres, but no key:

    DATABASE=postgresql://localhost/sot uvicorn --app-dir examples durable_fastapi:app --workers 3

    curl -X POST "http://127.0.0.1:8000/threads/1?question=How+do+bees+find+home%3F"
    curl -Ni "http://127.0.0.1:8000/threads/1"

Kill the worker that writes (`X-Worker` is its process id) with -9, and read the thread again: another worker continues,
and no point is written twice that was stored. The model is that of the environment variable SOT_MODEL; left out, it is
the offline demo.

The events of a stream, in a browser those of an `EventSource`, which connects again by itself:

- `chunk`: the answer's text continues with this `text`. The event's id tells what a reader has by then; sent back as
  `Last-Event-ID`, the stream continues there.
- `restart`: the answer begins with this `text`; it replaces all that the reader has. A killed process takes along what
  it has not stored. So a reader may have the beginning of a point's text that the next process asks for once more, and
  a model does not write the same text twice.
- `end` and `failed`: close the `EventSource`, or it connects again.
"""

import asyncio
import json
import logging
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Path, Query
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import StateSnapshot
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from sot_graph import DemoChatModel, astream_answer, create_sot_graph

Thread = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]
Question = Annotated[str, Query(pattern=r"\S", max_length=4_000)]
LastEventId = Annotated[str, Header(pattern=r"^(\d{1,9}-[0-9a-f]{8})?$")]


class Locks:
    """Postgres's own locks, so that a thread is run by one worker at a time; those of a killed worker are free."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._own: set[str] = set()  # for Postgres, all that share a connection are one

    async def take(self, name: str) -> bool:
        """Take a lock, if it is free."""
        if name in self._own:
            return False
        self._own.add(name)
        taken = False
        try:
            query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0)) AS taken"
            row = await (await self._connection.execute(query, [name])).fetchone()
            taken = bool(row and row[0])
        finally:
            if not taken:
                self._own.discard(name)
        return taken

    async def free(self, name: str) -> None:
        """Give a lock back."""
        await self._connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
        self._own.discard(name)

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Wait for a lock, and hold it."""
        while not await self.take(name):  # noqa: ASYNC110 - another process gives it back
            await asyncio.sleep(0.1)
        try:
            yield
        finally:
            await asyncio.shield(self.free(name))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect to Postgres, and make the graph."""
    url, options = os.environ["DATABASE"], {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: AsyncConnectionPool[AsyncConnection[dict[str, Any]]] = AsyncConnectionPool(url, kwargs=options, open=False)
    async with await AsyncConnection.connect(url, autocommit=True) as connection, pool:
        app.state.locks = Locks(connection)
        saver = AsyncPostgresSaver(pool)
        async with app.state.locks.held("setup"):  # two workers that make the same tables fail
            await saver.setup()
        app.state.graph = create_sot_graph(os.environ.get("SOT_MODEL") or DemoChatModel(), checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/threads/{thread}", status_code=202)
async def ask(thread: Thread, question: Question) -> dict[str, str]:
    """Store a question; whoever reads the thread has it answered."""
    graph, locks = app.state.graph, app.state.locks
    if not await locks.take(thread):
        raise HTTPException(409, "The thread is being answered.")
    try:
        if (await graph.aget_state(config_of(thread))).tasks:
            raise HTTPException(409, "The thread's last question is not answered yet.")
        await graph.ainvoke({"question": question}, config_of(thread), interrupt_before=["skeleton"])
    finally:
        await locks.free(thread)
    return {"read": f"/threads/{thread}"}


@app.get("/threads/{thread}")
async def read(thread: Thread, last_event_id: LastEventId = "") -> StreamingResponse:
    """Read a thread's answer, from where the reader left; what is not written yet is written."""
    if not (await app.state.graph.aget_state(config_of(thread))).created_at:
        raise HTTPException(404, "Nobody has asked anything in this thread.")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Worker": str(os.getpid())}
    return StreamingResponse(events(thread, last_event_id), media_type="text/event-stream", headers=headers)


async def events(thread: str, last_event_id: str) -> AsyncIterator[str]:
    """The rest of an answer as events. A reader that leaves ends the model calls; the thread can be read again."""
    yield ": this worker continues the thread once no other one does\n\n"
    try:
        async with app.state.locks.held(thread):
            state = await app.state.graph.aget_state(config_of(thread))
            text, stored = "", stored_text(state)
            had = int(last_event_id.partition("-")[0] or 0)
            if had and id_of(stored[:had]) != last_event_id:
                had = len(stored)
                yield event("restart", {"text": stored}, id_of(stored))
            async with aclosing(whole_answer(thread, state)) as chunks:
                async for chunk in chunks:
                    new, text = (text + chunk)[max(had, len(text)) :], text + chunk
                    if new:
                        yield event("chunk", {"text": new}, id_of(text))
    except Exception as error:
        logging.getLogger(__name__).exception("The answer failed.")
        yield event("failed", {"error": type(error).__name__})  # its text may be none of the reader's
    else:
        yield event("end", {})


async def whole_answer(thread: str, state: StateSnapshot) -> AsyncGenerator[str]:
    """A thread's answer from its beginning: what is stored at once, the rest while it is written."""
    if not state.tasks:
        yield state.values["answer"]
        return
    async with aclosing(astream_answer(app.state.graph, None, config_of(thread))) as chunks:
        async for chunk in chunks:
            yield chunk


def stored_text(state: StateSnapshot) -> str:
    """The beginning of the answer that nobody will write again: the points that are stored, from the first one on."""
    if not state.tasks:
        return str(state.values["answer"])
    if not {"expand", "merge"} & {task.name for task in state.tasks}:
        return ""  # the points are those of the last answer
    updates = [state.values, *(task.result or {} for task in state.tasks)]
    points = {point["index"]: point for update in updates for point in update.get("points", [])}
    texts: list[str] = []
    while (point := points.get(len(texts) + 1)) and point["status"] != "failed":
        texts.append(point["text"])
    return "\n\n".join(texts)


def config_of(thread: str) -> RunnableConfig:
    """The config of a thread's runs."""
    return {"configurable": {"thread_id": thread}}


def id_of(text: str) -> str:
    """What a reader has that has this text: how long it is, and a sum to tell it from another one."""
    return f"{len(text)}-{zlib.crc32(text.encode()):08x}"


def event(name: str, data: dict[str, Any], number: str = "") -> str:
    """A server-sent event; JSON keeps the text's line breaks out of the format."""
    return f"event: {name}\ndata: {json.dumps(data)}\n{f'id: {number}' if number else ':'}\n\n"
