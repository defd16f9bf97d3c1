"""What the tasks of one run of the graph share: the answer in reading order, and the concurrency limit."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import BaseTracer

from sot_graph import _engine
from sot_graph.prompts import GAP
from sot_graph.streaming import AnswerEvent, TokenEvent, emit
from sot_graph.text import ReplyText

if TYPE_CHECKING:
    from sot_graph.usage import Calls

OPENING = 0
"""The index of the opening. A point's text has the point's index, a direct answer's has 1."""
RUN = "__sot_run"
"""The key of a run's config that holds its `Run`; keys with two underscores stay out of metadata."""


class Run:
    """One run of the graph. It is in the run's config, not in the state."""

    def __init__(
        self,
        *,
        events: bool = False,  # whether `stream_mode="custom"` has a subscriber
        is_fresh: bool = True,  # whether the run starts an answer; false if it resumes one
        first: int = OPENING,  # the index of the text that is streamed first
        limit: int | None = None,  # the concurrency limit
        outer: "Run | None" = None,  # the run around this one, whose limit holds for both together
    ) -> None:
        self.events, self.is_fresh, self.limit = events, is_fresh, limit
        self.answer = AnswerStream(self, first)
        self.message_id = f"sot-{uuid4()}"
        self.is_restored = False
        self.attempted: set[int] = set()  # the indexes of the points that this run has tried to write
        self.errors: dict[int, Exception] = {}
        # In milliseconds, as in the records of calls: rounded down, a call would seem older than its run.
        self.began = round(time.time(), 3)
        # For the graph of an agent's tool: its answer is the agent's message, and includes the agent's own call.
        self.inner_message_config: RunnableConfig | None = None
        self.inner_calls: Calls = {}
        self.message_config = outer.inner_message_config if outer else None
        self.calls_before = outer.inner_calls if outer else {}
        own = [(threading.Semaphore(limit), asyncio.Semaphore(limit))] if limit else []
        self._slots: list[tuple[threading.Semaphore, asyncio.Semaphore]] = [*own, *(outer._slots if outer else ())]  # noqa: SLF001 - of the same class

    @contextmanager
    def slot(self, *, taken: bool = True) -> Iterator[None]:
        """Wait until the concurrency limit allows one more call, unless the call takes no slot."""
        with ExitStack() as stack:
            for threads, _tasks in self._slots if taken else ():
                stack.enter_context(threads)
            yield

    @asynccontextmanager
    async def aslot(self, *, taken: bool = True) -> AsyncIterator[None]:
        """Wait until the concurrency limit allows one more call; see `slot`."""
        async with AsyncExitStack() as stack:
            for _threads, tasks in self._slots if taken else ():
                await stack.enter_async_context(tasks)
            yield

    def is_streamed(self, config: RunnableConfig) -> bool:
        """Whether the answer has a subscriber."""
        return self.events or _engine.has_message_subscriber(self.message_config or config)

    def wants_tokens(self, config: RunnableConfig, *handlers: BaseCallbackHandler) -> bool:
        """Whether anybody receives tokens while a model writes them: a subscriber, or a callback for tokens."""
        return self.is_streamed(config) or any(map(_receives_tokens, [*_engine.handlers_of(config), *handlers]))


def run_of(config: RunnableConfig) -> Run:
    """The run that a node belongs to."""
    run = (config.get("configurable") or {}).get(RUN)
    if run is None:
        msg = "This node runs in the graph that create_sot_graph makes, not by itself."
        raise RuntimeError(msg)
    return cast("Run", run)


def _receives_tokens(handler: BaseCallbackHandler) -> bool:
    method = type(handler).on_llm_new_token
    inherited = (BaseCallbackHandler.on_llm_new_token, AsyncCallbackHandler.on_llm_new_token)
    return method not in inherited and not isinstance(handler, BaseTracer)


