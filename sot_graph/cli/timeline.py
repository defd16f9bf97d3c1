"""When each call of an answer ran, how long it waited and what it cost: as rows, and drawn on a terminal."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import floor
from typing import Any

from langchain_core.messages.ai import UsageMetadata
from rich.text import Text

from sot_graph.cli.display import SIGNS
from sot_graph.evaluation.drawing import ticks
from sot_graph.evaluation.text import fit, one_line
from sot_graph.usage import SotMetadata, total_usage

STAGES = ("agent", "skeleton", "lead", "expand", "closing", "direct", "merge")
"""The stages in the order of their rows."""
STYLES = {"call": "cyan", "retry": "yellow", "failed": "red", "lost": "bright_black"}
LEGEND = ("░ waits", "▒ before the first token", "█ after the first token", "✗ failed")
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


@dataclass
class Attempt:
    """One attempt at a call. All times are seconds since the start of the answer, without long pauses."""

    number: int
    began: float
    """When it was ready to be sent. It waited until `sent`."""
    sent: float
    first: float | None
    """When its first token arrived; None if that is not known."""
    ended: float
    usage: UsageMetadata | None
    error: str | None
    is_retry: bool
    is_critical: bool
    is_hedge: bool
    """Whether it was sent beside a request that had not been answered."""
    is_lost: bool
    """Whether the other one of the two was read."""

    @property
    def kind(self) -> str:
        """Which colour it has: that of a call, of a retry, of a failed attempt, or of a request that was not read."""
        if self.error is not None:
            return "failed"
        if self.is_lost:
            return "lost"
        return "retry" if self.is_retry else "call"

    @property
    def description(self) -> str:
        """The attempt in words."""
        parts = [f"took {duration(self.ended - self.sent)}"]
        waited = duration(self.sent - self.began)
        if waited != duration(0):  # a millisecond is no news
            parts.insert(0, f"waited {waited}")
        if self.first is not None:
            parts.append(f"first token after {duration(self.first - self.sent)}")
        if self.is_hedge:
            parts.append("sent because the request before had no answer")
        if self.is_lost:
            parts.append("not read: the other request was answered first")
        if self.is_critical and not self.is_lost:
            parts.append("on the critical path")
        if self.error is not None:
            parts.append(f"failed: {self.error}")
        return f"{self.number}: {', '.join(parts)}"


@dataclass
class Row:
    """All attempts of one point, or of a stage that makes one call."""

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
        """How long its attempts took, without waiting; empty if it made no call."""
        read = [attempt for attempt in self.attempts if not attempt.is_lost]
        return duration(sum(attempt.ended - attempt.sent for attempt in read)) if read else ""

    @property
    def tokens(self) -> str:
        """Its input and output tokens."""
        if usage := self.usage:
            return f"{usage['input_tokens']:,} → {usage['output_tokens']:,}"
        return "?" if self.attempts else ""

    @property
    def note(self) -> str:
        """What is unusual: a status other than "written", or several attempts."""
        sign, _ = SIGNS.get(self.status, ("↺", ""))
        status = [] if self.status == "written" else [f"{sign} {self.status}"]
        hedges = sum(attempt.is_hedge for attempt in self.attempts)
        attempts = len(self.attempts) - hedges
        return ", ".join(status + [f"{attempts} attempts"] * (attempts > 1) + ["sent twice"] * (hedges > 0))


@dataclass
class Timeline:
    """The calls of an answer, in the order of the answer."""

    rows: list[Row]
    pauses: list[tuple[float, float]]
    """The pauses that are cut out: when each began, and how long it was."""
    span: float
    """When the last call ends."""

    def share(self, at: float) -> float:
        """The position of a moment, from 0 to 1."""
        return min(1.0, at / self.span)

    @property
    def has_lost(self) -> bool:
        """Whether a request was not read, because another one was answered sooner."""
        return any(attempt.is_lost for row in self.rows for attempt in row.attempts)

    @property
    def longest_title(self) -> int:
        """The width of the longest title, in terminal cells."""
        return max((Text(row.title).cell_len for row in self.rows), default=0)

    @property
    def pause_note(self) -> str:
        """The pauses in words; empty without any."""
        number, length = len(self.pauses), duration(sum(seconds for _, seconds in self.pauses))
        return f"{'a pause' if number == 1 else f'{number} pauses'} of {length} cut out" if number else ""


def read_timeline(sot: SotMetadata) -> Timeline:
    """Sort the attempts of an answer into rows, and cut out long pauses.

    Args:
        sot: `response_metadata["sot"]` of the answer's message.
    """
    rows: dict[tuple[int, int], Row] = {}
    for point in sot["points"]:  # a cached point has a row, too, although it has no attempts
        status = "cached" if point["cached"] else point["status"]
        rows[STAGES.index("expand"), point["index"]] = Row(point["index"], one_line(point["title"]), status)
    entries, pauses = _cut_pauses(sot["timeline"], longest=max(1.0, sot["seconds"]))
    for entry in entries:
        key = (STAGES.index(entry["stage"]), entry["index"] or 0)
        row = rows.setdefault(key, Row(None, entry["stage"], "written"))
        row.attempts.append(_attempt(entry, is_retry=bool(row.attempts and row.attempts[-1].error)))
        if row.index is None:
            row.status = "failed" if entry["error"] else "written"
    ends = [attempt.ended for row in rows.values() for attempt in row.attempts]
    return Timeline([rows[key] for key in sorted(rows)], pauses, max(ends, default=0) or 1.0)


def timeline_text(sot: SotMetadata, width: int) -> Text:
    """Draw the timeline of an answer for a terminal.

    Args:
        sot: `response_metadata["sot"]` of the answer's message.
        width: The width of the terminal in cells.
    """
    run = read_timeline(sot)
    figures = _figures(run.rows)
    title_width = min(run.longest_title, width // 5)
    left = title_width + len("▸ 10 ") + 1
    cells = max(1, width // 4, width - left - max(map(len, figures), default=0))
    lines = [Text(" " * left + _scale(run, cells), "dim")]
    for row, figure in zip(run.rows, figures, strict=True):
        marker = "▸" if row.is_critical else " "
        label = f"{marker} {row.index or '':>2} {fit(row.title, title_width, pad=True)} "
        lines.append(Text.assemble(label, _bar(row, run, cells), (figure, "red" if row.status == "failed" else "dim")))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    legend = [f"▸ critical path {duration(sot['critical_path_seconds'])}", *LEGEND]
    legend += ["grey: not read, the other request was sooner"] if run.has_lost else []
    legend += [run.pause_note] if run.pauses else []
    return Text("\n").join([*lines, Text(_wrap(legend, width), "dim")])


def duration(seconds: float) -> str:
    """A number of seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes > 1:
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s" if minutes else f"{seconds:.2f} s"


