"""The timeline of an answer as a picture: a waterfall chart in SVG, and an HTML page around it."""

from collections.abc import Iterable, Iterator

import svg

from sot_graph.cli.timeline import Row, Timeline, duration, read_timeline
from sot_graph.evaluation.drawing import BASE_STYLE, clean, page, style, text, ticks, vertical_line
from sot_graph.evaluation.text import fit, one_line
from sot_graph.usage import SotMetadata, total_usage

WIDTH, TOP, FOOT, ROW, BAR = 1000, 88, 44, 22, 12
"""The width of the picture, the space above and below the rows, and the heights of a row and of its bars."""
NUMBER_END, TITLE, BARS_END, TIME_END, TOKENS_END, NOTE, NOTE_WIDTH = 34, 42, 608, 688, 810, 822, 170
"""Where the columns begin or end, and the width of a note. Without any note, bars and figures move right by it."""
LETTER, SAMPLE = 7.3, 26
"""The width of a letter, and of a shape in the legend."""
QUESTION_LETTERS, TOOLTIP_LETTERS = 100, 300
TITLE_SHARE = 0.45
"""The maximum share of the titles in the space for titles and bars."""

PICTURE_STYLE = """
.pause { stroke: $dim; stroke-dasharray: 3 3 }
.wait { fill: $wait }
.call { fill: $call }
.retry { fill: $retry }
.failed { fill: $failed }
.lost { fill: $call; opacity: .35 }
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


def timeline_svg(sot: SotMetadata, question: str) -> str:
    """Draw the timeline of an answer as an SVG picture for light and dark themes.

    Args:
        sot: `response_metadata["sot"]` of the answer's message.
        question: The question, as the heading.
    """
    run = read_timeline(sot)
    heading = one_line(question)
    bottom = TOP + ROW * len(run.rows)
    elements: list[svg.Element] = [
        svg.Title(text=clean(fit(heading, TOOLTIP_LETTERS))),
        svg.Style(text=style(BASE_STYLE + PICTURE_STYLE)),
        svg.Rect(width=WIDTH, height=bottom + FOOT, class_=["page"]),
        text(16, 30, fit(heading, QUESTION_LETTERS), "head"),
        text(16, 52, _totals(sot), "dim"),
        *_axis(run, bottom),
        *(_row(row, run, TOP + ROW * number) for number, row in enumerate(run.rows)),
        *_legend(run, bottom + 26),
    ]
    box = svg.ViewBoxSpec(0, 0, WIDTH, bottom + FOOT)
    return str(svg.SVG(width=WIDTH, height=bottom + FOOT, viewBox=box, elements=elements))


def timeline_html(sot: SotMetadata, question: str) -> str:
    """Draw the timeline of an answer on an HTML page: the picture, and a table with every attempt.

    Args:
        sot: `response_metadata["sot"]` of the answer's message.
        question: The question, as the heading.
    """
    lines = [_table_line("th", COLUMNS), *(_table_line("td", _cells(row)) for row in read_timeline(sot).rows)]
    picture = f'<div class="wide">{timeline_svg(sot, "Timeline")}</div>\n'
    table = f'<div class="wide"><table>\n{"".join(lines)}</table></div>\n'
    return page(fit(one_line(question), TOOLTIP_LETTERS), TABLE_STYLE, picture + table)


def _totals(sot: SotMetadata) -> str:
    points, calls = len(sot["points"]), sot["calls"]
    usage = total_usage(entry["usage"] for entry in sot["timeline"])
    parts = [
        f"{points} point{'s' if points > 1 else ''}" if points else "direct answer",
        f"{calls} call{'s' if calls != 1 else ''}",
        f"{usage['total_tokens']:,} tokens" if usage else "tokens unknown",
        duration(sot["seconds"]),
        f"critical path {duration(sot['critical_path_seconds'])}",
        f"in sequence {duration(sot['sequential_seconds'])}",
    ]
    if sot["parallel_gain"] is not None:
        parts.append(f"parallel gain {sot['parallel_gain']:.1f}")
    return " · ".join(parts)


def _axis(run: Timeline, bottom: float) -> Iterator[svg.Element]:
    """The labels above the rows, and the vertical lines across them."""
    for tick in ticks(run.span, 6):
        yield vertical_line(_x(tick, run), TOP - 4, bottom, "grid")
        yield text(_x(tick, run), TOP - 10, f"{tick:g} s", "dim", "middle")
    for at, _ in run.pauses:
        yield vertical_line(_x(at, run), TOP - 4, bottom, "pause")
    yield text(TIME_END + _shift(run), TOP - 10, "seconds", "dim", "end")
    yield text(TOKENS_END + _shift(run), TOP - 10, "tokens in → out", "dim", "end")


def _row(row: Row, run: Timeline, y: float) -> svg.G:
    """A row: number, title, bars and figures, and a tooltip with every attempt."""
    tooltip = "\n".join([row.title, *(attempt.description for attempt in row.attempts)])
    elements: list[svg.Element] = [
        svg.Title(text=clean(tooltip)),
        text(NUMBER_END, y + 15, str(row.index or ""), "dim", "end"),
        text(TITLE, y + 15, fit(row.title, _title_letters(run))),
        text(TIME_END + _shift(run), y + 15, row.time, "end"),
        text(TOKENS_END + _shift(run), y + 15, row.tokens, "dim", "end"),
        text(NOTE, y + 15, row.note),
    ]
    for attempt in row.attempts:
        began, sent, ended = (_x(at, run) for at in (attempt.began, attempt.sent, attempt.ended))
        first = None if attempt.first is None else _x(attempt.first, run)
        top = y + (ROW - BAR) / 2
        elements += [_box(began, sent, top, "wait")] if sent > began else []
        elements += _call(sent, max(ended, sent + 2), top, attempt.kind, first)  # at least 2 wide, to be visible
        is_framed = attempt.is_critical and not attempt.is_lost
        elements += [_outline(sent, max(ended, sent + 2), top)] if is_framed else []
    return svg.G(class_=["row", f"row-{row.status}"], elements=elements)


def _call(left: float, right: float, top: float, kind: str, first: float | None = None) -> Iterator[svg.Element]:
    """The bar of a call, with a mark at its first token, and a cross if it failed."""
    yield _box(left, right, top, kind)
    if first is not None:
        yield vertical_line(first, top - 2, top + BAR + 2, "first")
    if kind == "failed":
        middle, half = (left + right) / 2, min(4.0, (right - left) / 2)
        for slope in (-4, 4):
            y = top + BAR / 2
            yield svg.Line(x1=middle - half, x2=middle + half, y1=y - slope, y2=y + slope, class_=["cross"])


def _outline(left: float, right: float, top: float) -> svg.Rect:
    """The frame around a call on the critical path."""
    width = round(right - left + 4, 1)
    return svg.Rect(x=round(left - 2, 1), y=top - 2, width=width, height=BAR + 4, rx=2, class_=["critical"])


def _legend(run: Timeline, y: float) -> Iterator[svg.Element]:
    """The legend: each shape with its name."""
    x = 18.0
    more = {"lost": "not read"} if run.has_lost else {}
    more |= {"pause": run.pause_note} if run.pauses else {}
    for kind, name in (LEGEND | more).items():
        yield from _sample(kind, x, y - 10)
        yield text(x + SAMPLE + 8, y, name, "dim")
        x += SAMPLE + 30 + LETTER * len(name)


def _sample(kind: str, left: float, top: float) -> Iterator[svg.Element]:
    right = left + SAMPLE
    if kind == "pause":
        yield vertical_line((left + right) / 2, top - 4, top + BAR + 4, "pause")
    elif kind == "wait":
        yield _box(left, right, top, "wait")
    elif kind == "critical":
        yield from _call(left, right, top, "call")
        yield _outline(left, right, top)
    else:
        yield from _call(left, right, top, kind, left + 9 if kind == "call" else None)


def _cells(row: Row) -> Iterator[str]:
    """The cells of one row in the table of the page."""
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
    yield "\n".join([*status, *(attempt.description for attempt in row.attempts)])


def _table_line(tag: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{clean(text)}</{tag}>' for text in texts)}</tr>\n"


def _box(left: float, right: float, top: float, kind: str) -> svg.Rect:
    return svg.Rect(x=left, y=top, width=round(right - left, 1), height=BAR, class_=[kind])


def _x(at: float, run: Timeline) -> float:
    left, right = TITLE + LETTER * (_title_letters(run) + 1), BARS_END + _shift(run)
    return round(left + run.share(at) * (right - left), 1)


def _title_letters(run: Timeline) -> int:
    """The maximum length of a title. The bars use the rest of the space."""
    return min(run.longest_title, int(TITLE_SHARE * (BARS_END + _shift(run) - TITLE) / LETTER))


def _shift(run: Timeline) -> int:
    """How far bars and figures move to the right: into the column for notes, if no row has one."""
    return 0 if any(row.note for row in run.rows) else NOTE_WIDTH
