"""The question of a command: its words, and what standard input adds to it."""

import os
import select
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sot_graph.cli.terminal import USAGE_ERROR, errors, fail, is_pipe

STDIN = "-"
PATIENCE = 3.0
"""After so many seconds without any input, the user is told what the command waits for."""

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="QUESTION", show_default=False, help="The question, in quotes or not."),
]


def join_words(words: Sequence[str] | None) -> str | None:
    """The question as one text; None if there is none.

    Raises:
        typer.Exit: The question is blank.
    """
    if not words:
        return None
    question = " ".join(words).strip()
    if not question:
        fail("the question is empty.", USAGE_ERROR)
    return question


def read_question(words: Sequence[str] | None) -> str:
    """Read the question from the command line, from standard input, or from both.

    Standard input beside a question is context. It is read if it is a pipe, or if the last word is "-": any other may
    be the input of a script around the command.

    Args:
        words: The words of the command line.
    """
    words = list(words or [])
    is_asked_for = words[-1:] == [STDIN]
    question = join_words(words[:-1] if is_asked_for else words)
    if question is None:
        if not is_asked_for and sys.stdin and sys.stdin.isatty():
            fail("the question is missing. Give it as an argument or on standard input.", USAGE_ERROR)
        question, context = _read_input().strip(), ""
    else:
        context = _read_input().strip("\n") if is_asked_for or is_pipe(sys.stdin) else ""
    if not question:
        fail("the question is empty.", USAGE_ERROR)
    return f"{question}\n\n<input>\n{context}\n</input>" if context.strip() else question


def _read_input() -> str:
    if not sys.stdin:
        return ""
    if is_pipe(sys.stdin) and os.name == "posix" and not select.select([sys.stdin], [], [], PATIENCE)[0]:
        errors.print("Waiting for the end of standard input. If there is none, add < /dev/null.", style="dim")
    return sys.stdin.buffer.read().decode("utf-8", "replace")
