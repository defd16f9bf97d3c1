"""The answer in reading order while the points are still being written."""

import asyncio
import gc
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

from sot_graph import ExpansionError, SotInput, astream_answer, create_sot_graph, stream_answer
from tests.fake_openai import TITLES, Asked, FakeOpenAI, Reply, Script, outline_json, usual
from tests.integration.conftest import THREAD

QUESTION: SotInput = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


class Listen(Protocol):
    def __call__(self, graph: Any, given: Any, config: Any = None) -> Awaitable[list[str]]: ...


@pytest.fixture(params=["sync", "async"])
def listen(request: pytest.FixtureRequest) -> Listen:
    """Read an answer to its end, once by `stream_answer` and once by `astream_answer`."""

    async def read(graph: Any, given: Any, config: Any = None) -> list[str]:
        if request.param == "sync":
            return list(stream_answer(graph, given, config))
        return [piece async for piece in astream_answer(graph, given, config)]

    return read


def events(graph: Any, given: Any, config: Any = None) -> tuple[list[Any], dict[str, Any]]:
    """All custom events of a run, and its result."""
    told: list[Any] = []
    result: dict[str, Any] = {}
    for mode, part in graph.stream(given, config, stream_mode=["custom", "values"]):
        if mode == "custom":
            told.append(part)
        else:
            result = part
    return told, result


def said(told: list[Any]) -> str:
    return "".join(event["text"] for event in told if event["type"] == "answer")


def backwards(asked: Asked) -> Reply:
    """The later a point stands, the sooner it is written."""
    if asked.stage != "expand":
        return usual(asked)
    return Reply(
        f"About {asked.title} much is to be said.", first_token=0.05 * (4 - TITLES.index(asked.title)), per_token=0.002
    )


# --- the text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"headings": True}, {"lead": True}, {"lead": True, "headings": True}, {"merge": lambda p: f"{len(p)} points"}],
    ids=" ".join,
)
@pytest.mark.parametrize("config", [None, {"max_concurrency": 1}, {"max_concurrency": 2}], ids=str)
async def test_joined_the_pieces_are_the_answer(server: FakeOpenAI, listen: Listen, options: Any, config: Any) -> None:
    server.script = backwards
    graph = create_sot_graph(server.model(), **options)
    pieces = await listen(graph, QUESTION, config)
    assert all(pieces)
    assert "".join(pieces) == graph.invoke(QUESTION)["answer"]


async def test_echoes_and_outer_white_space_are_never_shown(server: FakeOpenAI, listen: Listen) -> None:
    def script(asked: Asked) -> Reply:
        if asked.stage == "skeleton":
            return usual(asked)
        number = TITLES.index(asked.title) + 1
        return Reply(f"\n  **{number}. {asked.title}**:\n\n It matters \n a lot.\n\n ")

    server.script = script
    pieces = await listen(create_sot_graph(server.model()), QUESTION)
    assert "".join(pieces) == "\n\n".join(["It matters \n a lot."] * 4)


async def test_a_direct_answer_streams_too(server: FakeOpenAI, listen: Listen) -> None:
    server.script = lambda asked: Reply(outline_json([])) if asked.stage == "skeleton" else Reply("One two three.")
    assert await listen(create_sot_graph(server.model()), QUESTION) == ["One", " two", " three."]
    pieces = await listen(create_sot_graph(server.model(), lead=True), QUESTION)
    assert "".join(pieces) == "One two three.\n\nOne two three."
    assert "One two three." in server.asked[-1].prompt, "the direct answer goes on from the opening"


async def test_the_first_point_is_live_and_the_next_is_flushed_when_its_turn_comes(server: FakeOpenAI) -> None:
    def script(asked: Asked) -> Reply:
        if asked.stage == "skeleton":
            return Reply(outline_json(TITLES[:2]))
        slow = asked.title == TITLES[0]
        return Reply("one two three four five six", per_token=0.05 if slow else 0.0)

    server.script = script
    told = [(piece, time.monotonic()) async for piece in astream_answer(create_sot_graph(server.model()), QUESTION)]
    times = [at for _, at in told]
    assert [piece for piece, _ in told[:6]] == ["one", " two", " three", " four", " five", " six"]
    assert times[5] - times[0] > 0.1, "live"
    assert [piece for piece, _ in told[6:]] == ["\n\none two three four five six"], "flushed in one piece"


