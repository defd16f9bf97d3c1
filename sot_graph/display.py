"""How the command line shows an answer that is being written."""

import unicodedata
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sot_graph.streaming import SotEvent

SIGNS = {"written": ("✓", "green"), "truncated": ("✂", "yellow"), "failed": ("✗", "red")}


def harmless(text: str) -> str:
    """A model's text without what a terminal would obey: control sequences and the like."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})


class Board:
    """All points side by side, each with the end of what has been written of it so far."""

    def __init__(self) -> None:
        self.titles: list[str] | None = None
        self.texts: dict[int, str] = {}
        self.ended: dict[int, str] = {}
        self._spinner = Spinner("dots")

    def note(self, event: SotEvent) -> None:
        """Take in what the graph tells."""
        if event["type"] == "outline":
            self.titles = [harmless(title) for title in event["titles"]]
        elif event["type"] == "token":
            self.texts[event["index"]] = self.texts.get(event["index"], "") + event["text"]
        elif event["type"] == "point":
            self.ended[event["index"]] = event["status"]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw a line of headline, and a line a point."""
        yield self._headline()
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=2, justify="right")
        table.add_column(width=1)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=2, no_wrap=True, overflow="crop")
        # Two columns' padding and the two narrow columns go off; of the rest the text has two thirds.
        width = max(8, (options.max_width - 6) * 2 // 3 - 2)
        for index, title in enumerate(self.titles or [], start=1):
            sign, style = SIGNS.get(self.ended.get(index, ""), ("…" if index in self.texts else "·", "cyan"))
            tail = Text(" ".join(harmless(self.texts.get(index, "")).split()))
            if (excess := tail.cell_len - width) > 0:
                tail = Text("…") + tail[excess + 1 :]
            tail.stylize("dim")
            table.add_row(str(index), Text(sign, style=style), Text(title), tail)
        yield table

    def _headline(self) -> Spinner:
        if self.titles is None:
            self._spinner.update(text=Text("outline", style="bold"))
        elif not self.titles:
            self._spinner.update(text=Text("direct answer", style="bold"))
        else:
            text = f"{len(self.ended)} of {len(self.titles)} points"
            self._spinner.update(text=Text(text, style="bold"))
        return self._spinner


def closing_line(answer: dict[str, Any]) -> str:
    """One line on what an answer took: points, calls, tokens, time."""
    message = answer["messages"][-1]
    sot = message.response_metadata["sot"]
    failed = sum(point["status"] == "failed" for point in answer["points"])
    points = f"{len(answer['points'])} points" if answer["points"] else "direct answer"
    tokens = (message.usage_metadata or {}).get("total_tokens")
    parts = [
        f"{points}, {failed} failed" if failed else points,
        f"{sot['calls']} call{'s' if sot['calls'] != 1 else ''}",
        f"{tokens:,} tokens" if tokens is not None else "tokens unknown",
        f"{sot['seconds']:.1f} s",
        f"one after the other {sot['sequential_seconds']:.1f} s",
    ]
    return " · ".join(parts)
