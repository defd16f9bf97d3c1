"""The reducer, the errors, and the figures of an answer."""

import pickle

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages.ai import UsageMetadata

from sot_graph import ExpansionError, Point, ReplyError
from sot_graph.state import merge_points
from sot_graph.usage import Attempt, CallRecord, merge_calls, summarize, total_usage


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


def tried(
    began: float,
    seconds: float,
    *,
    waited: float = 0.0,
    queued: float = 0.0,
    tokens: int | None = 5,
    failed: bool = False,
) -> Attempt:
    usage = None
    if tokens is not None:
        usage = UsageMetadata(input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1)
    return Attempt(
        began=began,
        waited=waited,
        queued=queued,
        first_token=None if failed else 0.25,
        seconds=seconds,
        requests=1,
        usage=usage,
        error="Timeout: late" if failed else None,
    )


CALLS: dict[str, CallRecord] = {
    "skeleton": {"stage": "skeleton", "index": None, "attempts": [tried(100.0, 1.0)]},
    "lead": {"stage": "lead", "index": None, "attempts": [tried(100.0, 0.5)]},
    "expand 1": {"stage": "expand", "index": 1, "attempts": [tried(101.0, 2.0)]},
    "expand 2": {
        "stage": "expand",
        "index": 2,
        "attempts": [tried(101.0, 1.0, tokens=None, failed=True), tried(102.0, 2.0, waited=0.5)],
    },
}
POINTS = [{"index": i, "title": f"Title {i}", "status": "written"} for i in (1, 2)]


def test_the_figures_of_an_answer() -> None:
    told = summarize(CALLS, POINTS)
    assert told["calls"] == 5
    assert told["seconds"] == 4.5, "what runs at the same time counts once, a pause between two attempts counts"
    assert told["sequential_seconds"] == 6.5
    assert told["critical_path_seconds"] == 1.0 + 3.5, "the outline and the slowest point, with its retry's pause"
    assert told["speed_up"] == round(6.5 / 4.5, 2)
    expand = told["stages"]["expand"]
    assert (expand["calls"], expand["waiting_seconds"], expand["first_token_seconds"]) == (3, 0.5, 0.25)
    assert expand["usage"] == {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    first, second = told["points"]
    assert (first["attempts"], first["seconds"], first["cached"]) == (1, 2.0, False)
    assert (second["attempts"], second["seconds"], second["first_token_seconds"]) == (2, 3.5, 1.75)


def test_a_point_that_was_retried_after_a_pause_is_on_the_critical_path() -> None:
    """Its calls are shorter than another point's, but the answer waited for it."""
    retried = [tried(101.0, 0.5, failed=True), tried(101.5, 0.5, waited=4.0)]
    calls = {**CALLS, "expand 3": CallRecord(stage="expand", index=3, attempts=retried)}
    told = summarize(calls)
    assert {entry["index"] for entry in told["timeline"] if entry["is_critical"]} == {None, 3}
    assert told["critical_path_seconds"] == 1.0 + 5.0


def test_a_place_that_was_waited_for_is_not_on_the_critical_path() -> None:
    """Nor is the time between a failed run and the one that went on with it."""
    begins = (101.0, 121.5, 90_000.0)
    late = [tried(began, 0.5, waited=20.0, queued=20.0, failed=began < 90_000.0) for began in begins]
    calls = {**CALLS, "expand 3": CallRecord(stage="expand", index=3, attempts=late)}
    assert summarize(calls)["critical_path_seconds"] == 1.0 + 3.5


def test_a_graph_that_wrote_a_point_counts_by_its_own_calls() -> None:
    """And by what else was done there: here by a second before that graph was asked."""
    inner = {"seconds": 4.0, "sequential_seconds": 9.0, "critical_path_seconds": 2.0}
    whole: Attempt = {**tried(101.0, 5.0), "inner": inner}
    calls = {"skeleton": CALLS["skeleton"], "expand 1": CallRecord(stage="expand", index=1, attempts=[whole])}
    told = summarize(calls)
    assert (told["sequential_seconds"], told["critical_path_seconds"]) == (1.0 + 10.0, 1.0 + 3.0)
    assert told["seconds"] == 6.0


def test_the_timeline_has_each_attempt() -> None:
    timeline = summarize(CALLS, POINTS)["timeline"]
    assert [(e["stage"], e["index"], e["title"], e["attempt"], e["began"], e["is_critical"]) for e in timeline] == [
        ("skeleton", None, None, 1, 0.0, True),
        ("lead", None, None, 1, 0.0, False),
        ("expand", 1, "Title 1", 1, 1.0, False),
        ("expand", 2, "Title 2", 1, 1.0, True),
        ("expand", 2, "Title 2", 2, 2.0, True),
    ]
    assert [entry["error"] for entry in timeline if entry["error"]] == ["Timeout: late"]


def test_what_a_cache_answered_counts_nothing() -> None:
    told = summarize(CALLS, POINTS, cached={"expand 2"})
    assert (told["calls"], told["stages"]["expand"]["calls"]) == (3, 1)
    assert [(point["calls"], point["cached"]) for point in told["points"]] == [(1, False), (0, True)]


def test_a_pause_between_two_runs_does_not_count() -> None:
    resumed = CallRecord(stage="expand", index=2, attempts=[tried(90_000.0, 1.0)])  # the next day
    calls = merge_calls(CALLS, {"expand 2": resumed})
    assert len(calls["expand 2"]["attempts"]) == 3
    assert summarize(calls)["seconds"] == 4.5 + 1.0


def test_nothing_was_asked() -> None:
    told = summarize({})
    assert (told["calls"], told["seconds"], told["speed_up"], told["timeline"]) == (0, 0.0, None, [])
    assert total_usage([None]) is None
