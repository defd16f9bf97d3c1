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
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, SotInput, create_sot_graph
from sot_graph.calls import is_transient
from tests.fake_openai import TITLES, Asked, FakeOpenAI, Reply, Script, usual
from tests.integration.conftest import THREAD, Run

QUESTION: SotInput = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)

TRANSIENT = {
    "408": Reply(status=408),
    "429": Reply(status=429),
    "500": Reply(status=500),
    "503": Reply(status=503),
    "dropped before": Reply("Half a text", drop_after=0),
    "dropped in mid-stream": Reply("Half a text", drop_after=1),
    "corrupt piece": Reply("Half a text", corrupt_after=1),
    "no finish reason": Reply("Half a text", finish=None),
    "empty": Reply(""),
    "blank": Reply(" \n "),
    "only the title": Reply(f"**{TITLES[1]}**"),
}
PERMANENT = {str(status): Reply(status=status) for status in (400, 401, 403, 404, 422)}
PERMANENT["refused"] = Reply("Half a", finish="content_filter")
PERMANENT["no token left for text"] = Reply("", finish="length")


def when(stage: str, reply: Reply, *, title: str = "", until: int = 99) -> Script:
    """The usual replies, but this one for a stage (and title), up to an attempt."""

    def script(asked: Asked) -> Reply:
        matches = asked.stage == stage and title in {"", asked.title} and asked.attempt <= until
        return reply if matches else usual(asked)

    return script


