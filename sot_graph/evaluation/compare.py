"""Answer a question twice with the same model, in one plain call and with Skeleton-of-Thought, and keep the results.

Where two graphs are compared, `plain` is the one without a change, and `sot` the one with it.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages.ai import UsageMetadata
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sot_graph.evaluation.judge import Verdict
from sot_graph.graph import SotGraph, create_sot_graph
from sot_graph.redaction import describe, secrets_in_graph
from sot_graph.text import storable


class Question(TypedDict):
    """One line of a file of questions."""

    question: str
    category: str | None


class Answer(TypedDict):
    """An answer, and what it cost."""

    text: str
    seconds: float
    """Until the end of the answer."""
    first_text_seconds: float | None
    """Until the first word is streamed; None without any."""
    usage: UsageMetadata | None
    """The tokens of all calls; None if the provider does not report them."""
    calls: int
    points: int
    error: str | None
    """Why there is no answer, or why points are missing."""


class Comparison(Question):
    """One line of the results."""

    settings: dict[str, Any]
    """The settings of the comparison. Results with different settings are not mixed."""
    plain: Answer
    sot: Answer
    verdicts: dict[str, Verdict]
    """The verdicts by the name of the judge; see `sot_graph.evaluation.judge`."""


Item = TypeVar("Item", bound=Question)
_RESULT = TypeAdapter(Comparison)


def read_questions(lines: Iterable[str]) -> list[Question]:
    """Read questions: one JSON object per line, with a `question` and an optional `category`.

    A question that is repeated counts once, with its last category.

    Raises:
        ValueError: A line is not valid, or there is no question.
    """
    questions: dict[str, Question] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            msg = f"line {number} is not JSON: {error}"
            raise ValueError(msg) from None
        question = value.get("question") if isinstance(value, dict) else None
        if not isinstance(question, str) or not question.strip():
            msg = f'line {number} must be an object with a text as "question", not {line.strip()[:80]}'
            raise ValueError(msg)
        category = value.get("category")
        category = None if category is None else storable(str(category))
        add_newest(Question(question=storable(question), category=category), questions)
    if not questions:
        msg = "it contains no question"
        raise ValueError(msg)
    return list(questions.values())


def read_results(path: Path) -> dict[str, Comparison]:
    """Read results from a file, by question. If a question has several, the last one counts.

    An incomplete line, as a killed process leaves it, is skipped.

    Raises:
        ValueError: A line is not a result.
    """
    results: dict[str, Comparison] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            add_newest(_RESULT.validate_json(line), results)
        except ValidationError as error:
            if not line or (line.startswith(b"{") and error.errors()[0]["type"] == "json_invalid"):
                continue
            msg = f"line {number} of {path} is not a comparison result: move the file away, or choose another folder"
            raise ValueError(msg) from None
    return results


def add_newest(item: Item, items: dict[str, Item]) -> None:
    """Add a question or a result, or replace an older one. The older category is kept if the new one is None."""
    question = item["question"]
    if item["category"] is None and question in items:
        item["category"] = items[question]["category"]
    items[question] = item


def is_complete(result: Comparison) -> bool:
    """Whether both answers are complete. If not, the question runs again."""
    return not (result["plain"]["error"] or result["sot"]["error"])


def plain_graph(model: BaseChatModel) -> SotGraph:
    """A graph that answers in one call, with the same retries and checks as the calls of the other graph."""
    return create_sot_graph(model, route=lambda _: False, system_prompt="")


async def compare(
    question: Question,
    plain: SotGraph,
    sot: SotGraph,
    *,
    settings: dict[str, Any],
    at_once: bool = False,
    sot_first: bool = False,
) -> Comparison:
    """Answer a question with both graphs.

    Args:
        question: The question.
        plain: Answers in one call; see `plain_graph`. Or the graph without a change.
        sot: Answers with Skeleton-of-Thought and the same model. Or the graph with the change.
        settings: Copied into the result.
        at_once: Whether both graphs run at the same time, and not one after the other.
        sot_first: Whether `sot` runs first. The second graph may benefit from an open connection and from a provider's
            cache, so alternate this over many questions.

    Returns:
        Both answers. An answer that failed has an `error`.
    """
    text = question["question"]
    if at_once:
        plain_answer, sot_answer = await asyncio.gather(timed_answer(plain, text), timed_answer(sot, text))
    elif sot_first:
        sot_answer, plain_answer = await timed_answer(sot, text), await timed_answer(plain, text)
    else:
        plain_answer, sot_answer = await timed_answer(plain, text), await timed_answer(sot, text)
    return Comparison(**question, settings=settings, plain=plain_answer, sot=sot_answer, verdicts={})


async def timed_answer(graph: SotGraph, question: str) -> Answer:
    """Answer a question, and measure the time.

    Returns:
        The answer. It has an `error` if the run failed or points are missing.
    """
    start, first = time.perf_counter(), None
    found: dict[str, Any] = {}
    part: Any
    try:
        async for mode, part in graph.astream({"question": question}, stream_mode=["custom", "values"]):
            if mode == "values":
                found = _read_state(part)
            elif first is None and part["type"] == "answer" and part["text"].strip():
                first = time.perf_counter()
    except Exception as error:  # noqa: BLE001 - a question that fails does not stop the comparison
        found = {"error": describe(error, secrets_in_graph(graph))}
    empty = Answer(
        text="",
        seconds=round(time.perf_counter() - start, 3),
        first_text_seconds=None if first is None else round(first - start, 3),
        usage=None,
        calls=0,
        points=0,
        error=None,
    )
    return {**empty, **found}  # type: ignore[typeddict-item]


def _read_state(state: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Answer` in the last state of the graph; empty for an earlier state."""
    if not state.get("answer"):
        return {}
    message, points = state["messages"][-1], state["points"]
    errors = [point["error"] for point in points if point["status"] == "failed"]
    return {
        "text": state["answer"],
        "usage": message.usage_metadata,
        "calls": message.response_metadata["sot"]["calls"],
        "points": len(points),
        "error": f"{len(errors)} of {len(points)} points could not be written: {errors[0]}" if errors else None,
    }


def append_result(result: Comparison, path: Path) -> None:
    """Append a result to a file, as a line of JSON."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # a killed process has left an incomplete line
                file.write(b"\n")
        file.write(_json_line(result).encode())


def compact_results(path: Path, questions: Iterable[Question]) -> list[Comparison]:
    """Rewrite a file of results with one line per question, the newest.

    Args:
        path: The file.
        questions: The questions of this run. Their results come last, in this order.

    Returns:
        The results in the file.
    """
    order = {each["question"]: number for number, each in enumerate(questions)}
    results = sorted(read_results(path).values(), key=lambda result: order.get(result["question"], -1))
    new = path.with_name(f"{path.name}.new")
    new.write_text("".join(map(_json_line, results)), encoding="utf-8")
    new.replace(path)  # atomic: if the process is killed, no result is lost
    return results


def _json_line(result: Comparison) -> str:
    return json.dumps(result) + "\n"
