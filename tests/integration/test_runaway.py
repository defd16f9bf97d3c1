"""A model that repeats itself without end: its call ends, what is shown stays, and the rest of the loop is cut off."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.types import RetryPolicy

from sot_graph import create_sot_graph
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, usual
from tests.integration.conftest import Run

QUESTION: Any = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.001, jitter=False)
PIECE = "Noise is bad for sleep. "
FRONT = "There is much to say of it. "
LOOP = FRONT + PIECE * 20_000
CUT = (FRONT + PIECE).strip()
MOST = 60
"""Pieces that may be shown before the loop is recognised."""

Read = Callable[..., Awaitable[tuple[str, dict[str, Any], list[Any]]]]


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Read:
    """Stream a graph; returns the text that was shown, the result and all events."""

    async def stream(graph: Any) -> tuple[str, dict[str, Any], list[Any]]:
        modes: Any = {"stream_mode": ["custom", "values"]}
        if request.param == "sync":
            parts = await asyncio.to_thread(lambda: list(graph.stream(QUESTION, **modes)))
        else:
            parts = [part async for part in graph.astream(QUESTION, **modes)]
        events = [part for mode, part in parts if mode == "custom"]
        shown = "".join(event["text"] for event in events if event["type"] == "answer")
        return shown, [part for mode, part in parts if mode == "values"][-1], events

    return stream


def looping(*titles: str, text: str = LOOP, **options: Any) -> Callable[[Request], Reply]:
    """A model that never stops at these points, or in a direct answer or opening."""
    usual_options: dict[str, Any] = {"per_token": 0.0005, "words": 5, **options}

    def script(request: Request) -> Reply:
        is_text = request.stage != "skeleton" and request.title in titles
        return Reply(text, **usual_options) if is_text else usual(request)

    return script


async def until_idle(server: FakeOpenAI) -> None:
    async with asyncio.timeout(5):
        while server.in_flight:  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)


async def test_a_live_text_is_what_was_shown_and_its_call_ends(server: FakeOpenAI, read: Read) -> None:
    server.script = looping(TITLES[0])
    began = time.monotonic()
    shown, result, _events = await read(create_sot_graph(server.model(), retry_policy=FAST))
    await until_idle(server)
    assert time.monotonic() - began < 8, "the reply would have taken 10 seconds at least"
    assert shown == result["answer"]
    points = result["points"]
    assert [point["status"] for point in points] == ["truncated", *["written"] * 3]
    assert points[0]["text"].startswith(CUT)
    assert points[0]["text"].count("Noise") < MOST
    assert len(server.requests) == 5, "nothing is paid for again"


async def test_a_buffered_text_has_one_piece_of_the_loop(server: FakeOpenAI, read: Read) -> None:
    def script(request: Request) -> Reply:
        reply = looping(TITLES[1])(request)
        return Reply(reply.text, first_token=1.5) if request.title == TITLES[0] else reply

    server.script = script
    shown, result, _events = await read(create_sot_graph(server.model(), headings=True))
    assert shown == result["answer"]
    assert (result["points"][1]["text"], result["points"][1]["status"]) == (CUT, "truncated")
    assert result["answer"].count("Noise") == 1
    assert f"## {TITLES[1]}\n\n{CUT}\n\n## {TITLES[2]}" in result["answer"]
    assert len(server.requests) == 5


async def test_a_text_that_becomes_the_next_one_while_it_loops(server: FakeOpenAI, read: Read) -> None:
    """What was buffered is shown when its turn comes, and the loop may be recognised at any moment of that."""

    def script(request: Request) -> Reply:
        reply = looping(TITLES[1], per_token=0.01)(request)
        return Reply(reply.text, first_token=0.15) if request.title == TITLES[0] else reply

    server.script = script
    shown, result, _events = await read(create_sot_graph(server.model()))
    assert shown == result["answer"]
    assert result["points"][1]["status"] == "truncated"


@pytest.mark.parametrize(
    "options", [{}, {"headings": True}, {"merge": lambda points: points[0]["text"]}], ids=["plain", "headings", "merge"]
)
async def test_a_text_that_is_not_streamed(server: FakeOpenAI, run: Run, options: dict[str, Any]) -> None:
    server.script = looping(*TITLES, text=FRONT + PIECE * 100, per_token=0)
    result = await run(create_sot_graph(server.model(), retry_policy=FAST, **options), QUESTION)
    assert {(point["text"], point["status"]) for point in result["points"]} == {(CUT, "truncated")}
    assert len(server.requests) == 5


async def test_a_direct_answer(server: FakeOpenAI, run: Run, read: Read) -> None:
    server.script = looping("")
    direct = create_sot_graph(server.model(), route=lambda _: False)
    shown, result, _events = await read(direct)
    assert shown == result["answer"]
    assert result["answer"].startswith(CUT)
    assert result["answer"].count("Noise") < MOST
    await until_idle(server)
    server.script = looping("", text=FRONT + PIECE * 100, per_token=0)
    assert (await run(direct, QUESTION))["answer"] == CUT


async def test_thoughts_and_an_echo_before_the_loop(server: FakeOpenAI, run: Run) -> None:
    front = f"<think>{PIECE} So be it.</think>1. **{TITLES[0]}**: "
    server.script = looping(TITLES[0], text=front + LOOP[:5_000], per_token=0)
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert (result["points"][0]["text"], result["points"][0]["status"]) == (CUT, "truncated")


async def test_a_loop_from_the_first_word(server: FakeOpenAI, run: Run, read: Read) -> None:
    server.script = looping(*TITLES, text="word " * 1_000, per_token=0)
    graph = create_sot_graph(server.model())
    assert (await run(graph, QUESTION))["answer"] == "\n\n".join(["word"] * 4)
    shown, result, _events = await read(graph)
    assert shown == result["answer"]
    assert {point["status"] for point in result["points"]} == {"truncated"}


async def test_a_retry_that_loops_goes_on_with_what_is_shown(server: FakeOpenAI, read: Read) -> None:
    def script(request: Request) -> Reply:
        if request.title == TITLES[0] and request.attempt == 1:
            return Reply(FRONT + "It is known that there is more to say of it", drop_after=12)
        return looping(TITLES[0])(request)

    server.script = script
    shown, result, _events = await read(create_sot_graph(server.model(), retry_policy=FAST))
    assert shown == result["answer"]
    assert result["points"][0]["status"] == "truncated"
    assert server.titles().count(TITLES[0]) == 2


async def test_the_events_of_tokens_end_with_the_loop(server: FakeOpenAI, read: Read) -> None:
    server.script = looping(TITLES[3])
    _shown, result, events = await read(create_sot_graph(server.model()))
    tokens = "".join(event["text"] for event in events if event["type"] == "token" and event["index"] == 4)
    assert tokens.startswith(result["points"][3]["text"])
    assert tokens.count("Noise") < MOST
    assert [event["status"] for event in events if event["type"] == "point" and event["index"] == 4] == ["truncated"]


@pytest.mark.parametrize("text", [" " * 30_000, "\n " * 15_000], ids=["spaces", "lines"])
async def test_a_flood_of_white_space_is_not_paid_for_again(server: FakeOpenAI, read: Read, text: str) -> None:
    server.script = looping(TITLES[0], text=text, words=50, per_token=0.012)
    graph = create_sot_graph(server.model(), retry_policy=FAST, on_error="keep")
    _shown, result, _events = await read(graph)
    assert result["points"][0]["status"] == "failed"
    server.script = looping(TITLES[0], text=FRONT + text, words=50, per_token=0.012)
    shown, result, _events = await read(graph)
    assert shown == result["answer"]
    assert result["points"][0] == {**result["points"][0], "text": FRONT.strip(), "status": "truncated"}
    assert server.titles().count(TITLES[0]) == 2
    await until_idle(server)


async def test_a_text_that_repeats_itself_a_little_is_whole(server: FakeOpenAI, run: Run, read: Read) -> None:
    text = f"It is {'very ' * 50}bad.\n\n{PIECE * 20}\n\n{'-' * 500}\n\nThat is all."
    server.script = looping(*TITLES, text=text, per_token=0)
    graph = create_sot_graph(server.model())
    assert {(each["text"], each["status"]) for each in (await run(graph, QUESTION))["points"]} == {(text, "written")}
    shown, result, _events = await read(graph)
    assert shown == result["answer"] == "\n\n".join([text] * 4)


def returned(reply: Any, _messages: Any) -> Any:
    return reply


async def test_a_models_loop_as_expander_is_cut_off_and_a_functions_is_not(server: FakeOpenAI, run: Run) -> None:
    server.script = looping(*TITLES, text=LOOP[:5_000], per_token=0)
    result = await run(create_sot_graph(server.model(), expander=server.model()), QUESTION)
    assert {(point["text"], point["status"]) for point in result["points"]} == {(CUT, "truncated")}
    for reply in (LOOP[:5_000].strip(), AIMessage(LOOP[:5_000].strip())):
        graph = create_sot_graph(server.model(), expander=RunnableLambda(partial(returned, reply)))
        points = (await run(graph, QUESTION))["points"]
        assert {(point["text"], point["status"]) for point in points} == {(LOOP[:5_000].strip(), "written")}
