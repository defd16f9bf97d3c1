"""When each call of an answer ran, what it waited for and what it cost: put in order, and drawn for a terminal."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import floor, log10
from typing import Any

from langchain_core.messages.ai import UsageMetadata
from rich.text import Text

from sot_graph.console.display import SIGNS, harmless
from sot_graph.usage import total_usage

STAGES = ("agent", "skeleton", "lead", "expand", "direct", "merge")
STYLES = {"call": "cyan", "retry": "yellow", "failed": "red"}
LEGEND = ("░ waits", "▒ before the first token", "█ after it", "✗ failed")


@dataclass
class Attempt:
    """One attempt at a call. Its times are seconds from the beginning, without the pauses."""

    number: int
    began: float
    """When it could have been sent; until it was, it waited."""
    sent: float
    first: float | None
    """When its first token came; None where that is not known."""
    ended: float
    usage: UsageMetadata | None
    error: str | None
    is_retry: bool
    is_critical: bool

    @property
    def kind(self) -> str:
        """How it is coloured: as a call, a retry or a failed one."""
        if self.error is not None:
            return "failed"
        return "retry" if self.is_retry else "call"

    @property
    def told(self) -> str:
        """The attempt in words."""
        parts = [f"took {duration(self.ended - self.sent)}"]
        if self.sent > self.began:
            parts.insert(0, f"waited {duration(self.sent - self.began)}")
        if self.first is not None:
            parts.append(f"first token after {duration(self.first - self.sent)}")
        if self.is_critical:
            parts.append("on the critical path")
        if self.error is not None:
            parts.append(f"failed: {self.error}")
        return f"{self.number}: {', '.join(parts)}"


@dataclass
class Row:
    """A point, or a stage that is one call, with all its attempts."""

    index: int | None
    title: str
    status: str
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def is_critical(self) -> bool:
        """Whether it is on the critical path."""
        return any(attempt.is_critical for attempt in self.attempts)

    @property
    def usage(self) -> UsageMetadata | None:
        """The tokens of all its attempts."""
        return total_usage(attempt.usage for attempt in self.attempts)

    @property
    def time(self) -> str:
        """How long its calls took, without waiting; nothing where nothing was asked."""
        return duration(sum(attempt.ended - attempt.sent for attempt in self.attempts)) if self.attempts else ""

    @property
    def tokens(self) -> str:
        """What went in and what came out."""
        if usage := self.usage:
            return f"{usage['input_tokens']:,} → {usage['output_tokens']:,}"
        return "?" if self.attempts else ""

    @property
    def note(self) -> str:
        """What is not as usual about it."""
        sign, _ = SIGNS.get(self.status, ("↺", ""))
        status = [] if self.status == "written" else [f"{sign} {self.status}"]
        return ", ".join(status + [f"{len(self.attempts)} attempts"] * (len(self.attempts) > 1))


@dataclass
class Timeline:
    """An answer's calls in the order of the answer."""

    rows: list[Row]
    pauses: list[tuple[float, float]]
    """Where nothing ran for longer than all the work took, and for how long. These are cut out."""
    span: float
    """Where the last call ends."""

    def share(self, at: float) -> float:
        """Where a moment is, from 0 to 1."""
        return min(1.0, at / self.span)

    @property
    def longest_title(self) -> int:
        """How many columns the longest title takes."""
        return max((Text(row.title).cell_len for row in self.rows), default=0)

    @property
    def paused(self) -> str:
        """The pauses in words."""
        number, length = len(self.pauses), duration(sum(seconds for _, seconds in self.pauses))
        return f"{'a pause' if number == 1 else f'{number} pauses'} of {length} cut out" if number else ""


def read_timeline(sot: dict[str, Any]) -> Timeline:
    """Put an answer's attempts into rows, and cut out long pauses.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
    """
    rows: dict[tuple[int, int], Row] = {}
    for point in sot["points"]:  # a point that was cached has no attempt, and is seen all the same
        status = "cached" if point["cached"] else point["status"]
        rows[STAGES.index("expand"), point["index"]] = Row(point["index"], one_line(point["title"]), status)
    entries, pauses = _without_pauses(sot["timeline"], longest=max(1.0, sot["seconds"]))
    for entry in entries:
        key = (STAGES.index(entry["stage"]), entry["index"] or 0)
        row = rows.setdefault(key, Row(None, entry["stage"], "written"))
        row.attempts.append(_attempt(entry, is_retry=bool(row.attempts and row.attempts[-1].error)))
        if row.index is None:
            row.status = "failed" if entry["error"] else "written"
    ends = [attempt.ended for row in rows.values() for attempt in row.attempts]
    return Timeline([rows[key] for key in sorted(rows)], pauses, max(ends, default=0) or 1.0)


