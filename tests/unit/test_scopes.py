"""Outlines that say more than titles: which needs are kept."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sot_graph.scopes import WAVES, clean_items


def points(wanted: list[list[int]]) -> list[Any]:
    return [{"title": f"Point {name}", "needs": needs} for name, needs in zip("abcdefgh", wanted, strict=False)]


@given(st.lists(st.lists(st.integers(-1, 9), max_size=4), min_size=1, max_size=8))
def test_what_is_kept_has_no_circle_and_three_waves_at_most(wanted: list[list[int]]) -> None:
    titles, scopes = clean_items(points(wanted))
    needs = [scope.get("needs", []) for scope in scopes] or [[] for _ in titles]

    def length(index: int, seen: tuple[int, ...] = ()) -> int:
        assert index not in seen
        return 1 + max((length(each, (*seen, index)) for each in needs[index - 1]), default=0)

    assert max(map(length, range(1, len(titles) + 1))) <= WAVES
    for index, own in enumerate(needs, 1):
        assert set(own) <= ({*wanted[index - 1]} - {index}) & {*range(1, len(titles) + 1)}


@given(st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=4, max_size=8))
def test_what_can_be_met_is_kept(wanted: list[list[int]]) -> None:
    """Points that need nothing but the first three, which need nothing."""
    items = points([[], [], [], *wanted[3:]])
    _titles, scopes = clean_items(items)
    kept = [scope.get("needs", []) for scope in scopes] or [[] for _ in items]
    assert kept == [sorted(set(item["needs"])) for item in items]


def test_many_needs_take_no_time() -> None:
    items = [{"title": f"Point number {n}", "needs": list(range(1, 101))} for n in range(1, 501)]
    began = time.process_time()
    clean_items(items)
    assert time.process_time() - began < 10, "need by need over the whole outline took half a minute"


@pytest.mark.parametrize("first", [{"title": "One"}, "One"])
@pytest.mark.parametrize("second", [{"title": "Two", "needs": []}, "Two"])
def test_an_object_that_says_nothing_is_a_title(first: Any, second: Any) -> None:
    assert clean_items([first, second]) == (["One", "Two"], [])
