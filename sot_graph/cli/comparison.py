"""What `sot-graph compare` does: Skeleton-of-Thought answers beside others, as text, table and picture."""

import asyncio
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sot_graph.cli.against import read_change, write_change
from sot_graph.cli.compare import RESULTS
from sot_graph.cli.model import choose_model, create_or_exit
from sot_graph.cli.options import ModelChoice
from sot_graph.cli.tables import print_comparison
from sot_graph.cli.terminal import INTERRUPTED, USAGE_ERROR, ReaderLeftError, error_line, errors, fail
from sot_graph.evaluation.bench import MAX_UNANSWERED, Bench
from sot_graph.evaluation.compare import (
    Comparison,
    Question,
    compact_results,
    plain_graph,
    read_questions,
    read_results,
)
from sot_graph.evaluation.judge import Judge
from sot_graph.evaluation.summary import Prices, markdown, problems, settings_line, summarize_comparisons
from sot_graph.graph import SotGraph, create_sot_graph
from sot_graph.redaction import redact
from sot_graph.text import storable

MAX_PROBLEMS = 3
"""How many problems are printed at the end. The results have all of them."""


@dataclass(frozen=True)
class Job:
    """What is compared, and how."""

    question: str | None
    file: Path | None
    model: ModelChoice
    judge: ModelChoice
    max_points: int
    lead: bool
    closing: bool
    hedge: float | str | None
    against: str | None
    """The options that change, as text; None to compare with one plain call."""
    at_once: bool
    concurrency: int
    prices: tuple[float | None, float | None, float | None]
    """For a million input, output and cached input tokens."""
    output: Path | None


def run_job(job: Job) -> None:
    """Compare the answers, and exit with 1 if anything failed."""
    questions = _read_questions(job.question, job.file)
    output = job.output
    if output is None and job.file is not None:
        output = Path(f"{job.file.stem}-comparison")
    prices = prices_or_exit(*job.prices)
    change = _read_change(job)
    chosen = choose_model(job.model)
    settings: dict[str, Any] = {
        "model": chosen.setting,
        "base_url": job.model.base_url and redact(job.model.base_url),
        "max_points": job.max_points,
        "at_once": job.at_once,
        "lead": job.lead,
    }
    # Older results have no such keys.
    settings |= {"closing": True} if job.closing else {}
    settings |= {} if job.hedge is None else {"hedge": job.hedge}
    settings |= {"against": write_change(change)} if change else {}
    plain, sot = _create_graphs(job, _create_model(chosen.model), change)
    judge = _create_judge(job.judge)
    path, results = _open_results(output, settings)
    bench = Bench(plain, sot, judge, settings, path, results)
    _run_and_report(bench, questions, job.concurrency, prices)


def _options(job: Job, **change: Any) -> dict[str, Any]:
    """The options of the graph that the command line sets, or of the one with some changed."""
    options: dict[str, Any] = {"max_points": job.max_points, "lead": job.lead, "closing": job.closing}
    options |= {"hedge": job.hedge, **change}
    return {"min_points": min(2, options["max_points"]), **options}


def _read_change(job: Job) -> dict[str, Any]:
    """The options that `--against` changes."""
    try:
        return {} if job.against is None else read_change(job.against, _options(job))
    except ValueError as error:
        fail(f"--against: {error}", USAGE_ERROR)


def _create_graphs(job: Job, model: BaseChatModel, change: dict[str, Any]) -> tuple[SotGraph, SotGraph]:
    """The graph of the plain answers and that of the SoT answers; with a change, the graph without it and with it."""
    graph = create_or_exit(create_sot_graph, model, **_options(job), on_error="keep")
    if not change:
        return plain_graph(model), graph
    if small := change.get("skeleton_model"):
        chosen = choose_model(ModelChoice(small, job.model.base_url), "Model of the outline")
        change = {**change, "skeleton_model": _create_model(chosen.model)}
    return graph, create_or_exit(create_sot_graph, model, **_options(job, **change), on_error="keep")


def _run_and_report(bench: Bench, questions: list[Question], concurrency: int, prices: Prices | None) -> None:
    """Run the questions, write the files and print the figures. The files come first: printing to a pipe may fail."""
    path, judge = bench.path, bench.judge.name if bench.judge else None
    left, lines = 0, []
    try:
        left = asyncio.run(_run(bench, questions, concurrency))
        if path:
            _write_files(path, questions, prices, judge)
            errors.print(f"Results, summary and answers are in {path.parent}.", style="dim", markup=False)
    except KeyboardInterrupt:
        resume = f" Finished answers are in {path}. Run the same command to resume." if path else ""
        fail(f"stopped.{resume}", INTERRUPTED)
    except OSError as error:
        lines.append(f"the results could not be written: {error_line(error)}")
    results = [bench.results[each["question"]] for each in questions if each["question"] in bench.results]
    reader_left = None
    try:
        print_comparison(results, summarize_comparisons(results, prices, judge))
    except ReaderLeftError as error:
        reader_left = error
    except OSError as error:
        lines.append(f"standard output could not be written: {error_line(error)}")
    lines += [_stopped(bench.unanswered, left)] if left else _first(problems(results, judge))
    if lines:
        fail("\n".join(lines))
    if reader_left:
        raise reader_left


