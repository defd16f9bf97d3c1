"""The answer in reading order while the points are still being written."""

import asyncio
import gc
import random
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

from sot_graph import ExpansionError, SotInput, astream_answer, create_sot_graph, stream_answer
from sot_graph.prompts import GO_ON, LEAD
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, outline_json, usual
from tests.integration.conftest import THREAD, parent_of
from tests.processes import Forked

QUESTION: SotInput = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


class ReadAnswer(Protocol):
    def __call__(self, graph: Any, given: Any, config: Any = None) -> Awaitable[list[str]]: ...


@pytest.fixture(params=["sync", "async"])
def read_answer(request: pytest.FixtureRequest) -> ReadAnswer:
    """Read an answer to its end, once by `stream_answer` and once by `astream_answer`."""

    async def read(graph: Any, given: Any, config: Any = None) -> list[str]:
        if request.param == "sync":
            return list(stream_answer(graph, given, config))
        return [chunk async for chunk in astream_answer(graph, given, config)]

    return read


def events(graph: Any, given: Any, config: Any = None) -> tuple[list[Any], dict[str, Any]]:
    """All custom events of a run, and its result."""
    received: list[Any] = []
    result: dict[str, Any] = {}
    for mode, part in graph.stream(given, config, stream_mode=["custom", "values"]):
        if mode == "custom":
            received.append(part)
        else:
            result = part
    return received, result


def answer_of(received: list[Any]) -> str:
    text = ""
    for event in received:
        if event["type"] == "answer":
            assert event["start"] == len(text), "each chunk says where it stands"
            text += event["text"]
    return text


def backwards(request: Request) -> Reply:
    """The later a point stands, the sooner it is written."""
    if request.stage != "expand":
        return usual(request)
    return Reply(
        f"About {request.title} much is to be said.",
        first_token=0.05 * (4 - TITLES.index(request.title)),
        per_token=0.002,
    )


# --- the text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"headings": True}, {"lead": True}, {"lead": True, "headings": True}, {"merge": lambda p: f"{len(p)} points"}],
    ids=" ".join,
)
@pytest.mark.parametrize("config", [None, {"max_concurrency": 1}, {"max_concurrency": 2}], ids=str)
async def test_joined_the_chunks_are_the_answer(
    server: FakeOpenAI, read_answer: ReadAnswer, options: Any, config: Any
) -> None:
    server.script = backwards
    graph = create_sot_graph(server.model(), **options)
    chunks = await read_answer(graph, QUESTION, config)
    assert all(chunks)
    assert "".join(chunks) == graph.invoke(QUESTION)["answer"]


