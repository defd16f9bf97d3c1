"""The command `sot-graph ask`: its options. `answer.py` does the work."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from sot_graph.cli.options import (
    BaseUrl,
    Closing,
    Detail,
    Headings,
    Hedge,
    Lead,
    MaxPoints,
    ModelChoice,
    ModelName,
    RouteName,
)
from sot_graph.cli.question import Words, read_question
from sot_graph.cli.route import choose_route
from sot_graph.cli.terminal import USAGE_ERROR, error_line, fail, has_terminal

EXAMPLES = """
Examples:

sot-graph ask How do bees find their way home

sot-graph ask "How can I sleep better?" -m openai:gpt-5.5 > answer.md

cat notes.txt | sot-graph ask "Summarise these notes for a newcomer."

sot-graph ask "How do bees find home?" -m local --outline "The sun; Landmarks; Scent"
"""


def ask(  # noqa: PLR0913 - one parameter for each option
    question: Words = None,
    *,
    model: ModelName = None,
    base_url: BaseUrl = None,
    outline: Annotated[
        str | None,
        typer.Option(
            "--outline",
            help="The titles of the points, separated by semicolons or lines, or a file with them. Default: the model "
            "writes them.",
        ),
    ] = None,
    max_points: MaxPoints = 10,
    headings: Headings = False,
    lead: Lead = False,
    closing: Closing = False,
    hedge: Hedge = None,
    detail: Detail = "titles",
    route: RouteName = "auto",
    review: Annotated[
        bool, typer.Option("--review", "-r", help="Edit the outline in $EDITOR before its points are written.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show all points while they are written, then print the answer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", "-j", help="Print answer, points and usage as JSON.")] = False,
    timeline: Annotated[
        str | None,
        typer.Option(
            "--timeline",
            "-t",
            metavar="FILE",
            help="Draw when each call ran, into a .svg or .html file, or - for standard error.",
        ),
    ] = None,
) -> None:
    """Answer a question. The answer goes to standard output, everything else to standard error.

    Without a question, standard input is the question. Text that is piped in beside a question is context for it.
    """
    if review and not has_terminal():
        fail("--review needs a terminal for the editor. Without a terminal, give the titles as --outline.", USAGE_ERROR)
    text = read_question(question)
    given = {"question": text} if outline is None else {"question": text, "outline": _read_outline(outline)}
    from sot_graph.cli.answer import Display, answer_question  # noqa: PLC0415 - slow, and the help does not need it

    options: Any = {"max_points": max_points, "headings": headings, "lead": lead, "closing": closing, "review": review}
    options |= {"hedge": hedge, "detail": detail, "route": choose_route(route)}
    display = Display(watch=watch, as_json=as_json, timeline=timeline)
    answer_question(given, ModelChoice(model, base_url), options, display)


def _read_outline(value: str) -> list[str]:
    """Read the titles from the option, or from the file that it names."""
    try:
        is_path = not re.search(r"[;\n]", value) and Path(value).is_file()
        text = Path(value).read_text(encoding="utf-8-sig") if is_path else value
    except (OSError, ValueError) as error:
        fail(f"--outline {value} cannot be read: {error_line(error)}", USAGE_ERROR)
    titles = [title.strip() for title in re.split(r"[;\n]", text) if title.strip()]
    if not titles:
        fail("--outline has no titles. Separate them with semicolons or lines, or name a file of them.", USAGE_ERROR)
    return titles
