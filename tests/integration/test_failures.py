"""When calls fail: what is retried, what is kept, what is raised, what a resumed thread pays for."""

import asyncio
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import openai
import pytest
from langchain_core.exceptions import ModelError
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import RunControl
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, SotInput, create_sot_graph
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, usual
from tests.integration.conftest import THREAD, Run

QUESTION: SotInput = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


def when(stage: str, reply: Reply, *, title: str = "", until: int = 99) -> Script:
    """The usual replies, but this one for a stage (and title), up to an attempt."""

    def script(request: Request) -> Reply:
        matches = request.stage == stage and title in {"", request.title} and request.attempt <= until
        return reply if matches else usual(request)

    return script


# --- one call ------------------------------------------------------------------------------------


async def test_a_text_of_nothing_but_the_title_is_none(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(f"**{TITLES[1]}**"), title=TITLES[1], until=1)
    result = await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert result["points"][1]["status"] == "written"
    assert server.titles().count(TITLES[1]) == 2


@pytest.mark.parametrize("max_retries", [None, 5])
async def test_the_policy_alone_decides_how_often_is_paid(
    server: FakeOpenAI, run: Run, max_retries: int | None
) -> None:
    model = server.model(max_retries=max_retries)
    server.script = when("expand", Reply(status=500), title=TITLES[1])
    await run(create_sot_graph(model, retry_policy=FAST, on_error="keep"), QUESTION)
    assert server.titles().count(TITLES[1]) == 3
    assert model.max_retries == max_retries, "the caller's model stays as it was"


async def test_the_default_policy_makes_three_attempts(server: FakeOpenAI) -> None:
    server.script = when("expand", Reply(status=500), title=TITLES[1])
    await create_sot_graph(server.model(), on_error="keep").ainvoke(QUESTION)
    assert server.titles().count(TITLES[1]) == 3


async def test_a_policy_of_the_callers_own_holds(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=404), title=TITLES[1], until=1)
    policy = [RetryPolicy(max_attempts=1, retry_on=KeyError), FAST._replace(retry_on=ModelError)]
    result = await run(create_sot_graph(server.model(), retry_policy=policy), QUESTION)
    assert result["points"][1]["status"] == "written"


# --- a point that stays failed -------------------------------------------------------------------


async def test_keep_gives_the_other_points(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=500, message="out of order"), title=TITLES[1])
    result = await run(create_sot_graph(server.model(), retry_policy=FAST, on_error="keep", headings=True), QUESTION)
    failed = result["points"][1]
    assert (failed["index"], failed["title"], failed["text"], failed["status"]) == (2, TITLES[1], "", "failed")
    assert "500" in failed["error"]
    assert "out of order" in failed["error"]
    assert "out of order" not in result["answer"]
    assert TITLES[1] not in result["answer"]
    assert result["answer"].count("## ") == 3


async def test_raise_names_the_failed_and_carries_the_written(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=401), title=TITLES[1])
    with pytest.raises(ExpansionError, match=rf"1 of 4 points .* 2 \('{TITLES[1]}'\): .*401") as caught:
        await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert [point["title"] for point in caught.value.failed] == [TITLES[1]]
    assert [point["title"] for point in caught.value.written] == [TITLES[0], *TITLES[2:]]
    assert all(point["text"] for point in caught.value.written)


