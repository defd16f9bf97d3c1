"""The reducer, the errors, and the figures of an answer."""

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from sot_graph import ExpansionError, Point, ReplyError
from sot_graph.state import merge_points
from sot_graph.usage import Attempt, attempt_record, summarize, total_usage


def point(index: int, text: str = "Text.", error: str | None = None) -> Point:
    return Point(index=index, title=f"Title {index}", text=text, status="failed" if error else "written", error=error)


points = st.lists(st.builds(point, st.integers(1, 9), st.text()), max_size=9)


@given(points, points)
def test_the_reducer_is_idempotent_and_keeps_the_order(left: list[Point], right: list[Point]) -> None:
    once = merge_points(left, right)
    assert merge_points(once, right) == once
    assert [p["index"] for p in once] == sorted({p["index"] for p in [*left, *right]})


@given(st.permutations([point(i) for i in range(1, 7)]))
def test_the_reducer_does_not_mind_the_order_of_arrival(arrived: list[Point]) -> None:
    merged: list[Point] = []
    for each in arrived:
        merged = merge_points(merged, [each])
    assert merged == [point(i) for i in range(1, 7)]


def test_an_expansion_error_survives_pickling() -> None:
    error = ExpansionError([point(2, "", "Timeout")], [point(1)])
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.failed, again.written) == (error.failed, error.written)
    assert "1 of 2 points could not be written: 2 ('Title 2'): Timeout." in str(error)


def test_a_reply_error_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(ReplyError("No text.", is_retryable=True)))
    assert (str(again), again.is_retryable) == ("No text.", True)


def attempt(
    stage: str,
    began: float,
    seconds: float,
    *,
    waited: float = 0.0,
    queued: float = 0.0,
    failed: bool = False,
) -> Attempt:
    usage = None if failed else UsageMetadata(input_tokens=5, output_tokens=1, total_tokens=6)
    return Attempt(
        stage=stage,
        index=None,
        began=began,
        waiting_seconds=waited,
        first_token_seconds=None if failed else 0.25,
        seconds=seconds,
        sequential_seconds=seconds,
        critical_path_seconds=seconds + waited - queued,
        requests=1,
        usage=usage,
        error="Timeout: late" if failed else None,
    )


def point_attempts(index: int, *attempts: Attempt) -> list[Attempt]:
    return [{**each, "index": index} for each in attempts]


OUTLINE = attempt("skeleton", 100.0, 1.0)
ATTEMPTS = [
    OUTLINE,
    attempt("lead", 100.0, 0.5),
    *point_attempts(1, attempt("expand", 101.0, 2.0)),
    *point_attempts(2, attempt("expand", 101.0, 1.0, failed=True), attempt("expand", 102.0, 2.0, waited=0.5)),
]
POINTS = [{"index": i, "title": f"Title {i}", "status": "written"} for i in (1, 2)]