def timeline_text(sot: dict[str, Any], width: int) -> Text:
    """Draw an answer's timeline for a terminal.

    Args:
        sot: What the answer's message has as `response_metadata["sot"]`.
        width: How many columns there are.
    """
    run = read_timeline(sot)
    figures = _figures(run.rows)
    room = min(run.longest_title, width // 5)
    before = room + len("▸ 10 ") + 1
    cells = max(1, width // 4, width - before - max(map(len, figures), default=0))
    lines = [Text(" " * before + _scale(run, cells), "dim")]
    for row, figure in zip(run.rows, figures, strict=True):
        name = f"{'▸' if row.is_critical else ' '} {row.index or '':>2} {fit(row.title, room, pad=True)} "
        lines.append(Text.assemble(name, _bar(row, run, cells), (figure, "red" if row.status == "failed" else "dim")))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    legend = [f"▸ critical path {duration(sot['critical_path_seconds'])}", *LEGEND, *[run.paused] * bool(run.pauses)]
    whole = ", ".join(part.replace(" ", "\u00a0") for part in legend)  # lines are not broken within a part
    told = "\n".join(textwrap.wrap(whole, width)).replace("\u00a0", " ")
    return Text("\n").join([*lines, Text(told, "dim")])


def ticks(span: float, most: int) -> list[float]:
    """Round steps from 0 to a span.

    Args:
        span: Where to end.
        most: How many steps there may be.
    """
    power = 10.0 ** floor(log10(span / most))
    step = next(power * step for step in (1, 2, 5, 10, 20) if span / (power * step) <= most)
    return [round(step * number, 9) for number in range(floor(span / step + 1e-9) + 1)]


def duration(seconds: float) -> str:
    """So many seconds, for people."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes > 1:
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s" if minutes else f"{seconds:.2f} s"


def one_line(text: str) -> str:
    """A text as one line that no terminal obeys."""
    return " ".join(harmless(text).split())


def fit(text: str, cells: int, *, pad: bool = False) -> str:
    """A text in a room of so many columns."""
    room = Text(text)
    room.truncate(cells, overflow="ellipsis", pad=pad)
    return room.plain


def _without_pauses(entries: Iterable[dict[str, Any]], longest: float) -> tuple[list[dict[str, Any]], list[Any]]:
    """Move what came after a long pause to where that began: a person's review, or a thread that was resumed."""
    moved, pauses = [], []
    end = cut = 0.0
    for entry in entries:
        pause = entry["began"] - cut - end
        if pause > longest:
            pauses.append((end, pause))
            cut += pause
        began = entry["began"] - cut
        end = max(end, began + entry["waiting_seconds"] + entry["seconds"])
        moved.append({**entry, "began": began})
    return moved, pauses


def _attempt(entry: dict[str, Any], *, is_retry: bool) -> Attempt:
    sent = entry["began"] + entry["waiting_seconds"]
    first = entry["first_token_seconds"]
    return Attempt(
        number=entry["attempt"],
        began=entry["began"],
        sent=sent,
        first=None if first is None else sent + first,
        ended=sent + entry["seconds"],
        usage=entry["usage"],
        error=None if entry["error"] is None else one_line(entry["error"]),
        is_retry=is_retry,
        is_critical=entry["is_critical"],
    )


def _figures(rows: list[Row]) -> list[str]:
    """What stands behind the bars, one below the other."""
    time = max((len(row.time) for row in rows), default=0)
    tokens = max((len(row.tokens) for row in rows), default=0)
    return [f" {row.time:>{time}}  {row.tokens:>{tokens}}  {row.note}".rstrip() for row in rows]


def _bar(row: Row, run: Timeline, cells: int) -> Text:
    signs, styles = [" "] * cells, [""] * cells
    crosses = []
    for attempt in row.attempts:
        times = (attempt.began, attempt.sent, attempt.first or attempt.sent, attempt.ended)
        began, sent, first, ended = (min(cells - 1, floor(run.share(at) * cells)) for at in times)
        for cell in range(began, ended + 1):
            signs[cell] = "░" if cell < sent else "▒" if cell < first else "█"
            styles[cell] = STYLES[attempt.kind]
        crosses += [] if attempt.error is None else [ended]
    for cell in crosses:  # above the attempt that follows
        signs[cell], styles[cell] = "✗", STYLES["failed"]
    return Text.assemble(*zip(signs, styles, strict=True))


def _scale(run: Timeline, cells: int) -> str:
    """Round seconds above the bars."""
    line = ""
    for tick in ticks(run.span, max(1, cells // 6)):
        at = floor(run.share(tick) * cells)
        if len(line) <= at <= cells - len("10 s"):
            line = f"{line:<{at}}{tick:g} s "
    return line
