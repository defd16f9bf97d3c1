"""The command line: `sot-graph ask`, `compare` and `draw`."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

# First, because it says what to install where a package is missing.
from sot_graph.console.terminal import (  # isort: skip
    DEFAULT_MODEL,
    DEMO,
    INTERRUPTED,
    WRONG_USE,
    choose_model,
    errors,
    fail,
    one_line,
)

import typer
from rich.console import Console

from sot_graph.cli_compare import compare_answers
from sot_graph.console.display import (
    Board,
    Plain,
    Progress,
    Reader,
    closing_line,
    escaped,
    harmless,
    live,
    print_answer,
    write,
)
from sot_graph.console.editor import edit_outline
from sot_graph.console.timeline import fit, timeline_text
from sot_graph.demo import DemoChatModel
from sot_graph.graph import create_sot_graph
from sot_graph.tracing import flush_traces, take_client_log
from sot_graph.usage import summarize

THREAD: RunnableConfig = {"configurable": {"thread_id": "ask"}}
TRACE_SECONDS = 5
"""How long the end waits for what is on its way to LangSmith, where tracing is on."""
WHY_LETTERS = 200
"""How much is told of why LangSmith has not taken it."""
app = typer.Typer(
    name="sot-graph",
    help="Skeleton-of-Thought: an outline first, then all its points at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def ask(  # noqa: PLR0913 - one option each, keyword-only
    question: Annotated[
        str | None, typer.Argument(help="What to answer. Left out, or -: read from standard input.")
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="SOT_MODEL",
            help=f"A model's name for init_chat_model, such as {DEFAULT_MODEL}, or {DEMO}. Without it: "
            f"{DEFAULT_MODEL} when OPENAI_API_KEY is set, else the offline demo.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server (vLLM, Ollama, LM Studio); it needs --model."),
    ] = None,
    max_points: Annotated[int, typer.Option(min=1, help="No more points than this.")] = 10,
    headings: Annotated[bool, typer.Option("--headings", help="Set each title above its text.")] = False,
    lead: Annotated[
        bool, typer.Option("--lead", help="Begin with an opening that is written while the outline is.")
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="Edit the outline in $EDITOR before its points are written.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show all points at once while they are being written; the answer after.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer, points and usage as JSON.")] = False,
    timeline: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Draw what ran when, into a file that ends in .svg or .html; -: on standard error."
        ),
    ] = None,
) -> None:
    """Answer a question. The answer goes to standard output, everything else to standard error."""
    text = _question(question)
    draw_timeline = _timeline(timeline)
    chat_model = choose_model(model, base_url)
    try:
        graph = create_sot_graph(
            chat_model,
            min_points=min(2, max_points),
            max_points=max_points,
            headings=headings,
            lead=lead,
            on_error="keep",
            review=review,
            checkpointer=InMemorySaver(),  # for a review, and to know what a run did that failed
        )
    except (ImportError, ValueError) as error:  # no such model, or its package is not installed
        fail(one_line(error), WRONG_USE)
    except Exception as error:  # noqa: BLE001 - a client refuses to be made in a way of its own
        fail(one_line(error))
    try:
        answer = asyncio.run(_answer(graph, text, max_points, watch=watch, as_json=as_json))
    except KeyboardInterrupt:
        fail("stopped.", INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - a person reads one line, whatever it was
        untold = _draw(draw_timeline, _figures_so_far(graph), text)
        fail(" ".join([one_line(error), *(f"({problem})" for problem in untold)]))
    if answer is None:
        fail("stopped: the outline is empty.")
    if as_json:
        write(escaped(json.dumps(_as_json(text, answer), ensure_ascii=False, indent=2)) + "\n")
    errors.print(closing_line(answer), style="dim", markup=False)
    failed = [point for point in answer["points"] if point["status"] == "failed"]
    problems = [f"point {p['index']} ({p['title']}) could not be written: {p['error']}" for p in failed]
    problems += _draw(draw_timeline, answer["messages"][-1].response_metadata["sot"], text)
    if problems:
        fail("; ".join(problems))


app.command("compare")(compare_answers)


@app.command()
def draw() -> None:
    """Print the graph as a Mermaid diagram."""
    write(create_sot_graph(DemoChatModel()).get_graph().draw_mermaid())


def _question(question: str | None) -> str:
    """The question, from the command line or from standard input."""
    if question in {None, "-"}:
        if question is None and sys.stdin and sys.stdin.isatty():
            fail("what is the question? Give it as an argument, or on standard input.", WRONG_USE)
        question = sys.stdin.buffer.read().decode("utf-8", "replace") if sys.stdin else ""
    if not question or not question.strip():
        fail("the question is blank.", WRONG_USE)
    return question.strip()


def _timeline(where: str | None) -> Callable[[dict[str, Any], str], object] | None:
    """What draws an answer's timeline, if that is wanted; what cannot work is refused, before any model is asked."""
    if where is None:
        return None
    if where == "-":
        return lambda sot, _question: errors.print(timeline_text(sot, errors.width))
    path = Path(where)
    if path.suffix.lower() not in {".svg", ".html"} or path.is_dir():
        fail("--timeline takes a file that ends in .svg or .html, or - to draw on standard error.", WRONG_USE)
    if not path.parent.is_dir():
        fail(f"--timeline takes a file in a folder that is there; {path.parent} is none.", WRONG_USE)
    from sot_graph.console.picture import timeline_html, timeline_svg  # noqa: PLC0415 - slow, and needed only here

    drawn = timeline_svg if path.suffix.lower() == ".svg" else timeline_html
    return lambda sot, question: path.write_text(drawn(sot, question), encoding="utf-8")


