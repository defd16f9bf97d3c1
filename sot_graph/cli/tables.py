"""How `sot-graph compare` prints its figures, and the two answers if there is only one question."""

from collections.abc import Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from sot_graph.cli.terminal import table, write
from sot_graph.evaluation.compare import Comparison
from sot_graph.evaluation.sides import sides
from sot_graph.evaluation.summary import (
    GAP,
    answer_line,
    fit_tables,
    notes,
    time_rows,
    verdict_rows,
)
from sot_graph.evaluation.text import strip_controls

LOG_WIDTH = 200
"""The width of tables if standard output is not a terminal."""
TWO_COLUMNS = 80
"""The minimum width for two answers side by side."""


def print_comparison(results: list[Comparison], summary: Mapping[str, Any]) -> None:
    """Print the figures, and the answers themselves if there is only one question; in UTF-8 with any locale."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = LOG_WIDTH
    times = [time_rows(summary), time_rows(summary, quartiles=False)]
    verdicts = [verdict_rows(summary), verdict_rows(summary, intervals=False)]
    with output.capture() as captured:
        if len(results) == 1:
            _print_answers(results[0], summary["judge"], output)
        for choices in (times, verdicts):
            for rows in fit_tables(choices, output.width) if choices[0] else []:
                output.print(table(rows, GAP))
        for line in notes(summary):
            output.print(Text(strip_controls(line), style="dim"))
    write(captured.get())


def _print_answers(result: Comparison, judge: str | None, output: Console) -> None:
    """Print the question and both answers, side by side if the terminal is wide enough."""
    output.print(Text(strip_controls(result["question"]), style="bold"))
    width = output.width // 2 if output.is_terminal and output.width >= TWO_COLUMNS else output.width
    panels, names = [], sides(result["settings"])
    for name, answer in zip(names.headings, (result["plain"], result["sot"]), strict=True):
        parts = [(answer["text"], ""), (answer["error"], "red"), (answer_line(answer), "dim")]
        texts = [Text(strip_controls(text), style=style) for text, style in parts if text]
        panels.append(Panel(Text("\n\n").join(texts), title=Text(name), width=width))
    output.print(Columns(panels, padding=(0, 0)))
    verdict = result["verdicts"].get(judge or "")
    for order, reason in zip((names.sot, names.plain), verdict["reasons"] if verdict else [], strict=False):
        output.print(Text(f"judge, {order} first: {strip_controls(reason)}", style="dim"))
