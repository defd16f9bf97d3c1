"""One call of a model: its attempts by the retry policy, each streamed or not, measured and checked."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphDrained
from langgraph.runtime import get_runtime
from langgraph.types import RetryPolicy

from sot_graph import _engine, hedging, limits
from sot_graph.concurrency import ConcurrencyLimit, Held, Place, add_slot, aslot, release, slot
from sot_graph.errors import ReplyError
from sot_graph.hedging import Hedge, Lane, LostError, Race
from sot_graph.hints import add_hint
from sot_graph.models import callbacks_of, chat_model_of, client_retries, is_model
from sot_graph.redaction import describe
from sot_graph.replies import ModelReply, ValueReply
from sot_graph.retry import has_no_reply, pause_before_retry
from sot_graph.run import RUN, TextWriter, run_of
from sot_graph.tracing import call_config
from sot_graph.usage import Attempt, RequestCounter, attempt_record, lost_record

logger = logging.getLogger(__name__)
MOST_HELD_BACK = 20
"""So often one call may be refused because of the others. A server refuses one that is too large in the same words."""


@dataclass(kw_only=True)
class Call:
    """One call with all of its attempts; a node yields it and receives the reply."""

    runnable: Runnable[Any, Any]
    prompt: Callable[[str], Any]  # makes the input from what subscribers have received of a failed attempt's text
    config: RunnableConfig  # the node's
    stage: str
    what: str  # what the call writes, for the name of its run
    policies: Sequence[RetryPolicy]
    secrets: Collection[str] = ()
    reader: type[ValueReply] = ModelReply
    writer: TextWriter | None = None  # receives the text; a call without one is not streamed
    is_streamed: bool = False  # also if nobody receives the text's chunks
    index: int | None = None  # the point's
    title: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # for the Runnable's `stream`
    adapt: Callable[[RunnableConfig], RunnableConfig] | None = None  # of the config, for a Runnable of the caller's own
    takes_slot: bool = True  # whether the concurrency limit counts it; of a SoT graph, it counts the inner calls
    hedge: Hedge | None = None  # when the request is sent once more
    siblings: int = 0  # how many calls of its stage run at the same time, itself included
    attempts: list[Attempt] = field(default_factory=list)
    number: int = field(default=0, init=False)  # of the attempt, from 1
    due: float = field(default=0.0, init=False)  # when the attempt is due
    ready: float = field(default=0.0, init=False)  # when the pause before it is over
    _held_back: int = field(default=0, init=False)  # attempts that do not count: all calls wait after them
    _next_pause: float | None = field(default=0.0, init=False)  # None if there is no other attempt
    _reply: Any = field(default=None, init=False)
    _open: list["_Attempt"] = field(default_factory=list, init=False)  # not yet among `attempts`
    _is_hedged: bool = field(default=False, init=False)
    _is_left: bool = field(default=False, init=False)
    _held: Held = field(default_factory=list, init=False)
    _extra: Held = field(default_factory=list, init=False)  # for the request that is sent once more

    def run(self) -> Any:
        """Call the model and wait for the reply.

        Raises:
            Exception: The last attempt's error.
        """
        for pause in self._pauses():
            time.sleep(pause)
            with slot(self._limits(), self._place()) as self._held, self._attempt() as attempt:
                if race := self._race(attempt):
                    self._choose(race.run(self._read))
                else:
                    self._read(attempt)
        return self._reply

    async def arun(self) -> Any:
        """Call the model and wait for the reply; see `run`."""
        for pause in self._pauses():
            await asyncio.sleep(pause)
            async with aslot(self._limits(), self._place()) as self._held:
                with self._attempt() as attempt:
                    if race := self._race(attempt):
                        self._choose(await race.arun(self._aread))
                    else:
                        await self._aread(attempt)
        return self._reply

    def leave(self) -> list[Attempt]:
        """Leave the call, which goes on in a thread without a slot; returns its attempts, the open ones as they are."""
        self._is_left = True
        attempts, unfinished = [*self.attempts], [*self._open]
        release(self._held)
        release(self._extra)
        if not unfinished:
            return attempts
        race = unfinished[0].race
        leader: _Attempt = (race and cast("Any", race.leader)) or unfinished[-1]
        record = leader.record(leader.reader.partial())
        return [*attempts, *(record if each is leader else each.lost(record) for each in unfinished)]

    def _read(self, attempt: "_Attempt") -> None:
        """Read the reply of an attempt."""
        with _engine.context_config(attempt.config):
            if not attempt.is_streamed:
                attempt.add(self.runnable.invoke(attempt.input, attempt.config))
                return
            stream = self.runnable.stream(attempt.input, attempt.config, **self.options)
            with closing(cast("Generator[Any, None, None]", stream)) as chunks:
                for chunk in chunks:
                    if attempt.add(chunk):
                        break
            attempt.end()

    async def _aread(self, attempt: "_Attempt") -> None:
        """Read the reply of an attempt; see `_read`."""
        with _engine.context_config(attempt.config):
            if not attempt.is_streamed:
                attempt.add(await self.runnable.ainvoke(attempt.input, attempt.config))
                return
            stream = self.runnable.astream(attempt.input, attempt.config, **self.options)
            raise_if_cancelled = _engine.cancellation_check()
            async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as chunks:
                async for chunk in chunks:
                    raise_if_cancelled()
                    if attempt.add(chunk):
                        break
            attempt.end()

    def _limits(self) -> Sequence[ConcurrencyLimit]:
        return run_of(self.config).limits if self.takes_slot else ()

    def _place(self) -> Place:
        return (*run_of(self.config).place, self.index or 0)

    def _note(self, attempt: "_Attempt", error: Exception | None = None) -> bool:
        """Note the end of an attempt for all limits; returns whether one of them holds the calls back now."""
        usage = next(each["usage"] for each in reversed(self.attempts) if not each.get("is_lost"))
        return True in [limit.note(attempt.sent, usage, error) for limit in self._limits()]

    def _race(self, attempt: "_Attempt") -> Race | None:
        """The race of an attempt and the same request once more, if there may be one."""
        if self.hedge is None or self._is_hedged:
            return None
        run = run_of(self.config)
        pace = run.pace(self.siblings) if self.siblings else self.hedge.pace()

        def again() -> _Attempt | None:
            held: Held = []
            if self._is_left or get_runtime().drain_requested or not add_slot(self._limits(), held):
                return None
            if not run.may_hedge(hedging.most(self.siblings)):
                release(held)
                return None
            self._extra, self._is_hedged = held, True
            self._open.append(_Attempt(self, hedges=attempt))
            return self._open[-1]

        return Race(attempt, self.hedge, pace, again, lambda: release(self._extra))

    def _choose(self, lane: Lane) -> None:
        """Continue with one of the two requests of a race."""
        self._open = sorted(self._open, key=lambda each: each is lane.request)
        if lane.error:
            raise lane.error

    def _pauses(self) -> Iterator[float]:
        """The pause before each attempt, until one succeeds."""
        while (pause := self._next_pause) is not None:
            _raise_if_stopped()
            self.number, self.due, self._next_pause = self.number + 1, time.time(), None
            self.ready = self.due + pause
            yield pause

    @contextmanager
    def _attempt(self) -> Iterator["_Attempt"]:
        """Make one attempt; its error is raised only if there is no retry."""
        _raise_if_stopped()
        self._open = [_Attempt(self)]
        try:
            yield self._open[0]
            attempt = self._open[-1]
            attempt.write(attempt.reader.end())
            self._reply = attempt.reader.reply()
            if self.writer and not self.writer.finish():
                msg = "The model's reply has no text but a title or thoughts."
                raise ReplyError(msg, is_retryable=True)  # noqa: TRY301 - as an empty reply
        except GraphBubbleUp:  # an interrupt, or a stop
            raise
        except Exception as error:
            attempt = self._open[-1]
            self._reply = attempt.reader.recover(error, attempt.counter.reply if attempt.counter else None)
            is_refused = limits.leave_out(limits.refused(attempt.added, error, by_name=self._reply is not None))
            if self._reply is None or is_refused:
                described = describe(error, self.secrets)
                self._record(attempt.reader.partial(), described)
                self._next_pause = 0.0 if is_refused else self._pause_after(error, attempt)
                if self._next_pause is None:
                    add_hint(error, self.runnable, self.secrets)
                    raise
                logger.info("Retry of %s %s in %.1f s: %s", self.stage, self.what, self._next_pause, described)
                return
        finally:
            release(self._extra)
        self._record(getattr(self._reply, "message", self._reply))
        self._note(attempt)
        if attempt.reader.is_spent(self._reply) and limits.leave_out(attempt.limits):
            self._next_pause = 0.0

    def _record(self, reply: object, error: str | None = None) -> None:
        """Record the attempt, and the request that it was raced with."""
        attempt = self._open[-1]
        record = attempt.record(reply, error)
        in_order = sorted(self._open, key=lambda each: each.sent)
        self.attempts += [record if each is attempt else each.lost(record) for each in in_order]
        self._open = []

    def _pause_after(self, error: Exception, attempt: "_Attempt") -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if self._note(attempt, error) and self._held_back < MOST_HELD_BACK:
            self._held_back += 1
            return 0.0
        if isinstance(error, ReplyError) and attempt.reader.is_spent(None) and limits.leave_out(attempt.limits):
            return 0.0
        if is_model(self.runnable) and has_no_reply(error):
            error = ReplyError(str(error), is_retryable=True)
        # What a client repeats by itself counts as attempts.
        repeated = 0 if isinstance(error, ReplyError) else client_retries(self.runnable, error)
        return pause_before_retry(error, (self.number - self._held_back) * (1 + repeated), self.policies)


def _raise_if_stopped() -> None:
    if (runtime := get_runtime()).drain_requested:
        raise GraphDrained(runtime.drain_reason or "stopped")


class _Attempt:
    """One attempt of a call, while it runs."""

    def __init__(self, call: Call, hedges: "_Attempt | None" = None) -> None:
        self._call, self.sent, self._first_token = call, time.time(), cast("float | None", None)
        self._hedges = hedges  # the request that this one is sent beside
        self.race, self._chunks = cast("Race | None", None), 0
        # A chat model sends one request and counts its tokens itself: a callback handler would cost CPU for each chunk.
        model = chat_model_of(call.runnable)
        self.counter = None if model else RequestCounter()
        if hedges is None and call.writer:
            call.writer.start()
        self.input: Any = hedges.input if hedges else call.prompt(call.writer.text if call.writer else "")
        self.config = self._config()
        self.reader = call.reader()
        wants_tokens = run_of(call.config).wants_tokens(call.config, *callbacks_of(call.runnable))
        wants_tokens = wants_tokens or call.is_streamed or getattr(model, "streaming", False) is True
        # A call that may be hedged is streamed: else nobody knows whether it has begun.
        self.is_streamed = call.hedge is not None or (call.writer is not None and wants_tokens)
        self.limits = limits.limits_in(call.runnable)
        self.added = [*self.limits, *(limits.counts_in(call.runnable) if self.is_streamed else ())]

    def add(self, chunk: Any) -> bool:
        """Add a chunk, or the whole reply; returns whether no more is read."""
        text = self.reader.add(chunk)
        self._chunks += 1
        if self.race and (text or not self.is_streamed or self._is_begun_by(chunk)):
            self.race.claim(self)
        elif self.race and not self.race.leads(self):  # nothing of it reaches the writer that both have
            return self.reader.is_full
        self.write(text)
        if self._call.writer and self._call.writer.is_full:
            self.reader.is_full = True
        return self.reader.is_full

    def end(self) -> None:
        """The stream has ended; that of a graph may have had states only."""
        if self.race and type(self.reader) is not ModelReply:
            self.race.claim(self)

    def _is_begun_by(self, chunk: Any) -> bool:
        """Whether a chunk without text begins a reply: not one that opens the stream, but thoughts or a tool call."""
        if not isinstance(chunk, AIMessageChunk):
            return False
        return self._chunks > 1 or bool(chunk.content or chunk.additional_kwargs or chunk.tool_call_chunks)

    def write(self, text: str) -> None:
        """Pass text on."""
        if text and self.is_streamed:
            self._first_token = self._first_token or time.time()
        if self._call.writer:
            self._call.writer.write(text)

    def record(self, reply: object, error: str | None = None) -> Attempt:
        """The record of the attempt, which ends now."""
        call = self._call
        due, ready = (self._hedges.sent, self.sent) if self._hedges else (call.due, call.ready)
        times = (due, ready, self.sent, self._first_token)
        record = attempt_record(call.stage, times, reply, index=call.index, error=error, counter=self.counter)
        return {**record, "is_hedge": True} if self._hedges else record

    def lost(self, other: Attempt) -> Attempt:
        """The record of a request that was raced with another one, and was not read."""
        lane = cast("Race", self.race).lane_of(self)
        own = lane.error if isinstance(lane.error, Exception) and not isinstance(lane.error, LostError) else None
        record = self.record(self.reader.partial(), None if own is None else describe(own, self._call.secrets))
        return lost_record(record, lane.ended or time.time(), other)

    def _config(self) -> RunnableConfig:
        call, run = self._call, run_of(self._call.config)
        point: Any = {"index": call.index, "title": call.title, "is_hedge": self._hedges is not None}
        config = call_config(call.config, call.stage, call.what, call.number, **point)
        # Only a SoT graph that writes a point shares the concurrency limit: anything else counts as one call.
        configurable = {**config["configurable"], RUN: None if call.takes_slot else run}
        callbacks = _engine.callbacks_of_call(config, *([self.counter] if self.counter else []))
        config = {**config, "callbacks": callbacks, "configurable": configurable, "max_concurrency": run.limit}
        return call.adapt(config) if call.adapt else config
