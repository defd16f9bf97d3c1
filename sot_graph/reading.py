"""The answer in reading order while the points are still being written.

The parts of an answer speak one after the other, whoever is written first. No task waits for another, which under
`max_concurrency=1` could wait for ever: the part whose turn it is passes its text on as it comes; when it ends, it also
says what the next ones have written so far, and passes the turn on.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp

from sot_graph.listeners import unheard_by
from sot_graph.live import LiveText
from sot_graph.prompt import GAP
from sot_graph.streaming import STOP, AnswerEvent, emit
from sot_graph.tracing import within
from sot_graph.usage import Attempt

KEY = "__sot_reading"
"""Where a run's config holds its `Reading`; the engine keeps keys with two underscores to itself."""
STREAM = "__pregel_stream"
"""Where the engine keeps the stream of a parent that streams its subgraphs."""
RESUMING = "__pregel_resuming"
"""Where the engine tells the graphs inside one that goes on with an earlier run."""
PLACES = "__sot_places"
"""Where a config holds the `Places` that a graph shares with the one whose points it writes."""
SPEAKER = "__sot_speaker"
"""Where a caller's config holds the metadata of the node whose message the answer is, if not the graph's own node."""
OPENING = 0
"""The opening's place in the reading order. A point's place is its index, and a direct answer's is 1."""

STOP_INTERVAL = 0.1
"""After how many seconds at the most a sync run sees that nobody listens any more."""


class Stopped(GraphBubbleUp):
    """Nobody listens any more: the model calls of a sync run end at their next token.

    The engine neither retries nor stores what bubbles up, so a thread resumes as after a cancellation.
    """


