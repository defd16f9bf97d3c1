"""Every fault in every place: what is tried again and how often, and what comes of it."""

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import openai
import pytest
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, ReplyError, SotInput, create_sot_graph
from tests.fake_openai import TITLES, FakeOpenAI, Reply
from tests.faults import (
    ASKED_PLAINLY,
    BROKEN_TEXT,
    CUT_OFF,
    FAULTS,
    LATE,
    PERMANENT,
    REFUSALS,
    TRANSIENT,
    Call,
    Faults,
    half,
    no_faults,
)
from tests.integration.conftest import Run

QUESTION: SotInput = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.001, jitter=False)
ONE, MANY = TITLES[1:2], TITLES[1:]


@pytest.fixture(scope="module")
async def clients() -> AsyncIterator[Faults]:
    clients = Faults()
    yield clients
    await clients.close()


@pytest.fixture
def faults(clients: Faults, server: FakeOpenAI) -> Faults:
    """Clients that have sent nothing yet."""
    return clients.begin(server, no_faults)


def strike(faults: Faults, fault: str, stage: str, titles: Iterable[str] = ("",), *, until: int = 99) -> None:
    """Let a fault strike the first requests of a stage (for these titles)."""

    def plan(call: Call, attempt: int) -> str | None:
        return fault if call.stage == stage and call.title in titles and attempt <= until else None

    faults.plan = plan


def asked_model(faults: Faults, server: FakeOpenAI, fault: str) -> Any:
    return faults.model(server, timeout=0.3 if fault == LATE else None)


def usual_text(title: str) -> str:
    return f"About {title.lower()} there is this to say."


def sent_for_points(faults: Faults) -> list[int]:
    return [faults.requests("expand", title) for title in TITLES]


def attempts(titles: list[str], count: int) -> list[int]:
    return [count if title in titles else 1 for title in TITLES]


in_points = pytest.mark.parametrize("titles", [ONE, MANY], ids=["one point", "most points"])


# --- faults that pass ----------------------------------------------------------------------------


