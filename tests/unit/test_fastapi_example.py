"""examples/fastapi_sse.py: whole answers as JSON, answers while they are written as server-sent events."""

import asyncio
import json
import logging
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from langchain_core.language_models import GenericFakeChatModel

from sot_graph import DemoChatModel, create_sot_graph

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_sse.py"
QUESTION = {"question": "How do bees find their way home?"}
QUICK = DemoChatModel(first_token=0, tokens_per_second=0)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the example, with a demo model that does not wait."""
    monkeypatch.delenv("SOT_MODEL", raising=False)
    names = runpy.run_path(str(EXAMPLE))
    return use(names, QUICK)


@pytest.fixture
def client(example: dict[str, Any]) -> Iterator[TestClient]:
    with TestClient(example["app"]) as client:
        yield client


def use(example: dict[str, Any], model: Any, **options: Any) -> dict[str, Any]:
    """Give the example's functions another model."""
    example["events"].__globals__["graph"] = create_sot_graph(model, on_error="keep", **options)
    return example


def events_of(body: str) -> list[tuple[str, Any]]:
    """The names and the data of server-sent events."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in body.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def test_an_answer_is_json(client: TestClient) -> None:
    result = client.get("/answer", params=QUESTION).json()
    assert result["answer"] == "\n\n".join(point["text"] for point in result["points"])
    assert len(result["points"]) > 2


def test_an_answer_is_streamed_chunk_by_chunk(client: TestClient) -> None:
    reply = client.get("/stream", params=QUESTION)
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, end = events_of(reply.text)
    assert len(chunks) > 2
    assert {name for name, _data in chunks} == {"chunk"}
    assert end == ("end", {})
    assert "".join(data["text"] for _name, data in chunks) == client.get("/answer", params=QUESTION).json()["answer"]


@pytest.mark.parametrize("path", ["/answer", "/stream"])
@pytest.mark.parametrize("question", [{}, {"question": " \n"}], ids=["missing", "blank"])
def test_a_question_that_is_none_is_refused(client: TestClient, path: str, question: dict[str, str]) -> None:
    assert client.get(path, params=question).status_code == 422


def test_what_fails_in_a_stream_is_an_event(
    client: TestClient, example: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Iterator[Any]:
        yield from ()
        msg = "a secret"
        raise PermissionError(msg)

    use(example, GenericFakeChatModel(messages=fail()))
    with caplog.at_level(logging.CRITICAL):
        reply = client.get("/stream", params=QUESTION)
    assert events_of(reply.text) == [("failed", {"error": "PermissionError"})]
    assert "secret" not in reply.text


async def test_a_client_that_leaves_cancels_the_answer(example: dict[str, Any]) -> None:
    """By ASGI itself: the test client reads a reply to its end."""
    first = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await first.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if b"chunk" in message.get("body", b""):
            first.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": "/stream",
        "query_string": b"question=How+do+bees+find+home%3F",
        "headers": [],
    }
    use(
        example, DemoChatModel(first_token=0, tokens_per_second=2), skeleton_model=QUICK
    )  # points of ten seconds and more
    before = asyncio.all_tasks()
    began = time.monotonic()
    await asyncio.wait_for(example["app"](scope, receive, send), 10)
    assert first.is_set()
    if rest := asyncio.all_tasks() - before:  # cancelled, but their turn has not come yet
        await asyncio.wait(rest, timeout=1)
    assert time.monotonic() - began < 8
    assert asyncio.all_tasks() == before, "no call goes on"
