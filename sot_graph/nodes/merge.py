"""Stage 3: the texts in, the answer out."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.types import Command, RetryPolicy

from sot_graph.errors import ExpansionError
from sot_graph.messages import GAP, question_of
from sot_graph.needs import Texts
from sot_graph.nodes.base import Node, Steps, answer_update, before_answer
from sot_graph.nodes.expand import dispatch_points, heading
from sot_graph.replies import ValueReply
from sot_graph.run import run_of
from sot_graph.state import Point, SotState
from sot_graph.text import storable


def join_points(points: Sequence[Point], *, headings: bool = False) -> str:
    """Join the texts with a blank line between them, each below its title if headings are wanted."""
    return GAP.join((heading(point["title"]) if headings else "") + point["text"] for point in points if point["text"])


class Merge(Node):
    """Merges the points, by a merge of the caller's own if there is one, or says which of them are missing."""

    def __init__(
        self,
        merge: Runnable[Any, Any] | None,
        policies: Sequence[RetryPolicy],
        *,
        headings: bool,
        keep: bool,
        has_ending: bool,
    ) -> None:
        super().__init__(merge, policies)
        self.headings, self.keep, self.has_ending = headings, keep, has_ending

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Merge the points; those that failed before this run are written first.

        Raises:
            ExpansionError: Points failed and may not be missing, or all failed.
        """
        run, points, answer_id = run_of(config), state.get("points") or [], state.get("answer_id")
        conversation = before_answer(state["messages"], answer_id)
        later = state["messages"][len(conversation) :]
        is_asked = answer_id and state.get("question") is not None
        if not points or is_asked or question_of(later):
            return {}  # another step runs first, and leads here again
        failed = [point for point in points if point["status"] == "failed"]
        if any(point["index"] not in run.errors for point in failed):
            again: Any = {**state, "outline": [point["title"] for point in points], "messages": conversation}
            run.texts = Texts()  # those of the failed points are not None any more
            return Command(update={"answer": "", "ending": None}, goto=dispatch_points(again))
        if state.get("answer"):
            return {}
        written = [point for point in points if point["status"] != "failed"]
        if failed and not (self.keep and written):
            errors = [run.errors[point["index"]] for point in failed]
            raise ExpansionError(failed, written) from ExceptionGroup("points could not be written", errors)
        if self.has_ending and state.get("ending") is None:
            return Command(goto="closing")  # this node was sent for while the ending was still to be written
        if self.model is None:
            # All texts: subscribers may have received the beginning of a failed point.
            return answer_update(state, join_points(points, headings=self.headings), [], config)
        call = self.call("merge", "points", config, lambda _shown: written, reader=ValueReply)
        merged = yield call
        text = merged.text if isinstance(merged, BaseMessage) else merged
        if isinstance(text, str) and text.strip():
            return answer_update(state, storable(text), call.attempts, config)
        msg = f"merge must return the answer as text or as a message, and not a blank one; it returned {merged!r:.200}."
        raise TypeError(msg)
