"""A text that is shown while it is still being written."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sot_graph.live import LiveText
from sot_graph.tidy import echo_length
from tests.unit.tidying import tidy

TITLE = "A dark room"


def shown(live: LiveText, pieces: list[str]) -> str:
    text = "".join(live.feed(piece) for piece in pieces)
    return text + live.finish()


def split(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


FRONTS = ["", f"{TITLE}: ", f"**{TITLE}**\n", "2. ", "Point 2:", "20 ", "A dark", "<think>hm\n</think>\n"]


@given(st.sampled_from(FRONTS), st.text(), st.lists(st.integers(0, 1000), max_size=6))
def test_it_makes_no_difference_in_what_pieces_a_text_arrives(front: str, body: str, cuts: list[int]) -> None:
    text = front + body
    live = LiveText(front=partial(echo_length, 2, TITLE))
    assert shown(live, split(text, cuts)) == live.text == tidy(text, 2, TITLE)


@pytest.mark.parametrize("start", ["7 to 9 hours", "20-minute naps", "2023 was a year", "Most people", "Dark rooms"])
def test_a_text_that_is_no_echo_is_shown_at_once(start: str) -> None:
    live = LiveText(front=partial(echo_length, 2, TITLE))
    assert live.feed(f"{start} of it") == f"{start} of it"


def test_a_title_in_front_is_held_only_until_it_can_be_told() -> None:
    live = LiveText(front=partial(echo_length, 2, TITLE))
    assert live.feed("A dark room is") == ""
    assert live.feed(" what helps most people to sleep well in the summer") != ""


@pytest.mark.parametrize(
    ("begun", "again", "text"),
    [
        ("Sleep is", "good for all.", "Sleep is good for all."),
        ("Sleep is", " good for all.", "Sleep is good for all."),
        ("Sleep is good", ", and it helps.", "Sleep is good, and it helps."),
        ("Do this:\n- a", "\n- b", "Do this:\n- a\n- b"),
        ("Sleep is good", "Sleep is good for all.", "Sleep is good for all."),
        ("sleep is good", "Sleep is good for all.", "sleep is good for all."),
        ("It is good for you and", "good for you and me.", "It is good for you and me."),
        ("Sleep is good", "Sleep is good", "Sleep is good"),
        ("Sleep is good", "", "Sleep is good"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_later_attempt_goes_on_from_what_was_shown(begun: str, again: str, text: str, size: int) -> None:
    live = LiveText(begun)
    pieces = [again[start : start + size] for start in range(0, len(again), size)]
    assert begun + shown(live, pieces) == live.text == text


@given(st.text(min_size=1).filter(str.strip), st.text(), st.lists(st.integers(0, 1000), max_size=4))
def test_what_was_shown_is_never_taken_back(begun: str, again: str, cuts: list[int]) -> None:
    live = LiveText(begun)
    added = shown(live, split(again, cuts))
    assert live.text == begun + added


@pytest.mark.parametrize("pieces", [["<think>a b</think>\n\nText."], ["<thi", "nk>a", " b</thi", "nk> Text", "."]])
def test_thoughts_are_left_out(pieces: list[str]) -> None:
    assert shown(LiveText(), pieces) == "Text."


def test_thoughts_alone_are_no_text() -> None:
    assert shown(LiveText(), ["<think>a b"]) == ""
    assert shown(LiveText(), ["<thin"]) == "<thin"
