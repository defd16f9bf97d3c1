"""The opening of the answer, written from the question alone while the outline is being written.

With it the first words arrive as soon as those of a plain answer. It is short, and the points do not wait for it for
long: see `Sentences` and `BoundedCall`.
"""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

from langchain_core.runnables import RunnableConfig

from sot_graph._engine import PendingWrites
from sot_graph.calls import Call
from sot_graph.concurrency import in_thread
from sot_graph.nodes.base import Node, Steps, read_turn
from sot_graph.nodes.sentences import Sentences, dispensable
from sot_graph.prompts import lead_turns
from sot_graph.run import OPENING, Run, TextWriter, run_of
from sot_graph.state import SotState

GRACE = 0.5
"""Seconds that the opening has once the outline is there."""


class BoundedCall:
    """The opening's call. It is left half a second after the outline is there, also if the model sends nothing."""

    def __init__(self, call: Call, writer: TextWriter, run: Run) -> None:
        self._call, self._writer, self._run = call, writer, run
        self.text, self.attempts = "", call.attempts

    def run(self) -> None:
        """Wait in a thread; a call that is left goes on in another one, and ends there at its next chunk."""
        done = in_thread("sot-opening", self._call.run)
        wait([done, self._run.outlined], return_when=FIRST_COMPLETED)
        if wait([done], GRACE).done:
            self._end(done.result)
        else:
            self._leave()

    async def arun(self) -> None:
        """Wait in a task; a call that is left is cancelled."""
        task = asyncio.create_task(self._call.arun())
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # asyncio reports what nobody reads
        try:
            await asyncio.wait([task, asyncio.wrap_future(self._run.outlined)], return_when=FIRST_COMPLETED)
            if (await asyncio.wait([task], timeout=GRACE))[0]:
                self._end(task.result)
            else:
                self._leave()
        finally:
            if task.cancel():
                await asyncio.wait([task], timeout=GRACE)

    def _end(self, result: Callable[[], Any]) -> None:
        with dispensable("opening", self._call, self._writer):
            result()
        self.text = self._writer.text

    def _leave(self) -> None:
        self.text, self.attempts = self._writer.leave(), self._call.leave()


class Lead(Node):
    """Writes the opening; without an outline's call there is none, because the points start at once."""

    def __init__(self, *args: Any, warms: bool) -> None:
        super().__init__(*args)
        self.warms = warms  # whether the points may read the prefix that this call writes; see `sot_graph.prefix`

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the opening; if it fails, the answer has what subscribers have received of it."""
        run = run_of(config)
        writer = TextWriter(OPENING, config, self.habits, bound=Sentences(run.outlined.done))
        if state.get("outline"):
            writer.end()
            return {"opening": "", "opening_attempts": []}
        yield from _note_outline(run, config)
        conversation = read_turn(state).conversation

        run.is_warm = self.warms
        made = self.cached(self.resolved(config), conversation, lead_turns, is_marked=self.warms)
        # It is streamed also if nobody reads: so it can end early, and what there is of it is kept.
        call = self.call("lead", "opening", config, writer=writer, is_streamed=True, **made)
        bounded = BoundedCall(call, writer, run)
        yield bounded
        return {"opening": bounded.text, "opening_attempts": bounded.attempts}


def _note_outline(run: Run, config: RunnableConfig) -> Generator[PendingWrites, list[Any], None]:
    """In a resumed run, the run before may have written the outline: its node does not run again."""
    if not run.is_fresh and any((yield PendingWrites("outline", config))):
        run.note_outline()
