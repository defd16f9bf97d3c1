"""The plain answer to a question that does not suit an outline: one call."""

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from sot_graph.nodes.base import Node, Steps, answer_update
from sot_graph.prompts import GAP, continuation
from sot_graph.run import OPENING, TextWriter, run_of
from sot_graph.state import SotState

INDEX = 1


class Direct(Node):
    """Answers in one call."""

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the answer."""
        opening = state.get("opening") or ""
        run_of(config).answer.put(OPENING, opening, config, ends=True)
        conversation = _ends_with_question(state["messages"])
        writer = TextWriter(INDEX, config)
        call = self.call(
            "direct",
            "answer",
            config,
            lambda shown: self.messages(conversation, continuation(GAP.join(filter(None, (opening, shown))))),
            writer=writer,
        )
        yield call
        writer.end()
        return answer_update(state, writer.text, call.attempts, config)


def _ends_with_question(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Repeat the question at the end if an assistant's message follows it: models refuse to continue from that."""
    if not isinstance(messages[-1], AIMessage | ToolMessage):
        return list(messages)
    return [*messages, next(message for message in reversed(messages) if isinstance(message, HumanMessage))]
