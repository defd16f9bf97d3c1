"""Stage 3: the texts in, the answer out."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.types import Command

from sot_graph.calls import call_config
from sot_graph.ending import answer_update
from sot_graph.errors import ExpansionError
from sot_graph.expand import heading, send_points
from sot_graph.keys import secrets_of
from sot_graph.prompt import GAP, before_answer
from sot_graph.safety import storable
from sot_graph.stage import Stage
from sot_graph.state import Point, SotState, Update
from sot_graph.usage import record_call


def join_points(points: Sequence[Point], *, headings: bool = False) -> str:
    """Join the texts with a blank line between them, each below its title where headings are wanted."""
    return GAP.join((heading(p["title"]) if headings else "") + p["text"] for p in points if p["text"])


class Merge(Stage[SotState, Update | Command[str]]):
    """The node that puts the points together, or says which of them are missing."""

    def __init__(
        self,
        merge: Runnable[Any, Any] | None,
        *,
        headings: bool,
        keep: bool,
    ) -> None:
        self.merge = merge
        self.secrets = secrets_of(merge)
        self.takes_place = merge is not None  # joining asks nobody
        self.headings = headings
        self.keep = keep

    def run(self, given: SotState, config: RunnableConfig) -> Update | Command[str]:
        """Merge the written points."""
        if (elsewhere := _elsewhere(given)) is not None:
            return elsewhere
        written = self._written(given)
        if self.merge is None:
            return self._joined(given, config)
        merged = self.merge.invoke(written, call_config(config, "merge", "points"))
        return _merged(given, merged, config)

    async def arun(self, given: SotState, config: RunnableConfig) -> Update | Command[str]:
        """Merge the written points; see `run`."""
        if (elsewhere := _elsewhere(given)) is not None:
            return elsewhere
        written = self._written(given)
        if self.merge is None:
            return self._joined(given, config)
        merged = await self.merge.ainvoke(written, call_config(config, "merge", "points"))
        return _merged(given, merged, config)

    def _joined(self, state: SotState, config: RunnableConfig) -> Update:
        # All texts: of a failed point the reader may have got the beginning, and what was shown is in the answer.
        return answer_update(state, join_points(state["points"], headings=self.headings), {}, config)

    def _written(self, state: SotState) -> list[Point]:
        """The points that have a text.

        Raises:
            ExpansionError: Points failed and the options do not let the answer go without them, or all failed.
        """
        written = [point for point in state["points"] if point["status"] != "failed"]
        failed = [point for point in state["points"] if point["status"] == "failed"]
        if failed and not (self.keep and written):
            raise ExpansionError(failed, written)
        return written


def _elsewhere(state: SotState) -> Update | Command[str] | None:
    """What to do instead of merging, on a thread that was resumed or whose answer is to be mended.

    Returns:
        A command that has the points written that failed in an earlier run; no change where there is nothing to merge
        yet, or nothing left; None where the points are to be merged.
    """
    points = state.get("points") or []
    if not points or _has_new_turn(state):
        return {}  # sent here while something else is still to be done, which will come here by itself
    failed = [point["index"] for point in points if point["status"] == "failed"]
    if failed and not state.get("tried"):
        titles = [point["title"] for point in points]
        sends = send_points(titles, failed, before_answer(state["messages"], state.get("answer_id")))
        return Command(update={"answer": ""}, goto=sends)
    return {} if state.get("answer") else None


def _has_new_turn(state: SotState) -> bool:
    """Whether something is asked to which the thread's points are no answer."""
    answer_id = state.get("answer_id")
    if not answer_id:
        return False
    later = state["messages"][len(before_answer(state["messages"], answer_id)) :]
    return state.get("question") is not None or any(isinstance(message, HumanMessage) for message in later)


def _merged(state: SotState, merged: object, config: RunnableConfig) -> Update:
    """Check what a merge of the caller's own made."""
    message = merged if isinstance(merged, BaseMessage) else None
    answer = message.text if message else merged
    if not isinstance(answer, str) or not answer.strip():
        msg = (
            f"merge must return the answer as text or as a message, and not an empty one; it returned {merged!r:.200}."
        )
        raise TypeError(msg)
    return answer_update(state, storable(answer), record_call(config, "merge", message, is_callers=True), config)
