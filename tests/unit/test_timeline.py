"""The timeline of an answer, as a picture and on a terminal: well-formed for any text, and true to the figures."""

import re
from collections.abc import Collection, Sequence
from html.parser import HTMLParser
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from sot_graph.cli.picture import timeline_html, timeline_svg
from sot_graph.cli.timeline import duration, read_timeline, timeline_text
from sot_graph.evaluation.drawing import DARK, LIGHT, ticks
from sot_graph.usage import Attempt, SotMetadata, summarize

QUESTION = "How do bees find their way home?"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    "]]> & \" ' </text></svg>",
    "a\x00b\x1b[2Jc\x9bd\ud800\ufffe\uffff\n\te",
    "\u202eturned\u202c \u2066isolated",
    "🐝👩‍🔬 睡眠の質を高めるための基本的な習慣について",
    "long " * 2000,
    "$ink {braces} %s",
    "",
]


def attempt(began: float, seconds: float = 1.0, error: str | None = None, **more: Any) -> Attempt:
    fields: Any = {
        "began": 1000 + began,
        "waiting_seconds": 0.0,
        "first_token_seconds": 0.2,
        "seconds": seconds,
        "sequential_seconds": seconds,
        "critical_path_seconds": seconds,
        "requests": 1,
        "usage": None if error else tokens(1200, 30),
        "error": error,
        **more,
    }
    return cast("Attempt", fields)


def tokens(into: int, out: int) -> dict[str, int]:
    return {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}


def call(stage: str, *attempts: Attempt, index: int | None = None) -> list[Attempt]:
    return [{**each, "stage": stage, "index": index} for each in attempts]


def sot_of(
    calls: list[list[Attempt]], titles: Sequence[str] = (), failed: Collection[int] = (), **more: Any
) -> SotMetadata:
    """`response_metadata["sot"]` of an answer with these calls."""
    points = [
        {"index": index, "title": title, "status": "failed" if index in failed else "written"}
        for index, title in enumerate(titles, start=1)
    ]
    return summarize([attempt for attempts in calls for attempt in attempts], points, **more)


def answer(points: int, title: str = "Landmarks", **more: Any) -> SotMetadata:
    """An answer in which each point is a little slower than the one before."""
    calls = [call("expand", attempt(1, 1 + index / 10), index=index) for index in range(1, points + 1)]
    return sot_of([call("skeleton", attempt(0)), *calls], [title] * points, **more)


def eventful() -> SotMetadata:
    """Point 1 is retried, point 2 fails in all attempts, point 3 is the slowest, point 4 is cached."""
    busy = "ReplyError: 503, the server is <busy>"
    calls = [
        call("skeleton", attempt(0)),
        call("expand", attempt(1, 0.5, busy), attempt(1.5, waiting_seconds=0.5), index=1),
        call("expand", attempt(1, 0.5, busy), attempt(1.5, 0.5, busy), index=2),
        call("expand", attempt(1, 3, waiting_seconds=0.3), index=3),
    ]
    return sot_of(calls, ["One", "Two", "Three", "Four"], failed=[2], cached=[4])


def drawn(sot: SotMetadata, question: str = QUESTION) -> ET.Element:
    return ET.fromstring(timeline_svg(sot, question))


def rows(picture: ET.Element) -> list[ET.Element]:
    return [group for group in picture.iter(f"{SVG}g") if "row" in group.get("class", "").split()]


def shapes(row: ET.Element, kind: str) -> list[ET.Element]:
    return [shape for shape in row if shape.get("class") == kind]


def texts(row: ET.Element) -> list[str]:
    return [text.text or "" for text in row.iter(f"{SVG}text")]


# --- Reading -------------------------------------------------------------------------------------------


def test_rows_are_in_the_order_of_the_answer() -> None:
    points = [call("expand", attempt(1), index=index) for index in (2, 1)]
    sot = sot_of(
        [
            call("merge", attempt(2)),
            call("closing", attempt(2)),
            *points,
            call("lead", attempt(0)),
            call("skeleton", attempt(0)),
        ],
        ["A", "B"],
    )
    assert [row.title for row in read_timeline(sot).rows] == ["skeleton", "lead", "A", "B", "closing", "merge"]


