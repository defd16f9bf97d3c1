"""How the command line shows an answer that is being written."""

import errno
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sot_graph.streaming import SotEvent

SIGNS = {
    "waiting": ("·", "dim"),
    "writing": ("…", "cyan"),
    "written": ("✓", "green"),
    "truncated": ("✂", "yellow"),
    "failed": ("✗", "red"),
}
RUNNING = ("writing", "waiting")
"""How points stand that have not ended. Where there is not room for all, these are shown first, in this order."""
MOST_LINES = 5
"""How many lines of a point's text are shown at the most where all points are shown at once."""


EMBEDDINGS = frozenset("\u202a\u202b\u202c\u202d\u202e")
"""They turn the direction of other text around; right-to-left scripts read well without them."""


def harmless(text: str) -> str:
    """A model's text without what a terminal would obey: control sequences and the like."""
    return "".join(c for c in text if c in "\n\t" or not _is_obeyed(c))


def escaped(json: str) -> str:
    """JSON with what a terminal would obey written as escapes."""
    return "".join(c if c == "\n" or not _is_obeyed(c) else f"\\u{ord(c):04x}" for c in json)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs"} or character in EMBEDDINGS


class Progress:
    """A line for each point: waiting, writing (with its tokens so far), done, failed."""

    def __init__(self) -> None:
        self.titles: list[str] | None = None
        self.states: dict[int, str] = {}
        self.tokens: dict[int, int] = {}
        self.texts: dict[int, str] = {}
        self._attempts: dict[int, int] = {}
        self._spinner = Spinner("dots", style="cyan")

    def note(self, event: SotEvent) -> None:
        """Take in what the graph tells."""
        if event["type"] == "outline":
            self.titles = [harmless(title) for title in event["titles"]]
        elif event["type"] == "token":
            index = event["index"]
            if self._attempts.get(index) != event["attempt"]:  # a retry begins anew
                self._attempts[index] = event["attempt"]
                self.tokens[index], self.texts[index] = 0, ""
            self.states[index] = "writing"
            self.tokens[index] += 1
            self.texts[index] += harmless(event["text"])
        elif event["type"] == "point":
            self.states[event["index"]] = event["status"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what there is room for: what has left the screen at the top, nobody can take away again."""
        # Less one line, because in the end the cursor goes to the line below.
        yield from self._drawn(console, options, options.size.height - 1)

    def _drawn(self, console: Console, options: ConsoleOptions, room: int) -> RenderResult:
        """Draw the headline and the points, in so many lines."""
        titles = self.titles or []
        shown = self._first(room - 1, len(titles))
        if room > 0:
            yield self._headline(len(titles) - len(shown), options)
        if shown:
            yield self._table({index: titles[index - 1] for index in shown}, room - 1, console, options)

    def _first(self, most: int, points: int) -> list[int]:
        """The points that are shown where there is room for so many: those being written, and those that come next."""
        order = {state: place for place, state in enumerate(RUNNING)}
        indexes = sorted(range(1, points + 1), key=lambda index: order.get(self._state(index), len(order)))
        return sorted(indexes[: max(0, most)])

    def _state(self, index: int) -> str:
        return self.states.get(index, "waiting")

    def _headline(self, hidden: int, options: ConsoleOptions) -> Spinner:
        points = len(self.titles or [])
        ended = sum(self._state(index) not in RUNNING for index in range(1, points + 1))
        told = f"{ended} of {points} points{f', {hidden} not shown' if hidden else ''}" if points else "direct answer"
        words = Text("outline" if self.titles is None else told, style="dim")
        words.truncate(_width(options) - len("⠋ "), overflow="ellipsis")
        self._spinner.update(text=words)
        return self._spinner

    def _table(self, titles: dict[int, str], _room: int, _console: Console, options: ConsoleOptions) -> Table:
        table = _grid(options)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, options.max_width - 30))
        table.add_column(no_wrap=True, style="dim")
        for index, title in titles.items():
            state = self._state(index)
            told = f"{state}, {self.tokens[index]} tokens" if index in self.tokens else state
            table.add_row(str(index), _sign(state), Text(title), told)
        return table


class Board(Progress):
    """All points at once, each with the end of its text so far."""

    def _table(self, titles: dict[int, str], room: int, console: Console, options: ConsoleOptions) -> Table:
        table = _grid(options)
        title_width = max(8, min(max(map(_cells, titles.values())), options.max_width // 3))
        text_width = max(8, options.max_width - title_width - 12)
        table.add_column(no_wrap=True, overflow="ellipsis", width=title_width)
        table.add_column(no_wrap=True, overflow="crop", width=text_width)
        lines = min(MOST_LINES, room // len(titles))
        for index, title in titles.items():
            wrapped = Text(" ".join(self.texts.get(index, "").split()), style="dim").wrap(console, text_width)
            shown = [*wrapped[-lines:], *[Text()] * (lines - len(wrapped))]
            table.add_row(str(index), _sign(self._state(index)), Text(title), Text("\n").join(shown))
        return table


class Reader(Progress):
    """The answer's text in reading order, and below it a line for each point.

    Lines of text that are complete are printed for good, above what is redrawn.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._line = ""

    def note(self, event: SotEvent) -> None:
        """Take in what the graph tells."""
        if event["type"] == "answer":
            self._read(harmless(event["text"]).expandtabs(4))
        else:
            super().note(event)

    def finish(self) -> None:
        """Print the last line."""
        if self._line:
            self._console.print(Text(self._line))

    def _read(self, text: str) -> None:
        *ended, self._line = (self._line + text).split("\n")
        for line in ended:
            self._console.print(Text(line))
        wrapped = Text(self._line).wrap(self._console, self._console.width)
        if len(wrapped) > 1:
            # From the raw line, because wrapping takes white space off the end, and more text may follow there.
            self._line = self._line[self._line.rindex(wrapped[-1].plain) :]
            for full in wrapped[:-1]:
                self._console.print(full)

    def _drawn(self, console: Console, options: ConsoleOptions, room: int) -> RenderResult:
        """Draw the line that is being written, and below it the points."""
        # After a resize it may be several, until more text comes and the full ones are printed.
        line = Text(self._line).wrap(console, options.max_width)[-1:] if self._line else []
        above = [*line, Text()][: max(0, room - 1)]
        yield from above
        yield from super()._drawn(console, options, room - len(above))


class Plain:
    """The answer's text as it comes, for a pipe or a file."""

    def __init__(self) -> None:
        self._began = False

    def note(self, event: SotEvent) -> None:
        """Take in what the graph tells."""
        if event["type"] == "answer":
            self._began = True
            write(harmless(event["text"]))

    def finish(self) -> None:
        """End the last line."""
        if self._began:
            write("\n")


@contextmanager
def live(view: Progress, console: Console) -> Iterator[None]:
    """Redraw a view on a terminal while it changes, and leave nothing of it behind.

    Only what a terminal itself moves off the screen while it is made smaller stays there.
    """
    with Live(view, console=console, transient=True, refresh_per_second=12):
        yield


def write(text: str) -> None:
    """Write to standard output, in UTF-8 whatever the locale."""
    if sys.stdout is None:  # Python's sign of a closed one
        raise OSError(errno.EBADF, "standard output is closed")
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def print_answer(text: str, console: Console) -> None:
    """Print a whole answer, broken at words on a terminal."""
    if console.is_terminal:
        console.print(Text(text))
    else:
        write(f"{text}\n")


def closing_line(answer: dict[str, Any]) -> str:
    """One line on what an answer took: points, calls, tokens, time."""
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
        f"one after the other {sot['sequential_seconds']:.1f} s",
    ]
    return " · ".join(parts)


def _grid(options: ConsoleOptions) -> Table:
    table = Table.grid(padding=(0, 1))
    table.width = _width(options)
    table.add_column(width=2, justify="right", style="dim")
    table.add_column(width=1)
    return table


def _width(options: ConsoleOptions) -> int:
    """How long lines may be: with room for a "^C", which would begin a line that nobody takes away again."""
    return options.max_width - 4


def _sign(state: str) -> Text:
    sign, style = SIGNS[state]
    return Text(sign, style=style)


def _cells(text: str) -> int:
    return Text(text).cell_len
