"""The opening is short, and the points do not wait for a talkative or slow model."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import RetryPolicy

from sot_graph import DemoChatModel, SotInput, create_sot_graph
from sot_graph.nodes import lead
from sot_graph.nodes.lead import GRACE
from sot_graph.nodes.sentences import LONGEST
from sot_graph.prompts import LEAD
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, outline_json, usual
from tests.integration.conftest import THREAD, Read, Run
from tests.processes import wait_until
from tests.sentences import FIRST, SECOND, TALK, THIRD

QUESTION: SotInput = {"question": "How can I sleep better?"}
POINTS = "\n\n".join(f"About {title.lower()} there is this to say." for title in TITLES)
LATE = 30
"""Seconds that no test waits for."""
LATEST = GRACE + 2.5
"""Seconds that an answer takes at most, on a busy machine, if its points wait for the opening as long as they may."""
OUTLINE = 0.3


def opening(reply: Reply, outline: float = 0.0) -> Script:
    """The usual replies, but this one for the opening, and an outline that takes so many seconds."""

    def script(request: Request) -> Reply:
        if LEAD in request.prompt and request.stage == "direct":
            return reply
        return replace(usual(request), first_token=outline) if request.stage == "skeleton" else usual(request)

    return script


def opening_of(result: dict[str, Any]) -> str:
    text: str = result["answer"].removesuffix(POINTS)
    assert text != result["answer"], "the points are whole"
    return text.removesuffix("\n\n")


def lead_figures(result: dict[str, Any]) -> Any:
    return result["messages"][-1].response_metadata["sot"]["stages"].get("lead")


# --- two sentences -------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "two": (f"{FIRST} {SECOND}", f"{FIRST} {SECOND}"),
        "three": (f"{FIRST} {SECOND} {THIRD}", f"{FIRST} {SECOND}"),
        "quoted": (f"{FIRST[:-1]}.” {SECOND[:-1]}!) {THIRD}", f"{FIRST[:-1]}.” {SECOND[:-1]}!)"),
        "abbreviations": (
            f"Sleep was studied for long by Dr. Smith in the U.S. Army, e.g. by day. {SECOND} {THIRD}",
            f"Sleep was studied for long by Dr. Smith in the U.S. Army, e.g. by day. {SECOND}",
        ),
        "a greeting": (f"Sure! {FIRST} {SECOND} {THIRD}", f"Sure! {FIRST} {SECOND}"),
        "Chinese": ("睡眠很重要。它让人精神焕发。第三句。", "睡眠很重要。它让人精神焕发。"),
        "a list": (f"{FIRST}\n\n- One\n- Two\n- Three", FIRST),
        "a numbered list": ("Here is what helps you sleep:\n1. One\n2. Two", "Here is what helps you sleep:"),
        "lines": (f"Here is an opening for you:\n\n{FIRST}\n\n{SECOND}", f"Here is an opening for you:\n\n{FIRST}"),
        "a broken line": (f"{FIRST[:-7]}\nhabits. {SECOND} {THIRD}", f"{FIRST[:-7]}\nhabits. {SECOND}"),
    }.values(),
    ids=lambda value: value[:12],
)
async def test_it_ends_after_two_sentences(
    server: FakeOpenAI, read: Read, text: str, expected: str, *, streamed: bool
) -> None:
    server.script = opening(Reply(text), OUTLINE)
    _shown, result = await read(create_sot_graph(server.model(), lead=True), streamed=streamed)
    assert opening_of(result) == expected
    assert lead_figures(result)["calls"] == 1


async def test_a_reply_that_arrives_whole_is_cut_too(run: Run) -> None:
    model = FakeListChatModel(responses=[f"{FIRST} {SECOND} {THIRD}"])
    demo = DemoChatModel(first_token=0, tokens_per_second=0)
    graph = create_sot_graph(model, skeleton_model=demo, expander=demo, lead=True)
    assert (await run(graph, QUESTION))["answer"].startswith(f"{FIRST} {SECOND}\n\n")


async def test_two_sentences_are_read_to_their_end_with_their_token_counts(server: FakeOpenAI, read: Read) -> None:
    server.script = opening(Reply(f"{FIRST} {SECOND}"), OUTLINE)
    _shown, result = await read(create_sot_graph(server.model(), lead=True), streamed=False)
    assert lead_figures(result)["usage"]["output_tokens"] == len(f"{FIRST} {SECOND}".split())


# --- a model that never stops --------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", TALK)
async def test_a_model_that_never_stops(server: FakeOpenAI, read: Read, kind: str, *, streamed: bool) -> None:
    server.script = opening(Reply(TALK[kind], per_token=0.01), OUTLINE)
    began = time.monotonic()
    _shown, result = await read(create_sot_graph(server.model(), lead=True), streamed=streamed)
    assert time.monotonic() - began < OUTLINE + LATEST
    text = opening_of(result)
    assert text in {FIRST, f"{FIRST} {SECOND}"} if kind == "with sentences" else TALK[kind].startswith(text)
    assert 0 < len(text) < LONGEST
    assert lead_figures(result)["calls"] == 1, "what was paid for is counted"
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)


async def test_without_an_outline_to_come_it_has_a_longest_length(server: FakeOpenAI, read: Read) -> None:
    text = " ".join(f"word{number}" for number in range(1_000))
    server.script = opening(Reply(text), OUTLINE * 2)
    shown, _result = await read(create_sot_graph(server.model(), lead=True))
    assert 900 < len(shown.removesuffix(POINTS)) < 1_100


async def test_once_the_outline_is_there_it_ends_at_its_next_sentence(server: FakeOpenAI, read: Read) -> None:
    text = f"{FIRST} {SECOND}"
    server.script = opening(Reply(f"{text} {THIRD}", per_token=0.04), OUTLINE / 2)
    _shown, result = await read(create_sot_graph(server.model(), lead=True))
    assert opening_of(result) == FIRST


# --- a model that is slow ------------------------------------------------------------------------

SILENT = {"first token": Reply(FIRST, first_token=LATE), "each token": Reply(FIRST, per_token=LATE)}


def left_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "sot-opening"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", SILENT)
async def test_a_model_that_sends_nothing(server: FakeOpenAI, read: Read, kind: str, *, streamed: bool) -> None:
    server.script = opening(SILENT[kind])
    tasks = asyncio.all_tasks()
    graph = create_sot_graph(server.model(timeout=4), lead=True)
    began = time.monotonic()
    _shown, result = await read(graph, streamed=streamed)
    assert time.monotonic() - began < LATEST
    assert result["answer"] == POINTS
    assert lead_figures(result)["calls"] == 1, "what may have been paid for is counted"
    assert asyncio.all_tasks() == tasks
    assert all(each.daemon for each in left_threads()), "the process may end"
    await asyncio.to_thread(wait_until, lambda: not left_threads())
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)
    assert len(server.requests) == 6


async def test_a_call_that_is_left_is_not_retried(server: FakeOpenAI, read: Read) -> None:
    failing = opening(Reply(status=500, first_token=GRACE + 0.4))
    server.script = lambda request: replace(failing(request), first_token=1.0) if request.title else failing(request)
    graph = create_sot_graph(server.model(), lead=True, retry_policy=RetryPolicy(initial_interval=0.01))
    _shown, result = await read(graph)
    assert result["answer"] == POINTS
    assert len(server.requests) == 6


@pytest.mark.parametrize("config", [None, {"max_concurrency": 2}, {"max_concurrency": 1}], ids=str)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_model_that_is_slow(server: FakeOpenAI, read: Read, config: Any, *, streamed: bool) -> None:
    server.script = opening(Reply(f"{FIRST} {SECOND}", per_token=0.1))
    began = time.monotonic()
    _shown, result = await read(create_sot_graph(server.model(), lead=True), streamed=streamed, config=config)
    # With a limit of 1, the outline may wait for the opening.
    assert time.monotonic() - began < LATEST + 2 * (config == {"max_concurrency": 1})
    assert f"{FIRST} {SECOND}".startswith(opening_of(result))
    assert opening_of(result) or config, "what was written by then is kept"


async def test_a_call_that_is_left_takes_no_slot(server: FakeOpenAI, read: Read) -> None:
    silent = opening(SILENT["first token"])
    server.script = lambda request: replace(silent(request), per_token=0.02) if request.title else silent(request)
    _shown, result = await read(create_sot_graph(server.model(timeout=4), lead=True), config={"max_concurrency": 2})
    points = server.of_stage("expand")
    assert points[1].began < points[0].ended, "two points at once"
    assert result["answer"] == POINTS


class Paced(DemoChatModel):
    """Sends the opening's words only when it may."""

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        if not any(LEAD in message.text for message in messages):
            yield from super()._stream(messages, *args, **kwargs)
            return
        try:
            for word in ("One ", "two "):
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))
            assert GOES_ON.wait(LATE)
            for word in ("three ", "four "):
                SENT.append(word)
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        finally:
            ENDED.set()


