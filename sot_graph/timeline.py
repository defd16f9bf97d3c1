"""An answer's run as a waterfall: what ran when, what it waited for, and what made it last as long as it did."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from math import floor, log10
from typing import Any

import svg
from rich.text import Text

from sot_graph.display import SIGNS, harmless
from sot_graph.usage import total_usage

STAGES = ["skeleton", "lead", "expand", "direct", "merge"]
WIDTH, MARGIN, TOP, ROW, BAR = 980, 16, 96, 22, 12
LEFT, RIGHT, SECONDS, TOKENS, NOTE = 220, 596, 670, 790, 802
"""Where the bars begin and end; on their left stand the titles, on their right the figures."""
COLOURS = ("page", "ink", "dim", "grid", "call", "retry", "failed")
LIGHT = dict(zip(COLOURS, ("#fff", "#1f2328", "#59636e", "#d1d9e0", "#3b82c4", "#bf8700", "#cf222e"), strict=True))
DARK = dict(zip(COLOURS, ("#0d1117", "#e6edf3", "#9198a1", "#30363d", "#4493f8", "#d29922", "#f85149"), strict=True))
RULES = (
    "text{{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:{ink};"
    "white-space:pre}}.head{{font-size:15px;font-weight:bold}}.dim{{fill:{dim}}}.end{{text-anchor:end}}.middle{{text-anchor:middle}}"
    ".page{{fill:{page}}}.grid{{stroke:{grid}}}.pause{{stroke:{dim};stroke-dasharray:3 3}}"
    ".wait{{fill:{call};opacity:.25}}.call{{fill:{call}}}.retry{{fill:{retry}}}.failed{{fill:{failed}}}"
    ".first{{stroke:{ink};stroke-width:2}}.cross{{stroke:{page};stroke-width:2}}"
    ".critical{{fill:none;stroke:{ink};stroke-width:1.5}}"
)
PAGE = (
    "body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;background:{page};"
    "color:{ink}}}h1{{overflow-wrap:anywhere}}svg{{max-width:100%;height:auto}}table{{border-collapse:collapse}}"
    "th,td{{border-bottom:1px solid {grid};padding:.2rem .6rem;text-align:right;vertical-align:top}}"
    "th:first-child,td:first-child,th:last-child,td:last-child{{text-align:left;overflow-wrap:anywhere;"
    "white-space:pre-line}}"
)
COLUMNS = ("row", "seconds", "tokens in", "from a cache", "tokens out", "attempts")
NO_XML = re.compile("[\ufffe\uffff]")


@dataclass
class Attempt:
    """One attempt: when it could have begun, was sent, gave its first token and ended."""

    number: int
    began: float
    sent: float
    first: float | None
    ended: float
    error: str | None
    is_critical: bool

    @property
    def kind(self) -> str:
        """Its class in the picture."""
        return "failed" if self.error else "retry" if self.number > 1 else "call"

    @property
    def told(self) -> str:
        """The attempt in words."""
        waited = f"waited {_seconds(self.sent - self.began)}" if self.sent > self.began else ""
        first = "" if self.first is None else f"first token after {_seconds(self.first - self.sent)}"
        parts = (waited, first, f"took {_seconds(self.ended - self.sent)}", "critical path" if self.is_critical else "")
        return f"{self.number}: {', '.join(filter(None, [*parts, self.error and f'failed ({self.error})']))}"


@dataclass
class Row:
    """A point, or a stage that is one call, with all its attempts."""

    title: str
    attempts: list[Attempt]
    usage: dict[str, Any]
    status: str = "written"

    @property
    def seconds(self) -> float:
        """How long its calls took, without waiting."""
        return sum(attempt.ended - attempt.sent for attempt in self.attempts)

    @property
    def is_critical(self) -> bool:
        """Whether one of its attempts is on the critical path."""
        return any(attempt.is_critical for attempt in self.attempts)

    @property
    def note(self) -> str:
        """What is not as usual about it."""
        status = "" if self.status == "written" else f"{SIGNS.get(self.status, '↺')[0]} {self.status}"
        return ", ".join(filter(None, [status, f"{len(self.attempts)} attempts" if len(self.attempts) > 1 else ""]))

    @property
    def tokens(self) -> str:
        """What went in and what came out."""
        return f"{self.usage['input_tokens']:,} → {self.usage['output_tokens']:,}" if self.usage else "?"


@dataclass
class Timeline:
    """All that a picture shows."""

    rows: list[Row]
    pauses: list[tuple[float, float]]
    """Where nothing ran for longer than all the work took, and for how long: these are cut out."""
    span: float
    head: str = ""

    def share(self, at: float) -> float:
        """Where a moment is, from 0 to 1."""
        return min(1.0, at / self.span)


def timeline_svg(sot: dict[str, Any], question: str) -> str:
    """Draw a run as an SVG picture, for light and dark pages.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
        question: What was asked.
    """
    run = _read(sot)
    height = TOP + ROW * len(run.rows) + 44
    elements: list[svg.Element] = [
        svg.Title(text=_clean(question)),
        svg.Style(text=_style(RULES)),
        svg.Rect(width=WIDTH, height=height, class_=["page"]),
        _text(MARGIN, 30, _fit(_line(question), 96), "head"),
        _text(MARGIN, 52, run.head, "dim"),
        *_axis(run, height - 44),
        *(_row(row, run, TOP + ROW * number) for number, row in enumerate(run.rows)),
        *_legend(height - 18),
    ]
    box = svg.ViewBoxSpec(0, 0, WIDTH, height)
    return str(svg.SVG(width=WIDTH, height=height, viewBox=box, elements=elements))


def timeline_html(sot: dict[str, Any], question: str) -> str:
    """Set the picture of a run into a page, with its figures as a table.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
        question: What was asked.
    """
    lines = [_cells("th", COLUMNS), *(_cells("td", _figures(row)) for row in _read(sot).rows)]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{_clean(question)}</title>\n<style>{_style(PAGE)}</style>\n<h1>{_clean(question)}</h1>\n"
        f"{timeline_svg(sot, 'Timeline')}\n<table>\n{''.join(lines)}</table>\n</html>\n"
    )


def timeline_text(sot: dict[str, Any], width: int) -> Text:
    """Draw a run for a terminal.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
        width: How many columns there are.
    """
    run = _read(sot)
    figures = [f" {_seconds(row.seconds):>7}  {row.tokens}  {row.note}".rstrip() for row in run.rows]
    room = min(max((Text(row.title).cell_len for row in run.rows), default=0), width // 4)
    bars = max(8, width - room - 3 - max(map(len, figures), default=0))
    lines = [Text(run.head, "dim"), Text(" " * (room + 3) + _scale(run, bars), "dim")]
    for row, told in zip(run.rows, figures, strict=True):
        mark, style = "▸ " if row.is_critical else "  ", "red" if row.status == "failed" else "dim"
        title = _fit(row.title, room, pad=True)
        lines.append(Text.assemble(mark, title, " ", _bar(row, run, bars), (told, style)))
    lines.append(Text("▸ critical path  ░ waits  ▒ before the first token  █ after it  ✗ failed", "dim"))
    lines += [Text(f"A pause of {_seconds(seconds)} is cut out.", "dim") for _, seconds in run.pauses]
    for line in lines[1 : len(run.rows) + 2]:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _read(sot: dict[str, Any]) -> Timeline:
    """Put the attempts into rows, in the order of the answer, and cut out long pauses."""
    stages, rows = sot.get("stages", {}), {}
    for point in sot.get("points", ()):  # also one that was cached, and so has no attempt
        status = "cached" if point.get("cached") else point["status"]
        title = f"{point['index']:>2} {_line(point['title'])}"
        rows["expand", point["index"]] = Row(title, [], point.get("usage") or {}, status)
    pauses: list[tuple[float, float]] = []
    end = cut = 0.0
    for call in sorted(sot.get("timeline", ()), key=lambda call: call["began"]):
        began = call["began"] - cut
        if began - end > max(1, sot["seconds"]):  # a person's review, a thread that was resumed
            pauses.append((end, began - end))
            cut, began = cut + began - end, end
        sent, first, error = began + call["waiting_seconds"], call["first_token_seconds"], call["error"]
        end = max(end, sent + call["seconds"])
        first = None if first is None else sent + first
        key = stage, index = call["stage"], call["index"] or 0
        if key not in rows:
            title = f"{index:>2} {_line(call['title'] or '')}" if index else stage
            rows[key] = Row(title, [], (not index and stages.get(stage, {}).get("usage")) or {})
        row = rows[key]
        row.attempts.append(
            Attempt(call["attempt"], began, sent, first, sent + call["seconds"], error, call["is_critical"])
        )
        if not index:
            row.status = "failed" if error else "written"
    order = sorted(rows, key=lambda key: (STAGES.index(key[0]) if key[0] in STAGES else len(STAGES), key))
    return Timeline([rows[key] for key in order], pauses, end or 1.0, _head(sot))


def _head(sot: dict[str, Any]) -> str:
    """The totals in one line."""
    points, calls = len(sot.get("points", ())), sot["calls"]
    usage = total_usage(stage["usage"] for stage in sot.get("stages", {}).values())
    critical, speed_up = sot.get("critical_path_seconds"), sot.get("speed_up")
    parts = [
        f"{points} point{'s' if points > 1 else ''}" if points else "direct answer",
        f"{calls} call{'s' if calls != 1 else ''}",
        f"{usage['total_tokens']:,} tokens" if usage else "tokens unknown",
        _seconds(sot["seconds"]),
        "" if critical is None else f"critical path {_seconds(critical)}",
        f"one after the other {_seconds(sot['sequential_seconds'])}",
        f"speed-up {speed_up:.1f}" if speed_up else "",
    ]
    return " · ".join(filter(None, parts))


def _row(row: Row, run: Timeline, y: float) -> svg.G:
    """A row of the picture: title, bars, figures."""
    elements: list[svg.Element] = [
        svg.Title(text=_clean("\n".join([row.title.strip(), *(attempt.told for attempt in row.attempts)]))),
        _text(MARGIN, y + 15, _fit(row.title, 27)),
        *(bar for attempt in row.attempts for bar in _bars(attempt, run, y + (ROW - BAR) / 2)),
        _text(SECONDS, y + 15, _seconds(row.seconds), "end"),
        _text(TOKENS, y + 15, row.tokens, "end", "dim"),
        _text(NOTE, y + 15, row.note),
    ]
    return svg.G(class_=["row", f"row-{row.status}", *["row-critical"] * row.is_critical], elements=elements)


def _bars(attempt: Attempt, run: Timeline, y: float) -> Iterator[svg.Element]:
    """One attempt: waiting, its call, the first token, and what became of it."""
    began, sent, ended = (_x(at, run) for at in (attempt.began, attempt.sent, attempt.ended))
    ended = max(ended, sent + 2)  # also what took no time is seen
    if sent > began:
        yield _box(began, sent, y, "wait")
    yield _box(sent, ended, y, attempt.kind)
    if attempt.first is not None:
        yield _upright(_x(attempt.first, run), y - 2, y + BAR + 2, "first")
    if attempt.error:
        middle, half, foot = (sent + ended) / 2, BAR / 2 - 2, y + BAR - 2
        yield svg.Line(x1=middle - half, x2=middle + half, y1=y + 2, y2=foot, class_=["cross"])
        yield svg.Line(x1=middle + half, x2=middle - half, y1=y + 2, y2=foot, class_=["cross"])
    if attempt.is_critical:
        yield _box(sent, ended, y, "critical", around=2)


def _axis(run: Timeline, bottom: float) -> Iterator[svg.Element]:
    """Round seconds above the bars, and a line for each pause that is cut out."""
    for tick in _ticks(run.span, 8):
        yield _upright(_x(tick, run), TOP - 6, bottom, "grid")
        yield _text(_x(tick, run), TOP - 12, f"{tick:g} s", "dim", "middle")
    for at, seconds in run.pauses:
        yield _upright(_x(at, run), TOP - 26, bottom, "pause")
        yield _text(_x(at, run) + 4, TOP - 27, f"pause of {_seconds(seconds)} cut out", "dim")
    yield _text(SECONDS, TOP - 12, "seconds", "dim", "end")
    yield _text(TOKENS, TOP - 12, "tokens in → out", "dim", "end")


def _legend(y: float) -> Iterator[svg.Element]:
    """What the shapes mean, drawn like the bars themselves."""
    x, run = 2.0 + MARGIN, Timeline([], [], RIGHT - LEFT)  # a second is a pixel
    for name, change in {
        "waits for a place": {"sent": 24.0},
        "call, first token": {"first": 9.0},
        "retry": {"number": 2},
        "failed attempt": {"error": "-"},
        "critical path": {"is_critical": True},
    }.items():
        attempt = replace(Attempt(1, 0.0, 0.0, None, 26.0, error=None, is_critical=False), **change)  # type: ignore[arg-type]
        yield svg.G(transform=[svg.Translate(x - LEFT, 0)], elements=list(_bars(attempt, run, y - BAR + 2)))
        yield _text(x + 34, y, name, "dim")
        x += 58 + 7.3 * len(name)


def _bar(row: Row, run: Timeline, cells: int) -> Text:
    """A row of the terminal's picture."""
    signs, styles = [" "] * cells, [""] * cells
    for attempt in row.attempts:
        times = (attempt.began, attempt.sent, attempt.first or attempt.sent, attempt.ended)
        began, sent, first, ended = (min(cells - 1, floor(run.share(at) * cells)) for at in times)
        for cell in range(began, max(sent, ended) + 1):
            signs[cell] = "░" if cell < sent else "▒" if cell < first else "█"
            styles[cell] = {"failed": "red", "retry": "yellow", "call": "cyan"}[attempt.kind]
        signs[ended] = "✗" if attempt.error else signs[ended]
    return Text.assemble(*zip(signs, styles, strict=True))


