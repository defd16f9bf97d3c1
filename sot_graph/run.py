"""What the tasks of one run of the graph share: the answer in reading order, and the concurrency limit."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import BaseTracer
from langgraph.errors import GraphDrained

from sot_graph import _engine
from sot_graph.concurrency import ConcurrencyLimit, Place
from sot_graph.hedging import Pace
from sot_graph.messages import GAP
from sot_graph.needs import Texts
from sot_graph.runaway import Runaway
from sot_graph.streaming import AnswerEvent, TokenEvent, emit
from sot_graph.text import ReplyText
from sot_graph.thoughts import Habits, Hold, ThoughtFilter

if TYPE_CHECKING:
    import asyncio

    from sot_graph.usage import Attempt

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
        self.is_warm = False  # whether a call of this run writes the prefix that the points read
        self.outlined: Future[None] = Future()  # done once there is an outline: then the points wait for the opening
        self.errors: dict[int, Exception] = {}  # of the points that this run has failed to write
        self.tasks: set[asyncio.Task[Any]] = set()  # of the nodes that run, if the run is async
        # In milliseconds, as in the records of calls: rounded down, a call would seem older than its run.
        self.began = round(time.time(), 3)
        # For the graph of an agent's tool: its answer is the agent's message, and includes the agent's own call.
        self.inner: tuple[RunnableConfig | None, list[Attempt]] = (None, [])
        self.message_config, self.attempts_before = outer.inner if outer else self.inner
        own = [ConcurrencyLimit(limit)] if limit else []
        self.limits: list[ConcurrencyLimit] = [*own, *(outer.limits if outer else ())]
        self.place: Place = outer.place if outer else ()  # of the question among many; see `bulk`
        self._hedges = count(1)
        self._paces: dict[int, Pace] = {}
        self.texts = Texts()  # of the points

    def note_outline(self) -> None:
        """There is an outline: the points wait for nothing but the opening."""
        if not self.outlined.done():
            self.outlined.set_result(None)

    def may_hedge(self, most: int) -> bool:
        """Whether one more request may be sent twice, if at most so many may."""
        return next(self._hedges) <= most

    def pace(self, siblings: int) -> Pace:
        """The pace of the points' calls."""
        return self._paces.setdefault(siblings, Pace(siblings=siblings))

    def is_streamed(self, config: RunnableConfig) -> bool:
        """Whether the answer has a subscriber."""
        return self.events or _engine.has_message_subscriber(self.message_config or config)

    def wants_tokens(self, config: RunnableConfig, *handlers: BaseCallbackHandler) -> bool:
        """Whether anybody receives tokens while a model writes them: a subscriber, or a callback for tokens."""
        return self.is_streamed(config) or any(map(_receives_tokens, [*_engine.handlers_of(config), *handlers]))


def run_of(config: RunnableConfig) -> Run:
    """The run that a node belongs to."""
    return cast("Run", config["configurable"][RUN])


def _receives_tokens(handler: BaseCallbackHandler) -> bool:
    method = type(handler).on_llm_new_token
    inherited = (BaseCallbackHandler.on_llm_new_token, AsyncCallbackHandler.on_llm_new_token)
    return method not in inherited and not isinstance(handler, BaseTracer)


class AnswerStream:
    """Streams the texts of an answer in reading order, whichever is written first.

    What is new of the text at the next index is streamed at once; later texts are buffered. When it ends, the next
    index moves on, and what is buffered there is flushed. So no task waits for another one.
    """

    def __init__(self, run: Run, first: int) -> None:
        self._run, self._next = run, first
        self._lock = threading.RLock()
        self._texts: dict[int, str] = {}  # as far as they are known
        self._ended: set[int] = set()
        self._shown = 0  # characters of the next text that are streamed
        self._streamed: list[str] = []
        self._length = 0  # of all that is streamed

    def put(self, index: int, text: str, config: RunnableConfig, *, ends: bool = False) -> None:
        """Put a text in its place, as far as it is known; when it ends, the next index moves on."""
        with self._lock:
            self._texts[index] = text
            if ends:
                self._ended.add(index)
            while True:
                text = self._texts.get(self._next, "")
                if new := text[self._shown :]:
                    self._stream(new if self._shown or not self._streamed else GAP + new, config)
                    self._shown = len(text)
                if self._next not in self._ended:
                    return
                self._next, self._shown = self._next + 1, 0

    def drop(self, index: int, kept: int = 0) -> str:
        """Drop what is not streamed of a text, from a length that is kept; returns what is left of it."""
        with self._lock:
            length = max(kept, self._shown if index == self._next else 0)
            self._texts[index] = text = self._texts.get(index, "")[:length]
            return text

    def leave(self, index: int, config: RunnableConfig) -> str:
        """End a text as it is streamed; returns it. What a thread puts there later is not streamed."""
        with self._lock:
            text = self.drop(index)
            self.put(index, text, config, ends=True)
            return text

    def finish(self, message: AIMessage, config: RunnableConfig) -> None:
        """Stream the rest of the answer, and the end of its message."""
        with self._lock:
            streamed = "".join(self._streamed)
            if message.text.startswith(streamed):
                self._stream(message.text[len(streamed) :], config)
            config = self._run.message_config or config
            if self._streamed and _engine.has_message_subscriber(config):
                _engine.push_end(config, self._run.message_id, message)

    def _stream(self, text: str, config: RunnableConfig) -> None:
        """Send text to all subscribers: as an event, and as a chunk of the one message in "messages" mode."""
        if not text:
            return
        self._streamed.append(text)
        start, self._length = self._length, self._length + len(text)
        if self._run.events:
            emit(AnswerEvent(type="answer", text=text, start=start))
        config = self._run.message_config or config
        if _engine.has_message_subscriber(config):
            _engine.push_chunk(config, self._run.message_id, text, starts=len(self._streamed) == 1)


