"""The commands in one application, and what happens around each of them."""

import os
import sys
from typing import NoReturn

import typer

from sot_graph.cli.ask import ask
from sot_graph.cli.compare import compare_answers
from sot_graph.cli.draw import draw
from sot_graph.cli.langsmith_log import capture_client_log, flush_traces
from sot_graph.cli.terminal import (
    READER_LEFT,
    ReaderLeftError,
    accept_any_character,
    error_line,
    errors,
    flush_output,
)
from sot_graph.evaluation.text import fit, strip_controls

TRACE_SECONDS = 5
"""How long the process waits at its end for traces that are still being sent to LangSmith."""
REASON_LENGTH = 200
"""The maximum length of the reason why traces were not sent."""
app = typer.Typer(
    name="sot-graph",
    help="Skeleton-of-Thought: write an outline first, then all its points in parallel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(ask)
app.command("compare")(compare_answers)
app.command()(draw)


def main() -> NoReturn:
    """Run the command line."""
    accept_any_character()
    log = capture_client_log()
    code = _run()
    unsent = ""
    try:
        if not flush_traces(TRACE_SECONDS):
            unsent = f"sending took longer than {TRACE_SECONDS} seconds"
    except KeyboardInterrupt:  # the user does not want to wait for LangSmith
        unsent = "the wait was interrupted"
    has_lost = bool(unsent) or log.has_lost
    if has_lost:
        reason = fit(strip_controls(log.complaint or unsent), REASON_LENGTH)
        errors.print(f"sot-graph: LangSmith did not get the whole trace: {reason}", style="yellow", markup=False)
    flush_output()
    if has_lost:  # the threads of LangSmith's client keep the process alive until they have tried everything
        os._exit(code if isinstance(code, int) else 1)
    sys.exit(code)


def _run() -> int | str | None:
    """Run a command, and return its exit code."""
    try:
        app()
    except SystemExit as end:
        return end.code
    except ReaderLeftError:
        return READER_LEFT
    except OSError as error:  # standard output is closed or full
        errors.print(f"sot-graph: {error_line(error)}", style="red", markup=False)
        return 1
    return 0