async def test_echoes_and_outer_white_space_are_never_shown(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    def script(request: Request) -> Reply:
        if request.stage == "skeleton":
            return usual(request)
        number = TITLES.index(request.title) + 1
        return Reply(f"\n  **{number}. {request.title}**:\n\n It matters \n a lot.\n\n ")

    server.script = script
    chunks = await read_answer(create_sot_graph(server.model()), QUESTION)
    assert "".join(chunks) == "\n\n".join(["It matters \n a lot."] * 4)


async def test_a_direct_answer_streams_too(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    server.script = lambda request: Reply(outline_json([])) if request.stage == "skeleton" else Reply("One two three.")
    assert await read_answer(create_sot_graph(server.model()), QUESTION) == ["One", " two", " three."]
    chunks = await read_answer(create_sot_graph(server.model(), lead=True), QUESTION)
    assert "".join(chunks) == "One two three.\n\nOne two three."
    assert "One two three." in server.requests[-1].prompt, "the direct answer goes on from the opening"


async def test_the_first_point_is_live_and_the_next_is_flushed_when_its_turn_comes(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        if request.stage == "skeleton":
            return Reply(outline_json(TITLES[:2]))
        slow = request.title == TITLES[0]
        return Reply("one two three four five six", per_token=0.05 if slow else 0.0)

    server.script = script
    received = [(chunk, time.monotonic()) async for chunk in astream_answer(create_sot_graph(server.model()), QUESTION)]
    times = [at for _, at in received]
    assert [chunk for chunk, _ in received[:6]] == ["one", " two", " three", " four", " five", " six"]
    assert times[5] - times[0] > 0.1, "live"
    assert [chunk for chunk, _ in received[6:]] == ["\n\none two three four five six"], "flushed in one piece"


def failing_at(title: str) -> Script:
    return lambda request: Reply(status=401) if request.title == title else usual(request)


async def test_a_failed_point_is_left_out(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    for failing in TITLES:
        server.script = failing_at(failing)
        graph = create_sot_graph(server.model(), on_error="keep", headings=True)
        chunks = await read_answer(graph, QUESTION)
        assert "".join(chunks) == graph.invoke(QUESTION)["answer"]
        assert failing not in "".join(chunks)


async def test_an_error_comes_after_what_could_be_read(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    read: list[str] = []

    async def read_on() -> None:
        async for chunk in astream_answer(create_sot_graph(server.model()), QUESTION):
            read.append(chunk)  # noqa: PERF401 - the list has to outlive the error

    with pytest.raises(ExpansionError):
        await read_on()
    assert "".join(read).startswith(f"About {TITLES[0].lower()} there is this to say.")


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["One two three four five.", "four five."], ids=["repeats it", "continues"])
@pytest.mark.parametrize("stage", ["expand", "direct", "lead"])
async def test_what_was_shown_before_a_retry_stays_and_is_not_shown_twice(
    server: FakeOpenAI, read_answer: ReadAnswer, stage: str, second: str
) -> None:
    def script(request: Request) -> Reply:
        if request.stage == "skeleton":
            return Reply(outline_json([] if stage == "direct" else TITLES[:2]))
        opens = LEAD in request.prompt
        if not (opens if stage == "lead" else request.title in {TITLES[0], ""} and not opens):
            return Reply("The other text.", first_token=0.05)
        begun = request.last == GO_ON
        return Reply(second) if begun else Reply("One two three oops", drop_after=3, per_token=0.01)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST, lead=stage == "lead")
    chunks = await read_answer(graph, QUESTION)
    assert "".join(chunks).startswith("One two three four five.")
    assert "".join(chunks).count("two") == 1
    [again] = [request for request in server.requests if request.last == GO_ON]
    assert "One two three" in again.messages[-2]["content"]


async def test_without_a_subscriber_a_retry_begins_anew(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        if request.title == TITLES[0] and request.attempt == 1:
            return Reply("One two three", drop_after=2)
        return usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST)
    for result in (graph.invoke(QUESTION), await graph.ainvoke(QUESTION)):
        assert result["points"][0]["text"] == f"About {TITLES[0].lower()} there is this to say."
    assert not any(request.last == GO_ON for request in server.requests)


async def test_what_was_shown_of_a_point_that_fails_for_good_is_in_the_answer(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        return Reply("One two three", drop_after=2, per_token=0.01) if request.title == TITLES[0] else usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST._replace(max_attempts=1), on_error="keep")
    received, result = events(graph, QUESTION)
    assert answer_of(received) == result["answer"]
    assert result["answer"].startswith("One two\n\n")
    assert result["points"][0]["status"] == "failed"
    assert result["points"][0]["text"] == "One two"


# --- events --------------------------------------------------------------------------------------


def test_events_tell_all_there_is(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[2] else backwards(request)
    received, result = events(create_sot_graph(server.model(), on_error="keep"), QUESTION)
    assert received[0] == {"type": "outline", "titles": TITLES}
    tokens: dict[int, str] = {}
    for event in received:
        if event["type"] == "token":
            assert event["attempt"] == 1
            tokens[event["index"]] = tokens.get(event["index"], "") + event["text"]
    assert tokens == {i: f"About {title} much is to be said." for i, title in enumerate(TITLES, start=1) if i != 3}
    ends = [event for event in received if event["type"] == "point"]
    assert [(event["index"], event["status"]) for event in ends] == [
        (3, "failed"),
        (4, "written"),
        (2, "written"),
        (1, "written"),
    ]
    assert answer_of(received) == result["answer"]


# --- "messages" mode -----------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
@pytest.mark.parametrize("lead", [False, True], ids=["", "lead"])
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_the_answer_is_one_message_that_begins_before_the_last_point_ends(
    server: FakeOpenAI, form: str, *, nested: bool, lead: bool
) -> None:
    def script(request: Request) -> Reply:
        reply = usual(request)
        reply.per_token = 0.05 if request.title == TITLES[3] else 0.001
        return reply

    server.script = script
    graph: Any = create_sot_graph(server.model(), lead=lead)
    graph = parent_of(graph) if nested else graph
    given = {"messages": [HumanMessage(QUESTION["question"] or "", id="1")]}
    chunks: list[tuple[Any, float]] = []
    result: dict[str, Any] = {}
    options: Any = {"stream_mode": ["messages", "values"], "subgraphs": True}

    def note(part: Any) -> None:
        nonlocal result
        namespace, mode, data = part
        if mode == "messages":
            chunks.append((data[0], time.monotonic()))
        elif not namespace:
            result = data

    if form == "sync":
        for part in graph.stream(given, **options):
            note(part)
    else:
        async for part in graph.astream(given, **options):
            note(part)

    answer = result["messages"][-1]
    assert "".join(chunk.text for chunk, _ in chunks) == answer.text
    assert {chunk.id for chunk, _ in chunks} == {answer.id}
    assert len(result["messages"]) == 2
    assert len(chunks) > 5
    last_ended = max(request.ended for request in server.requests)
    assert chunks[0][1] < last_ended, "it begins before the last point has ended"


async def test_a_parent_that_streams_only_itself_gets_the_message_whole(server: FakeOpenAI) -> None:
    parent = parent_of(create_sot_graph(server.model()))
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    chunks = [message async for message, _ in parent.astream(given, stream_mode="messages")]
    assert [type(chunk).__name__ for chunk in chunks] == ["AIMessage"]


async def test_a_parents_answer_can_be_read_too(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    server.script = backwards
    parent = parent_of(create_sot_graph(server.model()))
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    chunks = await read_answer(parent, given)
    assert len(chunks) > 4
    assert "".join(chunks) == parent.invoke(given)["messages"][-1].text


def calls_inside(graph: Any) -> Any:
    """A parent whose node calls the graph, and passes no config on."""

    def write(state: MessagesState) -> Any:
        return {"messages": [graph.invoke({"messages": state["messages"]})["messages"][-1]]}

    async def awrite(state: MessagesState) -> Any:
        return {"messages": [(await graph.ainvoke({"messages": state["messages"]}))["messages"][-1]]}

    return parent_of(RunnableLambda(write, awrite))


async def test_a_node_that_passes_no_config_on_is_read_all_the_same(
    server: FakeOpenAI, read_answer: ReadAnswer
) -> None:
    parent = calls_inside(create_sot_graph(server.model()))
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    assert "".join(await read_answer(parent, given)) == parent.invoke(given)["messages"][-1].text


def test_a_node_that_passes_no_config_on_keeps_the_limit(server: FakeOpenAI) -> None:
    server.script = backwards
    parent = calls_inside(create_sot_graph(server.model()))
    parent.invoke({"messages": [HumanMessage("Hm?", id="1")]}, {"max_concurrency": 2})
    assert server.most_in_flight == 2


def test_a_limit_may_be_bound_to_the_graph(server: FakeOpenAI) -> None:
    server.script = backwards
    graph = create_sot_graph(server.model()).with_config(max_concurrency=1)
    received, result = events(graph, QUESTION)
    assert answer_of(received) == result["answer"]
    assert server.most_in_flight == 1


async def test_a_second_graph_in_a_parent_runs_after_the_first(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("one", create_sot_graph(server.model()))
    builder.add_node("two", create_sot_graph(server.model()))
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    parent = builder.compile(checkpointer=InMemorySaver())
    chunks = await read_answer(parent, {"messages": [HumanMessage("Hm?", id="1")]}, THREAD)
    _, first, second = parent.get_state(THREAD).values["messages"]
    assert "".join(chunks) == first.text
    assert second.text
    assert first.id != second.id


async def test_a_graph_compiled_anew_answers_too(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), lead=True)
    answer = graph.invoke(QUESTION)["answer"]
    for other in (graph.copy({"config": None}), graph.builder.compile()):
        assert other.invoke(QUESTION)["answer"] == (await other.ainvoke(QUESTION))["answer"] == answer


async def test_graphs_inside_the_graph_do_not_stream_for_it(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    inner = create_sot_graph(server.model())

    def merge(_points: Any, config: RunnableConfig) -> str:
        answer: str = inner.invoke({"question": "Merge."}, config)["answer"]
        return answer.upper()

    outer = create_sot_graph(server.model(), merge=merge)
    assert "".join(await read_answer(outer, QUESTION)) == outer.invoke(QUESTION)["answer"]


# --- caches --------------------------------------------------------------------------------------


def outlining(titles: list[str]) -> Script:
    return lambda request: Reply(outline_json(titles)) if request.stage == "skeleton" else usual(request)


async def test_what_comes_out_of_a_cache_is_read_too(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    cached: Any = {"cache": InMemoryCache(), "cache_policy": CachePolicy()}
    for titles in (TITLES, []):
        server.script = outlining(titles)
        graph = create_sot_graph(server.model(), lead=True, **cached)
        question: SotInput = {"question": f"{len(titles)}?"}
        first = "".join(await read_answer(graph, question))
        again = "".join(await read_answer(graph, question))
        assert first == again == graph.invoke(question)["answer"]
        ids = {graph.invoke(question)["messages"][-1].id for _ in range(2)}
        assert len(ids) == 2, "each answer is a message of its own"


# --- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
async def test_after_a_broken_run_the_written_points_come_out_at_once(
    server: FakeOpenAI, read_answer: ReadAnswer, *, nested: bool
) -> None:
    saver = InMemorySaver()
    graph: Any = create_sot_graph(server.model(), checkpointer=None if nested else saver, lead=True)
    graph = parent_of(graph, checkpointer=saver) if nested else graph
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    server.script = lambda request: Reply("Late.", first_token=9) if request.title == TITLES[2] else usual(request)
    task = asyncio.create_task(graph.ainvoke(given, THREAD))
    await until(lambda: server.in_flight == 1 and len(server.requests) == 6)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.script = usual
    chunks = await read_answer(graph, None, THREAD)
    answer = graph.get_state(THREAD).values["messages"][-1].text
    assert "".join(chunks) == answer
    assert answer.startswith("A direct answer.\n\nAbout regular sleep hours")
    assert len(server.requests) == 7


async def test_after_a_failed_skeleton_the_opening_comes_at_once(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    def script(request: Request) -> Reply:
        return Reply(status=400, first_token=0.3) if request.stage == "skeleton" else usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), lead=True)
    with pytest.raises(openai.BadRequestError):
        await read_answer(graph, QUESTION, THREAD)
    server.script = usual
    chunks = await read_answer(graph, None, THREAD)
    assert "".join(chunks) == graph.get_state(THREAD).values["answer"]
    assert chunks[0] == "A direct answer."
    assert len(chunks) > 4


async def test_after_a_failed_run_the_whole_answer_is_read(server: FakeOpenAI, read_answer: ReadAnswer) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), headings=True)
    with pytest.raises(ExpansionError):
        await read_answer(graph, QUESTION, THREAD)
    server.script = usual
    chunks = await read_answer(graph, None, THREAD)
    assert "".join(chunks) == graph.get_state(THREAD).values["answer"]
    assert chunks[0].startswith(f"## {TITLES[0]}\n\n")


# --- leaving early -------------------------------------------------------------------------------


def slow(request: Request) -> Reply:
    return usual(request) if request.stage == "skeleton" else Reply(" ".join(["word"] * 500), per_token=0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)


async def test_leaving_the_loop_ends_the_calls_and_leaves_nothing(server: FakeOpenAI) -> None:
    server.script = slow
    graph = create_sot_graph(server.model())
    tasks = asyncio.all_tasks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async for _ in astream_answer(graph, QUESTION):
            break
        await until(lambda: server.in_flight == 0)
        async with aclosing(astream_answer(graph, QUESTION)) as chunks:
            async for _ in chunks:
                break
        await until(lambda: server.in_flight == 0)
        gc.collect()
    await until(lambda: asyncio.all_tasks() == tasks)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
async def test_leaving_the_loop_ends_a_sync_run_after_the_calls_in_flight(server: FakeOpenAI, *, nested: bool) -> None:
    server.script = lambda request: replace(usual(request), per_token=0.04)
    graph: Any = create_sot_graph(server.model())
    graph, given = (parent_of(graph), {"messages": [HumanMessage("Hm?", id="1")]}) if nested else (graph, QUESTION)
    threads = set(threading.enumerate())
    for _ in stream_answer(graph, given):
        break
    assert (len(server.requests), server.in_flight) == (5, 0)
    await until(lambda: not [t for t in set(threading.enumerate()) - threads if "ThreadPool" in t.name])


def end_with_an_open_stream(url: str) -> None:
    async def main() -> None:
        global left_open  # noqa: PLW0603 - it outlives the loop
        left_open = astream_answer(create_sot_graph(FakeOpenAI(url).model()), QUESTION)
        print(await anext(left_open))  # noqa: T201 - it is a program

    asyncio.run(main())


left_open: Any = None


def test_a_loop_that_ends_with_an_open_stream_reports_nothing(server: FakeOpenAI) -> None:
    with Forked(end_with_an_open_stream, server.url) as process:
        done = process.wait()
    assert (done.returncode, done.stdout, done.stderr) == (0, "About\n", "")


def test_many_runs_leave_nothing_behind(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    kinds = ("Run", "AnswerStream", "TextWriter", "ReplyText")

    def count() -> int:
        gc.collect()
        return sum(type(thing).__name__ in kinds for thing in gc.get_objects())

    "".join(stream_answer(graph, QUESTION))
    before = count()  # other tests may have left some, in errors that are still shown
    for _ in range(3):
        "".join(stream_answer(graph, QUESTION))
    assert count() <= before


# --- anything goes -------------------------------------------------------------------------------


def random_script(seed: int) -> tuple[Script, int]:
    """Replies of random length and speed, some of them faulty, the same for the same seed."""
    dice = random.Random(seed)
    titles = [f"Point {letter}" for letter in "abcdefgh"[: dice.randint(2, 6)]]
    plans: dict[tuple[str, int], Reply] = {}
    for title in titles:
        for attempt in range(1, 4):
            words = " ".join(f"{title[-1]}{n}" for n in range(dice.randint(1, 12)))
            echo = dice.choice(["", "", f"{title}: ", f"**{title}**\n", "\n "])
            reply = Reply(echo + words, per_token=dice.choice([0, 0, 0.001, 0.004]))
            fault = dice.random()
            if fault < 0.15:
                reply.drop_after = dice.randint(0, 8)
            elif fault < 0.25:
                reply.status = dice.choice([401, 500, 429])
            elif fault < 0.3:
                reply.finish = None
            plans[title, attempt] = reply

    def script(request: Request) -> Reply:
        if request.stage == "skeleton":
            return Reply(outline_json(titles))
        return plans[request.title, min(request.attempt, 3)]

    return script, dice.choice([0, 0, 1, 2, 3])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.booleans())
def test_whatever_happens_the_chunks_are_the_answer(host: Any, seed: int, headings: bool) -> None:  # noqa: FBT001
    server: FakeOpenAI = host.fresh()
    server.script, limit = random_script(seed)
    graph = create_sot_graph(server.model(), retry_policy=FAST, on_error="keep", headings=headings)
    try:
        received, result = events(graph, QUESTION, {"max_concurrency": limit} if limit else None)
    except ExpansionError as error:
        if error.written:
            raise
        return  # every point failed
    assert answer_of(received) == result["answer"]
    order = [word[0] for word in result["answer"].split() if word[1:].isdigit()]
    assert order == sorted(order), "point after point"
    for point in result["points"]:
        assert point["text"] in result["answer"]
        assert point["text"] or point["status"] == "failed"
