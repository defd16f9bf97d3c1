"""The views on a terminal, at any size, with long titles and wide characters."""

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sot_graph.cli.display import AnswerView, BoardView, PointsView

TITLES = [
    "A title that is much longer than any title that a model should ever give to a point of an outline",
    "睡眠の質を高めるための基本的な習慣について",
    "Less caffeine 😴 in the evening",
    *(f"Point {number}" for number in range(4, 11)),
]


def terminal(width: int, height: int = 30) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)


def drawn(view: PointsView, console: Console) -> list[str]:
    with console.capture() as capture:
        console.print(view)
    return capture.get().splitlines()


def token(index: int, text: str, attempt: int = 1) -> Any:
    return {"type": "token", "index": index, "text": text, "attempt": attempt}


def filled(view: PointsView) -> PointsView:
    view.on_event({"type": "outline", "titles": TITLES})
    for index in range(1, 10):
        for _ in range(40):
            view.on_event(token(index, "word 言葉 "))
    view.on_event({"type": "point", "index": 1, "status": "written"})
    view.on_event({"type": "point", "index": 2, "status": "truncated"})
    view.on_event({"type": "point", "index": 3, "status": "failed"})
    return view


@pytest.mark.parametrize("height", [1, 2, 3, 4, 8, 11, 12, 13, 30])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("kind", [PointsView, BoardView, AnswerView])
def test_no_view_is_wider_or_taller_than_the_terminal(kind: type[PointsView], width: int, height: int) -> None:
    console = terminal(width, height)
    view = AnswerView(terminal(200)) if kind is AnswerView else kind()
    filled(view).on_event(
        {"type": "answer", "text": "A line that a narrow terminal breaks into several. " * 3, "start": 0}
    )
    lines = drawn(view, console)
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) < console.height


@pytest.mark.parametrize("kind", [PointsView, BoardView])
def test_unfinished_points_are_shown_first_if_there_is_no_room_for_all(kind: type[PointsView]) -> None:
    view = kind()
    view.on_event({"type": "outline", "titles": [f"Title {number}" for number in range(1, 8)]})
    for index in (2, 6):
        view.on_event(token(index, "word"))
    for index in (1, 3):
        view.on_event({"type": "point", "index": index, "status": "written"})
    numbers = {height: numbered(drawn(view, terminal(80, height))) for height in (3, 5, 9)}
    assert numbers == {3: [2], 5: [2, 4, 6], 9: [1, 2, 3, 4, 5, 6, 7]}
    headlines = {height: drawn(view, terminal(80, height))[0] for height in (2, 3, 8, 9)}
    assert [line.split(maxsplit=1)[1] for line in headlines.values()] == [
        "2 of 7 points, 7 not shown",
        "2 of 7 points, 6 not shown",
        "2 of 7 points, 1 not shown",
        "2 of 7 points",
    ]


def numbered(lines: list[str]) -> list[int]:
    """The points that have a line."""
    first = [line.split()[:1] for line in lines]
    return [int(words[0]) for words in first if words and words[0].isdigit()]


def test_the_unfinished_line_of_the_answer_is_above_the_points() -> None:
    view = AnswerView(terminal(80))
    filled(view).on_event({"type": "answer", "text": "This is being written", "start": 0})
    line, blank, headline, *points = drawn(view, terminal(80, 8))
    assert (line, blank, len(points)) == ("This is being written", "", 4)
    assert "3 of 10 points, 6 not shown" in headline


def test_each_point_has_a_line_with_its_state() -> None:
    lines = [line for line in drawn(filled(PointsView()), terminal(100)) if line.split(maxsplit=1)[0].isdigit()]
    assert [line.split()[1] for line in lines] == ["✓", "✂", "✗", *["…"] * 6, "·"]
    assert "written, 40 tokens" in lines[0]
    assert "writing, 40 tokens" in lines[3]
    assert "waiting" in lines[9]


def test_the_headline_before_the_outline_and_of_a_direct_answer() -> None:
    view = PointsView()
    assert "outline" in "".join(drawn(view, terminal(80)))
    view.on_event({"type": "outline", "titles": []})
    assert "direct answer" in "".join(drawn(view, terminal(80)))


def test_a_retry_starts_its_text_again_on_the_board() -> None:
    view = BoardView()
    view.on_event({"type": "outline", "titles": ["One"]})
    view.on_event(token(1, "first try"))
    view.on_event(token(1, "second", attempt=2))
    text = "".join(drawn(view, terminal(80)))
    assert "second" in text
    assert "first" not in text


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \n言😴-"), max_size=30), max_size=20), st.sampled_from([20, 33, 80]))
def test_the_answer_is_printed_whole_for_any_chunks(chunks: list[str], width: int) -> None:
    console = terminal(width)
    view = AnswerView(console)
    with console.capture() as capture:
        for chunk in chunks:
            view.on_event({"type": "answer", "text": chunk, "start": 0})
        view.finish()
    printed = capture.get()
    assert all(cell_len(line) <= width for line in printed.splitlines())
    assert "".join(printed.split()) == "".join("".join(chunks).split())
