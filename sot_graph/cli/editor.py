"""The review of an outline in the user's editor, the way `git commit` opens its message."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
from langgraph.types import Command

from sot_graph.evaluation.text import strip_controls
from sot_graph.outline import clean_titles

REMARK = ">"
COMMENT = "#"


def edit_outline(question: str, titles: list[str], max_points: int) -> Command[str] | None:
    """Open an outline in the editor.

    Args:
        question: The question that the outline answers.
        titles: The titles of the outline.
        max_points: The maximum number of titles.

    Returns:
        The command that resumes the run; None if no title is left.

    Raises:
        click.ClickException: There is no editor, or it failed.
    """
    # A title with its number cannot look like a comment or a remark. `clean_titles` removes the numbers again.
    text = "\n".join(f"{i}. {strip_controls(title)}" for i, title in enumerate(titles, start=1))
    problem = ""
    while True:
        with _editor_terminal():
            edited = click.edit(f"{text}\n\n{problem}{_help(question)}", extension=".md", require_save=False) or ""
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
        problem = f"{COMMENT} {len(edited_titles)} titles are too many: --max-points is {max_points}.\n{COMMENT}\n"


@contextmanager
def _editor_terminal() -> Iterator[None]:
    """Connect the editor to the terminal, if the question comes from a pipe or the answer goes to a file."""
    if os.isatty(0) and os.isatty(1):
        yield
        return
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:  # there is no terminal; the editor may be a program that needs none
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
            f"The outline of the answer to: {strip_controls(' '.join(question.split()))[:200]}",
            "",
            "One title per line. Edit, reorder, add or delete titles, then save and quit to write the points.",
            f"A line that starts with '{REMARK}' is a remark: the model writes a new outline that follows it.",
            f"Lines that start with '{COMMENT}' are ignored. Without any title, the run stops.",
        )
    )
