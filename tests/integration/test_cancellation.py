"""When a run is broken off, all its calls end at once, in sync runs as in async ones."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph import DemoChatModel, SotInput, create_sot_graph, stream_answer
from tests.fake_openai import TITLES, Asked, FakeOpenAI, Reply, Script, outline_json, usual
from tests.integration.conftest import THREAD

QUESTION: SotInput = {"question": "How can I sleep better?"}
NEVER = 600
"""Seconds that no test waits for: what ends after it has not ended at once."""


def silent(stage: str) -> Script:
    """The usual replies, but none in this stage: a call that was taken and is not answered."""

    def script(asked: Asked) -> Reply:
        return Reply("Late.", first_token=NEVER) if asked.stage == stage else usual(asked)

    return script


def slow(asked: Asked) -> Reply:
    if asked.stage == "skeleton":
        return Reply(outline_json(TITLES))
    return Reply("word " * 10_000, per_token=0.02)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def wait_until_quiet(server: FakeOpenAI) -> None:
    wait_until(lambda: server.in_flight == 0)


@pytest.mark.parametrize("stage", ["skeleton", "expand", "direct"])
async def test_cancelling_the_task_ends_all_calls(server: FakeOpenAI, stage: str) -> None:
    server.script = silent(stage)
    graph = create_sot_graph(server.model(), route=lambda _: stage != "direct")
    task = asyncio.create_task(graph.ainvoke(QUESTION))
    await asyncio.to_thread(wait_until, lambda: server.in_flight == (4 if stage == "expand" else 1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until_quiet, server)


class Swallowing(DemoChatModel):
    """A client that swallows a cancellation, as `asyncio.wait_for` does in Python 3.11 when a piece comes with it."""

    async def _astream(self, *_args: Any, **_kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(6_000):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))


@pytest.mark.parametrize("is_expander", [False, True])
async def test_a_cancellation_that_a_client_swallows_ends_the_run_all_the_same(*, is_expander: bool) -> None:
    model = Swallowing()
    options: Any = {"expander": model | StrOutputParser() if is_expander else None}
    graph = create_sot_graph(model, skeleton_model=DemoChatModel(first_token=0, tokens_per_second=0), **options)
    task = asyncio.create_task(graph.ainvoke({"question": "?", "outline": TITLES}))
    await asyncio.sleep(0.5)
    task.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_timeout_around_an_async_run_ends_all_calls(server: FakeOpenAI) -> None:
    server.script = silent("expand")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await create_sot_graph(server.model()).ainvoke(QUESTION)
    await asyncio.to_thread(wait_until_quiet, server)


class Alarm(Exception):  # noqa: N818 - what a timeout by a signal raises
    pass


@pytest.fixture
def alarm() -> Iterator[None]:
    """A timeout around what the main thread does, as many programs and pytest-timeout make it."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_timeout_around_a_sync_run_ends_it_at_once_and_its_calls_at_their_next_token(
    server: FakeOpenAI, *, streamed: bool
) -> None:
    server.script = slow
    graph = create_sot_graph(server.model())
    with pytest.raises(Alarm):
        _ = list(stream_answer(graph, QUESTION)) if streamed else graph.invoke(QUESTION)
    wait_until_quiet(server)
    assert server.most_in_flight == 4


@pytest.mark.usefixtures("alarm")
def test_a_sync_run_does_not_wait_for_a_model_that_never_answers(server: FakeOpenAI) -> None:
    server.script = silent("expand")
    with pytest.raises(Alarm):
        create_sot_graph(server.model(timeout=2.5)).invoke(QUESTION)
    assert server.in_flight == 4, "nothing can end a sync call from outside; it ends with its own timeout"
    wait_until_quiet(server)


@pytest.mark.usefixtures("alarm")
def test_a_sync_run_that_was_broken_off_resumes_without_paying_again(server: FakeOpenAI) -> None:
    server.script = lambda asked: Reply("Late.", first_token=5) if asked.title == TITLES[1] else usual(asked)
    graph = create_sot_graph(server.model(timeout=3), checkpointer=InMemorySaver())
    with pytest.raises(Alarm):
        graph.invoke(QUESTION, THREAD)
    server.script = usual
    result = graph.invoke(None, THREAD)
    assert [asked.title for asked in server.asked[5:]] == [TITLES[1]]
    assert len(result["points"]) == 4
    wait_until_quiet(server)


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("stage", ["skeleton", "expand"])
def test_ctrl_c_ends_the_process_and_its_calls(server: FakeOpenAI, form: str, stage: str) -> None:
    server.script = silent(stage)
    program = f"""
        import asyncio
        from tests.fake_openai import FakeOpenAI
        from sot_graph import create_sot_graph
        graph = create_sot_graph(FakeOpenAI({server.url!r}).model())
        try:
            {"graph.invoke" if form == "sync" else "asyncio.run(graph.ainvoke"}({json.dumps(QUESTION)}){")" * (form != "sync")}
        except KeyboardInterrupt:
            print("stopped")
    """  # noqa: E501 - it is a program
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: server.in_flight == (4 if stage == "expand" else 1))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == "stopped\n"
    wait_until_quiet(server)


async def test_nothing_is_left_of_runs_that_were_broken_off(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    server.script = slow
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await graph.ainvoke(QUESTION)
        for _piece in stream_answer(graph, QUESTION):
            break
    await asyncio.to_thread(wait_until_quiet, server)
    assert len(asyncio.all_tasks()) == tasks
    await asyncio.to_thread(wait_until, lambda: threading.active_count() <= threads + 2)  # to_thread keeps some


async def test_a_pause_that_a_server_asked_for_is_broken_off_too(server: FakeOpenAI) -> None:
    server.script = lambda asked: (
        Reply(status=429, headers={"Retry-After": "50"}) if asked.stage == "skeleton" else usual(asked)
    )
    graph = create_sot_graph(server.model())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await graph.ainvoke(QUESTION)
    assert len(server.asked) == 1


@pytest.mark.usefixtures("alarm")
def test_a_sync_pause_is_broken_off_too(server: FakeOpenAI) -> None:
    server.script = lambda _: Reply(status=429, headers={"Retry-After": "50"})
    with pytest.raises(Alarm):
        create_sot_graph(server.model()).invoke(QUESTION)
    assert len(server.asked) == 1
