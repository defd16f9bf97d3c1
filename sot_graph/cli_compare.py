"""The command `sot-graph compare`: answers by an outline beside plain ones, as text, table and picture."""

import asyncio
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from langchain_core.language_models import BaseChatModel
from rich.columns import Columns
from rich.console import Console
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sot_graph.compare import (
    Answer,
    Comparison,
    Question,
    compare,
    is_answered,
    plain_graph,
    read_questions,
    read_results,
    write_result,
)
from sot_graph.display import harmless
from sot_graph.graph import SotGraph, create_sot_graph
from sot_graph.judge import Judge
from sot_graph.safety import hide
from sot_graph.summary import Prices, Rows, markdown, notes, summarize_comparisons, time_rows, verdict_rows
from sot_graph.terminal import DEFAULT_MODEL, DEMO, INTERRUPTED, WRONG_USE, choose_model, errors, fail, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = "results.jsonl"
TOLD = 3
"""How many problems are told at the end; the results have them all."""
LOG_WIDTH = 200
"""How wide a table may be where no terminal is."""
TWO_COLUMNS = 80
"""From this width on there is room for two answers side by side."""


@dataclass
class Bench:
    """What all questions are asked with, and where the results are kept."""

    plain: SotGraph
    sot: SotGraph
    judge: Judge | None
    settings: dict[str, Any]
    path: Path | None
    results: dict[str, Comparison]
    """By question."""

    async def work(self, number: int, question: Question) -> None:
        """Answer a question in both ways, and have the answers judged; what is there is not asked for again."""
        text = question["question"]
        if not self._is_answered(text):
            at_once, sot_first = self.settings["at_once"], number % 2 == 1
            options: Any = {"settings": self.settings, "at_once": at_once, "sot_first": sot_first}
            self._keep(await compare(question, self.plain, self.sot, **options))
        if self.judge and self._is_answered(text) and not self.is_done(text):
            result = self.results[text]
            verdict = await self.judge.averdict(text, plain=result["plain"]["text"], sot=result["sot"]["text"])
            self._keep({**result, "verdicts": {**result["verdicts"], self.judge.name: verdict}})

    def is_done(self, question: str) -> bool:
        """Whether nothing of a question is left to be asked."""
        if not self._is_answered(question) or self.judge is None:
            return self._is_answered(question)
        verdict = self.results[question]["verdicts"].get(self.judge.name)
        return verdict is not None and not verdict["error"]

    def _is_answered(self, question: str) -> bool:
        return question in self.results and is_answered(self.results[question])

    def _keep(self, result: Comparison) -> None:
        self.results[result["question"]] = result
        if self.path:
            write_result(result, self.path)


def compare_answers(  # noqa: PLR0913 - one option each, keyword-only
    question: Annotated[str | None, typer.Argument(help="What to answer. Left out: --file has the questions.")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            help='Questions, each a line of JSON: {"question": "...", "category": "..."}; no category is fine.'
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(envvar="SOT_MODEL", help=f"As of ask: a name such as {DEFAULT_MODEL}, or {DEMO}."),
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="As of ask: an OpenAI-compatible server.")] = None,
    max_points: Annotated[int, typer.Option(min=1, help="No more points than this.")] = 10,
    at_once: Annotated[
        bool, typer.Option("--at-once/--in-turn", help="Whether both ways are asked at the same time.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="How many questions at a time.")] = 1,
    judge: Annotated[
        str | None, typer.Option(help=f"A model that says which answer is better: a name, or {DEMO}.")
    ] = None,
    judge_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the judge.")] = None,
    price_in: Annotated[float | None, typer.Option(min=0, help="What a million input tokens cost.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="What a million output tokens cost.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"A folder for {RESULTS}, summary.json, summary.md and summary.svg. What is in {RESULTS} already is "
            "not asked again. Left out, with --file: the file's name and -comparison."
        ),
    ] = None,
) -> None:
    """Answer questions by an outline and in one plain call, and compare what that took."""
    questions = _questions(question, file)
    if output is None and file is not None:
        output = Path(f"{file.stem}-comparison")
    if (price_in is None) != (price_out is None):
        fail("a cost needs both prices: --price-in and --price-out.", WRONG_USE)
    prices = None if price_in is None or price_out is None else Prices(price_in, price_out)
    chosen = choose_model(model, base_url)
    settings = {
        "model": model or (chosen if isinstance(chosen, str) else DEMO),
        "base_url": base_url and hide(base_url),
        "max_points": max_points,
        "at_once": at_once,
    }
    asked = _made(chosen)
    sot = create_sot_graph(asked, min_points=min(2, max_points), max_points=max_points, on_error="keep")
    judges = _judge(judge, judge_url)
    path, results = _results(output, settings)
    bench = Bench(plain_graph(asked), sot, judges, settings, path, results)
    try:
        asyncio.run(_run(bench, questions, concurrency))
    except KeyboardInterrupt:
        kept = f" What is answered is in {path}: the same command goes on from there." if path else ""
        fail(f"stopped.{kept}", INTERRUPTED)
    except OSError as error:
        _show(_of(questions, results), prices, judge, None)
        fail(f"the results could not be written: {one_line(error)}")
    _show(_of(questions, results), prices, judge, output)
    if problems := [problem for result in _of(questions, results) for problem in _problems(result, judge)]:
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        fail("; ".join(problems[:TOLD]) + more)


def _of(questions: list[Question], results: dict[str, Comparison]) -> list[Comparison]:
    """The results of these questions; a category may be new."""
    answered = [each for each in questions if each["question"] in results]
    return [Comparison(**{**results[each["question"]], **each}) for each in answered]


def _questions(question: str | None, file: Path | None) -> list[Question]:
    if (question is None) == (file is None):
        fail("what is the question? Give one as an argument, or a file of them as --file.", WRONG_USE)
    if file is None:
        if not question or not question.strip():
            fail("the question is blank.", WRONG_USE)
        return [Question(question=question.strip(), category=None)]
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return read_questions(lines)
    except (OSError, ValueError) as error:
        fail(f"--file {file} cannot be read: {error}", WRONG_USE)


def _judge(name: str | None, base_url: str | None) -> Judge | None:
    """Make the judge."""
    if name is None:
        if base_url is not None:
            fail("--judge-url needs --judge: which of the server's models?", WRONG_USE)
        return None
    model = _made(choose_model(name, base_url))
    try:
        return Judge(name, model)
    except ImportError as error:
        fail(f"--judge needs the extra `eval` ({error}): pip install 'sot-graph[eval]'", WRONG_USE)


def _made(model: str | BaseChatModel) -> BaseChatModel:
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow, and needed only here

    try:
        return init_chat_model(model) if isinstance(model, str) else model
    except (ImportError, ValueError) as error:  # no such model, or its package is not installed
        fail(one_line(error), WRONG_USE)
    except Exception as error:  # noqa: BLE001 - a client refuses to be made in a way of its own
        fail(one_line(error))


def _results(folder: Path | None, settings: dict[str, Any]) -> tuple[Path | None, dict[str, Comparison]]:
    """The file of the results, and what is in it."""
    if folder is None:
        return None, {}
    path = folder / RESULTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        results = read_results(path)
    except (OSError, ValueError) as error:
        fail(f"--output {folder} cannot be used: {error}", WRONG_USE)
    other = next((each["settings"] for each in results.values() if each["settings"] != settings), None)
    if other is not None:
        fail(
            f"{path} has results of other settings ({_told(other)}) than these ({_told(settings)}): give another "
            "folder as --output.",
            WRONG_USE,
        )
    return path, results


def _told(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)


async def _run(bench: Bench, questions: list[Question], concurrency: int) -> None:
    """Ask what is left to be asked, with a bar that shows how far it is."""
    left = [(number, each) for number, each in enumerate(questions) if not bench.is_done(each["question"])]
    places = asyncio.Semaphore(concurrency)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
    )
    with bar if errors.is_terminal else nullcontext():
        task = bar.add_task("questions", total=len(questions), completed=len(questions) - len(left))

        async def one(number: int, question: Question) -> None:
            async with places:
                await bench.work(number, question)
            bar.advance(task)
            if not errors.is_terminal and len(questions) > 1:
                errors.print(f"{bar.tasks[0].completed:.0f} of {len(questions)}", style="dim")

        try:
            async with asyncio.TaskGroup() as tasks:
                for number, each in left:
                    tasks.create_task(one(number, each))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


