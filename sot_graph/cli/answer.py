"""What `sot-graph ask` does: one question, with its answer streamed to standard output."""

import asyncio
import json
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console

from sot_graph.cli.display import (
    AnswerView,
    BoardView,
    PlainOutput,
    PointsView,
    closing_line,
    live,
    print_answer,
)
from sot_graph.cli.editor import edit_outline
from sot_graph.cli.model import choose_model, create_or_exit
from sot_graph.cli.options import ModelChoice
from sot_graph.cli.terminal import INTERRUPTED, USAGE_ERROR, ReaderLeftError, error_line, errors, fail, is_pipe, write
from sot_graph.cli.timeline import timeline_text
from sot_graph.evaluation.text import escape_controls, strip_controls
from sot_graph.graph import create_sot_graph
from sot_graph.usage import SotMetadata, summarize

THREAD: RunnableConfig = {"configurable": {"thread_id": "ask"}}
Draw = Callable[[SotMetadata, str], object]
"""Draws a timeline. Its arguments: `response_metadata["sot"]` and the question."""


@dataclass(frozen=True)
class Display:
    """How the answer is shown."""

    watch: bool
    as_json: bool
    timeline: str | None


def answer_question(given: dict[str, Any], model: ModelChoice, options: dict[str, Any], display: Display) -> None:
    """Answer a question, and exit with 1 if that fails.

    Args:
        given: The input of the graph.
        model: The model that the user named.
        options: The options of the graph.
        display: How the answer is shown.
    """
    draw = _choose_drawing(display.timeline)
    chosen = choose_model(model)
    graph = create_or_exit(
        create_sot_graph,
        chosen.model,
        **options,
        min_points=min(2, options["max_points"]),
        on_error="keep",
        checkpointer=InMemorySaver(),  # for the review, and for the timings of a run that failed
    )
    try:
        answer = asyncio.run(_answer(graph, given, options["max_points"], display))
    except KeyboardInterrupt:
        fail("stopped.", INTERRUPTED)
    except ReaderLeftError:
        raise
    except Exception as error:  # noqa: BLE001 - the user gets one line for any error
        problems = _draw_timeline(draw, _figures_so_far(graph), given["question"])
        fail(" ".join([error_line(error), *(f"({problem})" for problem in problems)]))
    if answer is None:
        fail("stopped: the outline is empty.")
    if display.as_json:
        write(escape_controls(json.dumps(_to_json(given["question"], answer), ensure_ascii=False, indent=2)) + "\n")
    errors.print(strip_controls(f"{closing_line(answer)} · {chosen.label}"), style="dim", markup=False)
    _report_problems(given["question"], answer, draw)


def _choose_drawing(target: str | None) -> Draw | None:
    """Choose how to draw the timeline. A target that cannot be written to is refused before any model call."""
    if target is None:
        return None
    if target == "-":
        return lambda sot, _question: errors.print(timeline_text(sot, errors.width))
    path = Path(target)
    if path.suffix.lower() not in {".svg", ".html"} or path.is_dir():
        fail("--timeline needs a file name that ends in .svg or .html, or - for standard error.", USAGE_ERROR)
    if not path.parent.is_dir():
        fail(f"--timeline: the folder {path.parent} does not exist.", USAGE_ERROR)
    from sot_graph.cli.picture import timeline_html, timeline_svg  # noqa: PLC0415 - slow, and needed only here

    render = timeline_svg if path.suffix.lower() == ".svg" else timeline_html
    return lambda sot, question: path.write_text(render(sot, question), encoding="utf-8")


def _draw_timeline(draw: Draw | None, sot: SotMetadata | None, question: str) -> list[str]:
    """Draw the timeline if it is wanted, and return the problems."""
    if draw is None:
        return []
    if sot is None:
        return ["no timeline: the failed run left no timings"]
    try:
        draw(sot, question)
    except OSError as error:
        return [f"the timeline could not be written: {error_line(error)}"]
    return []


def _figures_so_far(graph: Any) -> SotMetadata | None:
    """The timings of a run that failed after its points; None if it failed earlier, when the state has none."""
    values = graph.get_state(THREAD).values
    return summarize(values["attempts"], values["points"]) if values.get("points") else None


async def _answer(graph: Any, graph_input: Any, max_points: int, display: Display) -> dict[str, Any] | None:
    """Run the graph, with a review of the outline where it interrupts; None if the review leaves no title."""
    while True:
        answer = await _run_and_show(graph, graph_input, display)
        if not (interrupts := (await graph.aget_state(THREAD)).interrupts):
            break
        graph_input = edit_outline(max_points=max_points, **interrupts[0].value)
        if graph_input is None:
            return None
    if display.watch and not display.as_json:
        print_answer(strip_controls(answer["answer"]), Console(highlight=False))
    return answer


async def _run_and_show(graph: Any, graph_input: Any, display: Display) -> dict[str, Any]:
    """Run the graph, and show its progress on a terminal.

    The answer is streamed to standard output, unless it is printed at the end: with --json and with --watch. If
    standard output is a file and standard error a terminal, the progress of the points is shown there. Not beside a
    pipe: its reader may write to the same terminal.
    """
    output = Console(highlight=False)
    is_streamed = not (display.as_json or display.watch)
    view = AnswerView(output) if is_streamed and output.is_terminal else BoardView() if display.watch else PointsView()
    plain = PlainOutput() if is_streamed and not output.is_terminal else None
    screen = output if isinstance(view, AnswerView) else errors
    is_live = screen.is_terminal and not (plain and is_pipe(sys.stdout))
    answer: dict[str, Any] = {}
    try:
        with live(view, screen) if is_live else nullcontext():
            async for mode, part in graph.astream(graph_input, THREAD, stream_mode=["custom", "values"]):
                if mode == "values":
                    answer = part
                    continue
                view.on_event(part)
                if plain:
                    plain.on_event(part)
    except OSError:  # of standard output: LangGraph 1.2 may have begun to write a checkpoint, and warns of it
        warnings.filterwarnings("ignore", "coroutine '.*aput_writes' was never awaited", RuntimeWarning)
        raise
    finally:  # also if the run is cancelled: the text so far stays on the terminal
        for each in (view, plain):
            if isinstance(each, AnswerView | PlainOutput):
                each.finish()
    return answer


def _report_problems(question: str, answer: dict[str, Any], draw: Draw | None) -> None:
    """Draw the timeline. Exit with 1 if that or a point failed."""
    failed = [point for point in answer["points"] if point["status"] == "failed"]
    problems = [f"point {p['index']} ({p['title']}) could not be written: {p['error']}" for p in failed]
    problems += _draw_timeline(draw, answer["messages"][-1].response_metadata["sot"], question)
    if problems:
        fail("; ".join(problems))


def _to_json(question: str, answer: dict[str, Any]) -> dict[str, Any]:
    message = answer["messages"][-1]
    return {
        "question": question,
        "answer": answer["answer"],
        "points": answer["points"],
        "usage": message.usage_metadata,
        "sot": message.response_metadata["sot"],
    }