class AnswerStream:
    """Streams the texts of an answer in reading order, whichever is written first.

    The text at the next index is streamed chunk by chunk; later ones are buffered. When it ends, the next index moves
    on, and what is buffered there is flushed. So no task waits for another one.
    """

    def __init__(self, run: Run, first: int) -> None:
        self._run = run
        self._next = first
        self._lock = threading.Lock()
        self._streamed: list[str] = []
        self._shown: dict[int, str] = {}
        self._headings: dict[int, str] = {}
        self._buffers: dict[int, str] = {}
        self._ended: set[int] = set()

    def shown(self, index: int) -> str:
        """What subscribers have received of a text, without its heading."""
        with self._lock:
            return self._shown.get(index, "")

    def feed(self, index: int, text: str, config: RunnableConfig, *, heading: str = "", ends: bool = False) -> None:
        """Buffer a chunk of a text, and stream it if the text is next; when it ends, the next index moves on."""
        with self._lock:
            self._headings[index] = heading
            self._buffers[index] = self._buffers.get(index, "") + text
            if ends:
                self._ended.add(index)
            self._flush(config)

    def drop(self, index: int) -> None:
        """Drop what is buffered of a failed attempt."""
        with self._lock:
            self._buffers.pop(index, None)

    def fill(self, texts: Mapping[int, str], config: RunnableConfig) -> None:
        """Add texts that no task of this run writes: from an earlier run, or from a cache."""
        with self._lock:
            new = {index: text for index, text in texts.items() if index not in self._ended}
            self._buffers.update(new)
            self._ended.update(new)
            self._flush(config)

    def finish(self, answer: str, config: RunnableConfig) -> None:
        """Stream the rest of the answer."""
        with self._lock:
            streamed = "".join(self._streamed)
            if answer.startswith(streamed):
                self._stream(answer[len(streamed) :], config)

    def _flush(self, config: RunnableConfig) -> None:
        while True:
            index = self._next
            if text := self._buffers.pop(index, ""):
                is_first = index not in self._shown
                self._shown[index] = self._shown.get(index, "") + text
                above = (GAP if self._streamed else "") + self._headings.get(index, "") if is_first else ""
                self._stream(above + text, config)
            if index not in self._ended:
                return
            self._next += 1

    def _stream(self, text: str, config: RunnableConfig) -> None:
        """Send text to all subscribers: as an event, and as a chunk of the one message in "messages" mode."""
        if not text:
            return
        self._streamed.append(text)
        if self._run.events:
            emit(AnswerEvent(type="answer", text=text))
        config = self._run.message_config or config
        if _engine.has_message_subscriber(config):
            _engine.push_chunk(AIMessageChunk(content=text, id=self._run.message_id), config)


class TextWriter:
    """One text of the answer (a point, the opening, the direct answer) while a call writes it."""

    def __init__(
        self,
        index: int,
        config: RunnableConfig,
        *,
        echo: Callable[[str, bool], int | None] | None = None,  # finds an echo of the title; see `ReplyText`
        heading: str = "",  # stands above the text
        is_answer: bool = True,  # whether it is streamed; false if a merge of the caller's makes the answer
        events: bool = False,  # whether the model's chunks are sent as `TokenEvent`s
    ) -> None:
        run = run_of(config)
        self._index, self._config, self._echo, self._heading = index, config, echo, heading
        self._answer = run.answer if is_answer and run.is_streamed(config) else None
        self._events = events and run.events
        self._attempt = 0
        self._reply = ReplyText()

    @property
    def shown(self) -> str:
        """What subscribers have received of the text; a retry continues from there."""
        return self._answer.shown(self._index) if self._answer else ""

    @property
    def text(self) -> str:
        """The text so far, without an echo of the title."""
        return self._reply.text

    def start(self) -> None:
        """Start an attempt."""
        self._attempt += 1
        if self._answer:
            self._answer.drop(self._index)
        self._reply = ReplyText(self.shown, self._echo)

    def write(self, chunk: str) -> None:
        """Add a chunk of the model's reply."""
        if chunk and self._events:
            emit(TokenEvent(type="token", index=self._index, text=chunk, attempt=self._attempt))
        self._feed(self._reply.feed(chunk))

    def finish(self) -> str:
        """End the reply; returns the whole text."""
        self._feed(self._reply.finish())
        return self._reply.text

    def end(self, *, failed: bool = False) -> None:
        """End the text: the next one is streamed."""
        if self._answer and failed:
            self._answer.drop(self._index)
        self._feed("", ends=True)

    def _feed(self, text: str, *, ends: bool = False) -> None:
        if self._answer and (text or ends):
            self._answer.feed(self._index, text, self._config, heading=self._heading, ends=ends)
