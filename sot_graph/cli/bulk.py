"""What `sot-graph batch` does: a file of questions in, a file of answers out, and the progress on standard error."""

import asyncio
import logging
import re
import signal
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sot_graph import throttle
from sot_graph.batches.deferred import WaitsForBatchError
from sot_graph.bulk import abatch_answers, digest
from sot_graph.cli.backend import Backend, refuse_open_batches
from sot_graph.cli.comparison import prices_or_exit
from sot_graph.cli.model import choose_model, create_or_exit
from sot_graph.cli.options import ModelChoice
from sot_graph.cli.results import Answers
from sot_graph.cli.rows import Questions, RowError, check_format, check_parquet, check_rows, read_rows
from sot_graph.cli.terminal import INTERRUPTED, USAGE_ERROR, error_line, errors, fail
from sot_graph.evaluation.summary import Prices
from sot_graph.evaluation.text import fit, one_line
from sot_graph.graph import create_sot_graph
from sot_graph.nodes import skeleton
from sot_graph.usage import total_usage

MOST_FAILED = 20
"""So many questions in a row that fail for a cause that all share end the run."""
SHARED = re.compile(r"\b40[134]\b|insufficient_quota|Connect")
"""In the error of a question: no access, no such model, no quota, no connection."""
MOST_NAMED = 3
ONLINE = "online"
EVERY = 30.0
"""Seconds between two lines of progress if standard error is no terminal."""


@dataclass(frozen=True)
class Job:
    """What is answered, and how."""

    questions: Path
    output: Path
    model: ModelChoice
    options: dict[str, Any]
    """Of the graph."""
    limits: dict[str, Any]
    """Of `abatch_answers`."""
    prices: tuple[float | None, float | None, float | None]
    """For a million input, output and cached input tokens."""
    backend: str
    resume: bool
    wait: bool


@dataclass
class Tally:
    """What this run has done so far."""

    total: int
    done: int
    began: float = field(default_factory=time.monotonic)
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    """The first ones, as lines."""
    failed: int = 0
    in_a_row: int = 0
    usage: UsageMetadata | None = None
    is_stopping: bool = False

    @property
    def tried(self) -> int:
        """Questions that are answered or have failed, with those of earlier runs."""
        return self.done + self.answered + self.failed

    @property
    def has_given_up(self) -> bool:
        """Whether no more questions are asked."""
        return self.in_a_row >= MOST_FAILED

    def note(self, result: dict[str, Any]) -> None:
        """Count a result."""
        self.usage = total_usage([self.usage, result["usage"]])
        if result["error"]:
            self.failed += 1
            is_shared = result["answer"] is None and SHARED.search(result["error"])
            self.in_a_row = self.in_a_row + 1 if is_shared else 0
            if len(self.failures) < MOST_NAMED:
                self.failures.append(f"{result['id']}: {fit(one_line(result['error']), 300)}")
        else:
            self.answered, self.in_a_row = self.answered + 1, 0

    @property
    def minutes(self) -> float:
        """Since the run began."""
        return max(time.monotonic() - self.began, 0.001) / 60

    def figures(self) -> str:
        """The rate and the tokens."""
        tokens = self.usage["total_tokens"] if self.usage else 0
        failed = f" · {self.failed:,} failed" if self.failed else ""
        return f"{(self.answered + self.failed) / self.minutes:,.0f}/min · {tokens:,} tokens{failed}"


def run_job(job: Job) -> None:
    """Answer the questions, and exit with 1 if any has failed."""
    prices = prices_or_exit(*job.prices)
    _check_backend(job)
    questions, answers = _open_files(job)
    done = sum(map(answers.has, questions.keys))
    tally = Tally(len(questions.keys), done)
    try:
        label = _answer_all(job, questions, answers, tally)
    except KeyboardInterrupt:
        fail(f"stopped. {_resume(answers)}", INTERRUPTED)
    except (OSError, RowError) as error:
        fail(f"{error_line(error)}. {_resume(answers)}")
    finally:
        answers.close()
    _report(tally, label, prices, is_half=job.backend != ONLINE)
    if tally.is_stopping:
        fail(f"stopped. {_resume(answers)}", INTERRUPTED)
    if tally.has_given_up:
        named = "; ".join(tally.failures)
        fail(f"stopped: {MOST_FAILED} questions in a row got no answer ({named}). Mend the cause. {_resume(answers)}")
    _convert(answers, questions.columns)
    if tally.failed:
        more = tally.failed - len(tally.failures)
        lines = [*tally.failures, *([f"and {more:,} more; see {answers.lines}"] if more else [])]
        noun = "question" if tally.failed == 1 else "questions"
        fail(f"{tally.failed:,} {noun} failed. The same command asks again.\n" + "\n".join(lines))


def _check_backend(job: Job) -> None:
    """Refuse options that have no meaning together."""
    if job.backend == ONLINE and (job.resume or not job.wait):
        fail("--resume and --no-wait are for batches: add --backend. Online, the same command resumes.", USAGE_ERROR)
    if job.backend != ONLINE and (job.limits["requests_per_minute"] or job.limits["tokens_per_minute"]):
        fail("limits of a minute are for calls that are made at once; leave them out with --backend.", USAGE_ERROR)


