"""One call of a model: its attempts by the retry policy, each streamed or not, measured and checked."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp, GraphDrained
from langgraph.runtime import get_runtime
from langgraph.types import RetryPolicy

from sot_graph import _engine, limits
from sot_graph.errors import ReplyError
from sot_graph.hints import add_hint
from sot_graph.models import callbacks_of, chat_model_of, client_retries, is_model
from sot_graph.redaction import describe
from sot_graph.replies import ModelReply, ValueReply
from sot_graph.retry import has_no_reply, pause_before_retry
from sot_graph.run import RUN, TextWriter, release, run_of
from sot_graph.tracing import call_config
from sot_graph.usage import Attempt, RequestCounter, attempt_record

logger = logging.getLogger(__name__)


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
    attempts: list[Attempt] = field(default_factory=list)
    number: int = field(default=0, init=False)  # of the attempt, from 1
    due: float = field(default=0.0, init=False)  # when the attempt is due
    ready: float = field(default=0.0, init=False)  # when the pause before it is over
    _next_pause: float | None = field(default=0.0, init=False)  # None if there is no other attempt
    _reply: Any = field(default=None, init=False)
    _last: "_Attempt | None" = field(default=None, init=False)  # the last one that was made
    _held: list[threading.Semaphore] = field(default_factory=list, init=False)

    def run(self) -> Any:
        """Call the model and wait for the reply.

        Raises:
            Exception: The last attempt's error.
        """
        for pause in self._pauses():
            time.sleep(pause)
            with run_of(self.config).slot(taken=self.takes_slot) as self._held, self._attempt() as attempt:
                if not attempt.is_streamed:
                    attempt.add(self.runnable.invoke(attempt.input, attempt.config))
                    continue
                stream = self.runnable.stream(attempt.input, attempt.config, **self.options)
                with closing(cast("Generator[Any, None, None]", stream)) as chunks:
                    for chunk in chunks:
                        if attempt.add(chunk):
                            break
        return self._reply

    async def arun(self) -> Any:
        """Call the model and wait for the reply; see `run`."""
        for pause in self._pauses():
            await asyncio.sleep(pause)
            async with run_of(self.config).aslot(taken=self.takes_slot):
                with self._attempt() as attempt:
                    if not attempt.is_streamed:
                        attempt.add(await self.runnable.ainvoke(attempt.input, attempt.config))
                        continue
                    stream = self.runnable.astream(attempt.input, attempt.config, **self.options)
                    raise_if_cancelled = _engine.cancellation_check()
                    async with aclosing(cast("AsyncGenerator[Any, None]", stream)) as chunks:
                        async for chunk in chunks:
                            raise_if_cancelled()
                            if attempt.add(chunk):
                                break
        return self._reply

    def leave(self) -> list[Attempt]:
        """Leave the call, which goes on in a thread without a slot; returns its attempts, the open one as it is."""
        attempts, last = [*self.attempts], self._last
        release(self._held)
        is_open = last is not None and last.number > len(attempts)
        return [*attempts, last.record(last.reader.partial())] if last and is_open else attempts

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
        self._last = attempt = _Attempt(self)
        try:
            with _engine.context_config(attempt.config):
                yield attempt
            attempt.write(attempt.reader.end())
            self._reply = attempt.reader.reply()
            if self.writer and not self.writer.finish():
                msg = "The model's reply has no text but a title or thoughts."
                raise ReplyError(msg, is_retryable=True)  # noqa: TRY301 - as an empty reply
        except GraphBubbleUp:  # an interrupt, or a stop
            raise
        except Exception as error:
            self._reply = attempt.reader.recover(error, attempt.counter.reply if attempt.counter else None)
            is_refused = limits.leave_out(limits.refused(attempt.added, error, by_name=self._reply is not None))
            if self._reply is None or is_refused:
                described = describe(error, self.secrets)
                self.attempts.append(attempt.record(attempt.reader.partial(), described))
                self._next_pause = 0.0 if is_refused else self._pause_after(error, attempt)
                if self._next_pause is None:
                    add_hint(error, self.runnable, self.secrets)
                    raise
                logger.info("Retry of %s %s in %.1f s: %s", self.stage, self.what, self._next_pause, described)
                return
        self.attempts.append(attempt.record(getattr(self._reply, "message", self._reply)))
        if attempt.reader.is_spent(self._reply) and limits.leave_out(attempt.limits):
            self._next_pause = 0.0

    def _pause_after(self, error: Exception, attempt: "_Attempt") -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if isinstance(error, ReplyError) and attempt.reader.is_spent(None) and limits.leave_out(attempt.limits):
            return 0.0
        if is_model(self.runnable) and has_no_reply(error):
            error = ReplyError(str(error), is_retryable=True)
        # What a client repeats by itself counts as attempts.
        repeated = 0 if isinstance(error, ReplyError) else client_retries(self.runnable, error)
        return pause_before_retry(error, self.number * (1 + repeated), self.policies)


def _raise_if_stopped() -> None:
    runtime = get_runtime()
    if runtime.drain_requested:
        raise GraphDrained(runtime.drain_reason or "stopped")


class _Attempt:
    """One attempt of a call, while it runs."""

    def __init__(self, call: Call) -> None:
        self._call, self._sent, self._first_token = call, time.time(), cast("float | None", None)
        self.number = call.number
        # A chat model sends one request and counts its tokens itself: a callback handler would cost CPU for each chunk.
        model = chat_model_of(call.runnable)
        self.counter = None if model else RequestCounter()
        if call.writer:
            call.writer.start()
        self.input = call.prompt(call.writer.text if call.writer else "")
        self.config = self._config()
        self.reader = call.reader()
        wants_tokens = run_of(call.config).wants_tokens(call.config, *callbacks_of(call.runnable))
        wants_tokens = wants_tokens or call.is_streamed or getattr(model, "streaming", False) is True
        self.is_streamed = call.writer is not None and wants_tokens
        self.limits = limits.limits_in(call.runnable)
        self.added = [*self.limits, *(limits.counts_in(call.runnable) if self.is_streamed else ())]

    def add(self, chunk: Any) -> bool:
        """Add a chunk, or the whole reply; returns whether no more is read."""
        self.write(self.reader.add(chunk))
        if self._call.writer and self._call.writer.is_full:
            self.reader.is_full = True
        return self.reader.is_full

    def write(self, text: str) -> None:
        """Pass text on."""
        if text and self.is_streamed:
            self._first_token = self._first_token or time.time()
        if self._call.writer:
            self._call.writer.write(text)

    def record(self, reply: object, error: str | None = None) -> Attempt:
        """The record of the attempt, which ends now."""
        call = self._call
        times = (call.due, call.ready, self._sent, self._first_token)
        return attempt_record(call.stage, times, reply, index=call.index, error=error, counter=self.counter)

    def _config(self) -> RunnableConfig:
        call, run = self._call, run_of(self._call.config)
        config = call_config(call.config, call.stage, call.what, call.number, index=call.index, title=call.title)
        # Only a SoT graph that writes a point shares the concurrency limit: anything else counts as one call.
        configurable = {**config["configurable"], RUN: None if call.takes_slot else run}
        callbacks = _engine.callbacks_of_call(config, *([self.counter] if self.counter else []))
        config = {**config, "callbacks": callbacks, "configurable": configurable, "max_concurrency": run.limit}
        return call.adapt(config) if call.adapt else config
