"""The command line's review: the outline in the user's editor, as `git commit` opens its message."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
from langgraph.types import Command

from sot_graph.console.display import harmless
from sot_graph.outline import clean_titles

REMARK = ">"
COMMENT = "#"


def edit_outline(question: str, titles: list[str], max_points: int) -> Command[str] | None:
    """Have a person look at an outline.

    Args:
        question: What is to be answered.
        titles: The outline.
        max_points: The most titles that it may have.

    Returns:
        What goes on with the run; None where the person left no title.

    Raises:
        click.ClickException: There is no editor, or it failed.
    """
    # With its number, which is taken off again, no title looks like a comment or a remark.
    text, wrong = "\n".join(f"{i}. {harmless(title)}" for i, title in enumerate(titles, start=1)), ""
    while True:
        with _terminal():
            edited = click.edit(f"{text}\n\n{wrong}{_help(question)}", extension=".md", require_save=False) or ""
        lines = [line.strip() for line in edited.splitlines()]
        lines = [line for line in lines if line and not line.startswith(COMMENT)]
        if remarks := [line.removeprefix(REMARK).strip() for line in lines if line.startswith(REMARK)]:
            return Command(resume="\n".join(remarks))
        edited_titles = clean_titles(lines)
        if not edited_titles:
            return None
        if len(edited_titles) <= max_points:
            return Command(resume=True if edited_titles == titles else edited_titles)
        text = "\n".join(lines)
        wrong = (
            f"{COMMENT} These are {len(edited_titles)} titles; {max_points} are the most (--max-points).\n{COMMENT}\n"
        )


@contextmanager
def _terminal() -> Iterator[None]:
    """Give the editor the terminal, where the question comes from a pipe or the answer goes into a file."""
    if os.isatty(0) and os.isatty(1):
        yield
        return
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:  # there is none; the editor may be a program that needs none
        yield
        return
    saved = [(os.dup(number), number) for number in (0, 1)]
    try:
        for _, number in saved:
            os.dup2(terminal, number)
        yield
    finally:
        for copy, number in saved:
            os.dup2(copy, number)
            os.close(copy)
        os.close(terminal)


def _help(question: str) -> str:
    return "".join(
        f"{COMMENT} {line}\n"
        for line in (
            f"The outline of the answer to: {harmless(' '.join(question.split()))[:200]}",
            "",
            "A title a line: edit, reorder, add or drop them; then save and quit to have them written.",
            f"A line that begins with '{REMARK}' is a remark: the outline is planned anew, and follows it.",
            f"Lines that begin with '{COMMENT}' do not count. Without any title, nothing is written.",
        )
    )