def test_a_long_pause_is_cut_out() -> None:
    sot = sot_of([call("skeleton", attempt(0)), call("expand", attempt(300, 2), index=1)], ["A"])
    run = read_timeline(sot)
    assert run.pauses == [(1.0, 299.0)]
    assert run.span == pytest.approx(3)
    assert run.rows[1].attempts[0].began == pytest.approx(1)
    assert "a pause of 4 min 59 s cut out" in texts(drawn(sot))
    assert len(shapes(drawn(sot), "pause")) == 2  # where it was, and in the legend
    assert "a pause of 4 min 59 s cut out" in timeline_text(sot, 200).plain


def test_a_short_wait_is_no_pause() -> None:
    sot = sot_of([call("skeleton", attempt(0)), call("expand", attempt(1.9), index=1)], ["A"])
    assert read_timeline(sot).pauses == []
    assert not shapes(drawn(sot), "pause")


def test_a_second_outline_after_a_remark_is_no_retry() -> None:
    sot = sot_of([call("skeleton", attempt(0), attempt(60))])
    assert [each.kind for each in read_timeline(sot).rows[0].attempts] == ["call", "call"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.004, "0.00 s"), (1.234, "1.23 s"), (61, "61.0 s"), (119.96, "2 min 0 s"), (125, "2 min 5 s")],
)
def test_durations_are_readable(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(1e-3, 1e6), st.integers(1, 12))
def test_ticks_are_few_and_within(span: float, most: int) -> None:
    steps = ticks(span, most)
    assert steps[0] == 0
    assert len(steps) <= most + 1
    assert steps[-1] <= span * (1 + 1e-6)
    assert len(steps) > most / 3


# --- The picture -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [0, 1, 10, 40])
def test_each_point_has_a_row_within_the_picture(points: int) -> None:
    picture = drawn(answer(points))
    assert len(rows(picture)) == points + 1
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    assert (picture.get("width"), picture.get("height")) == (f"{width:g}", f"{height:g}")
    for shape in picture.iter():
        for at, most in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height), ("y2", height)):
            assert 0 <= float(shape.get(at, 0)) <= most
        assert float(shape.get("x", 0)) + float(shape.get("width", 0)) <= width


def test_no_text_overlaps_the_next() -> None:
    sot = sot_of(
        [call("expand", attempt(0, 700, "E"), attempt(700, 700, usage=tokens(999_999, 99_999)), index=1)], ["wide " * 9]
    )
    sot["points"][0]["status"] = "truncated"
    row = rows(drawn(sot))[0]
    ends = 0.0
    for text in (text for text in row.iter(f"{SVG}text") if text.text):
        long, x = 7.3 * len(text.text or ""), float(text.get("x", 0))
        begins = x - long if text.get("class") and "end" in text.get("class", "") else x
        assert begins >= ends
        ends = begins + long
    assert ends <= 1000


@pytest.mark.parametrize("seconds", [0.35, 0.99, 3, 35, 99, 350, 999, 3500, 9999])
@pytest.mark.parametrize("times", [1, 2])
def test_no_label_above_the_rows_overlaps_the_next(seconds: float, times: int) -> None:
    """With and without a note, and with a title that leaves the least space for bars."""
    picture = drawn(sot_of([call("expand", *[attempt(0, seconds)] * times, index=1)], ["long " * 20]))
    ends = 0.0
    for text in (text for text in picture if text.tag == f"{SVG}text" and text.get("y") == "78"):
        long, x = 7.3 * len(text.text or ""), float(text.get("x", 0))
        begins = x - (long / 2 if "middle" in text.get("class", "") else long)
        assert begins >= ends
        ends = begins + long
    assert ends <= 1000


def test_titles_and_bars_use_the_space_of_missing_notes() -> None:
    title = "A title that has forty-five letters, no less."
    assert title in texts(rows(drawn(answer(1, title)))[1])
    noted = drawn(sot_of([call("expand", attempt(0), attempt(1), index=1)], [title]))
    assert "2 attempts" in texts(rows(noted)[0])
    assert texts(rows(noted)[0])[1].startswith("A title that has forty-five")
    assert title not in texts(rows(noted)[0])
    assert bars(drawn(answer(1))) > bars(drawn(answer(1, title))) > bars(noted) > 300


