"""The plain answer to a question that does not suit an outline: one call."""

from langchain_core.runnables import RunnableConfig

from sot_graph.messages import GAP
from sot_graph.nodes.base import Node, Steps, answer_update
from sot_graph.prompts import continuation
from sot_graph.run import OPENING, TextWriter, run_of
from sot_graph.state import SotState

INDEX = 1


class Direct(Node):
    """Answers in one call."""

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the answer."""
        opening = state.get("opening") or ""
        run_of(config).answer.put(OPENING, opening, config, ends=True)
        writer = TextWriter(INDEX, config, self.habits)

        def turns(shown: str) -> list[str]:
            return continuation(GAP.join(filter(None, (opening, shown))))

        is_warm = run_of(config).is_warm
        made = self.cached(self.resolved(config), state["messages"], turns, is_marked=is_warm)
        call = self.call("direct", "answer", config, writer=writer, **made)
        yield call
        writer.end()
        return answer_update(state, writer.text, call.attempts, config)