async def test_siblings_in_flight_are_finished_before_it_is_raised(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        if request.title == TITLES[1]:
            return Reply(status=401)
        return Reply(usual(request).text, first_token=0.3 if request.stage == "expand" else 0)

    server.script = script
    with pytest.raises(ExpansionError) as caught:
        await run(create_sot_graph(server.model()), QUESTION)
    assert len(caught.value.written) == 3


@pytest.mark.parametrize("on_error", ["raise", "keep"])
async def test_an_answer_without_any_point_is_an_error_in_both_modes(
    server: FakeOpenAI, run: Run, on_error: Any
) -> None:
    server.script = when("expand", Reply(status=401))
    with pytest.raises(ExpansionError, match="4 of 4 points") as caught:
        await run(create_sot_graph(server.model(), on_error=on_error), QUESTION)
    assert caught.value.written == []


async def test_bad_input_is_refused_before_a_model_is_called(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model())
    blank: list[Any] = [{}, {"question": ""}, {"question": " \n"}, {"messages": []}, {"messages": [("ai", "Hm")]}]
    for given in blank:
        with pytest.raises(ValueError, match="nothing to answer"):
            await run(graph, given)
    with pytest.raises(ValueError, match="nothing to answer"):
        await run(graph, {"messages": [("user", "What?"), ("user", " ")]})
    with pytest.raises(TypeError, match="must be text"):
        await run(graph, {"question": 3})
    for outline in ("One, two", [1, 2], {"a": 1}):
        with pytest.raises(TypeError, match="must be a list of titles"):
            await run(graph, {**QUESTION, "outline": outline})
    assert server.requests == []


# --- threads that resume -------------------------------------------------------------------------


def _in_parent(graph: Any, checkpointer: InMemorySaver) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=checkpointer)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
async def test_a_failed_run_resumes_and_asks_for_the_failed_points_only(
    server: FakeOpenAI, run: Run, *, nested: bool
) -> None:
    saver = InMemorySaver()
    graph = create_sot_graph(server.model(), retry_policy=FAST, checkpointer=None if nested else saver)
    graph = _in_parent(graph, saver) if nested else graph
    server.script = lambda request: Reply(status=401) if request.title in TITLES[1:3] else usual(request)
    with pytest.raises(ExpansionError):
        await run(graph, {"messages": [("user", QUESTION["question"])]}, THREAD)
    server.script = when("expand", Reply(status=401), title=TITLES[1])
    asked_before = len(server.requests)
    with pytest.raises(ExpansionError):
        await run(graph, None, THREAD)
    assert sorted(request.title for request in server.requests[asked_before:]) == sorted(TITLES[1:3])
    server.script = usual
    asked_before = len(server.requests)
    result = await run(graph, None, THREAD)
    assert [request.title for request in server.requests[asked_before:]] == [TITLES[1]]
    server.script = usual
    undisturbed = await run(create_sot_graph(server.model()), QUESTION)
    assert result["messages"][-1].text == undisturbed["answer"]
    assert len(result["messages"]) == 2


