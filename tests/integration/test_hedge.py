"""A request that has not begun to be answered is sent once more, and the first of the two that is answered is read."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import RetryPolicy

from sot_graph import SotInput, astream_answer, create_sot_graph, stream_answer
from sot_graph.prompts import LEAD
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, usual
from tests.integration.conftest import THREAD
from tests.processes import wait_until

QUESTION: SotInput = {"question": "How can I sleep better?"}
NEVER = 30
"""Seconds to the first token of a request that waits too long. No test waits for it."""
HEDGE = 1.0
"""Seconds. A machine with other work may take most of one to begin a reply."""
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


def text_of(request: Request) -> str:
    return f"Reply {request.attempt} on {request.title.lower()} is this."


def stuck(*titles: str, attempts: tuple[int, ...] = (1,), stage: str = "expand") -> Script:
    """The first request of these points waits for ever; each text says which request it answers."""

    def script(request: Request) -> Reply:
        is_stuck = request.stage == stage and request.title in titles and request.attempt in attempts
        if request.stage == "expand":
            return Reply(text_of(request), first_token=NEVER if is_stuck else 0)
        return Reply(usual(request).text, first_token=NEVER if is_stuck else 0)

    return script


Answer = Callable[[Any, Any], Any]


async def answered(graph: Any, form: str, given: Any = QUESTION, config: Any = None) -> Any:
    """The result of a run; of a streamed one, the answer that was read is checked."""
    saver = InMemorySaver()
    graph.checkpointer = saver
    config = {**THREAD, **(config or {})}
    if form == "invoke":
        return await asyncio.to_thread(graph.invoke, given, config)
    if form == "ainvoke":
        return await graph.ainvoke(given, config)
    if form == "stream":
        read = await asyncio.to_thread(lambda: "".join(stream_answer(graph, given, config)))
    else:
        read = "".join([chunk async for chunk in astream_answer(graph, given, config)])
    values = (await graph.aget_state(config)).values
    assert read == values["answer"]
    return values


def sot(result: Any) -> Any:
    return result["messages"][-1].response_metadata["sot"]


FORMS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_stuck_point_is_asked_for_once_more(server: FakeOpenAI, form: str) -> None:
    server.script = stuck(TITLES[1])
    began = time.monotonic()
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE), form)
    assert time.monotonic() - began < NEVER / 2
    assert [point["text"] for point in result["points"]] == [
        f"Reply {1 + (title == TITLES[1])} on {title.lower()} is this." for title in TITLES
    ]
    assert sorted(server.titles()) == sorted([*TITLES, TITLES[1]])
    figures = sot(result)
    assert (figures["calls"], figures["hedges"]) == (6, 1)
    first, second = [entry for entry in figures["timeline"] if entry["index"] == 2]
    assert (first.get("is_lost"), second.get("is_hedge"), first["error"]) == (True, True, None)
    assert second["waiting_seconds"] >= HEDGE
    assert first["usage"]["input_tokens"] == second["usage"]["input_tokens"]
    assert figures["critical_path_seconds"] <= figures["seconds"] + 0.01
    assert figures["critical_path_seconds"] >= HEDGE
    if form in {"ainvoke", "astream"}:
        await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)


@pytest.mark.parametrize("form", ["invoke", "astream"])
async def test_the_first_one_wins_if_it_is_sooner(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: (
        Reply(text_of(request), first_token=NEVER if request.attempt > 1 else 2.2)
        if request.title == TITLES[0]
        else usual(request)
    )
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE), form)
    assert result["points"][0]["text"].startswith("Reply 1")
    first, second = [entry for entry in sot(result)["timeline"] if entry["index"] == 1]
    assert (first.get("is_lost"), second.get("is_lost"), second.get("is_hedge")) == (None, True, True)
    assert second["critical_path_seconds"] == second["sequential_seconds"] == 0


@pytest.mark.parametrize("form", ["stream", "ainvoke"])
async def test_a_slow_text_that_has_begun_is_not_asked_for_again(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: (
        Reply("So slow. " * 4, per_token=0.3) if request.title == TITLES[0] else usual(request)
    )
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE), form)
    assert (sot(result)["hedges"], sorted(server.titles())) == (0, sorted(TITLES))


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_slow_outline_that_has_begun_is_not_asked_for_again(server: FakeOpenAI, form: str) -> None:
    """It is streamed, with the schema as before, and its tokens are counted."""
    server.script = lambda request: (
        Reply(usual(request).text, per_token=0.12) if request.stage == "skeleton" else usual(request)
    )
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE), form)
    (request,) = server.of_stage("skeleton")
    assert request.body["stream"]
    assert request.body["response_format"]["json_schema"]["strict"]
    assert [point["title"] for point in result["points"]] == TITLES
    assert sot(result)["stages"]["skeleton"]["usage"]["output_tokens"] == 12
    assert sot(result)["hedges"] == 0


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
@pytest.mark.parametrize("stage", ["skeleton", "lead", "direct"])
async def test_every_stage_is_hedged(server: FakeOpenAI, form: str, stage: str) -> None:
    def stage_of(request: Request) -> str:
        return "lead" if LEAD in request.prompt else request.stage

    asked: list[str] = []

    def script(request: Request) -> Reply:
        asked.append(stage_of(request))
        is_stuck = asked[-1] == stage and asked.count(stage) == 1
        # The opening ends half a second after the outline: that is when its second request is sent.
        slow = 0.8 if stage == "lead" and asked[-1] == "skeleton" else 0
        return Reply(usual(request).text, first_token=NEVER if is_stuck else slow)

    server.script = script
    graph = create_sot_graph(server.model(), hedge=HEDGE, lead=stage == "lead", route=lambda _: stage != "direct")
    result = await answered(graph, form)
    assert asked.count(stage) == 2
    assert sot(result)["hedges"] == 1
    if stage == "lead":
        assert str(result["answer"]).startswith("A direct answer.")


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_multiple_of_the_siblings_median(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: (
        Reply(text_of(request), first_token=NEVER if request.attempt == 1 else 0)
        if request.title == TITLES[3]
        else Reply(usual(request).text, first_token=0.4 if request.stage == "expand" else 1)
    )
    result = await answered(create_sot_graph(server.model(), hedge="3x"), form)
    figures = sot(result)
    assert figures["hedges"] == 1
    second = next(entry for entry in figures["timeline"] if entry.get("is_hedge"))
    assert second["waiting_seconds"] >= 1.2


async def test_a_multiple_for_the_outline_is_that_of_earlier_answers(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), hedge="20x")
    for _ in range(5):
        await graph.ainvoke(QUESTION)
    asked = len(server.of_stage("skeleton"))
    server.script = lambda request: (
        Reply(usual(request).text, first_token=NEVER)
        if request.stage == "skeleton" and request.attempt == asked + 1
        else usual(request)
    )
    assert sot(await graph.ainvoke(QUESTION))["stages"]["skeleton"]["calls"] == 2


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_no_more_than_a_quarter_of_the_points(server: FakeOpenAI, form: str) -> None:
    """A provider that is slow for all of them is not sent everything twice."""
    titles = [f"Point {name}" for name in "abcdefghijkl"]
    server.script = lambda request: Reply(text_of(request), first_token=2.2)
    result = await answered(
        create_sot_graph(server.model(), hedge=HEDGE, max_points=12), form, {**QUESTION, "outline": titles}
    )
    assert (len(server.requests), sot(result)["hedges"]) == (15, 3)


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_the_concurrency_limit_holds(server: FakeOpenAI, form: str) -> None:
    """The second request waits for a slot, and takes it when there is one."""
    server.script = lambda request: (
        Reply(text_of(request), first_token=NEVER if request.attempt == 1 else 0)
        if request.title == TITLES[0]
        else Reply(usual(request).text, first_token=0.15)
    )
    config = {"max_concurrency": 2}
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE), form, QUESTION, config)
    # A thread that has lost cannot be cancelled: its request may stay open beside the others.
    assert server.most_in_flight <= (2 if form == "ainvoke" else 3)
    assert sot(result)["hedges"] == 1


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_limit_of_one_leaves_no_room(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: Reply(usual(request).text, first_token=0.4)
    result = await answered(create_sot_graph(server.model(), hedge=0.1), form, QUESTION, {"max_concurrency": 1})
    assert (server.most_in_flight, sot(result)["hedges"]) == (1, 0)


@pytest.mark.parametrize("form", ["stream", "ainvoke"])
async def test_a_first_request_that_fails_meanwhile_is_recorded(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: (
        Reply(text_of(request), status=500 if request.attempt == 1 else 200, first_token=1.6)
        if request.title == TITLES[2]
        else usual(request)
    )
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE, retry_policy=FAST), form)
    assert result["points"][2]["text"].startswith("Reply 2")
    first, second = [entry for entry in sot(result)["timeline"] if entry["index"] == 3]
    assert "500" in first["error"]
    assert (first.get("is_lost"), first["usage"]) == (False, None)
    assert first["seconds"] >= 1.5
    ends = [entry["began"] + entry["waiting_seconds"] + entry["seconds"] for entry in (first, second)]
    assert ends[0] < ends[1], "it ended when it failed"
    assert (second["error"], second.get("is_hedge")) == (None, True)


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_if_both_fail_the_policy_decides_and_there_is_no_third_beside_it(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: (
        Reply(text_of(request), status=500 if request.attempt <= 2 else 200, first_token=1.6)
        if request.title == TITLES[2]
        else usual(request)
    )
    result = await answered(create_sot_graph(server.model(), hedge=HEDGE, retry_policy=FAST), form)
    assert result["points"][2]["text"].startswith("Reply 3")
    assert (server.titles().count(TITLES[2]), sot(result)["hedges"]) == (3, 1)


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
@pytest.mark.parametrize("says_so", [False, True])
async def test_an_expander_is_called_twice_only_if_it_says_so(server: FakeOpenAI, form: str, *, says_so: bool) -> None:
    called: list[str] = []

    def write(messages: Any) -> AIMessage:
        called.append(messages[-1].text)
        is_first = called.count(messages[-1].text) == 1 and TITLES[0] in messages[-1].text
        time.sleep(2.2 if is_first else 0)
        return AIMessage(f"Text {len(called)}.")

    expander: Any = RunnableLambda(write)
    expander = expander.with_config(metadata={"sot_hedge": True}) if says_so else expander
    result = await answered(create_sot_graph(server.model(), expander=expander, hedge=HEDGE), form)
    assert len(called) == (5 if says_so else 4)
    assert {point["status"] for point in result["points"]} == {"written"}


async def test_a_cancelled_run_ends_both(server: FakeOpenAI) -> None:
    server.script = stuck(*TITLES, attempts=(1, 2))
    task = asyncio.create_task(create_sot_graph(server.model(), hedge=HEDGE).ainvoke(QUESTION))
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until, lambda: server.in_flight == 0)


def test_an_opening_that_is_left_while_it_is_hedged_counts_once(server: FakeOpenAI) -> None:
    asked: list[str] = []

    def script(request: Request) -> Reply:
        if LEAD in request.prompt:
            asked.append(request.title)
            return Reply("Word " * 200, first_token=NEVER if len(asked) == 1 else 0, per_token=0.05)
        if request.stage == "skeleton":  # it has begun, so it is not hedged
            return Reply(usual(request).text, per_token=0.15)
        return usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), hedge=HEDGE, lead=True)
    figures = sot(graph.invoke(QUESTION))
    first, second = [entry for entry in figures["timeline"] if entry["stage"] == "lead"]
    assert (first.get("is_lost"), second.get("is_hedge")) == (True, True)
    assert figures["critical_path_seconds"] <= figures["seconds"] + 0.05
    assert first["sequential_seconds"] == 0


def test_nothing_of_the_one_that_lost_reaches_a_reader(server: FakeOpenAI) -> None:
    """Its first request streams states, as an agent that looks things up, and has no text in time."""
    calls, steps = list[int](), list[int]()

    def write(_inputs: Any) -> Iterator[Any]:
        calls.append(1)
        if len(calls) > 1:
            for number in range(150):
                time.sleep(0.004)
                yield AIMessageChunk(content=f"w{number} ")
            return
        for number in range(400):
            time.sleep(0.004)
            steps.append(number)
            yield {"messages": []}

    writer = RunnableGenerator(write).with_config(metadata={"sot_hedge": True})
    graph = create_sot_graph(server.model(), expander=writer, hedge=0.2)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        text = "".join(stream_answer(graph, {**QUESTION, "outline": ["One"]}))
    finally:
        sys.setswitchinterval(before)
    assert text.split() == [f"w{number}" for number in range(150)]
    made = len(steps)
    time.sleep(0.2)
    assert len(steps) <= made + 1, "the one that lost goes on"
    assert made < 399


async def test_the_slot_of_one_that_was_cancelled_is_free_at_once(server: FakeOpenAI) -> None:
    titles = ["Stuck point", "Short point", "Third point", "Last point"]

    def script(request: Request) -> Reply:
        if request.title == "Stuck point":
            return Reply("Word " * 30, first_token=NEVER if request.attempt == 1 else 0, per_token=0.1)
        return Reply("Text.", first_token=0.4)

    server.script = script
    graph = create_sot_graph(server.model(), hedge=0.6)
    await graph.ainvoke({**QUESTION, "outline": titles}, {"max_concurrency": 2})
    (last,) = [request for request in server.requests if request.title == "Last point"]
    second = [request for request in server.requests if request.title == "Stuck point"][1]
    assert last.ended < second.ended


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_an_opening_that_was_left_is_not_asked_for_again(server: FakeOpenAI, form: str) -> None:
    """It is left half a second after the outline; in a thread, its call goes on."""
    server.script = lambda request: (
        Reply("Late.", first_token=4)
        if LEAD in request.prompt
        else Reply(usual(request).text, first_token=0.8 if request.stage == "expand" else 0)
    )
    result = await answered(create_sot_graph(server.model(), hedge=2.5, lead=True), form)
    await asyncio.sleep(2)
    assert (sot(result)["hedges"], len(server.of_stage("direct"))) == (0, 1)


class Seen(BaseCallbackHandler):
    def __init__(self) -> None:
        self.metadata: dict[UUID, dict[str, Any]] = {}

    def on_chat_model_start(self, *_args: Any, run_id: UUID, **options: Any) -> None:
        self.metadata[run_id] = options["metadata"]


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_the_trace_names_the_second_request(server: FakeOpenAI, form: str) -> None:
    server.script = stuck(TITLES[1])
    seen = Seen()
    await answered(create_sot_graph(server.model(), hedge=HEDGE), form, QUESTION, {"callbacks": [seen]})
    (hedge,) = [each for each in seen.metadata.values() if each.get("sot_hedge")]
    assert (hedge["sot_stage"], hedge["sot_point"]) == ("expand", 2)


@pytest.mark.parametrize("hedge", [0, -1.0, float("nan"), float("inf"), "3", "x", "1x", "0.5x", "3y", "-3x"])
def test_what_is_no_time_is_refused(server: FakeOpenAI, hedge: Any) -> None:
    with pytest.raises(ValueError, match="hedge must be a number of seconds above 0, a multiple above 1"):
        create_sot_graph(server.model(), hedge=hedge)


@pytest.mark.parametrize("hedge", [True, [1], object()])
def test_what_has_another_type_is_refused(server: FakeOpenAI, hedge: Any) -> None:
    with pytest.raises(TypeError, match="hedge must be seconds, a multiple such as '3x', or None"):
        create_sot_graph(server.model(), hedge=hedge)