def _open_files(job: Job) -> tuple[Questions, Answers]:
    """Check both files, before any model is called."""
    try:
        check_format(job.questions)
        check_parquet(job.questions, job.output)
        answers = Answers(job.output)
    except RowError as error:
        fail(str(error), USAGE_ERROR)
    if job.questions.resolve() in {answers.path.resolve(), answers.lines.resolve()}:
        fail("--output is the file of the questions. Choose another file.", USAGE_ERROR)
    try:
        questions = check_rows(job.questions)
    except (OSError, ValueError) as error:
        fail(f"{job.questions} cannot be read: {error}", USAGE_ERROR)
    try:
        answers.open()
    except (OSError, ValueError) as error:
        fail(f"--output {job.output} cannot be used: {error}", USAGE_ERROR)
    return questions, answers


def _resume(answers: Answers) -> str:
    return f"What is answered is in {answers.lines}; the same command resumes."


def _answer_all(job: Job, questions: Questions, answers: Answers, tally: Tally) -> str:
    """Answer what is not answered, now or by batches; returns the name of the model."""
    options: Any = {**job.options, "min_points": min(2, job.options["max_points"])}
    if job.backend != ONLINE:
        backend = Backend(job.backend, job.model, answers.lines, is_resumed=job.resume)
        graph = backend.graph(options)
        _print_state(questions, answers, tally)
        backend.run(lambda: asyncio.run(_run(graph, job, answers, tally)), waits=job.wait)
        return backend.label
    refuse_open_batches(answers.lines)
    chosen = choose_model(job.model)
    online = create_or_exit(create_sot_graph, chosen.model, **options)
    _print_state(questions, answers, tally)
    asyncio.run(_run(online, job, answers, tally))
    return chosen.label


def _print_state(questions: Questions, answers: Answers, tally: Tally) -> None:
    """Say what is there from an earlier run."""
    if tally.done:
        line = f"{tally.done:,} of {tally.total:,} questions are answered in {answers.lines}."
        errors.print(line, style="dim", markup=False)
    if (others := len(answers) - tally.done) > 0:
        line = f"{answers.lines} has {others:,} answers to questions that are not in {questions.path}; they stay."
        errors.print(line, style="yellow", markup=False)


async def _run(graph: Runnable[Any, Any], job: Job, answers: Answers, tally: Tally) -> bool:
    """Answer what is not answered, and write each answer as soon as it is there; returns whether all was tried."""

    def pending() -> Iterator[dict[str, Any]]:
        for row in read_rows(job.questions):
            if tally.is_stopping or tally.has_given_up:
                return
            if not answers.has(digest(row["id"], row)):
                yield row

    answers.refresh()
    with _stopping(tally), _progress(tally) as show:
        async with aclosing(abatch_answers(graph, pending(), **job.limits)) as results:
            async for result in results:
                if str(result["error"]).startswith(WaitsForBatchError.__name__):
                    continue
                answers.add(result)
                tally.note(result)
                show()
    return not tally.is_stopping and not tally.has_given_up


@contextmanager
def _stopping(tally: Tally) -> Iterator[None]:
    """On Ctrl-C and on SIGTERM, finish the questions that are begun; a second one stops at once."""
    loop = asyncio.get_running_loop()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for each, handler in before.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)

    def stop() -> None:
        tally.is_stopping = True
        restore()
        errors.print("Finishing the questions that are begun. Ctrl-C again stops at once.", style="yellow")

    try:
        for each in before:
            loop.add_signal_handler(each, stop)
    except NotImplementedError:  # on Windows, the first Ctrl-C stops at once
        yield
        return
    try:
        yield
    finally:
        if not tally.is_stopping:
            restore()


@contextmanager
def _progress(tally: Tally) -> Iterator[Any]:
    """A bar on a terminal, else a line now and then; yields what shows a new state."""
    bar = Progress(
        TextColumn("questions"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    task = bar.add_task("questions", total=tally.total, completed=tally.done, figures="")
    shown = time.monotonic()

    def show() -> None:
        nonlocal shown
        bar.update(task, completed=tally.tried, figures=tally.figures())
        if bar.disable and time.monotonic() - shown >= EVERY:
            shown = time.monotonic()
            errors.print(f"{tally.tried:,} of {tally.total:,} · {tally.figures()}", style="dim")

    with bar, _warnings():
        yield show


@contextmanager
def _warnings() -> Iterator[None]:
    """Print that calls are held back, above the bar; and not for each question how many points its outline had."""
    handler = logging.Handler()
    handler.emit = lambda record: errors.print(record.getMessage(), style="yellow", markup=False)  # type: ignore[method-assign]
    held, outlines = logging.getLogger(throttle.__name__), logging.getLogger(skeleton.__name__)
    level, outlines.level = outlines.level, logging.ERROR
    held.addHandler(handler)
    held.propagate = False
    try:
        yield
    finally:
        held.removeHandler(handler)
        held.propagate, outlines.level = True, level


def _report(tally: Tally, label: str, prices: Prices | None, *, is_half: bool) -> None:
    """The last line: what this run did, and what it cost."""
    cost = prices.cost(tally.usage) if prices else None
    parts = [f"{tally.answered:,} answers", tally.figures(), f"{tally.minutes * 60:,.0f} s", label]
    if cost is not None:
        parts += [f"cost {cost / 2:,.4g} by batch, {cost:,.4g} online" if is_half else f"cost {cost:,.4g}"]
    errors.print(" · ".join(parts), style="dim", markup=False)


def _convert(answers: Answers, columns: list[str]) -> None:
    """Make the file that the user asked for of the lines."""
    try:
        answers.convert(columns)
    except Exception as error:  # noqa: BLE001 - polars has errors of its own, and the answers are not lost
        fail(f"{answers.path} could not be written: {error_line(error)}. The answers are in {answers.lines}.")
    with suppress(OSError):
        errors.print(f"The answers are in {answers.path}.", style="dim", markup=False)
