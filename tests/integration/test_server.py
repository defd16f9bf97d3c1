"""The graph on a real LangGraph server: `langgraph dev`, with the example's own files, and `RemoteGraph` before it."""

import asyncio
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph_sdk import get_client, get_sync_client

from sot_graph import DemoChatModel, astream_answer, create_sot_graph, stream_answer
from tests.fake_openai import TITLES, FakeOpenAI, Host, Reply, usual
from tests.integration.conftest import Run
from tests.servers import EXAMPLES

pytestmark = pytest.mark.server

EXAMPLE = EXAMPLES / "server"
NAME = "skeleton_of_thought"
QUESTION = {"question": "How can I sleep better?"}
ASKED = {"messages": [{"role": "user", "content": QUESTION["question"]}]}
ANSWER = "\n\n".join(f"About {title.lower()} there is this to say." for title in TITLES)


@pytest.fixture
async def remote(url: str) -> AsyncIterator[RemoteGraph]:
    with get_sync_client(url=url) as sync_client:
        async with get_client(url=url) as client:
            yield RemoteGraph(NAME, client=client, sync_client=sync_client)


@pytest.fixture
def parent(remote: RemoteGraph) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("write", remote)
    builder.add_edge(START, "write")
    return builder.compile()


def thread() -> RunnableConfig:
    return {"configurable": {"thread_id": str(uuid4())}}


async def streamed(form: str, graph: Any, given: Any, **options: Any) -> list[Any]:
    if form == "sync":
        return list(graph.stream(given, **options))
    return [part async for part in graph.astream(given, **options)]


def check_streamed(messages: list[Any], events: list[Any]) -> None:
    """One message, in reading order, piece by piece; and our events."""
    assert "".join(message["content"] for message in messages) == ANSWER
    assert len({message["id"] for message in messages}) == 1
    assert len(messages) > len(TITLES)
    assert events[0] == {"type": "outline", "titles": TITLES}
    assert sorted(event["index"] for event in events if event["type"] == "point") == [1, 2, 3, 4]
    assert "".join(event["text"] for event in events if event["type"] == "answer") == ANSWER


# A run begins up to a second late on the in-memory server, which looks for new ones twice a second; so there are few.


async def test_it_answers_as_the_graph_does_here(server: FakeOpenAI, remote: RemoteGraph, run: Run) -> None:
    result = await run(remote, QUESTION)
    local = await run(create_sot_graph(server.model()), QUESTION)
    assert set(result) == {"messages", "points", "answer"}
    assert (result["answer"], result["points"]) == (local["answer"], local["points"])
    assert [message["type"] for message in result["messages"]] == ["human", "ai"]
    assert result["messages"][-1]["response_metadata"]["sot"]["calls"] == 5
    assert result["messages"][-1]["usage_metadata"] == local["messages"][-1].usage_metadata


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_its_stream_has_one_message_in_order_and_our_events(
    server: FakeOpenAI, remote: RemoteGraph, form: str
) -> None:
    server.script = lambda request: Reply(usual(request).text, per_token=0.01 if request.title == TITLES[0] else 0)
    printed = await streamed(form, remote, QUESTION, stream_mode=["messages", "custom"])
    check_streamed(
        [part.data[0] for part in printed if part.event == "messages"],
        [part.data for part in printed if part.event == "custom"],
    )


@pytest.mark.usefixtures("server")
async def test_its_answer_can_be_read(remote: RemoteGraph) -> None:
    for chunks in (
        list(stream_answer(remote, QUESTION)),
        [chunk async for chunk in astream_answer(remote, QUESTION, thread())],
    ):
        assert len(chunks) > len(TITLES)
        assert "".join(chunks) == ANSWER


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_leaving_the_loop_ends_the_run_and_the_thread_resumes(
    server: FakeOpenAI, remote: RemoteGraph, form: str
) -> None:
    config = thread()
    server.script = lambda request: (
        Reply("word " * 1000, per_token=0.02) if request.title == TITLES[1] else Reply(usual(request).text)
    )
    read: list[str] = []
    if form == "sync":
        with closing(stream_answer(remote, QUESTION, config)) as parts:
            while "".join(read).count("word") < 10:  # the first point is written, the second never ends
                read.append(next(parts))
    else:
        async with aclosing(astream_answer(remote, QUESTION, config)) as chunks:
            while "".join(read).count("word") < 10:
                read.append(await anext(chunks))
    async with asyncio.timeout(5):
        while server.in_flight:  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)
    server.script = usual
    before = len(server.requests)
    result: Any = await remote.ainvoke(None, config)
    assert result["answer"] == ANSWER
    assert [request.title for request in server.requests[before:]] == [TITLES[1]]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_as_a_node_of_a_local_parent_it_adds_one_message_and_streams(parent: Any, form: str) -> None:
    printed = await streamed(form, parent, ASKED, stream_mode=["messages", "custom", "values"], subgraphs=True)
    check_streamed(
        [data[0] for _, mode, data in printed if mode == "messages"],
        [data for _, mode, data in printed if mode == "custom"],
    )
    result = [data for namespace, mode, data in printed if mode == "values" and not namespace][-1]
    assert set(result) == {"messages"}
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert result["messages"][-1].text == ANSWER