GOES_ON, ENDED = threading.Event(), threading.Event()
SENT: list[str] = []


def test_what_a_call_that_was_left_writes_reaches_nobody() -> None:
    for each in (GOES_ON, ENDED, SENT):
        each.clear()
    graph = create_sot_graph(Paced(first_token=0, tokens_per_second=0), lead=True, retry_policy=RetryPolicy())
    shown = []
    result: dict[str, Any] = {}
    for mode, part in graph.stream(QUESTION, {"max_concurrency": 2}, stream_mode=["custom", "values"]):
        if mode == "custom" and part["type"] == "answer":
            shown.append(part["text"])
            if len(shown) > 3:
                GOES_ON.set()
                assert ENDED.wait(LATE)
        result = part if mode == "values" else result
    assert "".join(shown) == result["answer"]
    assert result["answer"].startswith("One two\n\n")
    assert SENT == ["three "], "the call ends at its next chunk, and is not retried"


class Endless(DemoChatModel):
    """Its opening is one sentence without end."""

    def _paced(self, messages: Any, *args: Any) -> Iterator[tuple[float, ChatGenerationChunk]]:
        if not any(message.text.startswith(LEAD) for message in messages):
            yield from PACED(self, messages, *args)
            return
        for number in range(10_000):
            yield 0.0005, ChatGenerationChunk(message=AIMessageChunk(content=f"word{number} "))


