"""An answer's timeline as a picture: a waterfall in SVG, and a page around it."""

from collections.abc import Iterable, Iterator
from typing import Any

import svg

from sot_graph.console.drawing import BASE_STYLE, clean, page, style, text, upright
from sot_graph.console.timeline import Row, Timeline, duration, fit, one_line, read_timeline, ticks
from sot_graph.usage import total_usage

WIDTH, TOP, FOOT, ROW, BAR = 1000, 88, 44, 22, 12
"""The picture's width, the room above and below the rows, and the heights of a row and of its bars."""
NUMBER, TITLE, RIGHT, TIME, TOKENS, NOTE, NOTE_WIDTH = 34, 42, 608, 688, 810, 822, 170
"""Where the columns begin, and where those of figures and of bars end; they stand further right without any note."""
LETTER, SAMPLE = 7.3, 26
"""A letter's width, and that of a shape in the legend."""
QUESTION_LETTERS, TOOLTIP_LETTERS = 100, 300
TITLE_SHARE = 0.45
"""How much of the room for titles and bars the titles take at the most."""

PICTURE_STYLE = """
.pause { stroke: $dim; stroke-dasharray: 3 3 }
.wait { fill: $wait }
.call { fill: $call }
.retry { fill: $retry }
.failed { fill: $failed }
.first { stroke: $ink; stroke-width: 2 }
.cross { stroke: $page; stroke-width: 2 }
.critical { fill: none; stroke: $ink; stroke-width: 1.5 }
"""
TABLE_STYLE = """
.wide { overflow-x: auto; margin: 1rem 0 }
.wide > * { min-width: 54rem }
svg { display: block; max-width: 100%; height: auto }
table { border-collapse: collapse }
th, td { border-bottom: 1px solid $grid; padding: .2rem .6rem; text-align: right; vertical-align: top }
td { white-space: nowrap }
td:first-child { min-width: 12rem }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; white-space: pre-line }
"""
LEGEND = {
    "wait": "waits",
    "call": "call, first token",
    "retry": "retry",
    "failed": "failed attempt",
    "critical": "critical path",
}
COLUMNS = ("", "seconds", "tokens in", "from a cache", "tokens out", "attempts")


def timeline_svg(sot: dict[str, Any], question: str) -> str:
    """Draw an answer's timeline as a picture that suits light and dark pages.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
        question: What was asked.
    """
    run = read_timeline(sot)
    asked = one_line(question)
    bottom = TOP + ROW * len(run.rows)
    elements: list[svg.Element] = [
        svg.Title(text=clean(fit(asked, TOOLTIP_LETTERS))),
        svg.Style(text=style(BASE_STYLE + PICTURE_STYLE)),
        svg.Rect(width=WIDTH, height=bottom + FOOT, class_=["page"]),
        text(16, 30, fit(asked, QUESTION_LETTERS), "head"),
        text(16, 52, _totals(sot), "dim"),
        *_axis(run, bottom),
        *(_row(row, run, TOP + ROW * number) for number, row in enumerate(run.rows)),
        *_legend(run, bottom + 26),
    ]
    box = svg.ViewBoxSpec(0, 0, WIDTH, bottom + FOOT)
    return str(svg.SVG(width=WIDTH, height=bottom + FOOT, viewBox=box, elements=elements))


def timeline_html(sot: dict[str, Any], question: str) -> str:
    """Set the picture into a page, with every attempt told in a table.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
        question: What was asked.
    """
    lines = [_line("th", COLUMNS), *(_line("td", _cells(row)) for row in read_timeline(sot).rows)]
    picture = f'<div class="wide">{timeline_svg(sot, "Timeline")}</div>\n'
    table = f'<div class="wide"><table>\n{"".join(lines)}</table></div>\n'
    return page(fit(one_line(question), TOOLTIP_LETTERS), TABLE_STYLE, picture + table)


def _totals(sot: dict[str, Any]) -> str:
    points, calls = len(sot["points"]), sot["calls"]
    usage = total_usage(entry["usage"] for entry in sot["timeline"])
    parts = [
        f"{points} point{'s' if points > 1 else ''}" if points else "direct answer",
        f"{calls} call{'s' if calls != 1 else ''}",
        f"{usage['total_tokens']:,} tokens" if usage else "tokens unknown",
        duration(sot["seconds"]),
        f"critical path {duration(sot['critical_path_seconds'])}",
        f"one after the other {duration(sot['sequential_seconds'])}",
    ]
    if sot["speed_up"] is not None:
        parts.append(f"speed-up {sot['speed_up']:.1f}")
    return " · ".join(parts)


