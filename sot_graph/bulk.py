"""Many questions: answered side by side, each answer passed on as soon as it is there."""

import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl

from sot_graph.checks import check_graph
from sot_graph.concurrency import as_ready, as_ready_in_threads
from sot_graph.errors import ExpansionError, failures
from sot_graph.redaction import describe, secrets_in_graph
from sot_graph.run import RUN, Run
from sot_graph.state import Point
from sot_graph.throttle import Throttle
from sot_graph.usage import RequestCounter, total_usage

Row = str | Mapping[str, Any]
"""A question, or an object with one; see `abatch_answers`."""
GIVEN = ("question", "messages", "outline")
"""What the graph reads of a row."""
WRITTEN = ("answer", "points", "usage", "seconds", "error")
"""What a result has beside its row."""


def abatch_answers(
    graph: Runnable[Any, Any],
    questions: Iterable[Row] | AsyncIterable[Row],
    *,
    concurrency: int = 50,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    config: RunnableConfig | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Answer many questions side by side.

    The questions are read as they are needed, and results are not kept: memory does not grow with their number. The
    calls of all questions share one limit. If a server refuses a call because there are too many (429, 529), all calls
    wait as long as it asks (15 minutes at most), then fewer run at once; they wait, too, if a server that has replied
    cannot be reached. The call is made again, and that does not count as a retry.

    Args:
        graph: From `create_sot_graph`, or a graph that has one as a node. With a checkpointer, a question has a thread,
            named by its `id` and its question: one that was begun before is resumed, one that was answered is not asked
            again, and one of which points failed (`on_error="keep"`) is asked again in whole.
        questions: Texts, or objects with a `question` or `messages`, if you like an `id` and an `outline`, and further
            columns, which come back with the answer.
        concurrency: How many model calls run at once, over all questions; and how many questions, at most.
        requests_per_minute: How many calls start in a minute, at most.
        tokens_per_minute: How many tokens they take in a minute. A call is taken for the average of those before it,
            until it has ended.
        config: For each run of the graph: callbacks, tags, metadata.

    Yields:
        One dict for each question, as they are ready: the row's own columns, with `id` (the row's, or its number from
        1), `question`, `answer` (None if there is none), `points`, `usage` (the tokens of all calls), `seconds`, and
        `error` (why there is no answer, or which points are missing; None if all is well). A question that fails does
        not end the others. A column of yours that is named as one of these (`answer`) comes back as `input_answer`.

    Raises:
        TypeError: `graph` is no graph, or a limit is no number.
        ValueError: A limit is too small, or the graph has `review=True`.
        Exception: What reading the questions raises, once the questions before are answered.

    Example:
        ```python
        import asyncio

        from sot_graph import DemoChatModel, abatch_answers, create_sot_graph

        graph = create_sot_graph(DemoChatModel())
        questions = ["How do bees find their way home?", {"id": "tea", "question": "What is good about tea?"}]


        async def main():
            async for result in abatch_answers(graph, questions, concurrency=20):
                print(result["id"], len(result["points"]), result["error"])


        asyncio.run(main())
        ```
    """
    job = _Job(graph, questions, concurrency, requests_per_minute, tokens_per_minute, config)
    return as_ready(_numbered_async(questions), job.aanswer, concurrency)


def batch_answers(
    graph: Runnable[Any, Any],
    questions: Iterable[Row],
    *,
    concurrency: int = 50,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    config: RunnableConfig | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Answer many questions side by side, in threads; see `abatch_answers`.

    Once the results are left, no call starts any more; those that run end by themselves.
    """
    job = _Job(graph, questions, concurrency, requests_per_minute, tokens_per_minute, config)
    return as_ready_in_threads(enumerate(questions, start=1), job.answer, concurrency, job.stop)


class _Job:
    """What the questions share."""

    def __init__(
        self,
        graph: Runnable[Any, Any],
        questions: object,
        concurrency: int,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        config: RunnableConfig | None,
    ) -> None:
        self.graph: Any = check_graph(graph)
        if isinstance(questions, str | Mapping) or not isinstance(questions, Iterable | AsyncIterable):
            msg = f"questions must be several, such as a list of texts or dicts, not {type(questions).__name__}."
            raise TypeError(msg)
        numbers: Any = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        for name, value in {"concurrency": concurrency, **numbers}.items():
            _check_number(name, value, is_whole=name == "concurrency")
        if "review" in getattr(graph, "nodes", ()):
            msg = "A graph with review=True waits for a person at each outline. Give one without it."
            raise ValueError(msg)
        self._throttle, self._control = Throttle(concurrency, **numbers), RunControl()
        self._options: Any = {"control": self._control} if isinstance(graph, Pregel) else {}
        self._config = config
        saver = getattr(graph, "checkpointer", None)
        self._saver = saver if isinstance(saver, BaseCheckpointSaver) else None
        self.secrets = secrets_in_graph(graph)

    async def aanswer(self, row: tuple[int, Any]) -> dict[str, Any]:
        """Answer one question."""
        asked = self._ask(row)
        try:
            asked.check()
            saved = await self.graph.aget_state(asked.config) if self._saver else None
            if self._saver and asked.is_incomplete(saved):
                await self._saver.adelete_thread(asked.thread)
                saved = None
            state = asked.answered(saved) or await self.graph.ainvoke(asked.given_after(saved), asked.run_config())
            return asked.result(state)
        except Exception as error:  # noqa: BLE001 - a question that fails does not end the others
            return asked.failure(error)

    def answer(self, row: tuple[int, Any]) -> dict[str, Any]:
        """Answer one question in a thread."""
        asked = self._ask(row)
        try:
            asked.check()
            saved = self.graph.get_state(asked.config) if self._saver else None
            if self._saver and asked.is_incomplete(saved):
                self._saver.delete_thread(asked.thread)
                saved = None
            state = asked.answered(saved)
            state = state or self.graph.invoke(asked.given_after(saved), asked.run_config(), **self._options)
            return asked.result(state)
        except Exception as error:  # noqa: BLE001 - as in `aanswer`
            return asked.failure(error)

    def stop(self) -> None:
        """Start no call any more; those that run in threads end by themselves."""
        self._control.request_drain("the results were left")
        self._throttle.close()

    def _ask(self, row: tuple[int, Any]) -> "_Asked":
        number, values = row
        columns = values if isinstance(values, Mapping) else {"question": values}
        own = columns.get("id")
        ident = number if own is None else own
        thread = f"{ident}-{digest(ident, columns):x}"
        saved: RunnableConfig = {"configurable": {"thread_id": thread}} if self._saver else {}
        config = merge_configs({"metadata": {"question_id": str(ident)}}, self._config, saved)
        return _Asked(number, ident, thread, columns, config, self)

    def around(self, number: int) -> Run:
        """What stands around the run of a question: the limit that all share."""
        run = Run()
        run.limits, run.place = [self._throttle], (number,)
        return run