def failing_at(title: str) -> Script:
    return lambda asked: Reply(status=401) if asked.title == title else usual(asked)


async def test_a_failed_point_is_left_out(server: FakeOpenAI, listen: Listen) -> None:
    for failing in TITLES:
        server.script = failing_at(failing)
        graph = create_sot_graph(server.model(), on_error="keep", headings=True)
        pieces = await listen(graph, QUESTION)
        assert "".join(pieces) == graph.invoke(QUESTION)["answer"]
        assert failing not in "".join(pieces)


async def test_an_error_comes_after_what_could_be_read(server: FakeOpenAI) -> None:
    server.script = lambda asked: Reply(status=401) if asked.title == TITLES[1] else usual(asked)
    read: list[str] = []

    async def read_on() -> None:
        async for piece in astream_answer(create_sot_graph(server.model()), QUESTION):
            read.append(piece)  # noqa: PERF401 - the list has to outlive the error

    with pytest.raises(ExpansionError):
        await read_on()
    assert "".join(read).startswith(f"About {TITLES[0].lower()} there is this to say.")


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["One two three four five.", "four five."], ids=["says it again", "goes on"])
@pytest.mark.parametrize("stage", ["expand", "direct", "lead"])
async def test_what_was_shown_before_a_retry_stays_and_is_not_shown_twice(
    server: FakeOpenAI, listen: Listen, stage: str, second: str
) -> None:
    def script(asked: Asked) -> Reply:
        if asked.stage == "skeleton":
            return Reply(outline_json([] if stage == "direct" else TITLES[:2]))
        opens = "Write only the opening" in asked.prompt
        if not (opens if stage == "lead" else asked.title in {TITLES[0], ""} and not opens):
            return Reply("The other text.", first_token=0.05)
        begun = "The text has been begun already" in asked.prompt
        return Reply(second) if begun else Reply("One two three oops", drop_after=3, per_token=0.01)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST, lead=stage == "lead")
    pieces = await listen(graph, QUESTION)
    assert "".join(pieces).startswith("One two three four five.")
    assert "".join(pieces).count("two") == 1
    [again] = [asked for asked in server.asked if "begun already" in asked.prompt]
    assert "One two three" in again.prompt
    if stage == "expand":
        assert again.prompt.endswith(TITLES[0]), "the point's own order still comes last"


async def test_without_a_listener_a_retry_begins_anew(server: FakeOpenAI) -> None:
    def script(asked: Asked) -> Reply:
        if asked.title == TITLES[0] and asked.attempt == 1:
            return Reply("One two three", drop_after=2)
        return usual(asked)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST)
    for result in (graph.invoke(QUESTION), await graph.ainvoke(QUESTION)):
        assert result["points"][0]["text"] == f"About {TITLES[0].lower()} there is this to say."
    assert not any("begun already" in asked.prompt for asked in server.asked)


async def test_what_was_shown_of_a_point_that_fails_for_good_is_in_the_answer(server: FakeOpenAI) -> None:
    def script(asked: Asked) -> Reply:
        return Reply("One two three", drop_after=2, per_token=0.01) if asked.title == TITLES[0] else usual(asked)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=FAST._replace(max_attempts=1), on_error="keep")
    told, result = events(graph, QUESTION)
    assert said(told) == result["answer"]
    assert result["answer"].startswith("One two\n\n")
    assert result["points"][0]["status"] == "failed"
    assert result["points"][0]["text"] == "One two"


# --- events --------------------------------------------------------------------------------------