def _draw(
    draw_timeline: Callable[[dict[str, Any], str], object] | None, sot: dict[str, Any] | None, question: str
) -> list[str]:
    """Draw the timeline, if that is wanted, and tell what came in the way."""
    if draw_timeline is None:
        return []
    if sot is None:
        return ["there is no timeline: the call that failed left no figures"]
    try:
        draw_timeline(sot, question)
    except OSError as error:
        return [f"the timeline could not be written: {one_line(error)}"]
    return []


def _figures_so_far(graph: Any) -> dict[str, Any] | None:
    """What a run's calls took that failed after its points; None before, where what failed is not in the state."""
    known = graph.get_state(THREAD).values
    return summarize(known["calls"], known["points"]) if known.get("points") else None


async def _answer(graph: Any, question: str, max_points: int, *, watch: bool, as_json: bool) -> dict[str, Any] | None:
    """Run the graph, with a person's review of the outline if it stops for that; None where that ends the run."""
    given: Any = {"question": question}
    while True:
        answer = await _show(graph, given, watch=watch, as_json=as_json)
        if not (interrupts := (await graph.aget_state(THREAD)).interrupts):
            break
        given = edit_outline(max_points=max_points, **interrupts[0].value)
        if given is None:
            return None
    if watch and not as_json:
        print_answer(harmless(answer["answer"]), Console(highlight=False))
    return answer


async def _show(graph: Any, given: Any, *, watch: bool, as_json: bool) -> dict[str, Any]:
    """Run the graph, and show it on a terminal while it runs.

    The answer is read on standard output as it is being written, unless it is wanted whole: as JSON, or below a board
    of all points. Where standard output is no terminal but standard error is, the points' progress shows there.
    """
    output = Console(highlight=False)
    reads = not (as_json or watch)
    view = Reader(output) if reads and output.is_terminal else Board() if watch else Progress()
    plain = Plain() if reads and not output.is_terminal else None
    screen = output if isinstance(view, Reader) else errors
    answer: dict[str, Any] = {}
    try:
        with live(view, screen) if screen.is_terminal else nullcontext():
            async for mode, part in graph.astream(given, THREAD, stream_mode=["custom", "values"]):
                if mode == "values":
                    answer = part
                    continue
                view.note(part)
                if plain:
                    plain.note(part)
    finally:  # also of an answer that is broken off: what was shown stays
        for text in (view, plain):
            if isinstance(text, Reader | Plain):
                text.finish()
    return answer


def _as_json(question: str, answer: dict[str, Any]) -> dict[str, Any]:
    message = answer["messages"][-1]
    return {
        "question": question,
        "answer": answer["answer"],
        "points": answer["points"],
        "usage": message.usage_metadata,
        "sot": message.response_metadata["sot"],
    }


def main() -> NoReturn:
    """Run the command line."""
    log = take_client_log()
    try:
        app()
    except SystemExit as end:
        code = end.code
    except OSError as error:  # standard output is closed or full
        errors.print(f"sot-graph: {one_line(error)}", style="red", markup=False)
        code = 1
    unsent = ""
    try:
        if not flush_traces(TRACE_SECONDS):
            unsent = f"it took longer than {TRACE_SECONDS} seconds"
    except KeyboardInterrupt:  # somebody does not want to wait for that
        unsent = "nobody waited for it"
    if unsent or log.has_lost:
        why = fit(harmless(log.why or unsent), WHY_LETTERS)
        errors.print(f"sot-graph: LangSmith has not taken all of the trace: {why}", style="yellow", markup=False)
        # Its client's threads would keep the process until they have tried everything.
        os._exit(code if isinstance(code, int) else 1)
    sys.exit(code)