def _stopped(unanswered: list[Comparison], left: int) -> str:
    return (
        f"stopped: {MAX_UNANSWERED} questions in a row got no answer ({problems(unanswered, None)[-1]}). "
        f"Fix the cause, then run the same command to resume. Questions left: {left}."
    )


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - MAX_PROBLEMS
    return lines[:MAX_PROBLEMS] + [f"and {more} more; see the results."] * (more > 0)


def _read_questions(question: str | None, file: Path | None) -> list[Question]:
    if question is not None:
        if file is not None:
            fail("there is a question and --file. Give one of them, not both.", USAGE_ERROR)
        return [Question(question=storable(question), category=None)]
    if file is None:
        fail("there is no question. Give one as an argument, or a file of questions as --file.", USAGE_ERROR)
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return read_questions(lines)
    except (OSError, ValueError) as error:
        fail(f"--file {file} cannot be read: {error}", USAGE_ERROR)


def prices_or_exit(price_in: float | None, price_out: float | None, price_cached: float | None) -> Prices | None:
    """The prices of the command line; both or none."""
    if price_in is not None and price_out is not None:
        return Prices(price_in, price_out, price_cached)
    if (price_in, price_out, price_cached) != (None, None, None):
        fail("costs need both prices, --price-in and --price-out. --price-cached is optional.", USAGE_ERROR)
    return None


def _create_model(model: str | BaseChatModel) -> BaseChatModel:
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow to import, and needed only here

    return create_or_exit(init_chat_model, model) if isinstance(model, str) else model


def _create_judge(choice: ModelChoice) -> Judge | None:
    if choice.name is None:
        if choice.base_url is not None:
            fail("--judge-url needs --judge: the name of a model on that server.", USAGE_ERROR)
        return None
    chosen = choose_model(choice, "Judge")
    try:
        return Judge(chosen.setting if choice.base_url is None else chosen.label, _create_model(chosen.model))
    except ImportError as error:
        fail(f"--judge needs the extra `eval` ({error}): pip install '.[eval]' in sot_graph's checkout", USAGE_ERROR)


def _open_results(folder: Path | None, settings: dict[str, Any]) -> tuple[Path | None, dict[str, Comparison]]:
    """Create the file of the results if it is missing, and read it."""
    if folder is None:
        return None, {}
    path = folder / RESULTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        results = read_results(path)
    except (OSError, ValueError) as error:
        fail(f"--output {folder} cannot be used: {error}", USAGE_ERROR)
    other = next((each["settings"] for each in results.values() if each["settings"] != settings), None)
    if other is not None:
        fail(
            f"{path} has results with other settings ({settings_line(other)}) than this command "
            f"({settings_line(settings)}). Choose another folder as --output.",
            USAGE_ERROR,
        )
    return path, results


async def _run(bench: Bench, questions: list[Question], concurrency: int) -> int:
    """Run the pending questions with a progress bar, and return how many are left; see `Bench.run`."""
    bench.update_categories(questions)
    pending = bench.pending(questions)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
    )
    with bar if errors.is_terminal else nullcontext():
        task = bar.add_task("questions", total=len(questions), completed=len(questions) - len(pending))

        def on_done() -> None:
            bar.advance(task)
            if not errors.is_terminal and len(questions) > 1:
                errors.print(f"{bar.tasks[0].completed:.0f} of {len(questions)}", style="dim")

        return await bench.run(pending, concurrency, on_done)


def _write_files(path: Path, questions: list[Question], prices: Prices | None, judge: str | None) -> None:
    """Write the summary and the answers of all results in the file, next to it."""
    from sot_graph.evaluation.answers import answers_html  # noqa: PLC0415 - slow to import, and needed only here
    from sot_graph.evaluation.plot import summary_svg  # noqa: PLC0415 - the same

    results = compact_results(path, questions)
    summary = summarize_comparisons(results, prices, judge)
    files = {
        "summary.json": json.dumps(summary, indent=2, ensure_ascii=False) + "\n",
        "summary.md": markdown(summary) + "\n",
        "summary.svg": summary_svg(summary),
        "answers.html": answers_html(results, summary["judge"]),
    }
    for name, text in files.items():
        path.with_name(name).write_text(text, encoding="utf-8")
