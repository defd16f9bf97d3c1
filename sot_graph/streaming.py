"""The stream of an answer: its events, and `stream_answer`, which reads the answer's text out of them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import closing
from typing import Any, Literal, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.pregel.remote import RemoteGraph
from langgraph.runtime import RunControl
from langgraph.stream import ProtocolEvent, StreamChannel, StreamTransformer
from typing_extensions import TypedDict

from sot_graph.checks import check_graph


class OutlineEvent(TypedDict):
    """The outline is known."""

    type: Literal["outline"]
    titles: list[str]


class TokenEvent(TypedDict):
    """A chunk of a point's text, as the model wrote it."""

    type: Literal["token"]
    index: int
    text: str
    attempt: int  # from 1; a retry starts the text again


class PointEvent(TypedDict):
    """A point has ended."""

    type: Literal["point"]
    index: int
    status: Literal["written", "truncated", "failed"]


class AnswerEvent(TypedDict):
    """A chunk of the answer in reading order; the chunks joined are the answer."""

    type: Literal["answer"]
    text: str
    start: int  # how many characters of the answer stand before it: whoever reads it again knows what is new


SotEvent = OutlineEvent | TokenEvent | PointEvent | AnswerEvent
"""What `stream_mode="custom"` yields; see its `type`."""


_SHAPES = {"outline": ("titles", list), "token": ("index", int), "point": ("index", int), "answer": ("text", str)}
"""A key that an event has, by its type: other nodes may send events of the same types."""


def _kind_of(sent: Any) -> str:
    """The type of an event; "" of what is none of ours."""
    event = sent if isinstance(sent, dict) else {}
    key, values = _SHAPES.get(kind := str(event.get("type")), ("", ()))
    return kind if isinstance(event.get(key), values) else ""


def emit(event: SotEvent) -> None:
    """Send an event to the subscribers of `stream_mode="custom"`; from within a node."""
    get_stream_writer()(event)


def until_closed(stream: Iterator[Any], control: RunControl) -> Generator[Any, None, None]:
    """Read the stream of a sync run; once it is closed, no call starts any more."""
    try:
        for part in stream:  # noqa: UP028 - `yield from` would close the stream before the run is stopped
            yield part
    finally:
        control.request_drain("the stream was closed")
        cast("Generator[Any, None, None]", stream).close()


class UntilCancelled(AsyncIterator[Any]):
    """Read the stream of an async run; once it is cancelled or closed, so are the nodes that still run.

    LangGraph does so, unless it is cancelled again meanwhile: AnyIO, and with it Starlette and FastAPI, cancels a task
    until it has ended. No generator, for the reason of `AsyncAnswerIterator`.
    """

    def __init__(self, stream: AsyncIterator[Any], nodes: "set[asyncio.Task[Any]]") -> None:
        self._stream, self._nodes = stream, nodes

    async def __anext__(self) -> Any:
        try:
            return await anext(self._stream)
        except asyncio.CancelledError:
            self._cancel()
            raise

    async def aclose(self) -> None:
        """Cancel the run."""
        try:
            await cast("AsyncGenerator[Any, None]", self._stream).aclose()
        except asyncio.CancelledError:
            self._cancel()
            raise

    def _cancel(self) -> None:
        for task in self._nodes:
            if task is not asyncio.current_task() and not task.cancelling():
                task.cancel()


def stream_answer(
    graph: Runnable[Any, Any],
    input: Any,  # noqa: A002 - as the graph's own methods name it
    config: RunnableConfig | None = None,
) -> Generator[str, None, None]:
    """Stream the answer's text in reading order while its points are being written.

    Point 1 is streamed as the model writes it, each later one as soon as it is next. To stop early, break out of the
    loop: calls in flight finish, and no new one starts. (`astream_answer` cancels them at once.)

    Args:
        graph: From `create_sot_graph`, or a graph that has one as a node; of several, the first one that streams.
        input: As for `graph.invoke`; None resumes a thread, from the answer's beginning.
        config: As for `graph.invoke`.

    Yields:
        Chunks of the answer, none of them empty; joined, they are the `answer`.

    Raises:
        Exception: As `graph.invoke` does. What was yielded before stays part of the answer.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph, stream_answer

        graph = create_sot_graph(DemoChatModel(), lead=True)
        for chunk in stream_answer(graph, {"question": "How do bees find their way home?"}):
            print(chunk, end="", flush=True)
        ```
    """
    return _chunks(_AnswerFilter(graph), graph, input, config)