def _axis(run: Timeline, bottom: float) -> Iterator[svg.Element]:
    """What stands above the rows, and the lines that cross them."""
    for tick in ticks(run.span, 6):
        yield upright(_x(tick, run), TOP - 4, bottom, "grid")
        yield text(_x(tick, run), TOP - 10, f"{tick:g} s", "dim", "middle")
    for at, _ in run.pauses:
        yield upright(_x(at, run), TOP - 4, bottom, "pause")
    yield text(TIME + _spare(run), TOP - 10, "seconds", "dim", "end")
    yield text(TOKENS + _spare(run), TOP - 10, "tokens in → out", "dim", "end")


def _row(row: Row, run: Timeline, y: float) -> svg.G:
    """A row: number, title, bars, figures; and all of it in words for a mouse that rests on it."""
    tooltip = "\n".join([row.title, *(attempt.told for attempt in row.attempts)])
    elements: list[svg.Element] = [
        svg.Title(text=clean(tooltip)),
        text(NUMBER, y + 15, str(row.index or ""), "dim", "end"),
        text(TITLE, y + 15, fit(row.title, _title_letters(run))),
        text(TIME + _spare(run), y + 15, row.time, "end"),
        text(TOKENS + _spare(run), y + 15, row.tokens, "dim", "end"),
        text(NOTE, y + 15, row.note),
    ]
    for attempt in row.attempts:
        began, sent, ended = (_x(at, run) for at in (attempt.began, attempt.sent, attempt.ended))
        first = None if attempt.first is None else _x(attempt.first, run)
        top = y + (ROW - BAR) / 2
        elements += [_box(began, sent, top, "wait")] if sent > began else []
        elements += _call(sent, max(ended, sent + 2), top, attempt.kind, first)  # also what took no time is seen
        elements += [_outline(sent, max(ended, sent + 2), top)] if attempt.is_critical else []
    return svg.G(class_=["row", f"row-{row.status}"], elements=elements)


def _call(left: float, right: float, top: float, kind: str, first: float | None = None) -> Iterator[svg.Element]:
    """A call: its bar, with its first token marked, and crossed out if it failed."""
    yield _box(left, right, top, kind)
    if first is not None:
        yield upright(first, top - 2, top + BAR + 2, "first")
    if kind == "failed":
        middle, half = (left + right) / 2, min(4.0, (right - left) / 2)
        for slope in (-4, 4):
            y = top + BAR / 2
            yield svg.Line(x1=middle - half, x2=middle + half, y1=y - slope, y2=y + slope, class_=["cross"])


def _outline(left: float, right: float, top: float) -> svg.Rect:
    """What is drawn around a call on the critical path."""
    width = round(right - left + 4, 1)
    return svg.Rect(x=round(left - 2, 1), y=top - 2, width=width, height=BAR + 4, rx=2, class_=["critical"])


def _legend(run: Timeline, y: float) -> Iterator[svg.Element]:
    """What the shapes mean: each is drawn, and named."""
    x = 18.0
    for kind, name in (LEGEND | {"pause": run.paused} if run.pauses else LEGEND).items():
        yield from _sample(kind, x, y - 10)
        yield text(x + SAMPLE + 8, y, name, "dim")
        x += SAMPLE + 30 + LETTER * len(name)


def _sample(kind: str, left: float, top: float) -> Iterator[svg.Element]:
    right = left + SAMPLE
    if kind == "pause":
        yield upright((left + right) / 2, top - 4, top + BAR + 4, "pause")
    elif kind == "wait":
        yield _box(left, right, top, "wait")
    elif kind == "critical":
        yield from _call(left, right, top, "call")
        yield _outline(left, right, top)
    else:
        yield from _call(left, right, top, kind, left + 9 if kind == "call" else None)


def _cells(row: Row) -> Iterator[str]:
    """A row of the page's table."""
    usage = row.usage
    yield f"{row.index} {row.title}" if row.index else row.title
    yield row.time
    if usage:
        yield f"{usage['input_tokens']:,}"
        yield f"{usage.get('input_token_details', {}).get('cache_read', 0):,}"
        yield f"{usage['output_tokens']:,}"
    else:
        yield from [row.tokens] * 3
    status = [] if row.status == "written" else [row.status]
    yield "\n".join([*status, *(attempt.told for attempt in row.attempts)])


def _line(tag: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{clean(text)}</{tag}>' for text in texts)}</tr>\n"


def _box(left: float, right: float, top: float, kind: str) -> svg.Rect:
    return svg.Rect(x=left, y=top, width=round(right - left, 1), height=BAR, class_=[kind])


def _x(at: float, run: Timeline) -> float:
    left, right = TITLE + LETTER * (_title_letters(run) + 1), RIGHT + _spare(run)
    return round(left + run.share(at) * (right - left), 1)


def _title_letters(run: Timeline) -> int:
    """How long titles may be: the bars take what these leave."""
    return min(run.longest_title, int(TITLE_SHARE * (RIGHT + _spare(run) - TITLE) / LETTER))


def _spare(run: Timeline) -> int:
    """How much further right the figures may stand, because no row has a note."""
    return 0 if any(row.note for row in run.rows) else NOTE_WIDTH
