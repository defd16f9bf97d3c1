"""The opening of the answer, written from the question alone while the outline is being written.

With it the first words arrive as soon as those of a plain answer.
"""

import logging

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from sot_graph.nodes.base import Node, Steps, read_turn
from sot_graph.prompts import lead_turns
from sot_graph.redaction import describe
from sot_graph.run import OPENING, TextWriter
from sot_graph.state import SotState

logger = logging.getLogger(__name__)


class Lead(Node):
    """Writes the opening; without an outline's call there is none, because the points start at once."""

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the opening; if it fails, the answer has what subscribers have received of it."""
        writer = TextWriter(OPENING, config, self.habits)
        if state.get("outline"):
            writer.end()
            return {"opening": "", "opening_attempts": []}
        conversation = read_turn(state).conversation
        call = self.call(
            "lead",
            "opening",
            config,
            lambda shown: self.messages(conversation, lead_turns(shown)),
            writer=writer,
        )
        try:
            yield call
        except GraphBubbleUp:
            raise
        except Exception as error:  # noqa: BLE001 - an answer without an opening is an answer
            logger.warning("The opening failed: %s", describe(error, call.secrets))
            writer.drop()
        writer.end()
        return {"opening": writer.text, "opening_attempts": call.attempts}
