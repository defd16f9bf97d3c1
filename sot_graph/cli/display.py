"""How the command line shows an answer while it is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sot_graph.cli.terminal import write
from sot_graph.evaluation.text import strip_controls
from sot_graph.streaming import SotEvent

SIGNS = {
    "waiting": ("·", "dim"),
    "writing": ("…", "cyan"),
    "written": ("✓", "green"),
    "truncated": ("✂", "yellow"),
    "failed": ("✗", "red"),
}
UNFINISHED = ("writing", "waiting")
"""The states of points that are not finished. If there is no room for all points, these are shown first."""
MAX_TEXT_LINES = 5
"""The maximum number of text lines per point on the board."""
RIGHT_MARGIN = 4
"""Cells that stay free at the right, so that the "^C" of the terminal does not wrap into a line that stays."""


class PointsView:
    """One line per point: its state, and the number of its tokens so far."""

    def __init__(self) -> None:
        self.titles: list[str] | None = None
        self.states: dict[int, str] = {}
        self.tokens: dict[int, int] = {}
        self.texts: dict[int, str] = {}
        self._attempts: dict[int, int] = {}
        self._spinner = Spinner("dots", style="cyan")

    def on_event(self, event: SotEvent) -> None:
        """Update the view with an event of the graph."""
        if event["type"] == "outline":
            self.titles = [strip_controls(title) for title in event["titles"]]
        elif event["type"] == "token":
            index = event["index"]
            if self._attempts.get(index) != event["attempt"]:  # a retry starts the text again
                self._attempts[index] = event["attempt"]
                self.tokens[index], self.texts[index] = 0, ""
            self.states[index] = "writing"
            self.tokens[index] += 1
            self.texts[index] += strip_controls(event["text"])
        elif event["type"] == "point":
            self.states[event["index"]] = event["status"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render no more lines than the terminal has: a line that has scrolled off the top cannot be erased."""
        # One line fewer, because the cursor ends up on the line below.
        yield from self._render(console, options, options.size.height - 1)

    def _render(self, console: Console, options: ConsoleOptions, height: int) -> RenderResult:
        """Render the headline and the points in at most `height` lines."""
        titles = self.titles or []
        shown = self._choose_points(height - 1, len(titles))
        if height > 0:
            yield self._headline(len(titles) - len(shown), options)
        if shown:
            yield self._table({index: titles[index - 1] for index in shown}, height - 1, console, options)

    def _choose_points(self, limit: int, points: int) -> list[int]:
        """Choose which points to show: first those being written, then those that wait, then the finished ones."""
        rank = {state: number for number, state in enumerate(UNFINISHED)}
        indexes = sorted(range(1, points + 1), key=lambda index: rank.get(self._state(index), len(rank)))
        return sorted(indexes[: max(0, limit)])

    def _state(self, index: int) -> str:
        return self.states.get(index, "waiting")

    def _headline(self, hidden: int, options: ConsoleOptions) -> Spinner:
        points = len(self.titles or [])
        finished = sum(self._state(index) not in UNFINISHED for index in range(1, points + 1))
        if self.titles is None:
            words = "outline"
        elif points:
            words = f"{finished} of {points} points{f', {hidden} not shown' if hidden else ''}"
        else:
            words = "direct answer"
        line = Text(words, style="dim")
        line.truncate(_width(options) - len("⠋ "), overflow="ellipsis")
        self._spinner.update(text=line)
        return self._spinner

    def _table(self, titles: dict[int, str], _height: int, _console: Console, options: ConsoleOptions) -> Table:
        table = _grid(options)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, options.max_width - 30))
        table.add_column(no_wrap=True, style="dim")
        for index, title in titles.items():
            state = self._state(index)
            words = f"{state}, {self.tokens[index]} tokens" if index in self.tokens else state
            table.add_row(str(index), _sign(state), Text(title), words)
        return table


