"""Outlines that say more than titles: what a point covers, which others it needs, how long it is."""

import asyncio
import json
import logging
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.types import CachePolicy, Command, RetryPolicy, interrupt

from sot_graph import DemoChatModel, SotInput, astream_answer, create_sot_graph
from sot_graph.outline_reply import ScopedOutline
from tests.fake_openai import FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import THREAD

QUESTION: SotInput = {"question": "How do bees find their way home?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)
ITEMS: list[Any] = [
    {"title": "The sun", "covers": "the compass"},
    {"title": "Landmarks", "words": 40},
    {"title": "Both together", "covers": "how sun and landmarks agree", "needs": [1, 2]},
    "Scent",
]
FORMS = ["invoke", "ainvoke"]


async def answered(graph: Any, form: str, given: Any, config: Any = None) -> Any:
    if form == "invoke":
        return await asyncio.to_thread(graph.invoke, given, config)
    return await graph.ainvoke(given, config)


def turns(request: Request) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request.messages[1:]]


def asks(title: str) -> str:
    return f"In one or two sentences, tell me more about {title}."


def of(server: FakeOpenAI, title: str) -> Request:
    """The request for a point."""
    (found,) = [request for request in server.requests if f"tell me more about {title}" in request.last]
    return found


OUTLINE = "The sun (the compass); Landmarks; Both together (how sun and landmarks agree); Scent."