class TextWriter:
    """One text of the answer (a point, the opening, the direct answer) while a call writes it."""

    def __init__(  # noqa: PLR0913 - what a text may have
        self,
        index: int,
        config: RunnableConfig,
        habits: Habits,  # of the model that writes it
        *,
        echo: Callable[[str, bool], int | None] | None = None,  # finds an echo of the title; see `ReplyText`
        heading: str = "",  # stands above the text
        is_answer: bool = True,  # whether it is streamed; false if a merge of the caller's makes the answer
        events: bool = False,  # whether the model's chunks are sent as `TokenEvent`s
        ends_loops: bool = True,  # whether a text that repeats itself without end is cut off; see `Runaway`
        bound: Callable[[str], int | None] | None = None,  # finds where the text so far ends, if it does
    ) -> None:
        run = run_of(config)
        self._index, self._config, self._echo, self._heading = index, config, echo, heading
        self._answer = run.answer if is_answer and run.is_streamed(config) else None
        self._events = events and run.events
        self._habits = habits
        self._ends_loops, self._runaway = ends_loops, Runaway()
        self._bound, self._is_bounded, self._is_left = bound, False, False
        self._attempt = 0
        self._reply, self._thoughts, self._hold = ReplyText(), ThoughtFilter(), Hold(self._habits)
        self._held: list[str] = []  # chunks that may be thoughts
        self._front: list[str] = []  # chunks that may be an echo of the title

    @property
    def text(self) -> str:
        """The text so far, without an echo of the title."""
        return self._reply.text

    @property
    def is_runaway(self) -> bool:
        """Whether the reply has repeated itself without end: what follows is not read."""
        return self._runaway.is_found

    @property
    def is_full(self) -> bool:
        """Whether nothing that follows is read."""
        return self.is_runaway or self._is_bounded

    def start(self) -> None:
        """Start an attempt; its text continues what subscribers have received."""
        self._raise_if_left()
        self.drop()
        self._attempt += 1
        self._thoughts, self._hold = ThoughtFilter(), Hold(self._habits)

    def write(self, chunk: str) -> None:
        """Add a chunk of the model's reply."""
        self._raise_if_left()
        if self.is_full:
            return
        self._receive(self._thoughts.feed(chunk))
        if self._thoughts.is_known or not self._hold.goes_on():
            self._release()

    def finish(self) -> str:
        """End the reply; returns the whole text."""
        if not self.is_full:
            self._receive(self._thoughts.finish())
        self._release()
        if new := self._reply.finish():
            self._put_in_chunks(new)
        if self.text and not self._is_bounded:  # else the reply is not whole
            self._habits.learn(closes_unopened=self._thoughts.closes_unopened)
        return self.text

    def drop(self) -> str:
        """Drop the text of a failed attempt; returns what subscribers have received of it."""
        self._release()
        self._front.clear()
        shown = self._answer.drop(self._index) if self._answer else ""
        self._reply, self._runaway = ReplyText(shown.removeprefix(self._heading), self._echo), Runaway()
        return self.text

    def end(self) -> None:
        """End the text: the next one is streamed."""
        self._put(self.text, ends=True)

    def leave(self) -> str:
        """End the text as it is while its call goes on in a thread, which ends at its next chunk; returns the text."""
        self._is_left = True
        text = self.text
        return self._answer.leave(self._index, self._config) if self._answer else text

    def _raise_if_left(self) -> None:
        if self._is_left:
            msg = "nobody waits for this text any more"
            raise GraphDrained(msg)

    def _receive(self, text: str) -> None:
        if self._thoughts.has_dropped:
            self._thoughts.has_dropped = False
            self._held.clear()
            self.drop()
        if text:
            self._held.append(text)

    def _release(self) -> None:
        for text in self._held:
            surplus = self._runaway.feed(text) if self._ends_loops else 0
            new = text[: max(0, len(text) - surplus)]
            if self._events and new:
                emit(TokenEvent(type="token", index=self._index, text=new, attempt=self._attempt))
            self._front.append(text)
            new = self._reply.feed(text)
            if surplus:
                self._cut(surplus)
            elif new:
                self._put_in_chunks(new)
            if self.is_full:
                break
        self._held.clear()

    def _cut(self, surplus: int) -> None:
        """Cut off the end of the text, but for what is shown."""
        self._reply.cut(surplus)
        self._front.clear()
        if self._answer:
            shown = self._answer.drop(self._index, len(self._heading) * bool(self.text) + len(self.text))
            self._reply.text = max(self.text, shown.removeprefix(self._heading), key=len)
        self._put(self.text)

    def _put_in_chunks(self, new: str) -> None:
        """Stream new text as the chunks that it arrived in, if all of it was held back to look for an echo."""
        end = self._bound(self.text) if self._bound else None
        if end is not None:
            self._reply, self._is_bounded, new = ReplyText(self.text[:end].rstrip()), True, ""
        chunks = self._front[:-1] if new == "".join(self._front).rstrip() else []
        self._front.clear()
        before = len(self.text) - len(new)
        for chunk in chunks:
            before += len(chunk)
            self._put(self.text[:before])
        self._put(self.text)

    def _put(self, text: str, *, ends: bool = False) -> None:
        if self._answer:
            self._answer.put(self._index, self._heading + text if text else "", self._config, ends=ends)