def test_events_tell_all_there_is(server: FakeOpenAI) -> None:
    server.script = lambda asked: Reply(status=401) if asked.title == TITLES[2] else backwards(asked)
    told, result = events(create_sot_graph(server.model(), on_error="keep"), QUESTION)
    assert told[0] == {"type": "outline", "titles": TITLES}
    tokens: dict[int, str] = {}
    for event in told:
        if event["type"] == "token":
            assert event["attempt"] == 1
            tokens[event["index"]] = tokens.get(event["index"], "") + event["text"]
    assert tokens == {i: f"About {title} much is to be said." for i, title in enumerate(TITLES, start=1) if i != 3}
    ends = [event for event in told if event["type"] == "point"]
    assert [(event["index"], event["status"]) for event in ends] == [
        (3, "failed"),
        (4, "written"),
        (2, "written"),
        (1, "written"),
    ]
    assert said(told) == result["answer"]


# --- "messages" mode -----------------------------------------------------------------------------


def in_parent(graph: Any, **options: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("write", graph)
    builder.add_edge(START, "write")
    builder.add_edge("write", END)
    return builder.compile(**options)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
@pytest.mark.parametrize("lead", [False, True], ids=["", "lead"])
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_the_answer_is_one_message_that_begins_before_the_last_point_ends(
    server: FakeOpenAI, form: str, *, nested: bool, lead: bool
) -> None:
    def script(asked: Asked) -> Reply:
        reply = usual(asked)
        reply.per_token = 0.05 if asked.title == TITLES[3] else 0.001
        return reply

    server.script = script
    graph: Any = create_sot_graph(server.model(), lead=lead)
    graph = in_parent(graph) if nested else graph
    given = {"messages": [HumanMessage(QUESTION["question"] or "", id="1")]}
    pieces: list[tuple[Any, float]] = []
    result: dict[str, Any] = {}
    options: Any = {"stream_mode": ["messages", "values"], "subgraphs": True}

    def note(part: Any) -> None:
        nonlocal result
        namespace, mode, data = part
        if mode == "messages":
            pieces.append((data[0], time.monotonic()))
        elif not namespace:
            result = data

    if form == "sync":
        for part in graph.stream(given, **options):
            note(part)
    else:
        async for part in graph.astream(given, **options):
            note(part)

    answer = result["messages"][-1]
    assert "".join(piece.text for piece, _ in pieces) == answer.text
    assert {piece.id for piece, _ in pieces} == {answer.id}
    assert len(result["messages"]) == 2
    assert len(pieces) > 5
    last_ended = max(asked.ended for asked in server.asked)
    assert pieces[0][1] < last_ended, "it begins before the last point has ended"


async def test_a_parent_that_streams_only_itself_gets_the_message_whole(server: FakeOpenAI) -> None:
    parent = in_parent(create_sot_graph(server.model()))
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    pieces = [message async for message, _ in parent.astream(given, stream_mode="messages")]
    assert [type(piece).__name__ for piece in pieces] == ["AIMessage"]


async def test_a_parents_answer_can_be_read_too(server: FakeOpenAI, listen: Listen) -> None:
    server.script = backwards
    parent = in_parent(create_sot_graph(server.model()))
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    pieces = await listen(parent, given)
    assert len(pieces) > 4
    assert "".join(pieces) == parent.invoke(given)["messages"][-1].text


def calls_inside(graph: Any) -> Any:
    """A parent whose node calls the graph, and passes no config on."""

    def write(state: MessagesState) -> Any:
        return {"messages": [graph.invoke({"messages": state["messages"]})["messages"][-1]]}

    async def awrite(state: MessagesState) -> Any:
        return {"messages": [(await graph.ainvoke({"messages": state["messages"]}))["messages"][-1]]}

    return in_parent(RunnableLambda(write, awrite))


async def test_a_node_that_passes_no_config_on_is_read_all_the_same(server: FakeOpenAI, listen: Listen) -> None:
    parent = calls_inside(create_sot_graph(server.model()))
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    assert "".join(await listen(parent, given)) == parent.invoke(given)["messages"][-1].text


def test_a_node_that_passes_no_config_on_keeps_the_limit(server: FakeOpenAI) -> None:
    server.script = backwards
    parent = calls_inside(create_sot_graph(server.model()))
    parent.invoke({"messages": [HumanMessage("Hm?", id="1")]}, {"max_concurrency": 2})
    assert server.most_in_flight == 2


def test_a_limit_may_be_bound_to_the_graph(server: FakeOpenAI) -> None:
    server.script = backwards
    graph = create_sot_graph(server.model()).with_config(max_concurrency=1)
    told, result = events(graph, QUESTION)
    assert said(told) == result["answer"]
    assert server.most_in_flight == 1


async def test_a_second_graph_in_a_parent_goes_on_after_the_first(server: FakeOpenAI, listen: Listen) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("one", create_sot_graph(server.model()))
    builder.add_node("two", create_sot_graph(server.model()))
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    parent = builder.compile(checkpointer=InMemorySaver())
    pieces = await listen(parent, {"messages": [HumanMessage("Hm?", id="1")]}, THREAD)
    _, first, second = parent.get_state(THREAD).values["messages"]
    assert "".join(pieces) == first.text
    assert second.text
    assert first.id != second.id


async def test_a_graph_compiled_anew_answers_too(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), lead=True)
    answer = graph.invoke(QUESTION)["answer"]
    for other in (graph.copy({"config": None}), graph.builder.compile()):
        assert other.invoke(QUESTION)["answer"] == (await other.ainvoke(QUESTION))["answer"] == answer