def _chunks(
    answer: "_AnswerFilter", graph: Runnable[Any, Any], given: Any, config: RunnableConfig | None
) -> Generator[str, None, None]:
    control = RunControl()
    options = answer.options if isinstance(graph, RemoteGraph) else {**answer.options, "control": control}
    with closing(until_closed(graph.stream(given, config, **options), control)) as parts:
        yield from filter(None, map(answer.text_of, parts))


def astream_answer(
    graph: Runnable[Any, Any],
    input: Any,  # noqa: A002 - as the graph's own methods name it
    config: RunnableConfig | None = None,
) -> "AsyncAnswerIterator":
    """Stream the answer's text in reading order; see `stream_answer`. Leaving the loop cancels the model calls."""
    return AsyncAnswerIterator(graph, input, config)


class AsyncAnswerIterator(AsyncIterator[str]):
    """The chunks of an answer.

    Not a generator: asyncio reports an error when a loop ends with one open that has another one inside.
    """

    def __init__(self, graph: Runnable[Any, Any], given: Any, config: RunnableConfig | None) -> None:
        self._answer = _AnswerFilter(graph)
        self._stream = cast("AsyncGenerator[Any, None]", graph.astream(given, config, **self._answer.options))

    async def __anext__(self) -> str:
        while not (text := self._answer.text_of(await anext(self._stream))):
            pass
        return text

    async def aclose(self) -> None:
        """Cancel the model calls."""
        await self._stream.aclose()


class _AnswerFilter:
    """Finds the answer's chunks in what a graph streams."""

    def __init__(self, graph: Runnable[Any, Any]) -> None:
        check_graph(graph, "a graph from create_sot_graph, or a graph that has one as a node")
        # A SoT graph streams its own answer, not those of graphs inside it.
        self._has_subgraphs = not is_sot_graph(graph)
        self._namespace: object = None
        self.options: dict[str, Any] = {"stream_mode": "custom", "subgraphs": self._has_subgraphs}
        if isinstance(graph, RemoteGraph):
            self.options["on_disconnect"] = "cancel"  # the server would continue without a subscriber

    def text_of(self, part: Any) -> str:
        """The chunk of the answer in a part of the stream; `""` if it is something else."""
        namespace, event = part if self._has_subgraphs else ((), part)
        if _kind_of(event) != "answer":
            return ""
        self._namespace = namespace if self._namespace is None else self._namespace
        return str(event["text"]) if namespace == self._namespace else ""


class SotTransformer(StreamTransformer):
    """What `stream_events(version="v3")` has of an answer: `run.answer` and `run.points`.

    `answer` yields the text's chunks in reading order; joined, they are the `answer`. `points` yields the other events:
    `SotEvent`s of the types "outline", "token" and "point". A graph from `create_sot_graph` has it. A graph with one
    inside gets it at the call; of several, the first one that streams is read. LangGraph marks version 3 as a beta.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph

        graph = create_sot_graph(DemoChatModel())
        run = graph.stream_events({"question": "How do bees find their way home?"}, version="v3")
        for chunk in run.answer:
            print(chunk, end="", flush=True)
        ```
    """

    _native = True  # LangGraph's name for: the projections are attributes of the run
    required_stream_modes = ("custom",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._answer: StreamChannel[str] = StreamChannel()
        self._points: StreamChannel[OutlineEvent | TokenEvent | PointEvent] = StreamChannel()
        self._namespace: list[str] | None = None

    def init(self) -> dict[str, Any]:
        """The projections, by name."""
        return {"answer": self._answer, "points": self._points}

    def process(self, event: ProtocolEvent) -> bool:
        """Sort an event into its projection; it stays among the run's events."""
        namespace, sent = event["params"]["namespace"], event["params"]["data"]
        kind = _kind_of(sent) if event["method"] == "custom" else ""
        if kind and self._namespace is None:
            self._namespace = namespace
        if kind == "answer" and namespace == self._namespace:
            self._answer.push(sent["text"])
        elif kind and namespace == self._namespace:
            self._points.push(sent)
        return True


def is_sot_graph(graph: object) -> bool:
    """Whether a Runnable is a graph from `create_sot_graph`."""
    return bool(getattr(graph, "is_sot_graph", False))
