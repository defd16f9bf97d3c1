"""What the graph tells while it works: its events, and the answer in reading order."""

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import Any, Literal, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.pregel.remote import RemoteGraph
from typing_extensions import TypedDict

Part = TypeVar("Part")


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


STOP = "__sot_stop"
"""Where a config holds the `threading.Event` by which a reader ends the sync runs inside a parent."""


def stream_answer(
    graph: Runnable[Any, Any],
    input: Any,  # noqa: A002 - as the graph's own methods call it
    config: RunnableConfig | None = None,
) -> Generator[str, None, None]:
    """Stream the answer's text in reading order while its points are still being written.

    Point 1 comes as the model writes it, the later ones as soon as their turn comes. Joined, the pieces are the
    `answer`. To stop early, break out of the loop: the model calls end at their next token. (`astream_answer` cancels
    them at once.)

    Args:
        graph: From `create_sot_graph`, or a graph that has one as a node; of several, the one
            that speaks first is read.
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
    stop = threading.Event()
    config = {**(config or {}), "configurable": {**((config or {}).get("configurable") or {}), STOP: stop}}
    answer = _Answer(graph)
    parts = cast("Generator[Any, None, None]", graph.stream(input, config, **answer.options))
    with closing(stoppable(parts, stop.set)) as stream:
        for part in stream:
            if text := answer.text_of(part):
                yield text


def stoppable(parts: Generator[Part, None, None], stop: Callable[[], None]) -> Generator[Part, None, None]:
    """Take what a sync run streams, and tell the run when nobody takes any more of it.

    Ctrl-C, an alarm and other signals reach the main thread only. Were that the one that runs the engine, it would
    first wait for all model calls, so the engine runs in another one. It is never ahead of who takes the parts.
    """
    if threading.current_thread() is not threading.main_thread():
        try:
            for part in parts:  # noqa: UP028 - `yield from` would close the parts before the run is told
                yield part
        finally:
            stop()
            parts.close()
        return
    context = copy_context()
    end: Any = object()
    with ThreadPoolExecutor(1) as engine:
        try:
            while (following := engine.submit(context.run, lambda: next(parts, end)).result()) is not end:
                yield following
        finally:
            stop()
            engine.submit(context.run, parts.close).result()


def astream_answer(
    graph: Runnable[Any, Any],
    input: Any,  # noqa: A002 - as the graph's own methods call it
    config: RunnableConfig | None = None,
) -> "AnswerStream":
    """Stream the answer's text in reading order; see `stream_answer`.

    Leaving the loop cancels the model calls.
    """
    answer = _Answer(graph)
    parts = cast("AsyncGenerator[Any, None]", graph.astream(input, config, **answer.options))
    return AnswerStream(parts, answer)


class AnswerStream(AsyncIterator[str]):
    """The pieces of an answer, asynchronously.

    No generator: one around the engine's own would be closed at the same time as that when an event loop ends with it
    open, which asyncio reports as an error.
    """

    def __init__(self, parts: AsyncGenerator[Any, None], answer: "_Answer") -> None:
        self._parts = parts
        self._answer = answer

    async def __anext__(self) -> str:
        while True:
            if text := self._answer.text_of(await anext(self._parts)):
                return text

    async def aclose(self) -> None:
        """Cancel the model calls."""
        await self._parts.aclose()


class _Answer:
    """Picks the answer's pieces out of what a graph streams."""

    def __init__(self, graph: Runnable[Any, Any]) -> None:
        # Of our own graph its own answer, and not those of graphs inside it, which write its points or merge them.
        inside = not getattr(graph, "reads_aloud", False)
        self.options: Any = {"stream_mode": "custom", "subgraphs": inside}
        if isinstance(graph, RemoteGraph):
            self.options["on_disconnect"] = "cancel"  # left to itself, the server would go on without a reader
        self._inside = inside
        self._speaker: object = None

    def text_of(self, part: Any) -> str:
        """The piece of the answer that a part is; `""` where it is something else."""
        speaker, event = part if self._inside else ((), part)
        if not isinstance(event, dict) or event.get("type") != "answer":
            return ""
        if self._speaker is None:
            self._speaker = speaker
        return str(event["text"]) if speaker == self._speaker else ""