def _scale(run: Timeline, cells: int) -> str:
    """The axis of the terminal's picture."""
    line = ""
    for tick in _ticks(run.span, max(1, cells // 6)):
        at = floor(run.share(tick) * cells)
        line = f"{line:<{at}}{tick:g} s" if len(line) <= at <= cells - 4 else line
    return line


def _ticks(span: float, most: int) -> list[float]:
    """Round steps from 0 to a span: no more than so many."""
    power = 10.0 ** floor(log10(span / most))
    step = next(power * step for step in (1, 2, 5, 10, 20) if span / (power * step) <= most)
    return [round(step * number, 9) for number in range(floor(span / step + 1e-9) + 1)]


def _figures(row: Row) -> Iterator[str]:
    """A row of the page's table."""
    cached = row.usage.get("input_token_details", {}).get("cache_read")
    yield from (row.title, _seconds(row.seconds))
    for tokens in (row.usage.get("input_tokens"), cached, row.usage.get("output_tokens")):
        yield "?" if tokens is None else f"{tokens:,}"
    yield "\n".join([*([] if row.status == "written" else [row.status]), *(attempt.told for attempt in row.attempts)])


def _cells(tag: str, texts: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_clean(text)}</{tag}>' for text in texts)}</tr>\n"


def _style(rules: str) -> str:
    """Rules with the colours of a light page, and with those of a dark one where that is preferred."""
    return f"{rules.format(**LIGHT)}@media (prefers-color-scheme:dark){{{rules.format(**DARK)}}}"


def _text(x: float, y: float, text: str, *classes: str) -> svg.Text:
    return svg.Text(x=round(x, 1), y=y, text=_clean(text), class_=list(classes))


def _box(left: float, right: float, y: float, kind: str, around: float = 0) -> svg.Rect:
    wide, high = round(right - left + 2 * around, 1), BAR + 2 * around
    return svg.Rect(x=round(left - around, 1), y=y - around, width=wide, height=high, rx=around, class_=[kind])


def _upright(x: float, top: float, bottom: float, kind: str) -> svg.Line:
    return svg.Line(x1=x, x2=x, y1=top, y2=bottom, class_=[kind])


def _x(at: float, run: Timeline) -> float:
    return round(LEFT + run.share(at) * (RIGHT - LEFT), 1)


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes > 1 else f"{seconds:.1f} s" if minutes else f"{seconds:.2f} s"


def _line(text: str) -> str:
    return " ".join(harmless(text).split())


def _fit(text: str, cells: int, *, pad: bool = False) -> str:
    """A text in a room that is so many columns wide."""
    room = Text(text)
    room.truncate(cells, overflow="ellipsis", pad=pad)
    return room.plain


def _clean(text: str) -> str:
    """A text that XML may hold: svg.py takes texts as they are."""
    return escape(NO_XML.sub("", harmless(text)))
