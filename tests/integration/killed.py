"""What a process does that is killed in the middle of an answer."""

import asyncio
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import create_sot_graph
from tests.fake_openai import FakeOpenAI

QUESTION = "How can I sleep better?"
THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}


def make_graph(url: str, saver: Any, *, nested: bool) -> Any:
    """Our graph with a checkpointer, or a checkpointed parent around it."""
    model = FakeOpenAI(url).model()
    if not nested:
        return create_sot_graph(model, checkpointer=saver)
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(model))
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def open_saver(kind: str, place: str) -> AbstractContextManager[Any]:
    return (SqliteSaver if kind == "sqlite" else PostgresSaver).from_conn_string(place)


def open_async_saver(kind: str, place: str) -> AbstractAsyncContextManager[Any]:
    return (AsyncSqliteSaver if kind == "sqlite" else AsyncPostgresSaver).from_conn_string(place)


async def invoke(given: Any, kind: str, place: str, url: str, *, form: str, nested: bool) -> dict[str, Any]:
    """Run the graph, sync or async, with what is stored at a place."""
    result: dict[str, Any]
    if form == "sync":
        with open_saver(kind, place) as saver:
            saver.setup()
            result = make_graph(url, saver, nested=nested).invoke(given, THREAD)
    else:
        async with open_async_saver(kind, place) as saver:
            await saver.setup()
            result = await make_graph(url, saver, nested=nested).ainvoke(given, THREAD)
    return result


def answer(kind: str, place: str, url: str, form: str, nested: bool) -> None:  # noqa: FBT001 - the arguments of a process
    """Answer the question in a new process."""
    asyncio.run(invoke({"messages": [("user", QUESTION)]}, kind, place, url, form=form, nested=nested))


def answer_outline(kind: str, place: str, url: str, form: str, outline: list[Any]) -> None:
    """Write an outline in a new process."""
    asyncio.run(invoke({"question": QUESTION, "outline": outline}, kind, place, url, form=form, nested=False))
