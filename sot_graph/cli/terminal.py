"""What the commands share: the exit codes, and how they print."""

import errno
import sys
from typing import NoReturn

import typer
from rich.console import Console

from sot_graph.evaluation.text import strip_controls
from sot_graph.redaction import note_of

USAGE_ERROR = 2
INTERRUPTED = 130
"""The exit code that shells use for Ctrl-C."""

errors = Console(stderr=True, highlight=False)
errors.soft_wrap = not errors.is_terminal  # a log file has no width


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """Print a message on standard error and exit."""
    errors.print(f"sot-graph: {strip_controls(message)}", style="red", markup=False)
    raise typer.Exit(exit_code)


def error_line(error: Exception) -> str:
    """The type of an error, the first line of its message, and our note on the model and the host."""
    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{line} {note_of(error)}".rstrip()


def write(text: str) -> None:
    """Write to standard output, in UTF-8 with any locale."""
    if sys.stdout is None:  # Python sets it to None if it is closed
        raise OSError(errno.EBADF, "standard output is closed")
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