class Places:
    """How many calls may be in flight at once: of a run, and of the graphs of ours that write its points."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.sync: AbstractContextManager[Any] = threading.Semaphore(limit) if limit else nullcontext()
        self.asyncio: AbstractAsyncContextManager[Any] = asyncio.Semaphore(limit) if limit else nullcontext()


class Reading:
    """What one run of the graph has said so far, and whose turn it is."""

    def __init__(
        self,
        *,
        custom: bool,
        is_fresh: bool,
        first: int,
        places: Places,
        around: list[threading.Event],
        speaker: dict[str, Any] | None = None,
    ) -> None:
        """Begin to read.

        Args:
            custom: Whether somebody listens to the events of `stream_mode="custom"`.
            is_fresh: Whether the run begins an answer, and does not go on with one.
            first: The place of the part that speaks first.
            places: How many calls may be in flight.
            around: Set when nobody listens any more to a graph that this run is a part of.
            speaker: The metadata under which the answer's message is streamed; None for that of the node that speaks.
        """
        self._speaker = speaker
        self.stops = [threading.Event(), *around]
        self.custom = custom
        self.is_fresh = is_fresh
        self.places = places
        self.message_id = f"sot-{uuid4()}"
        self._turn = first
        self._lock = threading.Lock()
        self._run_id = uuid4()
        self._said: list[str] = []
        self._said_of: dict[int, str] = {}
        self._waiting: dict[int, str] = {}
        self._ended: set[int] = set()
        self._is_recalled = False
        self._not_before: dict[str, float] = {}
        self._failed: dict[str, list[Attempt]] = {}
        # In milliseconds, as calls tell theirs: one that was rounded down would seem older than its run.
        self.began = round(time.time(), 3)

    def stop(self) -> None:
        """Take in that nobody listens any more to this run."""
        self.stops[0].set()

    @property
    def is_stopped(self) -> bool:
        """Whether nobody listens any more, to this run or to a parent of it."""
        return any(stop.is_set() for stop in self.stops)

    def sleep(self, seconds: float) -> None:
        """Wait, but not when nobody listens any more."""
        until = time.monotonic() + seconds
        if self.is_stopped:
            raise Stopped
        while (left := until - time.monotonic()) > 0:
            self.stops[0].wait(min(left, STOP_INTERVAL))
            if self.is_stopped:
                raise Stopped

    def put_off(self, task: str, seconds: float) -> None:
        """Take in that a server asked for a pause before a task's next attempt."""
        self._not_before[task] = time.monotonic() + seconds

    def pause_of(self, task: str) -> float:
        """For how many seconds a task's attempt has to wait."""
        return max(0.0, self._not_before.pop(task, 0.0) - time.monotonic())

    def note_failure(self, call: str, attempt: Attempt) -> None:
        """Take in what a call's failed attempt has cost."""
        self._failed.setdefault(call, []).append(attempt)

    def failed_attempts(self, call: str) -> list[Attempt]:
        """What a call's failed attempts have cost."""
        return list(self._failed.get(call, ()))

    def said_of(self, place: int) -> str:
        """What the reader has got of a part already: a new attempt at it has to go on from there."""
        with self._lock:
            return self._said_of.get(place, "")

    def hear(self, place: int, text: str, config: RunnableConfig) -> None:
        """Take in the next piece of a part's text, and say it if it is the part's turn."""
        with self._lock:
            self._waiting[place] = self._waiting.get(place, "") + text
            self._speak(config)

    def drop(self, place: int) -> None:
        """Forget what a failed attempt has written and nobody has read."""
        with self._lock:
            self._waiting.pop(place, None)

    def end(self, place: int, config: RunnableConfig) -> None:
        """Take in that a part has no more to say; the turn passes on."""
        with self._lock:
            self._ended.add(place)
            self._speak(config)

    def begin_recall(self, message_id: str | None) -> bool:
        """Whether nobody has begun to recall what an earlier run wrote; true for the first who asks.

        Args:
            message_id: The id of the answer's message where it has one already, which is then replaced.
        """
        with self._lock:
            self.message_id = message_id or self.message_id
            first, self._is_recalled = not self._is_recalled, True
        return first

    def recall(self, texts: Mapping[int, str], config: RunnableConfig) -> None:
        """Take in parts that were written before this run, or that no task of it has written."""
        with self._lock:
            new = {place: text for place, text in texts.items() if place not in self._ended}
            self._waiting.update(new)
            self._ended.update(new)
            self._speak(config)

    def finish(self, answer: str, config: RunnableConfig) -> None:
        """Say what of the answer has not been said yet."""
        with self._lock:
            said = "".join(self._said)
            if answer.startswith(said):
                self._say(answer[len(said) :], config)
            for handler in _message_handlers(config):
                handler.on_llm_end(LLMResult(generations=[]), run_id=self._run_id)

    def _speak(self, config: RunnableConfig) -> None:
        """Say what the part has written whose turn it is, and, if it has ended, the next ones."""
        while True:
            place = self._turn
            if text := self._waiting.pop(place, ""):
                gap = GAP if self._said and place not in self._said_of else ""
                self._said_of[place] = self._said_of.get(place, "") + text
                self._say(gap + text, config)
            if place not in self._ended:
                return
            self._turn += 1

    def _say(self, text: str, config: RunnableConfig) -> None:
        """Tell those who listen: as an event, and as a piece of the one message in "messages" mode."""
        if not text:
            return
        if self.custom:
            emit(AnswerEvent(type="answer", text=text))
        chunk = ChatGenerationChunk(message=AIMessageChunk(content=text, id=self.message_id))
        for handler in _message_handlers(config):
            if not self._said:
                metadata = dict(self._speaker or config.get("metadata") or {})
                handler.on_chat_model_start({}, [[]], run_id=self._run_id, metadata=metadata)
            handler.on_llm_new_token(text, chunk=chunk, run_id=self._run_id)
        self._said.append(text)


class Voice:
    """One part of the answer while one call writes it."""

    def __init__(
        self,
        place: int,
        config: RunnableConfig,
        front: Any = None,
        *,
        heading: str = "",
        muted: bool = False,
    ) -> None:
        """Give a part a voice.

        Args:
            place: The part's place in the reading order.
            config: The node's.
            front: What is to be left out at the front; see `LiveText`.
            heading: What stands above the part's text.
            muted: Whether the part is not heard, because the answer is made of it only later.
        """
        self.place = place
        self.config = config
        self.heading = heading
        self.run = reading_of(config)
        self.reading = None if muted else heard_reading(config)
        self.begun = said_before(config, place, heading)
        self.live = LiveText(self.begun, front)

    @property
    def is_watched(self) -> bool:
        """Whether somebody listens to the single points."""
        return self.run is not None and self.run.custom

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget what nobody has read of a text that failed."""
        if kind is not None and self.reading is not None:
            self.reading.drop(self.place)

    def hear(self, piece: str) -> None:
        """Take in a piece of what the model writes."""
        if self.run is not None and self.run.is_stopped:
            raise Stopped
        self._pass_on(self.live.feed(piece))

    def finish(self) -> str:
        """Take in that the model has ended; gives the part's whole text."""
        self._pass_on(self.live.finish())
        return self.live.text

    def end(self) -> None:
        """Pass the turn on."""
        if self.reading is not None:
            self.reading.end(self.place, self.config)

    def _pass_on(self, text: str) -> None:
        if self.reading is not None and text:
            is_first = not self.begun and self.live.text == text
            self.reading.hear(self.place, self.heading + text if is_first else text, self.config)


