"""The plain answer, for a question that does not suit an outline: one call, as if the graph were not there."""

import time

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from sot_graph.calls import areply, call_config, reply
from sot_graph.prompt import lay_out
from sot_graph.stage import Stage
from sot_graph.state import SotState, Update
from sot_graph.usage import answer_message, record_call


class Direct(Stage[SotState, Update]):
    """The node that answers in one call."""

    def __init__(self, model: BaseChatModel, *, system_prompt: SystemMessage | None) -> None:
        self.model = model
        self.system_prompt = system_prompt

    def run(self, given: SotState, config: RunnableConfig) -> Update:
        """Answer the question."""
        began = time.time()
        message = reply(self.model, self._prompt(given), _config(config))
        return _update(given, message, began)

    async def arun(self, given: SotState, config: RunnableConfig) -> Update:
        """Answer the question; see `run`."""
        began = time.time()
        message = await areply(self.model, self._prompt(given), _config(config))
        return _update(given, message, began)

    def _prompt(self, state: SotState) -> list[BaseMessage]:
        conversation = state["messages"]
        if isinstance(conversation[-1], AIMessage):
            # Models refuse to go on from an assistant's message: the question is asked again.
            asked = next(m for m in reversed(conversation) if isinstance(m, HumanMessage))
            conversation = [*conversation, asked]
        return lay_out(self.system_prompt, conversation)


def _config(config: RunnableConfig) -> RunnableConfig:
    return call_config(config, "direct answer", "direct", streamed=True)


def _update(state: SotState, message: AIMessage, began: float) -> Update:
    calls = {**state["calls"], "direct": record_call("direct", message, began)}
    # The same id as the call's own stream had, so that "messages" mode does not send the answer twice.
    answer = answer_message(message.text, calls, message.id)
    return {"answer": message.text, "messages": [answer], "calls": calls}
