"""A stopped run: the calls of an async one end at once; those of a sync one that are in flight finish."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import anyio
import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from sot_graph import DemoChatModel, SotInput, astream_answer, create_sot_graph, stream_answer
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, usual
from tests.integration.conftest import THREAD
from tests.processes import Forked, wait_until

QUESTION: SotInput = {"question": "How can I sleep better?"}
NEVER = 600
"""Seconds that no test waits for: what ends after it has not ended at once."""
LONG = 3
"""Seconds that a call takes: the alarm comes while it is in flight."""


def silent(stage: str) -> Script:
    """The usual replies, but none in this stage: a call that was taken and is not answered."""

    def script(request: Request) -> Reply:
        return Reply("Late.", first_token=NEVER) if request.stage == stage else usual(request)

    return script


def slow(request: Request) -> Reply:
    return usual(request) if request.stage == "skeleton" else Reply("word " * 10_000, per_token=0.02)


def lasting(seconds: float) -> Script:
    """The usual outline, and texts that take so long."""

    def script(request: Request) -> Reply:
        return usual(request) if request.stage == "skeleton" else Reply("Ten words " * 5, per_token=seconds / 11)

    return script


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


@pytest.mark.parametrize("form", ["ainvoke", "astream", "astream_answer", "an outer graph's"])
async def test_a_cancel_scope_of_anyio_ends_all_calls(server: FakeOpenAI, form: str) -> None:
    """It cancels a task again and again until it ends, and so interrupts LangGraph, which would cancel the calls."""
    server.script = silent("expand")
    graph = create_sot_graph(server.model())
    if form == "an outer graph's":
        graph = create_sot_graph(
            server.model(), expander=create_sot_graph(server.model(), route="always"), max_points=2
        )

    async def run() -> None:
        if form == "astream":
            _ = [part async for part in graph.astream(QUESTION)]
        elif form == "astream_answer":
            _ = [chunk async for chunk in astream_answer(graph, QUESTION)]
        else:
            await graph.ainvoke(QUESTION)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await asyncio.to_thread(wait_until, lambda: server.in_flight >= 4)
        group.cancel_scope.cancel()
    await asyncio.to_thread(wait_until_quiet, server)


class Swallowing(DemoChatModel):
    """A client that swallows a cancellation, as `asyncio.wait_for` does in Python 3.11 when a chunk comes with it."""

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
    await asyncio.sleep(0.2)
    task.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_timeout_around_an_async_run_ends_all_calls(server: FakeOpenAI) -> None:
    server.script = silent("expand")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6):
            await create_sot_graph(server.model()).ainvoke(QUESTION)
    await asyncio.to_thread(wait_until_quiet, server)


class Alarm(Exception):  # noqa: N818 - what a timeout by a signal raises
    pass


@contextmanager
def alarm_when(is_time: Callable[[], bool]) -> Iterator[None]:
    """A timeout around what the main thread does, as many programs and pytest-timeout make it; it is over then."""

    rung = threading.Event()

    def ring(_number: int, _frame: FrameType | None) -> None:
        if not rung.is_set():
            rung.set()
            raise Alarm

    def wait() -> None:
        wait_until(is_time)
        while not rung.is_set():  # a signal just before the main thread begins to sleep does not wake it
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            rung.wait(0.2)

    before = signal.signal(signal.SIGALRM, ring)
    thread = threading.Thread(target=wait)
    thread.start()
    try:
        with pytest.raises(Alarm):
            yield
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_timeout_around_a_sync_run_ends_it_after_the_calls_in_flight(server: FakeOpenAI, *, streamed: bool) -> None:
    server.script = lasting(LONG)
    graph = create_sot_graph(server.model())
    with alarm_when(lambda: server.in_flight == 4):
        _ = list(stream_answer(graph, QUESTION)) if streamed else graph.invoke(QUESTION)
    assert (len(server.requests), server.in_flight, server.most_in_flight) == (5, 0, 4)


def test_a_sync_run_waits_for_a_silent_model_as_long_as_the_models_timeout(server: FakeOpenAI) -> None:
    server.script = silent("expand")
    graph = create_sot_graph(server.model(timeout=LONG), retry_policy=RetryPolicy(max_attempts=1))
    with alarm_when(lambda: server.in_flight == 4):
        graph.invoke(QUESTION)
    assert len(server.requests) == 5
    wait_until_quiet(server)


def test_a_sync_run_that_was_stopped_resumes_without_paying_again(server: FakeOpenAI) -> None:
    """Nor for the calls that were in flight: their points are kept."""
    server.script = lambda request: lasting(LONG)(request) if request.title == TITLES[1] else usual(request)
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    with alarm_when(lambda: (len(server.requests), server.in_flight) == (5, 1)):
        graph.invoke(QUESTION, THREAD)
    result = graph.invoke(None, THREAD)
    assert len(server.requests) == 5
    assert [point["status"] for point in result["points"]] == ["written"] * 4


def test_a_sync_run_that_was_stopped_resumes_with_what_was_not_written(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply("Late.", first_token=NEVER) if request.title == TITLES[1] else usual(request)
    graph = create_sot_graph(
        server.model(timeout=LONG), retry_policy=RetryPolicy(max_attempts=1), checkpointer=InMemorySaver()
    )
    with alarm_when(lambda: (len(server.requests), server.in_flight) == (5, 1)):
        graph.invoke(QUESTION, THREAD)
    server.script = usual
    result = graph.invoke(None, THREAD)
    assert [request.title for request in server.requests[5:]] == [TITLES[1]]
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    wait_until_quiet(server)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
def test_no_call_starts_after_a_sync_stream_is_closed(server: FakeOpenAI, *, nested: bool) -> None:
    server.script = lasting(LONG)
    graph: Any = create_sot_graph(server.model())
    if nested:
        builder = StateGraph(SotInput)
        builder.add_node("write", graph)
        builder.add_edge(START, "write")
        graph = builder.compile()
    given: SotInput = {**QUESTION, "outline": [f"Reason number {number}" for number in range(12)]}
    for _chunk in stream_answer(graph, given, {"max_concurrency": 2}):
        wait_until(lambda: server.in_flight == 2)
        sent = len(server.requests)
        break
    assert (len(server.requests), server.in_flight) == (sent, 0), "those in flight are finished, and no other is made"
    assert sent < 12, "the first point is not among the last, although threads start in any order"


def program(url: str, form: str) -> None:
    graph = create_sot_graph(FakeOpenAI(url).model())
    try:
        if form == "sync":
            graph.invoke(QUESTION)
        else:
            asyncio.run(graph.ainvoke(QUESTION))
    except KeyboardInterrupt:
        print("stopped")  # noqa: T201 - it is a program


def interrupt(server: FakeOpenAI, form: str) -> str:
    """Press Ctrl-C in a program while its points are in flight; gives what it prints."""
    with Forked(program, server.url, form) as process:
        wait_until(lambda: server.in_flight == 4)
        process.interrupt()
        return process.wait(20).stdout


def test_ctrl_c_ends_the_process_and_the_calls_of_an_async_run(server: FakeOpenAI) -> None:
    server.script = silent("expand")
    assert interrupt(server, "async") == "stopped\n"
    wait_until_quiet(server)


def test_ctrl_c_ends_a_sync_run_after_the_calls_in_flight(server: FakeOpenAI) -> None:
    server.script = lasting(1)
    assert interrupt(server, "sync") == "stopped\n"
    assert (len(server.requests), server.in_flight) == (5, 0)


async def test_nothing_is_left_of_runs_that_were_stopped(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    for _ in range(3):
        server.script = slow
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await graph.ainvoke(QUESTION)
        server.script = lasting(0.2)
        for _chunk in stream_answer(graph, QUESTION):
            break
    await asyncio.to_thread(wait_until_quiet, server)
    assert len(asyncio.all_tasks()) == tasks
    await asyncio.to_thread(wait_until, lambda: threading.active_count() <= threads + 2)  # to_thread keeps some


async def test_a_pause_before_a_retry_is_cancelled_too(server: FakeOpenAI) -> None:
    server.script = lambda request: (
        Reply(status=429, headers={"Retry-After": "50"}) if request.stage == "skeleton" else usual(request)
    )
    task = asyncio.create_task(create_sot_graph(server.model()).ainvoke(QUESTION))
    await asyncio.to_thread(wait_until, lambda: bool(server.requests) and not server.in_flight)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(server.requests) == 1


def test_a_sync_pause_before_a_retry_is_stopped_too(server: FakeOpenAI) -> None:
    server.script = lambda _: Reply(status=429, headers={"Retry-After": "50"})
    with alarm_when(lambda: bool(server.requests) and not server.in_flight):
        create_sot_graph(server.model()).invoke(QUESTION)
    assert len(server.requests) == 1


def test_no_retry_starts_after_a_sync_stream_is_closed(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        is_bad = request.title not in {"", TITLES[0]}
        return Reply(status=429, first_token=0.5) if is_bad else replace(usual(request), first_token=0.2)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=RetryPolicy(initial_interval=0.1, jitter=False))
    for _chunk in stream_answer(graph, QUESTION):
        break
    assert len(server.requests) == 5
