"""What the commands share: the exit codes, and how they print."""

import codecs
import errno
import io
import os
import stat
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sot_graph.evaluation.text import strip_controls

USAGE_ERROR = 2
INTERRUPTED = 130
"""The exit code that shells use for Ctrl-C."""
READER_LEFT = 141
"""The exit code that shells use for a program whose reader left, as in `| head -1`."""
LIKENESS = str.maketrans("…·✓✂✗↺▸░▒█→×–—‘’“”•", ".-+%xr>.-#>x--''\"\"*")  # noqa: RUF001 - these are meant
"""What a terminal shows that has no such characters."""
SPINNER = range(0x2800, 0x2900)
"""The characters of the spinner."""

errors = Console(stderr=True, highlight=False)
errors.soft_wrap = not errors.is_terminal  # a log file has no width


def fail(message: str, exit_code: int = 1) -> NoReturn:
    """Print a message on standard error and exit."""
    errors.print(f"sot-graph: {strip_controls(message)}", style="red", markup=False)
    raise typer.Exit(exit_code)


def error_line(error: Exception) -> str:
    """The type of an error, the first line of its message, and our note on the model and the host."""
    from sot_graph.redaction import note_of  # noqa: PLC0415 - slow to import, and needed only here

    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{line} {note_of(error)}".rstrip()


class ReaderLeftError(OSError):
    """Nobody reads standard output any more. This is no error of the user's: the command ends, and prints nothing."""


def write(text: str) -> None:
    """Write to standard output: to a terminal in its encoding, to a pipe or a file in UTF-8 with any locale."""
    if sys.stdout is None:  # Python sets it to None if it is closed
        raise OSError(errno.EBADF, "standard output is closed")
    try:
        if sys.stdout.isatty():
            sys.stdout.write(text)
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeftError from None


def table(rows: Sequence[Sequence[str]], gap: int = 2) -> Table:
    """A table without lines: its header, then its rows."""
    header, *lines = rows
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for number, name in enumerate(header):
        made.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        made.add_row(*map(Text, line))
    return made


def flush_output() -> None:
    """Flush what is left. Python would do it at its end, and print a traceback if nobody reads any more."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # the command has noticed it already, or has printed only its help
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def accept_any_character() -> None:
    """Let standard output and standard error show a likeness of a character that their encoding does not have."""
    codecs.register_error("likeness", _likeness)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="likeness")


def _likeness(error: UnicodeError) -> tuple[str, int]:
    """The handler of encoding errors: text of the same width in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = error.object[error.start : error.end].translate(LIKENESS)
    return "".join(_ascii(character) for character in shown), error.end


def _ascii(character: str) -> str:
    if ord(character) in SPINNER:
        return "-\\|/"[ord(character) % 4]
    return character if character.isascii() else "?" * cell_len(character)


def is_pipe(stream: TextIO | None) -> bool:
    """Whether a stream is a pipe, and neither a terminal nor a file."""
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # it is closed, or has no file
        return False


def has_terminal() -> bool:
    """Whether somebody at a terminal can use an editor, also if standard input or output is a pipe or a file."""
    if os.isatty(0) and os.isatty(1):
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return any(map(os.isatty, (0, 1, 2)))