async def test_a_failed_skeleton_resumes(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    server.script = when("skeleton", Reply(status=401))
    with pytest.raises(openai.AuthenticationError):
        await run(graph, QUESTION, THREAD)
    server.script = usual
    assert len((await run(graph, None, THREAD))["points"]) == 4


async def test_a_cancelled_run_resumes_without_paying_again(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    server.script = when("expand", Reply("Late.", first_token=5), title=TITLES[1])
    task = asyncio.create_task(graph.ainvoke(QUESTION, THREAD))
    await _until(lambda: server.in_flight == 1 and len(server.requests) == 5)
    await asyncio.sleep(0.2)  # until the client has read what the server sent
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until(lambda: server.in_flight == 0)
    server.script = usual
    result = await graph.ainvoke(None, THREAD)
    assert len(result["points"]) == 4
    assert [request.title for request in server.requests[5:]] == [TITLES[1]]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)


# --- how many at once ----------------------------------------------------------------------------


def _eight_points(first_token: float) -> Script:
    titles = [f"Point {name}" for name in "abcdefgh"]

    def script(request: Request) -> Reply:
        if request.stage == "skeleton":
            return Reply(json.dumps({"points": titles}), first_token=first_token)
        return Reply(f"About {request.title}.", first_token=first_token)

    return script


async def test_all_points_are_in_flight_at_once(server: FakeOpenAI, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    server.script = _eight_points(0.6)
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert server.most_in_flight == 8
    assert len(server.requests) == 9
    assert [point["title"][-1] for point in result["points"]] == list("abcdefgh")


@pytest.mark.parametrize("limit", [1, 3])
async def test_max_concurrency_is_obeyed(server: FakeOpenAI, run: Run, limit: int) -> None:
    server.script = _eight_points(0.02)
    result = await run(create_sot_graph(server.model()), QUESTION, {"max_concurrency": limit})
    assert server.most_in_flight == limit
    assert [point["title"][-1] for point in result["points"]] == list("abcdefgh")


async def test_all_points_are_in_flight_at_once_in_a_parent_too(
    server: FakeOpenAI, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    server.script = _eight_points(0.6)
    parent = _in_parent(create_sot_graph(server.model()), InMemorySaver())
    await run(parent, {"messages": [("user", "Hm?")]}, THREAD)
    assert server.most_in_flight == 8


async def test_an_error_shows_no_key(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=500), title=TITLES[1])
    result = await run(create_sot_graph(server.model(), retry_policy=FAST, on_error="keep"), QUESTION)
    assert "sk-test-key" not in str(result)


# --- how long until the next attempt ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "header", "seconds"),
    [
        ("skeleton", {"Retry-After": "1"}, 1.0),
        ("expand", {"Retry-After-Ms": "400"}, 0.4),
        ("direct", {"Retry-After-Ms": "400"}, 0.4),
    ],
)
async def test_retry_after_is_obeyed(
    server: FakeOpenAI, run: Run, stage: str, header: dict[str, str], seconds: float
) -> None:
    server.script = when(stage, Reply(status=429, headers=header), until=1)
    graph = create_sot_graph(server.model(), retry_policy=FAST, route=lambda _: stage != "direct")
    result = await run(graph, QUESTION)
    assert result["answer"]
    for first, again in _attempts(server, stage):
        assert again.began - first.ended >= seconds - 0.01


async def test_retry_after_may_be_a_date(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        if request.stage == "skeleton" and request.attempt == 1:
            return Reply(status=503, headers={"Retry-After": formatdate(time.time() + 2, usegmt=True)})
        return usual(request)

    server.script = script
    await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    ((first, again),) = _attempts(server, "skeleton")
    assert again.began - first.ended >= 0.9, "a date has whole seconds"


@pytest.mark.parametrize("wait", ["61", "3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
async def test_a_server_that_asks_for_more_than_a_minute_has_failed(server: FakeOpenAI, run: Run, wait: str) -> None:
    server.script = when("expand", Reply(status=429, headers={"Retry-After": wait}), title=TITLES[1])
    result = await run(create_sot_graph(server.model(), on_error="keep"), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written", "failed", "written", "written"]
    assert server.titles().count(TITLES[1]) == 1


@pytest.mark.parametrize("wait", ["", "soon", "-5", "nan", "inf", "0"])
async def test_a_retry_after_without_sense_is_ignored(server: FakeOpenAI, run: Run, wait: str) -> None:
    server.script = when("expand", Reply(status=429, headers={"Retry-After": wait}), title=TITLES[1], until=1)
    result = await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written"] * 4


async def test_an_account_without_quota_gets_no_retry(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=429, code="insufficient_quota"), title=TITLES[1])
    await run(create_sot_graph(server.model(), retry_policy=FAST, on_error="keep"), QUESTION)
    assert server.titles().count(TITLES[1]) == 1


def _attempts(server: FakeOpenAI, stage: str) -> list[tuple[Request, Request]]:
    """The first attempt at each call of a stage, with its second."""
    request = server.of_stage(stage)
    return [
        (first, next(a for a in request if (a.title, a.attempt) == (first.title, 2)))
        for first in request
        if first.attempt == 1
    ]


# --- What a run leaves to its caller ---------------------------------------------------------------


async def test_a_control_of_the_callers_own_can_be_used_again(server: FakeOpenAI) -> None:
    graph, control = create_sot_graph(server.model()), RunControl()
    for _ in range(2):
        graph.invoke(QUESTION, control=control)
        await graph.ainvoke(QUESTION, control=control)
    assert not control.drain_requested


async def test_a_thread_may_be_bound_to_the_graph(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver()).with_config(THREAD)
    assert len((await run(graph, QUESTION))["points"]) == 4
    assert len((await graph.aget_state(THREAD)).values["messages"]) == 2


async def test_a_missing_thread_is_langgraphs_own_error(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="thread_id"):
        await run(graph, QUESTION)
    assert server.requests == []


async def test_the_queue_of_the_concurrency_limit_is_waiting_time(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply("Text.", first_token=0.1) if request.stage == "expand" else usual(request)
    message = (await run(create_sot_graph(server.model()), QUESTION, {"max_concurrency": 1}))["messages"][-1]
    sot = message.response_metadata["sot"]
    assert sot["stages"]["expand"]["waiting_seconds"] > 0.1 + 0.2 + 0.3 - 0.1
    assert sot["critical_path_seconds"] < sot["seconds"] - 0.2, "a queue is not on the critical path"


@pytest.mark.filterwarnings("error")
async def test_a_run_that_is_cancelled_in_the_queue_warns_of_nothing(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply("Text.", first_token=60) if request.stage == "expand" else usual(request)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await create_sot_graph(server.model()).ainvoke(QUESTION, {"max_concurrency": 1})
    assert len(server.of_stage("expand")) == 1


async def test_an_opening_that_failed_is_logged_without_keys(
    server: FakeOpenAI, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = lambda request: (
        Reply(status=401, message="Refused: sk-test-key") if request.stage == "direct" else usual(request)
    )
    assert len((await run(create_sot_graph(server.model(), lead=True), QUESTION))["points"]) == 4
    assert "The opening failed: " in caplog.text
    assert "sk-test-key" not in caplog.text


@pytest.mark.parametrize("wrong", [None, 3])
def test_a_retry_on_that_cannot_be_used_is_refused_at_construction(server: FakeOpenAI, wrong: Any) -> None:
    with pytest.raises(TypeError, match="retry_on must be"):
        create_sot_graph(server.model(), retry_policy=RetryPolicy(retry_on=wrong))
