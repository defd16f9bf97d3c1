"""The whole graph with a real model: SmolLM2 by llama.cpp, on the same server as the tests of `test_local`."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, SkeletonOfThoughtMiddleware, create_sot_graph, create_sot_tool, stream_answer
from tests.questions import QUESTIONS

pytestmark = pytest.mark.local
QUESTION = "How do bees find their way home?"
OUTLINE = ["The sun as a compass", "Landmarks on the way", "The smell of the hive"]
THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture(scope="session")
def local(served: ChatOpenAI) -> ChatOpenAI:
    return served.model_copy(update={"max_tokens": 16})


def test_the_questions_are_eighty_different_ones() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) == 80


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_each_of_eighty_questions_is_answered(local: ChatOpenAI, *, is_async: bool) -> None:
    """Most bring their outline: the model plans badly, takes long for it, and answers most of the others directly."""
    short = local.model_copy(update={"max_tokens": 8})
    # A kept connection may be closed just then; and at times all that it writes of a point is the title.
    policy = RetryPolicy(max_attempts=3, initial_interval=0.1)
    graph = create_sot_graph(short, skeleton_model=local, max_points=2, on_error="keep", retry_policy=policy)
    given: list[Any] = [{"question": question} for question in QUESTIONS[is_async::2]]
    titles = ["First steps", "Common mistakes"]
    for number, each in enumerate(given):
        if number % 4 != 1:
            each["outline"] = titles[: 1 + number % 2]
    options: Any = {"return_exceptions": True}
    results: list[Any] = await graph.abatch(given, **options) if is_async else graph.batch(given, **options)
    answered = [result for result in results if not isinstance(result, ExpansionError)]
    assert len(answered) >= 0.9 * len(given)
    for result in answered:
        assert result["answer"].strip()
        assert result["answer"] == result["messages"][-1].text
        assert len(result["points"]) <= 2
        assert all(point["text"].strip() or point["error"] for point in result["points"])
    points = [point for result in answered for point in result["points"]]
    assert len(points) >= 30
    assert sum(point["status"] in {"written", "truncated"} for point in points) > 0.8 * len(points)


def write(_messages: object) -> str:
    """The text of a point whose title is the model's: of a bad title it may write nothing but the title."""
    return "This is how it is."


def wire_formats(local: ChatOpenAI) -> dict[str, BaseChatModel]:
    url, key = str(local.openai_api_base), local.openai_api_key
    chat = ChatOpenAI(model="m", base_url=url, api_key=key, max_completion_tokens=16, temperature=0)
    anthropic: Any = ChatAnthropic
    return {
        "chat completions": chat,
        "responses": chat.model_copy(update={"use_responses_api": True}),
        "anthropic": anthropic(model="m", base_url=url.removesuffix("/v1"), api_key=key, max_tokens=16),
    }


@pytest.mark.parametrize("name", ["chat completions", "responses", "anthropic"])
async def test_the_graph_speaks_each_wire_format(local: ChatOpenAI, name: str) -> None:
    graph = create_sot_graph(wire_formats(local)[name])
    for result in (
        graph.invoke({"question": QUESTION, "outline": OUTLINE}),
        await graph.ainvoke({"question": QUESTION, "outline": OUTLINE}),
    ):
        assert [point["title"] for point in result["points"]] == OUTLINE
        assert all(point["text"] for point in result["points"])
        assert result["messages"][-1].usage_metadata["output_tokens"] > len(OUTLINE)
    assert "".join(stream_answer(graph, {"question": QUESTION, "outline": OUTLINE})).count("\n\n") >= 2
    planning = create_sot_graph(wire_formats(local)[name], expander=write)
    assert planning.invoke({"question": QUESTION})["answer"], "and plans"


def test_an_outline_is_bounded_by_the_grammar(local: ChatOpenAI) -> None:
    planner = local.model_copy(update={"max_tokens": 120})
    graph = create_sot_graph(planner, route="always", max_points=3, expander=write)
    result = graph.invoke({"question": "What makes a good breakfast?"})
    assert len(result["points"]) <= 3
    assert result["answer"]


PROGRAM = """
import sys, os, sqlite3, signal
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import RetryPolicy
from sot_graph import create_sot_graph, local_chat_model
graph = create_sot_graph(
    local_chat_model(slots=1, context=1024, threads=1, max_tokens=16),
    checkpointer=SqliteSaver(sqlite3.connect(sys.argv[1], check_same_thread=False)),
)
thread = {"configurable": {"thread_id": "1"}}
given = {"question": "How do bees find their way home?", "outline": %r}
count = 0
for mode, event in graph.stream(given, thread, stream_mode=["custom", "updates"], durability="sync"):
    if mode == "custom" and event["type"] == "point":
        count += 1
        print(event["index"], flush=True)
        if count == 2:
            import time
            time.sleep(1)  # the write is stored by another thread
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_is_resumed_and_nothing_is_written_twice(local: ChatOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "threads.sqlite"
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM % OUTLINE, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert len(killed.stdout.split()) == 2, killed.stderr
    with sqlite3.connect(path, check_same_thread=False) as connection:
        graph = create_sot_graph(local, checkpointer=SqliteSaver(connection))
        result = graph.invoke(None, THREAD)
    assert [point["title"] for point in result["points"]] == OUTLINE
    sot = result["messages"][-1].response_metadata["sot"]
    assert sot["calls"] <= len(OUTLINE) + 1, "of the points that were written, none is asked for again"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_agent_with_tool_and_middleware(local: ChatOpenAI, *, is_async: bool) -> None:
    """The model is too weak to choose a tool, so the test looks at the mechanics."""
    short = local.model_copy(update={"max_tokens": 24})
    graph = create_sot_graph(short, name="writer")
    agent = create_agent(short, [create_sot_tool(graph)], middleware=[SkeletonOfThoughtMiddleware(short)])
    given: Any = {"messages": [("user", "Write a long answer: how do bees find their way home?")]}
    result = await agent.ainvoke(given) if is_async else agent.invoke(given)
    last = result["messages"][-1]
    assert isinstance(last, AIMessage)
    assert not last.tool_calls


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_the_tool_writes_over_an_agents_outline(local: ChatOpenAI, *, is_async: bool) -> None:
    tool = create_sot_tool(create_sot_graph(local))
    call: Any = {"name": tool.name, "args": {"question": QUESTION, "outline": OUTLINE}, "id": "1", "type": "tool_call"}
    message = await tool.ainvoke(call) if is_async else tool.invoke(call)
    assert [point["title"] for point in message.artifact] == OUTLINE
    assert message.text == "\n\n".join(point["text"] for point in message.artifact)
    json.dumps(message.artifact)
