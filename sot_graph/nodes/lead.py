"""The opening of the answer, written from the question alone while the outline is being written.

With it the first words arrive as soon as those of a plain answer.
"""

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from sot_graph.nodes.base import Node, Steps, read_turn
from sot_graph.prompts import lead_instruction
from sot_graph.run import OPENING, TextWriter
from sot_graph.state import SotState


class Lead(Node):
    """Writes the opening; without an outline's call there is nothing to bridge, and no opening."""

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the opening; if it fails, the answer has what subscribers have received of it."""
        writer = TextWriter(OPENING, config)
        if state.get("outline"):
            writer.end()
            return {"opening": "", "opening_call": None}
        conversation = read_turn(state).conversation
        call = self.call(
            "lead",
            "opening",
            config,
            lambda shown: self.messages(conversation, lead_instruction(shown)),
            writer=writer,
        )
        try:
            yield call
            opening, failed = writer.text, False
        except GraphBubbleUp:
            raise
        except Exception:  # noqa: BLE001 - an answer without an opening is an answer
            opening, failed = writer.shown, True
        writer.end(failed=failed)
        return {"opening": opening, "opening_call": call.record() or None}
