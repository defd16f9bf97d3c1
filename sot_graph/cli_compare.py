"""The command `sot-graph compare`: answers by an outline beside plain ones, as text, table and picture."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from langchain_core.language_models import BaseChatModel
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from sot_graph.console.display import harmless, write
from sot_graph.console.terminal import DEFAULT_MODEL, DEMO, INTERRUPTED, WRONG_USE, choose_model, errors, fail, one_line
from sot_graph.evaluation.compare import (
    Comparison,
    Question,
    compare,
    is_answered,
    leave_newest,
    plain_graph,
    put,
    read_questions,
    read_results,
    write_result,
)
from sot_graph.evaluation.judge import Judge
from sot_graph.evaluation.summary import (
    GAP,
    Prices,
    Rows,
    fitting,
    in_words,
    markdown,
    notes,
    problems,
    summarize_comparisons,
    taken,
    time_rows,
    verdict_rows,
)
from sot_graph.graph import SotGraph, create_sot_graph
from sot_graph.safety import hide, storable

RESULTS = "results.jsonl"
TOLD = 3
"""How many problems are told at the end; the results have them all."""
LOST = 3
"""After so many questions in a row that nothing was said to, no more are asked: a wrong key, or a dead server."""
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
    lost: list[Comparison] = field(default_factory=list)
    """The questions in a row that nothing was said to, `LOST` at the most."""

    async def work(self, number: int, question: Question) -> None:
        """Answer a question in both ways, and have the answers judged; what is there is not asked for again."""
        text = question["question"]
        if not self._is_answered(text):
            at_once, sot_first = self.settings["at_once"], number % 2 == 1
            options: Any = {"settings": self.settings, "at_once": at_once, "sot_first": sot_first}
            result = await compare(question, self.plain, self.sot, **options)
            if len(self.lost) < LOST:
                self.lost = [] if result["plain"]["text"] or result["sot"]["text"] else [*self.lost, result]
            self._keep(result)
        if self.judge and self._is_answered(text) and not self.is_done(text):
            result = self.results[text]
            verdict = await self.judge.averdict(text, plain=result["plain"]["text"], sot=result["sot"]["text"])
            self._keep({**result, "verdicts": {**result["verdicts"], self.judge.name: verdict}})

    def sort(self, questions: list[Question]) -> None:
        """Note the categories that are new to what is there already."""
        for question in questions:
            known = self.results.get(question["question"])
            if known and question["category"] not in {None, known["category"]}:
                self._keep({**known, "category": question["category"]})

    def is_done(self, question: str) -> bool:
        """Whether nothing of a question is left to be asked."""
        if not self._is_answered(question) or self.judge is None:
            return self._is_answered(question)
        verdict = self.results[question]["verdicts"].get(self.judge.name)
        return verdict is not None and not verdict["error"]

    def _is_answered(self, question: str) -> bool:
        return question in self.results and is_answered(self.results[question])

    def _keep(self, result: Comparison) -> None:
        put(result, self.results)
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
    lead: Annotated[bool, typer.Option("--lead", help="As of ask: an opening comes before the points.")] = False,
    at_once: Annotated[
        bool, typer.Option("--at-once/--in-turn", help="Whether both ways are asked at the same time.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="How many questions at a time.")] = 1,
    judge: Annotated[
        str | None, typer.Option(help=f"A model that says which answer is better: a name, or {DEMO}.")
    ] = None,
    judge_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the judge.")] = None,
    price_in: Annotated[float | None, typer.Option(min=0, help="What a million input tokens cost.")] = None,
    price_cached: Annotated[
        float | None,
        typer.Option(min=0, help="What a million input tokens cost that come from a cache. Left out: as --price-in."),
    ] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="What a million output tokens cost.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"A folder for {RESULTS}, summary.json, summary.md, summary.svg and answers.html. What is in "
            f"{RESULTS} already is not asked again. Left out, with --file: the file's name and -comparison."
        ),
    ] = None,
) -> None:
    """Answer questions by an outline and in one plain call, and compare what that took."""
    questions = _questions(question, file)
    if output is None and file is not None:
        output = Path(f"{file.stem}-comparison")
    prices = _prices(price_in, price_out, price_cached)
    chosen = choose_model(model, base_url)
    settings = {
        "model": model or (chosen if isinstance(chosen, str) else DEMO),
        "base_url": base_url and hide(base_url),
        "max_points": max_points,
        "at_once": at_once,
        "lead": lead,
    }
    asked = _made(chosen)
    points: Any = {"min_points": min(2, max_points), "max_points": max_points}
    sot = create_sot_graph(asked, **points, lead=lead, on_error="keep")
    judges = _judge(judge, judge_url)
    path, results = _results(output, settings)
    bench = Bench(plain_graph(asked), sot, judges, settings, path, results)
    _finish(bench, questions, concurrency, prices)


def _finish(bench: Bench, questions: list[Question], concurrency: int, prices: Prices | None) -> None:
    """Ask the questions, and show what it came to: first in files, which a pipe that is closed must not cost."""
    path, judge = bench.path, bench.judge.name if bench.judge else None
    left, lines = 0, []
    try:
        left = asyncio.run(_run(bench, questions, concurrency))
        if path:
            _write_files(path, questions, prices, judge)
            errors.print(f"Results, summary and answers are in {path.parent}.", style="dim", markup=False)
    except KeyboardInterrupt:
        kept = f" What is answered is in {path}: the same command goes on from there." if path else ""
        fail(f"stopped.{kept}", INTERRUPTED)
    except OSError as error:
        lines.append(f"the results could not be written: {one_line(error)}")
    results = [bench.results[each["question"]] for each in questions if each["question"] in bench.results]
    try:
        _print(results, summarize_comparisons(results, prices, judge))
    except OSError as error:
        lines.append(f"standard output could not be written: {one_line(error)}")
    lines += _stopped(bench.lost, left) if left else _first(problems(results, judge))
    if lines:
        fail("\n".join(lines))


def _stopped(lost: list[Comparison], left: int) -> list[str]:
    why = f"{LOST} questions in a row got no answer ({problems(lost, None)[-1]})"
    return [f"stopped, because {why}. Mend that; the same command goes on with the {left} that are left."]


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - TOLD
    return lines[:TOLD] + [f"and {more} more, which are in the results."] * (more > 0)


def _questions(question: str | None, file: Path | None) -> list[Question]:
    if (question is None) == (file is None):
        fail("what is the question? Give one as an argument, or a file of them as --file.", WRONG_USE)
    if file is None:
        if not question or not question.strip():
            fail("the question is blank.", WRONG_USE)
        return [Question(question=storable(question.strip()), category=None)]
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return read_questions(lines)
    except (OSError, ValueError) as error:
        fail(f"--file {file} cannot be read: {error}", WRONG_USE)


def _prices(into: float | None, out: float | None, cached: float | None) -> Prices | None:
    if into is not None and out is not None:
        return Prices(into, out, cached)
    if (into, out, cached) != (None, None, None):
        fail("a cost needs both prices: --price-in and --price-out; --price-cached may be left out.", WRONG_USE)
    return None


def _judge(name: str | None, base_url: str | None) -> Judge | None:
    """Make the judge."""
    if name is None:
        if base_url is not None:
            fail("--judge-url needs --judge: which of the server's models?", WRONG_USE)
        return None
    model = _made(choose_model(name, base_url))
    try:
        return Judge(name if base_url is None else f"{name} at {hide(base_url)}", model)
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
            f"{path} has results of other settings ({in_words(other)}) than these ({in_words(settings)}): give another "
            "folder as --output.",
            WRONG_USE,
        )
    return path, results


async def _run(bench: Bench, questions: list[Question], concurrency: int) -> int:
    """Ask what is left to be asked, with a bar that shows how far it is.

    Returns:
        How many questions were not asked, because nothing was said to several in a row.
    """
    bench.sort(questions)
    asked = [(number, each) for number, each in enumerate(questions) if not bench.is_done(each["question"])]
    # What failed before comes last: it may do so again, and must not keep the others from being asked.
    left = deque(sorted(asked, key=lambda item: item[1]["question"] in bench.results))
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
        task = bar.add_task("questions", total=len(questions), completed=len(questions) - len(left))

        async def work() -> None:
            while left and len(bench.lost) < LOST:
                await bench.work(*left.popleft())
                bar.advance(task)
                if not errors.is_terminal and len(questions) > 1:
                    errors.print(f"{bar.tasks[0].completed:.0f} of {len(questions)}", style="dim")

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(concurrency, len(left))):
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
    return len(left)


def _write_files(path: Path, questions: list[Question], prices: Prices | None, judge: str | None) -> None:
    """Sum up in files all results that are there."""
    from sot_graph.evaluation.answers import answers_html  # noqa: PLC0415 - slow, and needed only here
    from sot_graph.evaluation.plot import summary_svg  # noqa: PLC0415 - the same

    results = leave_newest(path, questions)
    summary = summarize_comparisons(results, prices, judge)
    files = {
        "summary.json": json.dumps(summary, indent=2, ensure_ascii=False) + "\n",
        "summary.md": markdown(summary) + "\n",
        "summary.svg": summary_svg(summary),
        "answers.html": answers_html(results, summary["judge"]),
    }
    for name, text in files.items():
        path.with_name(name).write_text(text, encoding="utf-8")


def _print(results: list[Comparison], summary: Mapping[str, Any]) -> None:
    """Print the figures, and the answers themselves if it was one question; in UTF-8 whatever the locale."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = LOG_WIDTH
    times = [time_rows(summary), time_rows(summary, quartiles=False)]
    verdicts = [verdict_rows(summary), verdict_rows(summary, intervals=False)]
    with output.capture() as told:
        if len(results) == 1:
            _side_by_side(results[0], summary["judge"], output)
        for choices in (times, verdicts):
            for rows in fitting(choices, output.width) if choices[0] else []:
                output.print(_table(rows))
        for line in notes(summary):
            output.print(Text(harmless(line), style="dim"))
    write(told.get())


def _side_by_side(result: Comparison, judge: str | None, output: Console) -> None:
    """The question and both answers, each in a column of its own where there is room for two."""
    output.print(Text(harmless(result["question"]), style="bold"))
    width = output.width // 2 if output.is_terminal and output.width >= TWO_COLUMNS else output.width
    panels = []
    for name, answer in (("one plain call", result["plain"]), ("by an outline", result["sot"])):
        told = [(answer["text"], ""), (answer["error"], "red"), (taken(answer), "dim")]
        texts = [Text(harmless(text), style=style) for text, style in told if text]
        panels.append(Panel(Text("\n\n").join(texts), title=name, width=width))
    output.print(Columns(panels, padding=(0, 0)))
    verdict = result["verdicts"].get(judge or "")
    for order, reason in zip(("SoT", "plain"), verdict["reasons"] if verdict else [], strict=False):
        output.print(Text(f"judge, {order} first: {harmless(reason)}", style="dim"))


def _table(rows: Rows) -> Table:
    head, *lines = rows
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line))
    return table
