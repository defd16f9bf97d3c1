"""What the graph tells while it works: its events, and the answer in reading order."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, Literal, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.config import get_stream_writer
from typing_extensions import TypedDict


class OutlineEvent(TypedDict):
    """The outline is known."""

    type: Literal["outline"]
    titles: list[str]


class TokenEvent(TypedDict):
    """A piece of one point's text has come, as the model wrote it."""

    type: Literal["token"]
    index: int
    text: str
    attempt: int
    """The how-manieth call for this point, from 1; a later one begins anew."""


class PointEvent(TypedDict):
    """A point has ended."""

    type: Literal["point"]
    index: int
    status: Literal["written", "truncated", "failed"]


class AnswerEvent(TypedDict):
    """A piece of the answer, in reading order; joined, the pieces are the answer."""

    type: Literal["answer"]
    text: str


SotEvent = OutlineEvent | TokenEvent | PointEvent | AnswerEvent
"""What `stream_mode="custom"` yields; `type` tells which."""


def emit(event: SotEvent) -> None:
    """Send an event to whoever streams the graph with `stream_mode="custom"`; from within a node."""
    get_stream_writer()(event)


def stream_answer(
    graph: Runnable[Any, Any],
    input: Any,  # noqa: A002 - as the graph's own methods call it
    config: RunnableConfig | None = None,
) -> Generator[str, None, None]:
    """Stream the answer's text in reading order while its points are still being written.

    Point 1 comes as the model writes it, the later ones as soon as their turn comes. Joined, the pieces are the
    `answer`. To stop early, break out of the loop: the model calls end at their next token.

    Args:
        graph: From `create_sot_graph`, or a graph that has one as a node.
        input: As for `graph.invoke`; None goes on with a thread that was broken off, from the answer's beginning.
        config: As for `graph.invoke`.

    Yields:
        Pieces of the answer's text, none of them empty.

    Raises:
        Exception: As `graph.invoke` does. What was yielded until then stays true: nothing is ever taken back.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph, stream_answer

        graph = create_sot_graph(DemoChatModel(), lead=True)
        for piece in stream_answer(graph, {"question": "How do bees find their way home?"}):
            print(piece, end="", flush=True)
        ```
    """
    with closing(cast("Generator[Any, None, None]", graph.stream(input, config, **_MODES))) as parts:
        for _namespace, event in parts:
            if _is_answer(event):
                yield event["text"]


async def astream_answer(
    graph: Runnable[Any, Any],
    input: Any,  # noqa: A002 - as the graph's own methods call it
    config: RunnableConfig | None = None,
) -> AsyncGenerator[str, None]:
    """Stream the answer's text in reading order; see `stream_answer`.

    Leaving the loop cancels the model calls.
    """
    async with aclosing(cast("AsyncGenerator[Any, None]", graph.astream(input, config, **_MODES))) as parts:
        async for _namespace, event in parts:
            if _is_answer(event):
                yield event["text"]


_MODES: Any = {"stream_mode": "custom", "subgraphs": True}


def _is_answer(event: object) -> bool:
    return isinstance(event, dict) and event.get("type") == "answer"
