"""The reducer, the errors, and the figures of an answer."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from sot_graph import ExpansionError, Point, ReplyError
from sot_graph.state import merge_points
from sot_graph.usage import CallRecord, summarize, total_usage


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


def record(stage: str, began: float, seconds: float, attempts: int = 1, tokens: int | None = 5) -> CallRecord:
    usage = None
    if tokens is not None:
        usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return CallRecord(stage=stage, began=began, seconds=seconds, attempts=attempts, usage=usage)  # type: ignore[typeddict-item]


def test_a_stage_lasts_from_its_first_call_to_its_last() -> None:
    calls = [
        record("skeleton", 0.0, 1.0),
        record("expand", 1.0, 2.0),
        record("expand", 1.5, 3.0, attempts=2, tokens=None),
    ]
    summary = summarize(calls)
    assert summary["calls"] == 4
    assert summary["seconds"] == 1.0 + 3.5
    assert summary["sequential_seconds"] == 6.0
    assert summary["stages"]["expand"]["usage"] == {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}
    later = [*calls, record("expand", 90_000.0, 1.0)]  # the thread was resumed the next day
    assert summarize(later)["seconds"] == 1.0 + 3.5 + 1.0
    total = total_usage(call["usage"] for call in calls)
    assert total is not None
    assert total["total_tokens"] == 12
    assert total_usage([None]) is None
