"""An answer by an outline beside a plain one by the same model: what each of them took."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sot_graph.calls import counted
from sot_graph.graph import SotGraph
from sot_graph.judge import Verdict
from sot_graph.safety import describe, hide_in, secrets_of, storable


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
    failed: int
    """How many points could not be written."""
    error: str | None
    """Why there is no answer."""


class Comparison(Question):
    """A line of the results."""

    settings: dict[str, Any]
    """What it was asked with; results of different settings do not go together."""
    plain: Answer
    sot: Answer
    verdict: Verdict | None
    """What a judge said of the two; see `sot_graph.judge`."""


_RESULT = TypeAdapter(Comparison)


def read_questions(lines: Iterable[str]) -> list[Question]:
    """Read questions, one JSON object in each line, with its `question` and perhaps a `category`.

    A question that comes twice is taken once.

    Raises:
        ValueError: A line is something else, or there is none; its number is told.
    """
    questions: dict[str, Question] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except ValueError as error:
            msg = f"line {number} is no JSON: {error}"
            raise ValueError(msg) from None
        question = given.get("question") if isinstance(given, dict) else None
        if not isinstance(question, str) or not question.strip():
            msg = f'line {number} must be an object with a text as "question", not {line.strip()[:80]}'
            raise ValueError(msg)
        question, category = storable(question), given.get("category")
        questions[question] = Question(
            question=question, category=None if category is None else storable(str(category))
        )
    if not questions:
        msg = "there is no question in it"
        raise ValueError(msg)
    return list(questions.values())


def read_results(path: Path) -> dict[str, Comparison]:
    """Read the results that are there already, by their question; the newest of a question counts.

    A line that a killed process has left half written is cut off.

    Raises:
        ValueError: A line is no result; its number is told.
    """
    if not path.exists():
        return {}
    results: dict[str, Comparison] = {}
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    for number, line in enumerate(kept.splitlines(), start=1):
        try:
            result = _RESULT.validate_json(line)
        except ValueError:
            msg = f"line {number} of {path} is no result of a comparison: move the file away, or give another folder"
            raise ValueError(msg) from None
        results[result["question"]] = result
    if kept != whole:
        path.write_bytes(kept)
    return results


def is_answered(result: Comparison) -> bool:
    """Whether both ways gave an answer; else the question is asked again."""
    return not (result["plain"]["error"] or result["sot"]["error"])


async def compare(
    question: Question,
    model: BaseChatModel,
    graph: SotGraph,
    *,
    settings: dict[str, Any],
    at_once: bool = False,
    sot_first: bool = False,
) -> Comparison:
    """Answer a question in both ways.

    Args:
        question: What to ask.
        model: Gives the plain answer.
        graph: Gives the answer by an outline, with the same model.
        settings: Goes into the result as it is.
        at_once: Whether both are asked at the same time, in place of one after the other.
        sot_first: Whether the graph is asked first. The second may find a connection and a provider's cache warm.

    Returns:
        Both answers. One that failed has its `error`.
    """
    secrets = secrets_of(model)

    async def by_plain() -> Answer:
        return await _timed(plain_pieces(model, question["question"]), secrets)

    async def by_sot() -> Answer:
        return await _timed(sot_pieces(graph, question["question"]), secrets)

    if at_once:
        plain, sot = await asyncio.gather(by_plain(), by_sot())
    elif sot_first:
        sot, plain = await by_sot(), await by_plain()
    else:
        plain, sot = await by_plain(), await by_sot()
    return Comparison(**question, settings=settings, plain=plain, sot=sot, verdict=None)


Piece = tuple[str, dict[str, Any]]
"""Text as a reader gets it, and what is known by now of the answer."""


async def plain_pieces(model: BaseChatModel, question: str) -> AsyncGenerator[Piece, None]:
    """Stream the plain answer."""
    whole: AIMessageChunk | None = None
    async for piece in counted(model).astream(question):
        chunk = piece if isinstance(piece, AIMessageChunk) else AIMessageChunk(content=piece.content)
        whole = chunk if whole is None else whole + chunk
        yield chunk.text, {}
    if whole is None or not whole.text.strip():
        msg = "the model's answer is empty"
        raise ValueError(msg)
    yield "", {"text": storable(whole.text), "usage": whole.usage_metadata, "calls": 1}


async def sot_pieces(graph: SotGraph, question: str) -> AsyncGenerator[Piece, None]:
    """Stream the answer by an outline."""
    answer: dict[str, Any] = {}
    part: Any
    async for mode, part in graph.astream({"question": question}, stream_mode=["custom", "values"]):
        if mode == "values":
            answer = part
        elif part["type"] == "answer":
            yield part["text"], {}
    message, points = answer["messages"][-1], answer["points"]
    told = {"text": answer["answer"], "usage": message.usage_metadata, "points": len(points)}
    failed = sum(point["status"] == "failed" for point in points)
    yield "", {**told, "calls": message.response_metadata["sot"]["calls"], "failed": failed}


async def _timed(pieces: AsyncGenerator[Piece, None], secrets: list[str]) -> Answer:
    """Read an answer to its end, and take the time."""
    began, first = time.perf_counter(), None
    told: dict[str, Any] = {}
    try:
        async with aclosing(pieces):
            async for text, known in pieces:
                if first is None and text.strip():
                    first = time.perf_counter()
                told |= known
    except Exception as error:  # noqa: BLE001 - one question that fails does not end a comparison
        hide_in(error, secrets)
        told["error"] = describe(error)
    empty = Answer(
        text="",
        seconds=round(time.perf_counter() - began, 3),
        first_text_seconds=None if first is None else round(first - began, 3),
        usage=None,
        calls=0,
        points=0,
        failed=0,
        error=None,
    )
    return {**empty, **told}  # type: ignore[typeddict-item]


async def run_all(
    work: Iterable[Callable[[], Coroutine[Any, Any, Comparison]]],
    path: Path | None,
    done: Callable[[Comparison], None],
    *,
    concurrency: int = 1,
) -> None:
    """Do all of this work, so much of it at a time, and write each result down as soon as it is there.

    Args:
        work: Each gives one result.
        path: The file of the results, one JSON object in each line; None: nothing is written.
        done: Told of each result.
        concurrency: How many at a time.

    Raises:
        OSError: The file cannot be written.
    """
    places = asyncio.Semaphore(concurrency)

    async def one(task: Callable[[], Coroutine[Any, Any, Comparison]]) -> None:
        async with places:
            result = await task()
        if path:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        done(result)

    try:
        async with asyncio.TaskGroup() as tasks:
            for task in work:
                tasks.create_task(one(task))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
