"""An answer by an outline beside a plain one by the same model: what each of them took."""

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
from sot_graph.safety import describe, storable


class Question(TypedDict):
    """One line of a file of questions."""

    question: str
    category: str | None


class Answer(TypedDict):
    """What one way of answering gave, and took."""

    text: str
    seconds: float
    """Until its end."""
    first_text_seconds: float | None
    """Until a reader sees the first word; None where there was none."""
    usage: UsageMetadata | None
    """Tokens of all calls; None where the provider tells none."""
    calls: int
    points: int
    error: str | None
    """Why there is no answer, or not the whole of it."""


class Comparison(Question):
    """A line of the results."""

    settings: dict[str, Any]
    """What it was asked with; results of different settings do not go together."""
    plain: Answer
    sot: Answer
    verdicts: dict[str, Verdict]
    """What judges said of the two, by their names; see `sot_graph.evaluation.judge`."""


Asked = TypeVar("Asked", bound=Question)
_RESULT = TypeAdapter(Comparison)


def read_questions(lines: Iterable[str]) -> list[Question]:
    """Read questions, one JSON object in each line, with its `question` and perhaps a `category`.

    A question that comes twice is taken once, with the category that was told last.

    Raises:
        ValueError: A line is something else, or there is none; its number is told.
    """
    questions: dict[str, Question] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            msg = f"line {number} is no JSON: {error}"
            raise ValueError(msg) from None
        question = given.get("question") if isinstance(given, dict) else None
        if not isinstance(question, str) or not question.strip():
            msg = f'line {number} must be an object with a text as "question", not {line.strip()[:80]}'
            raise ValueError(msg)
        category = given.get("category")
        category = None if category is None else storable(str(category))
        put(Question(question=storable(question), category=category), questions)
    if not questions:
        msg = "there is no question in it"
        raise ValueError(msg)
    return list(questions.values())


def read_results(path: Path) -> dict[str, Comparison]:
    """Read the results that are there already, by their question; the newest of a question counts.

    A line that a killed process has left half written is passed over.

    Raises:
        ValueError: A line is no result; its number is told.
    """
    results: dict[str, Comparison] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            put(_RESULT.validate_json(line), results)
        except ValidationError as error:
            if not line or (line.startswith(b"{") and error.errors()[0]["type"] == "json_invalid"):
                continue
            msg = f"line {number} of {path} is no result of a comparison: move the file away, or give another folder"
            raise ValueError(msg) from None
    return results


def put(asked: Asked, known: dict[str, Asked]) -> None:
    """Put a question, or its result, in the place of an older one; its category stays where the newer has none."""
    question = asked["question"]
    if asked["category"] is None and question in known:
        asked["category"] = known[question]["category"]
    known[question] = asked


def is_answered(result: Comparison) -> bool:
    """Whether both ways gave a whole answer; else the question is asked again."""
    return not (result["plain"]["error"] or result["sot"]["error"])


def plain_graph(model: BaseChatModel) -> SotGraph:
    """A graph that answers in one call, with the retries and checks that every call of ours has."""
    return create_sot_graph(model, route=lambda _: False)


async def compare(
    question: Question,
    plain: SotGraph,
    sot: SotGraph,
    *,
    settings: dict[str, Any],
    at_once: bool = False,
    sot_first: bool = False,
) -> Comparison:
    """Answer a question in both ways.

    Args:
        question: What to ask.
        plain: Gives the answer in one call; see `plain_graph`.
        sot: Gives the answer by an outline, with the same model.
        settings: Goes into the result as it is.
        at_once: Whether both are asked at the same time, in place of one after the other.
        sot_first: Whether the one with an outline is asked first. The second may find a connection and a provider's
            cache warm.

    Returns:
        Both answers. One that failed has its `error`.
    """
    text = question["question"]
    if at_once:
        one, other = await asyncio.gather(ask(plain, text), ask(sot, text))
    elif sot_first:
        other, one = await ask(sot, text), await ask(plain, text)
    else:
        one, other = await ask(plain, text), await ask(sot, text)
    return Comparison(**question, settings=settings, plain=one, sot=other, verdicts={})


async def ask(graph: SotGraph, question: str) -> Answer:
    """Answer a question, and take the time.

    Returns:
        The answer; with an `error` where there is none, or where points of it are missing.
    """
    began, first = time.perf_counter(), None
    told: dict[str, Any] = {}
    part: Any
    try:
        async for mode, part in graph.astream({"question": question}, stream_mode=["custom", "values"]):
            if mode == "values":
                told = _told(part)
            elif first is None and part["type"] == "answer" and part["text"].strip():
                first = time.perf_counter()
    except Exception as error:  # noqa: BLE001 - one question that fails does not end a comparison
        told = {"error": describe(error)}
    empty = Answer(
        text="",
        seconds=round(time.perf_counter() - began, 3),
        first_text_seconds=None if first is None else round(first - began, 3),
        usage=None,
        calls=0,
        points=0,
        error=None,
    )
    return {**empty, **told}  # type: ignore[typeddict-item]


def _told(state: dict[str, Any]) -> dict[str, Any]:
    """What the graph's last state tells of the answer; `{}` of an earlier one."""
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


def write_result(result: Comparison, path: Path) -> None:
    """Write a result down, as a line behind the others."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # a killed process has left half a line
                file.write(b"\n")
        file.write(_line(result).encode())


def leave_newest(path: Path, questions: Iterable[Question]) -> list[Comparison]:
    """Leave one line for each question in the results, the newest.

    Args:
        path: The file of the results.
        questions: What was asked last; it comes last, in this order and not in that of the answers.

    Returns:
        What is in the file then.
    """
    places = {each["question"]: place for place, each in enumerate(questions)}
    results = sorted(read_results(path).values(), key=lambda result: places.get(result["question"], -1))
    beside = path.with_name(f"{path.name}.new")
    beside.write_text("".join(map(_line, results)), encoding="utf-8")
    beside.replace(path)  # in one step: a process that is killed loses nothing
    return results


def _line(result: Comparison) -> str:
    return json.dumps(result) + "\n"
