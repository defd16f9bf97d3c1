"""The commands in one application, and what happens around each of them."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from sot_graph.cli import ask, batch, compare, draw, route
from sot_graph.cli.langsmith_log import capture_client_log, flush_traces
from sot_graph.cli.terminal import (
    READER_LEFT,
    ReaderLeftError,
    accept_any_character,
    error_line,
    errors,
    flush_output,
    write,
)
from sot_graph.evaluation.text import fit, strip_controls

TRACE_SECONDS = 5
"""How long the process waits at its end for traces that are still being sent to LangSmith."""
REASON_LENGTH = 200
"""The maximum length of the reason why traces were not sent."""
app = typer.Typer(
    name="sot-graph",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=ask.EXAMPLES)(ask.ask)
app.command(epilog=batch.EXAMPLES)(batch.batch)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare_answers)
app.command(epilog=draw.EXAMPLES)(draw.draw)
app.add_typer(route.app, name="route")


def _print_version(*, value: bool) -> None:
    if value:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and the help does not need it

        write(f"sot-graph {version('sot-graph')}\n")
        raise typer.Exit


@app.callback(epilog=ask.EXAMPLES)
def sot_graph(
    *,
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Answer long questions sooner: a model writes an outline, then all its points at the same time."""


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