def cases(replies: dict[str, Reply]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", replies.values(), ids=replies.keys())


# --- one call ------------------------------------------------------------------------------------


@cases(TRANSIENT)
async def test_a_transient_error_is_retried_and_siblings_go_on(server: FakeOpenAI, run: Run, fault: Reply) -> None:
    server.script = when("expand", fault, title=TITLES[1], until=2)
    result = await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert sorted(server.titles()) == sorted([*TITLES, TITLES[1], TITLES[1]])
    assert result["messages"][-1].response_metadata["sot"]["calls"] == 7


@cases(PERMANENT)
async def test_an_error_that_no_retry_can_mend_is_tried_once(server: FakeOpenAI, run: Run, fault: Reply) -> None:
    server.script = when("expand", fault, title=TITLES[1])
    result = await run(create_sot_graph(server.model(), retry_policy=FAST, on_error="keep"), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written", "failed", "written", "written"]
    assert sorted(server.titles()) == sorted(TITLES)


async def test_a_refused_connection_is_retried(run: Run, unused_tcp_port: int, server: FakeOpenAI) -> None:
    attempts: list[Exception] = []

    def note(error: Exception) -> bool:
        attempts.append(error)
        return is_transient(error)

    server.url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    graph = create_sot_graph(server.model(), retry_policy=FAST._replace(retry_on=note))
    with pytest.raises(openai.APIConnectionError):
        await run(graph, QUESTION)
    assert len(attempts) == 3


@pytest.mark.parametrize("stage", ["skeleton", "direct"])
@pytest.mark.parametrize("status", [429, 500])
async def test_every_stage_retries(server: FakeOpenAI, run: Run, stage: str, status: int) -> None:
    server.script = when(stage, Reply(status=status), until=2)
    graph = create_sot_graph(
        server.model(), retry_policy=FAST, route="auto" if stage == "skeleton" else lambda _: False
    )
    result = await run(graph, QUESTION)
    assert result["answer"]
    assert len(server.of_stage(stage)) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
async def test_the_skeletons_error_is_the_models_own(server: FakeOpenAI, run: Run, status: int) -> None:
    server.script = lambda _: Reply(status=status)
    with pytest.raises(openai.APIStatusError) as caught:
        await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert caught.value.status_code == status
    assert len(server.asked) == (3 if status == 500 else 1)


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


async def test_a_reply_cut_off_by_its_length_is_kept(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply("It was going to be", finish="length"), title=TITLES[1])
    result = await run(create_sot_graph(server.model(), retry_policy=FAST), QUESTION)
    assert result["points"][1] == {
        "index": 2,
        "title": TITLES[1],
        "text": "It was going to be",
        "status": "truncated",
        "error": None,
    }
    assert "It was going to be" in result["answer"]
    assert len(server.asked) == 5


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
    def script(asked: Asked) -> Reply:
        if asked.title == TITLES[1]:
            return Reply(status=401)
        return Reply(usual(asked).text, first_token=0.3 if asked.stage == "expand" else 0)

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
    assert server.asked == []


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
    server.script = lambda asked: Reply(status=401) if asked.title in TITLES[1:3] else usual(asked)
    with pytest.raises(ExpansionError):
        await run(graph, {"messages": [("user", QUESTION["question"])]}, THREAD)
    server.script = when("expand", Reply(status=401), title=TITLES[1])
    asked_before = len(server.asked)
    with pytest.raises(ExpansionError):
        await run(graph, None, THREAD)
    assert sorted(asked.title for asked in server.asked[asked_before:]) == sorted(TITLES[1:3])
    server.script = usual
    asked_before = len(server.asked)
    result = await run(graph, None, THREAD)
    assert [asked.title for asked in server.asked[asked_before:]] == [TITLES[1]]
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
    await _until(lambda: server.in_flight == 1 and len(server.asked) == 5)
    await asyncio.sleep(0.2)  # until the client has read what the server sent
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until(lambda: server.in_flight == 0)
    server.script = usual
    result = await graph.ainvoke(None, THREAD)
    assert len(result["points"]) == 4
    assert [asked.title for asked in server.asked[5:]] == [TITLES[1]]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.01)


# --- how many at once ----------------------------------------------------------------------------


def _eight_points(first_token: float) -> Script:
    titles = [f"Point {name}" for name in "abcdefgh"]

    def script(asked: Asked) -> Reply:
        if asked.stage == "skeleton":
            return Reply(json.dumps({"points": titles}), first_token=first_token)
        return Reply(f"About {asked.title}.", first_token=first_token)

    return script


async def test_all_points_are_in_flight_at_once(server: FakeOpenAI, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    server.script = _eight_points(0.6)
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert server.most_in_flight == 8
    assert len(server.asked) == 9
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


async def test_no_key_is_told_in_an_error(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=500), title=TITLES[1])
    result = await run(create_sot_graph(server.model(), retry_policy=FAST, on_error="keep"), QUESTION)
    assert "sk-test-key" not in str(result)


# --- how long until the next attempt ---------------------------------------------------------------


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, {"Retry-After-Ms": "1000"}], ids=str)
@pytest.mark.parametrize("stage", ["skeleton", "expand", "direct"])
async def test_retry_after_is_obeyed(server: FakeOpenAI, run: Run, stage: str, header: dict[str, str]) -> None:
    server.script = when(stage, Reply(status=429, headers=header), until=1)
    graph = create_sot_graph(server.model(), retry_policy=FAST, route=lambda _: stage != "direct")
    result = await run(graph, QUESTION)
    assert result["answer"]
    for first, again in _attempts(server, stage):
        assert again.began - first.ended >= 0.99


async def test_retry_after_may_be_a_date(server: FakeOpenAI, run: Run) -> None:
    def script(asked: Asked) -> Reply:
        if asked.stage == "skeleton" and asked.attempt == 1:
            return Reply(status=503, headers={"Retry-After": formatdate(time.time() + 2, usegmt=True)})
        return usual(asked)

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


async def test_an_account_without_quota_is_not_asked_again(server: FakeOpenAI, run: Run) -> None:
    server.script = when("expand", Reply(status=429, code="insufficient_quota"), title=TITLES[1])
    await run(create_sot_graph(server.model(), retry_policy=FAST, on_error="keep"), QUESTION)
    assert server.titles().count(TITLES[1]) == 1


def _attempts(server: FakeOpenAI, stage: str) -> list[tuple[Asked, Asked]]:
    """The first attempt at each call of a stage, with its second."""
    asked = server.of_stage(stage)
    return [
        (first, next(a for a in asked if (a.title, a.attempt) == (first.title, 2)))
        for first in asked
        if first.attempt == 1
    ]