def bars(picture: ET.Element) -> float:
    """The width of the space for bars."""
    calls = [bar for row in rows(picture) for bar in shapes(row, "call")]
    left = min(float(bar.get("x", 0)) for bar in calls)
    return max(float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in calls) - left


def test_a_bar_begins_and_ends_with_its_call() -> None:
    row = rows(drawn(eventful()))[3]
    scale = {float(line.get("x1", 0)) for line in shapes(drawn(eventful()), "grid")}
    second = (max(scale) - min(scale)) / 4
    [wait], [bar], [first] = shapes(row, "wait"), shapes(row, "call"), shapes(row, "first")
    zero = min(scale)
    assert float(wait.get("x", 0)) == pytest.approx(zero + second, abs=0.2)
    assert float(bar.get("x", 0)) == pytest.approx(zero + 1.3 * second, abs=0.2)
    assert float(bar.get("width", 0)) == pytest.approx(3 * second, abs=0.2)
    assert float(first.get("x1", 0)) == pytest.approx(zero + 1.5 * second, abs=0.2)


def test_retries_and_failures_are_coloured() -> None:
    skeleton, one, two, three, four = rows(drawn(eventful()))
    kinds = ("call", "retry", "failed", "cross")
    assert [[len(shapes(row, kind)) for kind in kinds] for row in (skeleton, one, two, three, four)] == [
        [1, 0, 0, 0],
        [0, 1, 1, 2],
        [0, 0, 2, 4],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert "✗ failed, 2 attempts" in texts(two)
    assert "row-failed" in two.get("class", "")
    assert "the server is <busy>" in (two.findtext(f"{SVG}title") or "")
    assert texts(four) == ["4", "Four", "", "", "↺ cached"]


@pytest.mark.parametrize("sot", [answer(1), answer(10), answer(40), eventful(), sot_of([call("direct", attempt(0))])])
def test_only_the_critical_path_has_a_frame(sot: SotMetadata) -> None:
    critical = [entry["index"] for entry in sot["timeline"] if entry["is_critical"]]
    numbers = [texts(row)[0] for row in rows(drawn(sot)) for _ in shapes(row, "critical")]
    assert numbers == [str(index or "") for index in critical]
    marked = [line for line in timeline_text(sot, 100).plain.splitlines()[1:-1] if line.startswith("▸")]
    assert len(marked) == len(set(critical))


def test_the_figures_are_beside_the_bars() -> None:
    assert texts(rows(drawn(eventful()))[1]) == ["1", "One", "1.50 s", "1,200 → 30", "2 attempts"]
    head = texts(drawn(eventful()))[1]
    assert head.startswith("4 points · 6 calls · 3,690 tokens · 4.30 s · ")
    assert "critical path 4.00 s · in sequence 6.50 s · parallel gain 1.5" in head


def test_a_direct_answer_has_its_two_rows() -> None:
    sot = sot_of([call("skeleton", attempt(0)), call("direct", attempt(1))])
    assert [texts(row)[1] for row in rows(drawn(sot))] == ["skeleton", "direct"]
    assert "direct answer · 2 calls" in texts(drawn(sot))[1]


def test_an_answer_without_calls_is_drawn() -> None:
    sot = sot_of([], ["One"], cached=[1])
    assert texts(rows(drawn(sot))[0])[-1] == "↺ cached"
    assert "1 point · 0 calls · tokens unknown" in texts(drawn(sot))[1]


def test_a_call_without_duration_and_usage_is_visible() -> None:
    sot = sot_of([call("direct", attempt(0, 0, first_token_seconds=None, usage=None))])
    [row] = rows(drawn(sot))
    assert float(shapes(row, "call")[0].get("width", 0)) > 0
    assert not shapes(row, "first")
    assert "?" in texts(row)


@pytest.mark.parametrize("draw", [timeline_svg, timeline_html])
def test_it_has_light_and_dark_colours(draw: Any) -> None:
    style = " ".join(re.findall(r"<style\s*>(.*?)</style>", draw(answer(2), QUESTION), re.DOTALL))
    light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
    assert LIGHT["page"] in light
    assert DARK["page"] in dark
    assert "$" not in style


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_breaks_the_picture(text: str) -> None:
    sot = answer(2, text)
    sot["timeline"][0]["error"] = text
    source = timeline_svg(sot, text)
    picture = ET.fromstring(source.encode())
    assert {shape.tag.removeprefix(SVG) for shape in picture.iter()} <= {
        "svg",
        "g",
        "rect",
        "line",
        "text",
        "title",
        "style",
    }
    assert max(cell_len(text.text or "") for text in picture.iter(f"{SVG}text")) < 140
    assert len(rows(picture)) == 3


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_well_formed(text: str) -> None:
    ET.fromstring(timeline_svg(answer(1, text), text).encode())


# --- The page --------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The elements that a page opens and does not close, and the texts of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["td"]:
            self.cells[-1] += data


def test_the_page_has_the_picture_and_a_table_of_all_attempts() -> None:
    page = Tags(timeline_html(eventful(), QUESTION))
    assert page.open == []
    assert {"h1", "svg", "table"} <= page.seen
    assert page.cells[6:11] == ["1 One", "1.50 s", "1,200", "0", "30"]
    assert page.cells[11].splitlines() == [
        "1: took 0.50 s, first token after 0.20 s, failed: ReplyError: 503, the server is <busy>",
        "2: waited 0.50 s, took 1.00 s, first token after 0.20 s",
    ]
    assert page.cells[17].startswith("failed\n1: ")
    assert page.cells[24:] == ["4 Four", "", "", "", "", "cached"]


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, False), (0.004, False), (0.006, True)])
def test_waiting_is_told_where_there_was_any(seconds: float, *, shown: bool) -> None:
    sot = sot_of([call("skeleton", attempt(0)), call("expand", attempt(1, waiting_seconds=seconds), index=1)], ["One"])
    assert ("waited" in timeline_html(sot, QUESTION)) == shown
    assert "0.00 s" not in timeline_html(sot, QUESTION)