@pytest.mark.parametrize("form", FORMS)
async def test_each_point_is_told_its_own_and_whose_the_rest_is(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: Reply(f"Text on {request.title}." if request.title else "?")
    result = await answered(create_sot_graph(server.model()), form, {**QUESTION, "outline": ITEMS})
    assert [point["title"] for point in result["points"]] == ["The sun", "Landmarks", "Both together", "Scent"]
    start = [("user", QUESTION["question"]), ("assistant", OUTLINE)]
    assert turns(of(server, "The sun")) == [*start, ("user", asks("The sun: the compass"))]
    assert turns(of(server, "Scent")) == [*start, ("user", asks("Scent"))]
    assert turns(of(server, "Landmarks")) == [*start, ("user", "In about 40 words, tell me more about Landmarks.")]


@pytest.mark.parametrize("form", FORMS)
async def test_a_point_is_shown_the_texts_that_it_needs(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: Reply(f"Text {len(request.messages)}.", first_token=0.2)
    result = await answered(create_sot_graph(server.model()), form, {**QUESTION, "outline": ITEMS})
    first, second, *_ = [point["text"] for point in result["points"]]
    request = of(server, "Both together")
    assert turns(request)[2:] == [
        ("user", asks("The sun: the compass")),
        ("assistant", first),
        ("user", "In about 40 words, tell me more about Landmarks."),
        ("assistant", second),
        ("user", asks("Both together: how sun and landmarks agree")),
    ]
    assert request.began >= max(of(server, title).ended for title in ("The sun", "Landmarks"))
    assert of(server, "Scent").began < of(server, "The sun").ended
    figures = result["messages"][-1].response_metadata["sot"]
    critical = [entry["index"] for entry in figures["timeline"] if entry["is_critical"]]
    assert (critical[-1], len(critical)) == (3, 2)
    assert figures["critical_path_seconds"] >= 0.4


async def test_without_needs_all_points_start_at_once_and_prompts_are_as_ever(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    await graph.ainvoke({**QUESTION, "outline": ["The sun", "Scent"]})
    await graph.ainvoke({**QUESTION, "outline": [{"title": "The sun"}, {"title": "Scent", "covers": "", "needs": []}]})
    bodies = sorted(json.dumps(request.body["messages"]) for request in server.requests)
    assert bodies[::2] == bodies[1::2]
    assert (await graph.ainvoke({**QUESTION, "outline": ["The sun"]}))["points"]


@pytest.mark.parametrize(
    ("outline", "kept", "said"),
    [
        ([{"title": "A one", "needs": [1]}, "B two"], [[], []], "there is no such point"),
        ([{"title": "A one", "needs": [7, 0, -1]}, "B two"], [[], []], "there is no such point"),
        ([{"title": "A one", "needs": [2]}, {"title": "B two", "needs": [1]}], [[2], []], "in a circle"),
        (
            ["A one", *({"title": f"{name} two", "needs": [n]} for n, name in enumerate("BCDE", 1))],
            [[], [1], [2], [], [4]],
            "more than three waves",
        ),
    ],
)
async def test_needs_that_cannot_be_met_are_dropped_with_a_line_in_the_log(
    server: FakeOpenAI, caplog: pytest.LogCaptureFixture, outline: Any, kept: list[list[int]], said: str
) -> None:
    with caplog.at_level(logging.WARNING, "sot_graph"):
        result = await create_sot_graph(server.model()).ainvoke({**QUESTION, "outline": outline})
    assert said in caplog.text
    timeline = result["messages"][-1].response_metadata["sot"]["timeline"]
    needs = {entry["index"]: entry.get("needs", []) for entry in timeline}
    assert [needs[index] for index in sorted(needs)] == kept


async def test_needs_follow_their_points_when_titles_are_dropped(server: FakeOpenAI) -> None:
    needing = [{"title": "Landmarks", "needs": [3]}, {"title": "Scent", "needs": [4, 2]}]
    outline: list[Any] = ["The sun", "...", "the sun", *needing]
    result = await create_sot_graph(server.model()).ainvoke({**QUESTION, "outline": outline})
    timeline = result["messages"][-1].response_metadata["sot"]["timeline"]
    assert {entry["index"]: entry.get("needs") for entry in timeline} == {1: None, 2: [1], 3: [2]}


@pytest.mark.parametrize("form", FORMS)
async def test_a_point_is_written_without_one_that_failed(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: Reply(status=400) if request.title.startswith("The sun") else usual(request)
    graph = create_sot_graph(server.model(), on_error="keep")
    result = await answered(graph, form, {**QUESTION, "outline": ITEMS})
    assert [point["status"] for point in result["points"]] == ["failed", "written", "written", "written"]
    assert "The sun: the compass" not in "".join(text for _, text in turns(of(server, "Both together"))[2:])


@pytest.mark.parametrize("form", FORMS)
async def test_a_run_that_died_in_the_second_wave_pays_nothing_twice(server: FakeOpenAI, form: str) -> None:
    fails = True

    def script(request: Request) -> Reply:
        return Reply(status=400) if fails and request.title.startswith("Both") else usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    with pytest.raises(Exception, match="1 of 4 points"):
        await answered(graph, form, {**QUESTION, "outline": ITEMS}, THREAD)
    fails = False
    result = await answered(graph, form, None, THREAD)
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert len(server.requests) == 5
    last = turns(server.requests[-1])
    assert ("assistant", result["points"][0]["text"]) in last
    assert ("assistant", result["points"][1]["text"]) in last


@pytest.mark.parametrize("form", FORMS)
async def test_an_interrupt_of_a_needed_point_stops_those_that_wait_for_it(server: FakeOpenAI, form: str) -> None:
    """They are written after it, and know its text."""
    asked: list[str] = []

    def write(messages: Any) -> str:
        title = messages[-1].text.removeprefix("Tell me more about ").rstrip(".")
        asked.append(title)
        return str(interrupt("May I?")) if title.startswith("The sun") else f"Text on {title}."

    graph = create_sot_graph(server.model(), expander=write, checkpointer=InMemorySaver())
    outline: list[Any] = ["The sun", {"title": "Both", "needs": [1]}, "Scent"]
    first = await answered(graph, form, {**QUESTION, "outline": outline}, THREAD)
    assert [each.value for each in first["__interrupt__"]] == ["May I?"]
    assert sorted(asked) == ["Scent", "The sun"]
    result = await answered(graph, form, Command(resume="Yes, the sun."), THREAD)
    assert [point["text"] for point in result["points"]] == ["Yes, the sun.", "Text on Both.", "Text on Scent."]
    assert asked.count("Scent") == 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_failed_point_is_written_again_in_the_run_that_resumes(server: FakeOpenAI, form: str) -> None:
    """It failed before an interrupt; so its text is known as none, until it is written."""
    is_down, asked = True, list[str]()

    def write(messages: Any) -> str:
        title = messages[-1].text.removeprefix("Tell me more about ").rstrip(".")
        asked.append(title)
        if title == "The sun" and is_down:
            msg = "no light"
            raise ValueError(msg)
        return str(interrupt("May I?")) if title == "Scent" else f"Text on {title}."

    options: Any = {"on_error": "keep", "checkpointer": InMemorySaver()}
    graph = create_sot_graph(server.model(), expander=write, **options)
    outline: list[Any] = ["The sun", "Landmarks", "Scent"]
    await answered(graph, form, {**QUESTION, "outline": outline}, THREAD)
    is_down = False
    result = await answered(graph, form, Command(resume="Yes."), THREAD)
    assert [point["text"] for point in result["points"]] == ["Text on The sun.", "Text on Landmarks.", "Yes."]
    assert asked.count("Landmarks") == 1


class Leaves(DemoChatModel):
    """A client that ends its thread instead of raising an error, as `sys.exit()` in a tool does."""

    def _stream(self, *_args: Any, **_kwargs: Any) -> Any:
        raise SystemExit(3)

    def _generate(self, *_args: Any, **_kwargs: Any) -> Any:
        raise SystemExit(3)


def test_a_call_that_leaves_its_thread_does_not_leave_others_waiting() -> None:
    graph = create_sot_graph(Leaves())
    outline: list[Any] = ["The sun", {"title": "Both", "needs": [1]}]
    with pytest.raises((SystemExit, GraphInterrupt)):
        graph.invoke({**QUESTION, "outline": outline})


@pytest.mark.parametrize("form", FORMS)
async def test_points_that_others_need_are_not_cached(server: FakeOpenAI, form: str) -> None:
    """Nobody would say that a cached one is written; with a key of the caller's, too."""
    policies: list[CachePolicy[Any]] = [CachePolicy(), CachePolicy(key_func=lambda task: str(task.get("title")))]
    for policy in policies:
        graph = create_sot_graph(server.model(), cache_policy=policy, cache=InMemoryCache())
        async with asyncio.timeout(20):
            for title in ("Both", "Other"):
                outline: list[Any] = ["The sun", {"title": title, "needs": [1]}]
                given: Any = {"question": f"On {title}?", "outline": outline}
                result = await answered(graph, form, given)
                assert len(result["points"]) == 2


def test_another_outline_in_the_place_of_one_with_scopes_has_none(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), review=True)
    graph.invoke({**QUESTION, "outline": ITEMS}, THREAD)
    graph.update_state(THREAD, {"outline": ["New", "Newer"]}, as_node="skeleton")
    graph.invoke(None, THREAD)
    result = graph.invoke(Command(resume=True), THREAD)
    assert [point["title"] for point in result["points"]] == ["New", "Newer"]


async def test_a_cancelled_run_ends_those_that_wait(server: FakeOpenAI) -> None:
    server.script = lambda _: Reply("Late.", first_token=60)
    task = asyncio.create_task(create_sot_graph(server.model()).ainvoke({**QUESTION, "outline": ITEMS}))
    await asyncio.sleep(0.3)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_reading_order_holds_and_a_text_is_readable_when_its_turn_comes(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply(f"Text on {request.title}.", first_token=0.1)
    given: Any = {**QUESTION, "outline": [{"title": "Both", "needs": [2]}, "The sun", "Scent"]}
    graph = create_sot_graph(server.model())
    chunks = [chunk async for chunk in astream_answer(graph, given)]
    assert "".join(chunks) == "Text on Both.\n\nText on The sun.\n\nText on Scent."


async def test_max_concurrency_holds_and_a_waiting_point_takes_no_slot(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply(usual(request).text, first_token=0.05)
    outline: list[Any] = [{"title": "Both", "needs": [2]}, {"title": "The sun", "needs": [3]}, "Scent"]
    for form in FORMS:
        graph = create_sot_graph(server.model())
        async with asyncio.timeout(20):
            await answered(graph, form, {**QUESTION, "outline": outline}, {"max_concurrency": 1})
    assert server.most_in_flight == 1


# --- the model's own ---------------------------------------------------------------------------------


SCOPED = {
    "points": [
        {"title": "The sun", "covers": "the compass", "needs": [], "words": 30},
        {"title": "Landmarks", "covers": "", "needs": [1], "words": 0},
    ]
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_model_may_say_more_than_titles(server: FakeOpenAI, form: str) -> None:
    server.script = lambda request: Reply(json.dumps(SCOPED)) if request.stage == "skeleton" else Reply("Some text.")
    graph = create_sot_graph(server.model(), detail="scoped")
    result = await answered(graph, form, QUESTION)
    assert [point["title"] for point in result["points"]] == ["The sun", "Landmarks"]
    (outline,) = server.of_stage("skeleton")
    schema = outline.body["response_format"]["json_schema"]
    assert {*schema["schema"]["$defs"]["ScopedPoint"]["properties"]} == {"title", "covers", "needs", "words"}
    assert "what belongs to it and to no other" in outline.last
    assert of(server, "The sun: the compass").last.startswith("In about 30 words")
    assert of(server, "Landmarks").last == asks("Landmarks")
    assert of(server, "Landmarks").began >= of(server, "The sun").ended


async def test_titles_alone_are_an_outline_too(server: FakeOpenAI) -> None:
    server.script = lambda request: (
        Reply(outline_json(["The sun", "Scent"])) if request.stage == "skeleton" else usual(request)
    )
    result = await create_sot_graph(server.model(), detail="scoped").ainvoke(QUESTION)
    assert [point["title"] for point in result["points"]] == ["The sun", "Scent"]


async def test_a_model_without_a_schema_gives_titles(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        if "response_format" in request.body:
            return Reply(status=400, message="response_format is not supported")
        return Reply("1. The sun\n2. Scent") if request.stage == "skeleton" else usual(request)

    server.script = script
    result = await create_sot_graph(server.model(), detail="scoped").ainvoke(QUESTION)
    assert [point["title"] for point in result["points"]] == ["The sun", "Scent"]


def test_by_default_the_schema_is_the_plain_list(server: FakeOpenAI) -> None:
    create_sot_graph(server.model()).invoke(QUESTION)
    text = json.dumps(server.of_stage("skeleton")[0].body)
    assert "covers" not in text
    assert "ScopedPoint" not in text


def test_an_unknown_detail_is_refused(server: FakeOpenAI) -> None:
    with pytest.raises(ValueError, match="detail must be one of 'titles', 'scoped'"):
        create_sot_graph(server.model(), detail="full")  # type: ignore[arg-type]


# --- review ------------------------------------------------------------------------------------------


async def test_a_review_shows_and_edits_it(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver())
    first = await graph.ainvoke({**QUESTION, "outline": ITEMS}, THREAD)
    shown = first["__interrupt__"][0].value
    assert shown["titles"] == ["The sun", "Landmarks", "Both together", "Scent"]
    assert shown["outline"] == ITEMS
    edited = ["Scent", "The sun", {"title": "Landmarks", "covers": "trees"}, "Both together"]
    result = await graph.ainvoke(Command(resume=edited), THREAD)
    assert [point["title"] for point in result["points"]] == ["Scent", "The sun", "Landmarks", "Both together"]
    assert turns(of(server, "Both together"))[1][1] == (
        "Scent; The sun (the compass); Landmarks (trees); Both together (how sun and landmarks agree)."
    )
    assert of(server, "Both together").began >= of(server, "Landmarks").ended


async def test_a_person_can_take_away_what_was_said(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver())
    await graph.ainvoke({**QUESTION, "outline": ITEMS}, THREAD)
    edited = ["The sun", {"title": "Landmarks"}, {"title": "Both together", "needs": []}]
    result = await graph.ainvoke(Command(resume=edited), THREAD)
    assert turns(of(server, "Both together"))[1][1] == "The sun (the compass); Landmarks; Both together."
    assert not any(entry.get("needs") for entry in result["messages"][-1].response_metadata["sot"]["timeline"])


async def test_accepted_as_it_is_it_keeps_all(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver())
    await graph.ainvoke({**QUESTION, "outline": ITEMS}, THREAD)
    await graph.ainvoke(Command(resume=True), THREAD)
    assert turns(of(server, "Scent"))[1][1] == OUTLINE


# --- any graph of needs ------------------------------------------------------------------------------


@st.composite
def outlines(draw: st.DrawFn) -> list[Any]:
    count = draw(st.integers(2, 7))
    needs = st.lists(st.integers(1, count), max_size=3)
    return [{"title": f"Point {name}", "needs": draw(needs)} for name in "abcdefg"[:count]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outline=outlines(), data=st.data())
async def test_each_point_is_written_after_its_needs_and_nothing_waits_without_cause(
    server: FakeOpenAI, outline: list[Any], data: st.DataObject
) -> None:
    del server.requests[:]
    seconds = {item["title"]: data.draw(st.sampled_from([0.0, 0.05, 0.1])) for item in outline}
    server.script = lambda request: Reply("Text.", first_token=seconds[request.title])
    result = await create_sot_graph(server.model()).ainvoke({**QUESTION, "outline": outline})
    figures = result["messages"][-1].response_metadata["sot"]
    needs = {entry["index"]: entry.get("needs", []) for entry in figures["timeline"]}
    requests = {request.title: request for request in server.requests}
    titles = [item["title"] for item in outline]
    assert len(requests) == len(outline) == len(server.requests)
    for index, title in enumerate(titles, 1):
        ends = [requests[titles[need - 1]].ended for need in needs[index]]
        assert requests[title].began >= max(ends, default=0)
        # A loaded machine is slow, but not by as much as the next point takes.
        began = max(ends, default=min(request.began for request in server.requests))
        assert requests[title].began - began < 2
    entries = {entry["index"]: entry for entry in figures["timeline"]}
    for index, own in needs.items():
        for need in own:
            assert entries[index]["began"] >= entries[need]["began"]


async def test_a_long_first_wave_does_not_hold_up_what_does_not_need_it(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply("Text.", first_token=1.0 if request.title == "Slow" else 0.05)
    outline: list[Any] = ["Slow", "Fast", {"title": "Then", "needs": [2]}, {"title": "Last", "needs": [3]}]
    began = time.monotonic()
    await create_sot_graph(server.model()).ainvoke({**QUESTION, "outline": outline})
    order = sorted(server.requests, key=lambda request: request.ended)
    assert [request.title for request in order] == ["Fast", "Then", "Last", "Slow"]
    assert all(earlier.ended <= later.ended for earlier, later in pairwise(order))
    assert time.monotonic() - began < 5


def test_the_schema_says_what_each_field_is() -> None:
    properties = ScopedOutline.model_json_schema()["$defs"]["ScopedPoint"]["properties"]
    assert all(each["description"] for each in properties.values())
