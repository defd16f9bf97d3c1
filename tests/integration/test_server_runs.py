"""What a LangGraph server does beside answering: runs without a reader, second questions, schedules, users."""

import asyncio
import json
import runpy
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, PermissionDeniedError

from tests.fake_openai import TITLES, FakeOpenAI, Host, Reply, Request, usual
from tests.integration.conftest import server_folder
from tests.processes import wait_until
from tests.script_server import ScriptServer, response
from tests.servers import EXAMPLES, Served, fake_model, langgraph_dev

pytestmark = pytest.mark.server

NAME = "skeleton_of_thought"
QUESTION = "How can I sleep better?"
TEXTS = {title: " ".join(f"{title[0].lower()}{number}" for number in range(80)) for title in TITLES}
ANSWER = "\n\n".join(TEXTS[title] for title in TITLES)


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "server" / name))


def script(request: Request, per_token: float = 0.0) -> Reply:
    return Reply(TEXTS[request.title], per_token=per_token) if request.title else usual(request)


@pytest.fixture
async def client(url: str) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=url) as client:
        yield client


# --- runs without a reader ---------------------------------------------------------------------------


async def test_an_answer_goes_on_without_its_reader_and_is_read_in_two_parts(
    server: FakeOpenAI, client: LangGraphClient
) -> None:
    server.script = lambda request: script(request, 0.005)
    durable = example("durable.py")
    thread, run = await durable["start"](client, QUESTION)
    text = ""
    async with aclosing(durable["read"](client, thread, run)) as chunks:
        while len(text) < 50:
            text += await anext(chunks)
    assert len(text) < len(TEXTS[TITLES[0]]), "it leaves in the middle of the first point"
    async for chunk in durable["read"](client, thread, run, len(text)):
        text += chunk
    assert text == ANSWER
    assert len(server.requests) == 1 + len(TITLES)
    assert "".join([chunk async for chunk in durable["read"](client, thread, run)]) == ANSWER, "once more, afterwards"
    values: Any = await client.runs.join(thread, run)
    assert values["answer"] == ANSWER


async def test_a_dropped_connection_costs_no_text(server: FakeOpenAI, url: str) -> None:
    server.script = lambda request: script(request, 0.002)
    durable = example("durable.py")
    async with dropping(url) as (other_url, streams), get_client(url=other_url) as client:
        thread, run = await durable["start"](client, QUESTION)
        text = "".join([chunk async for chunk in durable["read"](client, thread, run)])
    assert text == ANSWER
    assert len(streams) > 1, "it has connected again"
    assert b"last-event-id: -1\r\n" in streams[0].lower()


async def test_the_servers_ids_do_not_tell_the_events_of_a_millisecond_apart(
    server: FakeOpenAI, client: LangGraphClient
) -> None:
    """If this fails, `read` of the example can continue after the last event that it got."""
    server.script = script
    thread, run = await example("durable.py")["start"](client, QUESTION)
    await client.runs.join(thread, run)

    async def events(after: str) -> list[Any]:
        return [part async for part in client.runs.join_stream(thread, run, stream_mode="custom", last_event_id=after)]

    received = await events("-1")
    ids = [part.id for part in received]
    index = next(index for index, each in enumerate(ids) if ids[index + 1] == each)
    assert len(await events(ids[index])) < len(received[index + 1 :]), "some are lost"