PACED = DemoChatModel._paced  # noqa: SLF001 - the way in for a fault


async def test_whenever_it_is_left_the_chunks_are_the_answer(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = create_sot_graph(Endless(first_token=0.002, tokens_per_second=0), lead=True)
    openings = []
    for number in range(40):
        monkeypatch.setattr(lead, "GRACE", number / 5_000)
        shown, _result = await read(graph)
        openings.append(shown.partition("\n\n")[0])
    assert sum(text.startswith("word0 word1") for text in openings) > 10
    await asyncio.to_thread(wait_until, lambda: not left_threads())


async def test_cancelling_a_run_ends_its_opening(server: FakeOpenAI) -> None:
    server.script = opening(Reply(FIRST, first_token=LATE), LATE)
    task = asyncio.create_task(create_sot_graph(server.model(), lead=True).ainvoke(QUESTION))
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)


async def test_a_resumed_run_has_its_outline_already(server: FakeOpenAI, run: Run) -> None:
    """Nor does it wait for the opening, which was cancelled."""
    server.script = opening(Reply(FIRST, first_token=LATE))
    graph = create_sot_graph(server.model(), lead=True, checkpointer=InMemorySaver())
    task = asyncio.create_task(graph.ainvoke(QUESTION, THREAD))
    await asyncio.to_thread(wait_until, lambda: len(server.requests) == 2)
    await asyncio.sleep(GRACE / 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    began = time.monotonic()
    result = await run(graph, None, THREAD)
    assert time.monotonic() - began < LATEST
    assert result["answer"] == POINTS
    assert len(server.of_stage("skeleton")) == 1


# --- without an outline --------------------------------------------------------------------------


async def test_a_direct_answer_waits_for_the_whole_opening(server: FakeOpenAI, read: Read) -> None:
    slow = opening(Reply(f"{FIRST} {SECOND}", words=2, per_token=0.15))
    server.script = lambda request: Reply(outline_json([])) if request.stage == "skeleton" else slow(request)
    shown, _result = await read(create_sot_graph(server.model(), lead=True))
    assert shown == f"{FIRST} {SECOND}\n\nA direct answer."