@pytest.mark.usefixtures("server")
async def test_in_a_local_parent_its_answer_can_be_read(parent: Any) -> None:
    assert "".join(stream_answer(parent, ASKED)) == ANSWER
    assert "".join([chunk async for chunk in astream_answer(parent, ASKED)]) == ANSWER


async def test_a_second_turn_has_the_first_as_context(server: FakeOpenAI, remote: RemoteGraph) -> None:
    config = thread()
    remote.invoke(QUESTION, config)
    result: Any = await remote.ainvoke({"messages": [{"role": "user", "content": "And in summer?"}]}, config)
    assert [message["type"] for message in result["messages"]] == ["human", "ai", "human", "ai"]
    assert ANSWER in server.of_stage("skeleton")[-1].prompt
    assert remote.get_state(config).values["messages"] == result["messages"]


async def test_a_failed_run_names_its_points_and_resumes(server: FakeOpenAI, remote: RemoteGraph) -> None:
    config = thread()
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    with pytest.raises(RemoteException, match="ExpansionError"):  # the server keeps the message to itself
        remote.invoke(QUESTION, config)
    points = remote.get_state(config).values["points"]
    assert [point["status"] for point in points] == ["written", "failed", "written", "written"]
    server.script = usual
    before = len(server.requests)
    result: Any = await remote.ainvoke(None, config)
    assert result["answer"] == ANSWER
    assert [request.title for request in server.requests[before:]] == [TITLES[1]]


async def test_studio_can_read_the_schemas_and_the_drawing(url: str) -> None:
    async with get_client(url=url) as client:
        [assistant] = await client.assistants.search(graph_id=NAME)
        schemas = await client.assistants.get_schemas(assistant["assistant_id"])
        drawing = await client.assistants.get_graph(assistant["assistant_id"])
    given, gives = schemas["input_schema"] or {}, schemas["output_schema"] or {}
    assert set(given["properties"]) == {"question", "messages", "outline"}
    assert set(gives["properties"]) == {"messages", "points", "answer"}
    assert set(gives["$defs"]["Point"]["properties"]) == {"index", "title", "text", "status", "error"}
    nodes = {str(node["id"]) for node in drawing["nodes"]}
    assert nodes == {"__start__", "skeleton", "expand", "merge", "direct", "__end__"}


@pytest.mark.usefixtures("server")
def test_the_examples_client_runs(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["client.py", "--url", url])
    runpy.run_path(str(EXAMPLE / "client.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.count(ANSWER) == 2
    assert "human: And at night?\n  ai: About regular sleep hours" in shown


def test_the_examples_graph_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOT_MODEL", raising=False)
    monkeypatch.setattr("sot_graph.DemoChatModel", partial(DemoChatModel, first_token=0, tokens_per_second=0))
    graph = runpy.run_path(str(EXAMPLE / "graph.py"))["graph"]
    assert graph.invoke(QUESTION)["answer"]


# --- the server's own endpoints ----------------------------------------------------------------------


def posted(url: str, method: str, params: dict[str, Any]) -> Any:
    """The result of a JSON-RPC call."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    accept = {"Accept": "application/json, text/event-stream"}
    reply = httpx.post(url, json=body, headers=accept, timeout=60).raise_for_status().json()
    assert "error" not in reply, reply
    return reply["result"]


def test_the_graph_is_a_tool_of_an_mcp_client(url: str, host: Host) -> None:
    host.fresh().script = usual
    start = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    assert posted(f"{url}/mcp", "initialize", start)["capabilities"]["tools"] is not None
    tools = {tool["name"]: tool for tool in posted(f"{url}/mcp", "tools/list", {})["tools"]}
    assert "question" in tools[NAME]["inputSchema"]["properties"]
    result = posted(f"{url}/mcp", "tools/call", {"name": NAME, "arguments": QUESTION})
    assert not result.get("isError")
    assert all(f"About {title.lower()} there is this to say." in result["content"][0]["text"] for title in TITLES)


def test_the_graph_is_an_agent_of_an_a2a_client(url: str, host: Host) -> None:
    host.fresh().script = usual
    with get_sync_client(url=url) as client:
        (assistant,) = client.assistants.search(graph_id=NAME)
    agent = f"{url}/a2a/{assistant['assistant_id']}"
    assert httpx.get(f"{agent}/.well-known/agent-card.json", timeout=60).raise_for_status().json()["name"]
    message = {
        "role": "user",
        "messageId": "1",
        "kind": "message",
        "parts": [{"kind": "text", "text": QUESTION["question"]}],
    }
    task = posted(agent, "message/send", {"message": message})
    assert ANSWER in [part.get("text") for artifact in task["artifacts"] for part in artifact["parts"]]