class BoardView(PointsView):
    """All points at once, each with the end of its text so far."""

    def _table(self, titles: dict[int, str], height: int, console: Console, options: ConsoleOptions) -> Table:
        table = _grid(options)
        longest_title = max(Text(title).cell_len for title in titles.values())
        title_width = max(8, min(longest_title, options.max_width // 3))
        text_width = max(8, options.max_width - title_width - 12)
        table.add_column(no_wrap=True, overflow="ellipsis", width=title_width)
        table.add_column(no_wrap=True, overflow="crop", width=text_width)
        lines = min(MAX_TEXT_LINES, height // len(titles))
        for index, title in titles.items():
            wrapped = Text(" ".join(self.texts.get(index, "").split()), style="dim").wrap(console, text_width)
            shown = [*wrapped[-lines:], *[Text()] * (lines - len(wrapped))]
            table.add_row(str(index), _sign(self._state(index)), Text(title), Text("\n").join(shown))
        return table


class AnswerView(PointsView):
    """The answer's text in reading order, and below it one line per point.

    Complete lines of text are printed above the part of the screen that is redrawn, and stay there.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._line = ""

    def on_event(self, event: SotEvent) -> None:
        """Update the view with an event of the graph."""
        if event["type"] == "answer":
            self._add_text(strip_controls(event["text"]).expandtabs(4))
        else:
            super().on_event(event)

    def finish(self) -> None:
        """Print the last line."""
        if self._line:
            self._console.print(Text(self._line))

    def _add_text(self, text: str) -> None:
        *complete, self._line = (self._line + text).split("\n")
        for line in complete:
            self._console.print(Text(line))
        wrapped = Text(self._line).wrap(self._console, self._console.width)
        if len(wrapped) > 1:
            # Cut the raw line: `wrap` strips white space at the end, and the next chunk may continue after it.
            self._line = self._line[self._line.rindex(wrapped[-1].plain) :]
            for full in wrapped[:-1]:
                self._console.print(full)

    def _render(self, console: Console, options: ConsoleOptions, height: int) -> RenderResult:
        """Render the unfinished line of the answer, and the points below it."""
        # A terminal that was made narrower wraps the line until the next chunk prints its full lines.
        line = Text(self._line).wrap(console, options.max_width)[-1:] if self._line else []
        above = [*line, Text()][: max(0, height - 1)]
        yield from above
        yield from super()._render(console, options, height - len(above))


class PlainOutput:
    """The answer's text as it is streamed, for a pipe or a file."""

    def __init__(self) -> None:
        self._has_text = False

    def on_event(self, event: SotEvent) -> None:
        """Write the text of an answer event."""
        if event["type"] == "answer":
            self._has_text = True
            write(strip_controls(event["text"]))

    def finish(self) -> None:
        """End the last line."""
        if self._has_text:
            write("\n")


@contextmanager
def live(view: PointsView, console: Console) -> Iterator[None]:
    """Redraw a view on a terminal while it changes, and erase it at the end.

    Only lines that the terminal itself scrolls off while it is made smaller stay.
    """
    with Live(view, console=console, transient=True, refresh_per_second=12):
        yield


def print_answer(text: str, console: Console) -> None:
    """Print a whole answer, wrapped at words on a terminal."""
    if console.is_terminal:
        console.print(Text(text))
    else:
        write(f"{text}\n")


def closing_line(answer: dict[str, Any]) -> str:
    """What an answer cost, on one line: points, calls, tokens, time."""
    message = answer["messages"][-1]
    sot = message.response_metadata["sot"]
    failed = sum(point["status"] == "failed" for point in answer["points"])
    count = len(answer["points"])
    points = f"{count} point{'s' if count > 1 else ''}" if count else "direct answer"
    tokens = (message.usage_metadata or {}).get("total_tokens")
    parts = [
        f"{points}, {failed} failed" if failed else points,
        f"{sot['calls']} call{'s' if sot['calls'] != 1 else ''}",
        f"{tokens:,} tokens" if tokens is not None else "tokens unknown",
        f"{sot['seconds']:.1f} s",
        f"in sequence {sot['sequential_seconds']:.1f} s",
    ]
    return " · ".join(parts)


def _grid(options: ConsoleOptions) -> Table:
    table = Table.grid(padding=(0, 1))
    table.width = _width(options)
    table.add_column(width=2, justify="right", style="dim")
    table.add_column(width=1)
    return table


def _width(options: ConsoleOptions) -> int:
    return options.max_width - RIGHT_MARGIN


def _sign(state: str) -> Text:
    sign, style = SIGNS[state]
    return Text(sign, style=style)