def reading_of(config: RunnableConfig) -> Reading | None:
    """The reading of the run that a node belongs to; None where the engine runs a node by itself."""
    reading: Reading | None = (config.get("configurable") or {}).get(KEY)
    return reading


def heard_reading(config: RunnableConfig) -> Reading | None:
    """The reading of the run, where anybody listens to what it says."""
    reading = reading_of(config)
    return reading if reading and (reading.custom or _message_handlers(config)) else None


def recall_opening(opening: str | None, config: RunnableConfig) -> None:
    """Say the opening if no task of this run has: an earlier run wrote it, or it came out of a cache."""
    if reading := heard_reading(config):
        reading.recall({OPENING: opening or ""}, config)


def said_before(config: RunnableConfig, place: int, heading: str = "") -> str:
    """The text that the reader has got of a part from an attempt that failed."""
    reading = reading_of(config)
    return reading.said_of(place).removeprefix(heading) if reading else ""


def inner_config(config: RunnableConfig, *, is_ours: bool) -> RunnableConfig:
    """The config for what writes a point in place of a model.

    Its own events and messages stay in it: to a reader of this graph, or of a parent, they are the point's text.

    Args:
        config: Of the point's call.
        is_ours: Whether it is a graph of ours: its calls take this graph's places, and have stages of their own.
    """
    reading = reading_of(config)
    config = unheard_by(config, _hears_messages)
    configurable = {key: value for key, value in config["configurable"].items() if key != STREAM}
    if is_ours and reading:
        configurable[PLACES] = reading.places
    return {**(within(config) if is_ours else config), "configurable": configurable}


def with_reading(
    config: RunnableConfig | None, modes: Any, *, is_fresh: bool, first: int, limit: int | None
) -> tuple[RunnableConfig, Reading]:
    """A run's config with a reading of its own, and that reading.

    Args:
        config: The caller's.
        modes: What the caller streams (`stream_mode`, `print_mode`), each one mode or several.
        is_fresh: Whether the run begins an answer.
        first: The place of the part that speaks first.
        limit: How many calls the run may have in flight; None for all of them.
    """
    config = config or {}
    configurable = config.get("configurable") or {}
    outer = (var_child_runnable_config.get() or {}).get("configurable") or {}  # of a node that passes no config on
    stream = {**outer, **configurable}.get(STREAM)
    heard = {mode for given in modes for mode in ([given] if isinstance(given, str) else given)}
    stop = configurable.get(STOP) or outer.get(STOP)
    around: Reading | None = configurable.get(KEY) or outer.get(KEY)
    reading = Reading(
        custom="custom" in heard.union(getattr(stream, "modes", ())),
        is_fresh=is_fresh and not {**outer, **configurable}.get(RESUMING),
        first=first,
        # A graph inside another one of ours has that one's limit, not the size of its pool of threads.
        places=configurable.get(PLACES) or Places(around.places.limit if around else limit),
        around=[*([stop] if stop else []), *(around.stops if around else [])],
        speaker=configurable.get(SPEAKER),
    )
    # These are this run's alone: a graph inside it counts its own places, and has an answer of its own.
    return {**config, "configurable": {**configurable, KEY: reading, PLACES: None, SPEAKER: None}}, reading


def _message_handlers(config: RunnableConfig) -> list[BaseCallbackHandler]:
    """Those who listen to "messages" mode: of this graph, and of the graphs around it."""
    if TAG_NOSTREAM in (config.get("tags") or ()):
        return []
    callbacks = config.get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []
    return [handler for handler in handlers if _hears_messages(handler)]


def _hears_messages(handler: BaseCallbackHandler) -> bool:
    # By name, because the class is the engine's own.
    return any(each.__name__ == "StreamMessagesHandler" for each in type(handler).__mro__)