@dataclass
class _Asked:
    """One question."""

    number: int
    id: object
    thread: str
    columns: Mapping[str, Any]
    config: RunnableConfig
    job: _Job
    began: float = field(default_factory=time.perf_counter)
    counter: RequestCounter = field(default_factory=RequestCounter)

    def check(self) -> None:
        """Refuse a row without a question."""
        if self.columns.get("question") is None and not self.columns.get("messages"):
            names = ", ".join(map(repr, self.columns)) or "nothing"
            msg = (
                f"The row has no question: it has {names:.200}. Pass a text, or a dict with a `question` or `messages`."
            )
            raise ValueError(msg)

    def is_incomplete(self, saved: Any) -> bool:
        """Whether a thread has an answer without some of its points: the question is asked again in whole."""
        return not saved.tasks and any(point["status"] == "failed" for point in saved.values.get("points") or ())

    def answered(self, saved: Any) -> dict[str, Any] | None:
        """The state of a thread in which the question is answered already, if there is one."""
        return saved.values if saved and saved.created_at and not saved.tasks else None

    def given_after(self, saved: Any) -> dict[str, Any] | None:
        """The input; None to continue a thread."""
        return None if saved and saved.tasks else given_by(self.columns)

    def run_config(self) -> RunnableConfig:
        """The config of the run."""
        configurable = {**self.config.get("configurable", {}), RUN: self.job.around(self.number)}
        return merge_configs({**self.config, "configurable": configurable}, {"callbacks": [self.counter]})

    def result(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a run that has ended."""
        points, message = state.get("points") or [], state["messages"][-1]
        failed: list[Point] = [point for point in points if point["status"] == "failed"]
        answer = state.get("answer") or message.text
        error = f"{len(failed)} of {len(points)} points could not be written: {failures(failed)}" if failed else None
        return self._row(answer, points, message.usage_metadata, error)

    def failure(self, error: Exception) -> dict[str, Any]:
        """The result of a run that has failed, with the points that were written."""
        points: list[Point] = []
        if isinstance(error, ExpansionError):
            points = sorted([*error.written, *error.failed], key=lambda point: point["index"])
        usage = total_usage(self.counter.usages.values())
        return self._row(None, points, usage, describe(error, self.job.secrets))

    def _row(self, answer: str | None, points: list[Point], usage: object, error: str | None) -> dict[str, Any]:
        """The columns of the row, and the result."""
        own = {f"input_{name}" if name in WRITTEN else name: value for name, value in self.columns.items()}
        seconds = round(time.perf_counter() - self.began, 3)
        found = dict(zip(WRITTEN, (answer, points, usage, seconds, error), strict=True))
        return {"id": self.id, "question": None, **own, **found} | {"id": self.id}


def given_by(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The input of the graph in a row."""
    return {key: value for key in GIVEN if (value := columns.get(key)) is not None}


def digest(ident: object, columns: Mapping[str, Any]) -> int:
    """A number of 64 bits for a row: its id, and what is asked in it."""
    given = json.dumps([str(ident), given_by(columns)], sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(given.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _check_number(name: str, value: Any, *, is_whole: bool) -> None:
    kind = "a whole number of at least 1" if is_whole else "a number above 0, or None for no limit"
    if value is None and not is_whole:
        return
    if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
        msg = f"{name} must be {kind}, not {value!r}."
        raise TypeError(msg)
    if not (value >= 1 if is_whole else value > 0):  # NaN is neither
        msg = f"{name} must be {kind}, not {value!r}."
        raise ValueError(msg)


async def _numbered_async(rows: Iterable[Row] | AsyncIterable[Row]) -> AsyncGenerator[tuple[int, Any], None]:
    number = 0
    if isinstance(rows, AsyncIterable):
        try:
            async for row in rows:
                number += 1
                yield number, row
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()
    else:
        for numbered in enumerate(rows, start=1):
            yield numbered