def test_on_a_narrow_screen_picture_and_table_scroll() -> None:
    page = timeline_html(eventful(), QUESTION)
    assert '<meta name="viewport" content="width=device-width' in page
    assert re.findall(r'<div class="wide"><(svg|table)\b', page) == ["svg", "table"]
    assert ".wide { overflow-x: auto;" in page
    assert ".wide > * { min-width:" in page
    assert page.count("overflow-wrap") == 2, "in light and dark, no word but those of the question is broken"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_breaks_the_page(text: str) -> None:
    page = Tags(timeline_html(answer(2, text), text))
    assert page.open == []
    assert "script" not in page.seen


# --- The terminal ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 41, 60, 80, 110, 200])
@pytest.mark.parametrize("sot", [*(answer(2, text) for text in HOSTILE), answer(40), eventful()], ids=range(10))
def test_no_line_is_wider_than_the_terminal(sot: SotMetadata, width: int) -> None:
    lines = timeline_text(sot, width).plain.split("\n")
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) >= len(read_timeline(sot).rows) + 2


def test_the_terminal_shows_what_the_picture_shows() -> None:
    lines = timeline_text(eventful(), 100).plain.splitlines()
    assert lines[0].split() == ["0", "s", "1", "s", "2", "s", "3", "s", "4", "s"]
    assert re.match(r"▸    skeleton ▒+█+ +1\.00 s  1,200 → 30$", lines[1])
    assert re.match(r"   1 One +▒+█+✗░+▒+█+ +1\.50 s  1,200 → 30  2 attempts$", lines[2])
    assert re.match(r"   2 Two +▒+█+✗▒*█+✗ +1\.00 s +\?  ✗ failed, 2 attempts$", lines[3])
    assert re.match(r"▸  3 Three +░+▒+█+ +3\.00 s  1,200 → 30$", lines[4])
    assert re.match(r"   4 Four +↺ cached$", lines[5])
    assert lines[6].startswith("▸ critical path 4.00 s, ░ waits, ")


def test_a_failure_is_red_on_the_terminal_and_a_retry_yellow() -> None:
    text = timeline_text(eventful(), 100)
    styles = {style for span in text.spans for style in [str(span.style)] if "█" in text.plain[span.start : span.end]}
    assert {"red", "yellow", "cyan"} <= styles