def _show(results: list[Comparison], prices: Prices | None, judge: str | None, folder: Path | None) -> None:
    """Print the figures, and the answers themselves if it was one question; write the summary."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = LOG_WIDTH
    if len(results) == 1:
        _side_by_side(results[0], judge, output)
    summary = summarize_comparisons(results, prices, judge)
    times = _table(time_rows(summary))
    if Measurement.get(output, output.options.update(max_width=LOG_WIDTH), times).maximum > output.width:
        times = _table(time_rows(summary, quartiles=False))
    for table in (times, _table(verdict_rows(summary))):
        if table.row_count:
            output.print(table)
    for line in notes(summary):
        output.print(Text(line, style="dim"))
    if folder is None:
        return
    from sot_graph.plot import summary_svg  # noqa: PLC0415 - slow, and needed only here

    files: dict[str, Callable[[], str]] = {
        "summary.json": lambda: json.dumps(summary, indent=2, ensure_ascii=False) + "\n",
        "summary.md": lambda: markdown(summary) + "\n",
        "summary.svg": lambda: summary_svg(summary),
    }
    try:
        for name, made in files.items():
            (folder / name).write_text(made(), encoding="utf-8")
    except OSError as error:
        fail(f"the summary could not be written: {one_line(error)}")
    errors.print(f"Results and summary are in {folder}.", style="dim", markup=False)


def _side_by_side(result: Comparison, judge: str | None, output: Console) -> None:
    """Both answers, each in a column of its own where there is room for two."""
    width = output.width // 2 if output.is_terminal and output.width >= TWO_COLUMNS else output.width
    panels = []
    for name, answer in (("one plain call", result["plain"]), ("by an outline", result["sot"])):
        text = Text(harmless(answer["text"] or answer["error"] or ""))
        panels.append(Panel(text, title=name, subtitle=_figures(answer), width=width))
    output.print(Columns(panels, padding=(0, 0)))
    verdict = result["verdicts"].get(judge or "")
    for order, reason in zip(("SoT", "plain"), verdict["reasons"] if verdict else [], strict=False):
        output.print(Text(f"judge, {order} first: {harmless(reason)}", style="dim"))


def _figures(answer: Answer) -> str:
    first = answer["first_text_seconds"]
    parts = [f"{answer['seconds']:.1f} s"]
    if first is not None:
        parts.append(f"first text after {first:.1f} s")
    if answer["usage"]:
        parts.append(f"{answer['usage']['total_tokens']:,} tokens")
    return " · ".join(parts)


def _table(rows: Rows) -> Table:
    head, *lines = rows or [[]]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(harmless(cell)) for cell in line))
    return table


def _problems(result: Comparison, judge: str | None) -> list[str]:
    """What could not be had of a question."""
    question = result["question"][:60]
    verdict = result["verdicts"].get(judge or "")
    errors = {
        "one plain call": result["plain"]["error"],
        "by an outline": result["sot"]["error"],
        "judge": verdict and verdict["error"],
    }
    return [f"{question!r}, {what}: {error}" for what, error in errors.items() if error]
