"""What the nodes have in common: two forms, an end that does not wait, a pause that a server asked for."""

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from sot_graph.calls import LONGEST_PAUSE, retry_after
from sot_graph.errors import ExpansionError
from sot_graph.listeners import first_hearing
from sot_graph.reading import STOP_INTERVAL, Reading, Stopped, reading_of
from sot_graph.safety import Hider, describe, hide_in
from sot_graph.usage import METER, CallRecord, Meter, call_name, this_task

Given = TypeVar("Given")
Written = TypeVar("Written")


def read_state(config: RunnableConfig, key: str) -> Any:
    """Read a key of the graph's state from within a node; None where nothing is there.

    A `Send` task gets its payload only. The engine's own ToolNode reads the state through this same function.
    """
    read = config["configurable"].get("__pregel_read")
    if read is None:
        msg = "This stage runs as a node of the graph that create_sot_graph makes, not by itself."
        raise RuntimeError(msg)
    return read([key]).get(key)


def failed_call(config: RunnableConfig, stage: str, index: int | None = None) -> dict[str, CallRecord]:
    """What a call cost that failed after its retries, by its name; `{}` if this run has not made it."""
    name, reading = call_name(stage, index), reading_of(config)
    attempts = reading.failed_attempts(name) if reading else []
    return {name: CallRecord(stage=stage, index=index, attempts=attempts)} if attempts else {}


class Stage(Runnable[Given, Written]):
    """A node with a sync and an async form; a plain function would have only one of them."""

    secrets: Sequence[str] = ()
    """What no error of this stage may tell."""
    takes_place: bool = True
    """Whether it makes calls, of which `max_concurrency` allows so many at once."""

    @abstractmethod
    def run(self, given: Given, config: RunnableConfig) -> Written:
        """Do the stage's work."""

    @abstractmethod
    async def arun(self, given: Given, config: RunnableConfig) -> Written:
        """Do the stage's work; see `run`."""

    def invoke(
        self,
        input: Given,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,
        **_kwargs: Any,
    ) -> Written:
        """Run as a node of the graph."""
        config, arrived, call = ensure_config(config), time.time(), self.call_name(input)
        reading = reading_of(config)
        if reading is None:  # the graph was compiled anew, from its builder
            return self.run(input, self._heard(config, Meter(arrived)))
        with reading.places.sync if self.takes_place else nullcontext():
            queued = time.time() - arrived
            reading.sleep(reading.pause_of(this_task()))
            meter = Meter(arrived, reading.failed_attempts(call), queued)
            try:
                return _abandonable(partial(self.run, input, self._heard(config, meter)), reading)
            except Exception as error:
                self._note(error, reading, call, meter)
                raise

    async def ainvoke(
        self,
        input: Given,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,
        **_kwargs: Any,
    ) -> Written:
        """Run as a node of the graph; see `invoke`."""
        config, arrived, call = ensure_config(config), time.time(), self.call_name(input)
        reading = reading_of(config)
        if reading is None:
            return await self.arun(input, self._heard(config, Meter(arrived)))
        async with reading.places.asyncio if self.takes_place else nullcontext():
            queued = time.time() - arrived
            await asyncio.sleep(reading.pause_of(this_task()))
            meter = Meter(arrived, reading.failed_attempts(call), queued)
            try:
                return await self.arun(input, self._heard(config, meter))
            except Exception as error:
                self._note(error, reading, call, meter)
                raise

    def call_name(self, given: Given) -> str:  # noqa: ARG002 - the points' stage tells its calls apart by it
        """The name of the stage's call."""
        return call_name(type(self).__name__.lower())

    def _heard(self, config: RunnableConfig, meter: Meter) -> RunnableConfig:
        """The same config, with those who listen to the stage's calls before all others."""
        config = first_hearing(config, Hider(self.secrets), meter)
        return {**config, "configurable": {**config.get("configurable", {}), METER: meter}}

    def _note(self, error: Exception, reading: Reading, call: str, meter: Meter) -> None:
        """Keep in mind what the attempt cost and for how long a server wants to be left alone; let no key out."""
        if not isinstance(error, ExpansionError):  # which carries the answer's own text, and errors told without keys
            hide_in(error, self.secrets)
        reading.note_failure(call, meter.attempt(error=describe(error)))
        if seconds := retry_after(error):
            # A policy of the caller's own may go on where ours would not.
            reading.put_off(this_task(), min(seconds, LONGEST_PAUSE))


def _abandonable(work: Callable[[], Written], reading: Reading) -> Written:
    """Work in a thread of its own, which is left to itself when nobody listens any more.

    A sync call cannot be cancelled. Its thread ends it at its next token; a process that ends does not wait for that.
    """
    outcome: Future[Written] = Future()

    def settle() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
            outcome.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(settle,), daemon=True)
    thread.start()
    while not wait([outcome], timeout=STOP_INTERVAL).done:
        if reading.is_stopped:
            raise Stopped
    thread.join()
    return outcome.result()