def test_the_figures_of_an_answer() -> None:
    shown = summarize(ATTEMPTS, POINTS)
    assert shown["calls"] == 5
    assert shown["seconds"] == 4.5, "what runs at the same time counts once, a pause between two attempts counts"
    assert shown["sequential_seconds"] == 6.5
    assert shown["critical_path_seconds"] == 1.0 + 3.5, "the outline and the slowest point, with its retry's pause"
    assert shown["parallel_gain"] == round(6.5 / 4.5, 2)
    expand = shown["stages"]["expand"]
    assert (expand["calls"], expand["waiting_seconds"], expand["first_token_seconds"]) == (3, 0.5, 0.25)
    assert expand["usage"] == {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    first, second = shown["points"]
    assert (first["attempts"], first["seconds"], first["cached"]) == (1, 2.0, False)
    assert (second["attempts"], second["seconds"], second["first_token_seconds"]) == (2, 3.5, 1.75)


def test_a_point_that_was_retried_after_a_pause_is_on_the_critical_path() -> None:
    """Its calls are shorter than another point's, but the answer waited for it."""
    retried = [attempt("expand", 101.0, 0.5, failed=True), attempt("expand", 101.5, 0.5, waited=4.0)]
    shown = summarize([*ATTEMPTS, *point_attempts(3, *retried)])
    assert {entry["index"] for entry in shown["timeline"] if entry["is_critical"]} == {None, 3}
    assert shown["critical_path_seconds"] == 1.0 + 5.0


def test_the_queue_is_not_on_the_critical_path() -> None:
    """Nor is the time between a failed run and the one that went on with it."""
    begins = (101.0, 121.5, 90_000.0)
    late = [attempt("expand", began, 0.5, waited=20.0, queued=20.0, failed=began < 90_000.0) for began in begins]
    assert summarize([*ATTEMPTS, *point_attempts(3, *late)])["critical_path_seconds"] == 1.0 + 3.5


def test_a_graph_that_wrote_a_point_counts_by_its_own_calls() -> None:
    """And by what else was done there: here by a second before that graph was asked."""
    inner = {"calls": 7, "seconds": 4.0, "sequential_seconds": 9.0, "critical_path_seconds": 2.0}
    reply = AIMessage("A text.", response_metadata={"sot": inner})
    sent = time.time() - 5.0
    whole = attempt_record("expand", (sent - 3.0, sent - 1.0, sent, None), reply, index=1)
    assert whole["seconds"] == pytest.approx(5.0, abs=0.1)
    assert whole["sequential_seconds"] == pytest.approx(10.0, abs=0.1)
    assert whole["critical_path_seconds"] == pytest.approx(2.0 + 3.0, abs=0.1), "with a pause, without the queue"
    shown = summarize([{**OUTLINE, "began": sent - 4.0}, whole])
    assert (shown["calls"], shown["stages"]["expand"]["waiting_seconds"]) == (8, 3.0)
    assert shown["sequential_seconds"] == pytest.approx(1.0 + 10.0, abs=0.1)
    assert shown["critical_path_seconds"] == pytest.approx(1.0 + 5.0, abs=0.1)


def test_the_timeline_has_each_attempt() -> None:
    timeline = summarize(ATTEMPTS, POINTS)["timeline"]
    assert [(e["stage"], e["index"], e["title"], e["attempt"], e["began"], e["is_critical"]) for e in timeline] == [
        ("skeleton", None, None, 1, 0.0, True),
        ("lead", None, None, 1, 0.0, False),
        ("expand", 1, "Title 1", 1, 1.0, False),
        ("expand", 2, "Title 2", 1, 1.0, True),
        ("expand", 2, "Title 2", 2, 2.0, True),
    ]
    assert [entry["error"] for entry in timeline if entry["error"]] == ["Timeout: late"]


def test_what_a_cache_answered_counts_nothing() -> None:
    shown = summarize(ATTEMPTS[:-2], POINTS, cached={2})
    assert (shown["calls"], shown["stages"]["expand"]["calls"]) == (3, 1)
    assert [(point["calls"], point["cached"]) for point in shown["points"]] == [(1, False), (0, True)]


def test_a_pause_between_two_runs_does_not_count() -> None:
    resumed = point_attempts(2, attempt("expand", 90_000.0, 1.0))  # the next day
    shown = summarize([*ATTEMPTS, *resumed], POINTS)
    assert (shown["points"][1]["attempts"], shown["seconds"]) == (3, 4.5 + 1.0)


def test_the_ending_is_a_step_of_its_own_on_the_critical_path() -> None:
    shown = summarize([*ATTEMPTS, attempt("closing", 104.5, 0.5)], POINTS)
    assert shown["critical_path_seconds"] == 1.0 + 3.5 + 0.5
    assert shown["timeline"][-1]["is_critical"]


def test_without_calls_all_figures_are_zero() -> None:
    shown = summarize([])
    assert (shown["calls"], shown["seconds"], shown["parallel_gain"], shown["timeline"]) == (0, 0.0, None, [])
    assert total_usage([None]) is None