def test_the_example_of_durable_runs_runs(
    server: FakeOpenAI, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda request: script(request, 0.002)
    monkeypatch.setattr(sys, "argv", ["durable.py", "--url", url])
    asyncio.run(example("durable.py")["main"]())
    shown = capsys.readouterr().out
    assert shown.replace("\n\n[The reader has gone; the server writes on.]\n\n", "").startswith(ANSWER)
    assert shown.endswith("it is the answer: True\n")


@asynccontextmanager
async def dropping(url: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that drops the first stream of a server in its middle; gives its URL, and the heads of all streams."""
    streams: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        head = await reader.readuntil(b"\r\n\r\n")
        is_stream = head.startswith(b"GET") and b"/stream" in head
        streams.extend([head] * is_stream)
        left = 8_000 if is_stream and len(streams) == 1 else None
        there_writer.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        there = asyncio.create_task(pass_on(reader, there_writer))
        await pass_on(there_reader, writer, left)
        there.cancel()
        there_writer.close()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None = None) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
            await writer.drain()
            if left is not None and (left := left - len(data)) < 0:
                writer.transport.abort()
                return

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", streams


# --- second questions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "end", "messages", "calls"),
    [
        ("reject", "success", ["human", "ai"], 5),
        ("enqueue", "success", ["human", "ai", "human", "ai"], 10),
        ("interrupt", "interrupted", ["human", "human", "ai"], 10),
        ("rollback", "deleted", ["human", "ai"], 10),
    ],
)
async def test_a_second_question_is_dealt_with_as_its_strategy_says(
    server: FakeOpenAI, client: LangGraphClient, strategy: str, end: str, messages: list[str], calls: int
) -> None:
    server.script = lambda request: script(request, 0.005)
    asked = await example("second_question.py")["ask_twice"](client, strategy, QUESTION, "And in summer?")
    assert asked == (end, messages)
    assert len(server.requests) == calls
    assert not server.in_flight
    if strategy in {"interrupt", "rollback"}:
        is_context = QUESTION in server.of_stage("skeleton")[-1].prompt
        assert is_context == (strategy == "interrupt"), "the first question stays in the thread, or it does not"


# --- schedules ---------------------------------------------------------------------------------------


async def test_an_answer_by_the_clock_is_sent_to_a_webhook(
    server: FakeOpenAI, client: LangGraphClient, http_server: ScriptServer
) -> None:
    server.script = script
    http_server.script = lambda _: response({})
    cron = await example("schedule.py")["schedule"](client, QUESTION, "* * * * * *", f"{http_server.url}/answers")
    try:
        await asyncio.to_thread(wait_until, lambda: bool(http_server.requests))
    finally:
        await client.crons.delete(cron)
    sent = http_server.requests[0]
    assert sent.path == "/answers"
    assert sent.body["status"] == "success"
    assert sent.body["values"]["answer"] == ANSWER
    state: Any = await client.threads.get_state(sent.body["thread_id"])
    assert state["values"]["answer"] == ANSWER, "the thread is kept"
    await asyncio.to_thread(wait_until, lambda: not server.in_flight)


# --- users -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The example's server with users."""
    folder = server_folder(tmp_path_factory)
    config = json.loads((folder / "langgraph_auth.json").read_text())
    assert config.pop("auth") == {"path": "./auth.py:auth", "disable_studio_auth": True}
    assert config == json.loads((EXAMPLES / "server" / "langgraph.json").read_text())
    with langgraph_dev(folder, "--config", "langgraph_auth.json", environment=fake_model(host.url)) as served:
        yield served


def of_user(served: Served, name: str) -> LangGraphClient:
    return get_client(url=served.url, headers={"Authorization": f"Bearer {name}-secret"})


async def test_a_users_threads_are_unseen_by_another(server: FakeOpenAI, guarded: Served) -> None:
    server.script = script
    async with of_user(guarded, "alice") as alice, of_user(guarded, "bob") as bob:
        thread, run = await example("durable.py")["start"](alice, QUESTION)
        text = "".join([chunk async for chunk in example("durable.py")["read"](alice, thread, run)])
        assert text == ANSWER
        assert [each["thread_id"] for each in await alice.threads.search()] == [thread]
        assert await bob.threads.search() == []
        for attempt in (
            bob.threads.get(thread),
            bob.threads.get_state(thread),
            bob.threads.delete(thread),
            bob.runs.list(thread),
            bob.runs.create(thread, NAME, input={"question": QUESTION}),
            bob.runs.create(thread, NAME, input={"question": QUESTION}, if_not_exists="create"),
            bob.runs.cancel(thread, run),
        ):
            with pytest.raises(NotFoundError):
                await attempt
        parts = [part async for part in bob.runs.join_stream(thread, run, last_event_id="-1")]
        assert [part.event for part in parts] == ["error"]
        taken: Any = await alice.threads.update(thread, metadata={"owner": "bob"})
        assert taken["metadata"]["owner"] == "alice", "nobody makes a thread another one's"
        for forbidden in (alice.crons.create(NAME, schedule="* * * * *", input={}), alice.assistants.create(NAME)):
            with pytest.raises(PermissionDeniedError):
                await forbidden
    assert len(server.requests) == 1 + len(TITLES)


async def test_without_a_token_nobody_asks(server: FakeOpenAI, guarded: Served) -> None:
    asked = {"assistant_id": NAME, "input": {"question": QUESTION}}
    async with httpx.AsyncClient(base_url=guarded.url) as nobody:
        for headers in ({}, {"Authorization": "Bearer none"}, {"x-auth-scheme": "langsmith"}):
            for path in ("/runs/wait", "/threads/search", "/mcp"):
                assert (await nobody.post(path, json=asked, headers=headers)).status_code == 401
    assert server.requests == []