def _wrap(parts: Iterable[str], width: int) -> str:
    """Join parts with commas, and wrap the lines between two parts only."""
    line = ", ".join(part.replace(" ", NO_BREAK_SPACE) for part in parts)
    return "\n".join(textwrap.wrap(line, width)).replace(NO_BREAK_SPACE, " ")


def _cut_pauses(entries: Iterable[dict[str, Any]], longest: float) -> tuple[list[dict[str, Any]], list[Any]]:
    """Move the entries after a long pause to its beginning. Such a pause is a review, or the time before a resume.

    Args:
        entries: The attempts, in the order in which they began.
        longest: Longer pauses are cut out.

    Returns:
        The moved entries, and the pauses.
    """
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
        is_hedge=entry.get("is_hedge", False),
        is_lost=entry.get("is_lost", False),
    )


def _figures(rows: list[Row]) -> list[str]:
    """The text to the right of each bar, aligned in columns."""
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
    for cell in crosses:  # last, so that the next attempt does not cover them
        signs[cell], styles[cell] = "✗", STYLES["failed"]
    return Text.assemble(*zip(signs, styles, strict=True))


def _scale(run: Timeline, cells: int) -> str:
    """The line above the bars: round numbers of seconds."""
    line = ""
    for tick in ticks(run.span, max(1, cells // 6)):
        at = floor(run.share(tick) * cells)
        if len(line) <= at <= cells - len("10 s"):
            line = f"{line:<{at}}{tick:g} s "
    return line
