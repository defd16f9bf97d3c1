"""The ending of the answer: written from its points once they are there, and streamed last."""

from typing import Any

from langchain_core.runnables import RunnableConfig

from sot_graph.nodes.base import Node, Steps, before_answer
from sot_graph.nodes.merge import join_points
from sot_graph.nodes.sentences import Sentences, dispensable
from sot_graph.prompts import closing_turns
from sot_graph.run import OPENING, TextWriter, run_of
from sot_graph.state import SotState


class Closing(Node):
    """Writes the ending, unless points failed and the answer fails with them, or has them written first."""

    def __init__(self, *args: Any, headings: bool, is_answer: bool, keep: bool) -> None:
        super().__init__(*args)
        self.headings, self.is_answer, self.keep = headings, is_answer, keep

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the ending; if it fails, the answer has what subscribers have received of it."""
        run, points, opening = run_of(config), state.get("points") or [], state.get("opening") or ""
        written = [point for point in points if point["status"] != "failed"]
        failed = {point["index"] for point in points} - {point["index"] for point in written}
        is_answered = written and failed <= run.errors.keys() and (self.keep or not failed)
        if not is_answered or state.get("ending") is not None:
            return {"ending": state.get("ending") or ""}
        conversation = before_answer(state["messages"], state.get("answer_id"))
        run.message_id = state.get("answer_id") or run.message_id
        if self.is_answer and run.is_streamed(config):
            # What a cache answered, or a run before, has not been streamed.
            run.answer.put(OPENING, opening, config, ends=True)
            for point in points:
                run.answer.put(point["index"], join_points([point], headings=self.headings), config, ends=True)
        # With a merge of the caller's the points are not streamed, and so neither is the text that stands below them.
        writer = TextWriter(points[-1]["index"] + 1, config, self.habits, bound=Sentences())

        def turns(shown: str) -> list[str]:
            return closing_turns(written, opening=opening, shown=shown)

        made = self.cached(self.resolved(config), conversation, turns, is_marked=run.is_warm)
        # It is streamed also if nobody reads, so that it can end early.
        call = self.call("closing", "ending", config, writer=writer, is_streamed=True, **made)
        with dispensable("ending", call, writer):
            yield call
        return {"ending": writer.text, "attempts": call.attempts}
