"""The review of an outline in the user's editor, the way `git commit` opens its message."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from langgraph.types import Command

from sot_graph.evaluation.text import strip_controls
from sot_graph.scopes import clean_items, items_of, title_of

REMARK = ">"
COMMENT = "#"
_FIELD = re.compile(r"\s+\|\s+(covers|needs|words):\s*((?:(?!\s+\|\s+(?:covers|needs|words):).)*)")


def edit_outline(
    question: str, titles: list[str], max_points: int, outline: list[Any] | None = None
) -> Command[str] | None:
    """Open an outline in the editor.

    Args:
        question: The question that the outline answers.
        titles: The titles of the outline.
        max_points: The maximum number of titles.
        outline: The titles with what else the outline says of the points, if it does.

    Returns:
        The command that resumes the run; None if no title is left.

    Raises:
        click.ClickException: There is no editor, or it failed.
    """
    # A title with its number cannot look like a comment or a remark. `clean_titles` removes the numbers again.
    text = "\n".join(f"{i}. {strip_controls(_line(item))}" for i, item in enumerate(outline or titles, start=1))
    problem = ""
    while True:
        with _editor_terminal():
            edited = click.edit(f"{text}\n\n{problem}{_help(question)}", extension=".md", require_save=False) or ""
        lines = [line.strip() for line in edited.splitlines()]
        lines = [line for line in lines if line and not line.startswith(COMMENT)]
        if remarks := [line.removeprefix(REMARK).strip() for line in lines if line.startswith(REMARK)]:
            return Command(resume="\n".join(remarks))
        edited_titles, scopes = clean_items([*map(_item, lines)])
        if not edited_titles:
            return None
        if len(edited_titles) <= max_points:
            items = items_of(edited_titles, scopes) if scopes else edited_titles
            return Command(resume=True if items == (outline or titles) else items)
        text = "\n".join(lines)
        problem = f"{COMMENT} {len(edited_titles)} titles are too many: --max-points is {max_points}.\n{COMMENT}\n"


def _line(item: Any) -> str:
    """An item of the outline as a line: the title, and behind bars what else there is."""
    fields = {key: item[key] for key in ("covers", "needs", "words") if key in item} if isinstance(item, dict) else {}
    told = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in fields.items()}
    return " | ".join([title_of(item), *(f"{key}: {value}" for key, value in told.items())])


def _item(line: str) -> Any:
    fields = {found[1]: found[2].strip() for found in _FIELD.finditer(line)}
    if not fields:
        return line
    numbers = {key: [int(each) for each in re.findall(r"\d+", fields.get(key, ""))] for key in ("needs", "words")}
    item = {"title": _FIELD.sub("", line), "covers": fields.get("covers", ""), "needs": numbers["needs"]}
    return {**item, "words": next(iter(numbers["words"]), 0)}


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
            "Behind a title may stand | covers: what belongs to it | needs: 1, 2 | words: 40",
            f"Lines that start with '{COMMENT}' are ignored. Without any title, the run stops.",
        )
    )