async def test_graphs_inside_the_graph_do_not_speak_for_it(server: FakeOpenAI, listen: Listen) -> None:
    inner = create_sot_graph(server.model())

    def merge(_points: Any, config: RunnableConfig) -> str:
        answer: str = inner.invoke({"question": "Merge."}, config)["answer"]
        return answer.upper()

    outer = create_sot_graph(server.model(), merge=merge)
    assert "".join(await listen(outer, QUESTION)) == outer.invoke(QUESTION)["answer"]


# --- caches --------------------------------------------------------------------------------------


def outlining(titles: list[str]) -> Script:
    return lambda asked: Reply(outline_json(titles)) if asked.stage == "skeleton" else usual(asked)


async def test_what_comes_out_of_a_cache_is_read_too(server: FakeOpenAI, listen: Listen) -> None:
    cached: Any = {"cache": InMemoryCache(), "cache_policy": CachePolicy()}
    for titles in (TITLES, []):
        server.script = outlining(titles)
        graph = create_sot_graph(server.model(), lead=True, **cached)
        question: SotInput = {"question": f"{len(titles)}?"}
        first = "".join(await listen(graph, question))
        again = "".join(await listen(graph, question))
        assert first == again == graph.invoke(question)["answer"]
        ids = {graph.invoke(question)["messages"][-1].id for _ in range(2)}
        assert len(ids) == 2, "each answer is a message of its own"


# --- resume --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
async def test_after_a_broken_run_the_written_points_come_out_at_once(
    server: FakeOpenAI, listen: Listen, *, nested: bool
) -> None:
    saver = InMemorySaver()
    graph: Any = create_sot_graph(server.model(), checkpointer=None if nested else saver, lead=True)
    graph = in_parent(graph, checkpointer=saver) if nested else graph
    given = {"messages": [HumanMessage("Hm?", id="1")]}
    server.script = lambda asked: Reply("Late.", first_token=9) if asked.title == TITLES[2] else usual(asked)
    task = asyncio.create_task(graph.ainvoke(given, THREAD))
    await until(lambda: server.in_flight == 1 and len(server.asked) == 6)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.script = usual
    pieces = await listen(graph, None, THREAD)
    answer = graph.get_state(THREAD).values["messages"][-1].text
    assert "".join(pieces) == answer
    assert answer.startswith("A direct answer.\n\nAbout regular sleep hours")
    assert len(server.asked) == 7