@in_points
@pytest.mark.parametrize("fault", [*TRANSIENT, *BROKEN_TEXT])
async def test_points_are_written_once_it_has_passed(
    server: FakeOpenAI, faults: Faults, run: Run, titles: list[str], fault: str
) -> None:
    strike(faults, fault, "expand", titles, until=1)
    result = await run(create_sot_graph(asked_model(faults, server, fault), retry_policy=FAST), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert result["answer"] == "\n\n".join(map(usual_text, TITLES))
    assert sent_for_points(faults) == attempts(titles, 2)
    assert result["messages"][-1].response_metadata["sot"]["calls"] == 5 + len(titles)


@pytest.mark.parametrize("fault", [*TRANSIENT, "aborted"])
async def test_the_outline_is_written_once_it_has_passed(
    server: FakeOpenAI, faults: Faults, run: Run, fault: str
) -> None:
    strike(faults, fault, "skeleton", until=2)
    result = await run(create_sot_graph(asked_model(faults, server, fault), retry_policy=FAST), QUESTION)
    assert [point["title"] for point in result["points"]] == TITLES
    assert faults.requests("skeleton") == 3
    assert sent_for_points(faults) == [1] * 4
    assert result["messages"][-1].response_metadata["sot"]["calls"] == 7


@pytest.mark.parametrize("fault", [*TRANSIENT, *BROKEN_TEXT])
async def test_the_direct_answer_is_written_once_it_has_passed(
    server: FakeOpenAI, faults: Faults, run: Run, fault: str
) -> None:
    strike(faults, fault, "direct", until=1)
    graph = create_sot_graph(asked_model(faults, server, fault), retry_policy=FAST, route=lambda _: False)
    assert (await run(graph, QUESTION))["answer"] == "A direct answer."
    assert faults.requests("direct") == 2


# --- faults that stay ----------------------------------------------------------------------------


STAYING = [(fault, 3) for fault in (*TRANSIENT, *BROKEN_TEXT)] + [(fault, 1) for fault in (*PERMANENT, *REFUSALS)]
tried = pytest.mark.parametrize(("fault", "times"), STAYING, ids=[fault for fault, _ in STAYING])


@tried
async def test_the_other_points_are_kept(server: FakeOpenAI, faults: Faults, run: Run, fault: str, times: int) -> None:
    strike(faults, fault, "expand", ONE)
    model = asked_model(faults, server, fault)
    result = await run(create_sot_graph(model, retry_policy=FAST, on_error="keep"), QUESTION)
    assert [point["status"] for point in result["points"]] == ["written", "failed", "written", "written"]
    assert result["answer"] == "\n\n".join(point["text"] for point in result["points"] if point["title"] not in ONE)
    assert sent_for_points(faults) == attempts(ONE, times)
    assert re.search(FAULTS[fault].says, result["points"][1]["error"])


@tried
async def test_the_error_names_all_the_points_that_failed(
    server: FakeOpenAI, faults: Faults, run: Run, fault: str, times: int
) -> None:
    strike(faults, fault, "expand", MANY)
    with pytest.raises(ExpansionError, match=FAULTS[fault].says) as caught:
        await run(create_sot_graph(asked_model(faults, server, fault), retry_policy=FAST), QUESTION)
    assert [point["title"] for point in caught.value.failed] == MANY
    assert [point["title"] for point in caught.value.written] == TITLES[:1]
    assert sent_for_points(faults) == attempts(MANY, times)


@pytest.mark.parametrize(
    ("fault", "times"),
    [case for case in STAYING if case[0] not in {*BROKEN_TEXT, *REFUSALS}],
    ids=[*TRANSIENT, *PERMANENT],
)
async def test_the_skeletons_error_is_the_models_own(
    server: FakeOpenAI, faults: Faults, run: Run, fault: str, times: int
) -> None:
    strike(faults, fault, "skeleton")
    with pytest.raises((openai.OpenAIError, ValueError), match=FAULTS[fault].says) as caught:
        await run(create_sot_graph(asked_model(faults, server, fault), retry_policy=FAST), QUESTION)
    assert getattr(caught.value, "status_code", None) == (int(fault) if fault.isdigit() else None)
    assert faults.requests("skeleton") == faults.sent.total() == times + (fault in ASKED_PLAINLY)


@tried
async def test_the_direct_answers_error_is_the_calls_own(
    server: FakeOpenAI, faults: Faults, run: Run, fault: str, times: int
) -> None:
    strike(faults, fault, "direct")
    graph = create_sot_graph(asked_model(faults, server, fault), retry_policy=FAST, route=lambda _: False)
    with pytest.raises(Exception, match=FAULTS[fault].says) as caught:
        await run(graph, QUESTION)
    assert isinstance(caught.value, ReplyError) == (fault in {*BROKEN_TEXT, *REFUSALS})
    assert faults.requests("direct") == faults.sent.total() == times


# --- what is none --------------------------------------------------------------------------------


@in_points
async def test_a_point_cut_off_by_its_length_is_kept(
    server: FakeOpenAI, faults: Faults, run: Run, titles: list[str]
) -> None:
    strike(faults, "cut off", "expand", titles)
    result = await run(create_sot_graph(faults.model(server), retry_policy=FAST), QUESTION)
    cut = [point for point in result["points"] if point["title"] in titles]
    assert {(point["status"], point["error"]) for point in cut} == {("truncated", None)}
    assert [point["text"] for point in cut] == [half(Reply(usual_text(title))).strip() for title in titles]
    assert result["answer"] == "\n\n".join(point["text"] for point in result["points"])
    assert sent_for_points(faults) == [1] * 4


@pytest.mark.parametrize("fault", ["empty", "blank", *REFUSALS, *CUT_OFF])
async def test_a_reply_to_the_skeleton_call_is_never_paid_for_again(
    server: FakeOpenAI, faults: Faults, run: Run, fault: str
) -> None:
    strike(faults, fault, "skeleton")
    result = await run(create_sot_graph(faults.model(server), retry_policy=FAST), QUESTION)
    assert faults.requests("skeleton") == 1
    assert result["answer"] == "A direct answer.", "of an outline that is cut in half, one title is whole"