async def test_after_a_failed_skeleton_the_opening_comes_at_once(server: FakeOpenAI, listen: Listen) -> None:
    def script(asked: Asked) -> Reply:
        return Reply(status=400, first_token=0.3) if asked.stage == "skeleton" else usual(asked)

    server.script = script
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), lead=True)
    with pytest.raises(openai.BadRequestError):
        await listen(graph, QUESTION, THREAD)
    server.script = usual
    pieces = await listen(graph, None, THREAD)
    assert "".join(pieces) == graph.get_state(THREAD).values["answer"]
    assert pieces[0] == "A direct answer."
    assert len(pieces) > 4


async def test_after_a_failed_run_the_whole_answer_is_read(server: FakeOpenAI, listen: Listen) -> None:
    server.script = lambda asked: Reply(status=401) if asked.title == TITLES[1] else usual(asked)
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), headings=True)
    with pytest.raises(ExpansionError):
        await listen(graph, QUESTION, THREAD)
    server.script = usual
    pieces = await listen(graph, None, THREAD)
    assert "".join(pieces) == graph.get_state(THREAD).values["answer"]
    assert pieces[0].startswith(f"## {TITLES[0]}\n\n")


# --- leaving early -------------------------------------------------------------------------------


def slow(asked: Asked) -> Reply:
    return usual(asked) if asked.stage == "skeleton" else Reply(" ".join(["word"] * 500), per_token=0.02)


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
        async with aclosing(astream_answer(graph, QUESTION)) as pieces:
            async for _ in pieces:
                break
        await until(lambda: server.in_flight == 0)
        gc.collect()
    await until(lambda: asyncio.all_tasks() == tasks)


async def test_leaving_the_loop_ends_a_sync_runs_calls_too(server: FakeOpenAI) -> None:
    server.script = slow
    graph = create_sot_graph(server.model())
    threads = set(threading.enumerate())
    for _ in stream_answer(graph, QUESTION):
        break
    began = time.monotonic()
    await until(lambda: server.in_flight == 0)
    assert time.monotonic() - began < 2
    await until(lambda: not [t for t in set(threading.enumerate()) - threads if "ThreadPool" in t.name])


async def test_leaving_the_loop_ends_a_sync_runs_calls_inside_a_parent(server: FakeOpenAI) -> None:
    server.script = slow
    parent = in_parent(create_sot_graph(server.model()))
    began = time.monotonic()
    for _ in stream_answer(parent, {"messages": [HumanMessage("Hm?", id="1")]}):
        break
    await until(lambda: server.in_flight == 0)
    assert time.monotonic() - began < 3


def test_a_loop_that_ends_with_a_reader_open_reports_nothing(server: FakeOpenAI) -> None:
    code = f"""
import asyncio
from langchain_openai import ChatOpenAI
from sot_graph import astream_answer, create_sot_graph
async def main():
    global pieces
    model = ChatOpenAI(model="m", base_url="{server.url}", api_key="k")
    pieces = astream_answer(create_sot_graph(model), {{"question": "?"}})
    print(await anext(pieces))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "About\n"
    assert done.stderr == ""


def test_many_runs_leave_nothing_behind(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    kinds = ("Reading", "Voice", "LiveText")

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

    def script(asked: Asked) -> Reply:
        if asked.stage == "skeleton":
            return Reply(outline_json(titles))
        return plans[asked.title, min(asked.attempt, 3)]

    return script, dice.choice([0, 0, 1, 2, 3])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.booleans())
def test_whatever_happens_the_pieces_are_the_answer(host: Any, seed: int, headings: bool) -> None:  # noqa: FBT001
    server: FakeOpenAI = host.fresh_mind()
    server.script, limit = random_script(seed)
    graph = create_sot_graph(server.model(), retry_policy=FAST, on_error="keep", headings=headings)
    try:
        told, result = events(graph, QUESTION, {"max_concurrency": limit} if limit else None)
    except ExpansionError as error:
        if error.written:
            raise
        return  # every point failed
    assert said(told) == result["answer"]
    order = [word[0] for word in result["answer"].split() if word[1:].isdigit()]
    assert order == sorted(order), "point after point"
    for point in result["points"]:
        assert point["text"] in result["answer"]
        assert point["text"] or point["status"] == "failed"
