"""The plain answer, for a question that does not suit an outline: one call, as if the graph were not there."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from sot_graph.calls import areply, call_config, reply
from sot_graph.ending import answer_update
from sot_graph.keys import secrets_of
from sot_graph.prompt import GAP, RULE, continuing, lay_out
from sot_graph.reading import Voice, recall_opening
from sot_graph.stage import Stage
from sot_graph.state import SotState, Update
from sot_graph.usage import record_call

PLACE = 1


class Direct(Stage[SotState, Update]):
    """The node that answers in one call."""

    def __init__(self, model: BaseChatModel, *, system_prompt: SystemMessage | None) -> None:
        self.model = model
        self.secrets = secrets_of(model)
        self.system_prompt = system_prompt

    def run(self, given: SotState, config: RunnableConfig) -> Update:
        """Answer the question."""
        recall_opening(given.get("opening"), config)
        with Voice(PLACE, config) as voice:
            call = call_config(config, "direct", "answer")
            message = reply(self.model, self._prompt(given, voice.begun), call, voice.hear)
            return _update(given, message, voice)

    async def arun(self, given: SotState, config: RunnableConfig) -> Update:
        """Answer the question; see `run`."""
        recall_opening(given.get("opening"), config)
        with Voice(PLACE, config) as voice:
            call = call_config(config, "direct", "answer")
            message = await areply(self.model, self._prompt(given, voice.begun), call, voice.hear)
            return _update(given, message, voice)

    def _prompt(self, state: SotState, begun: str) -> list[BaseMessage]:
        conversation = state["messages"]
        if isinstance(conversation[-1], AIMessage | ToolMessage):
            # Models refuse to go on from an assistant's message: the question is asked again.
            asked = next(m for m in reversed(conversation) if isinstance(m, HumanMessage))
            conversation = [*conversation, asked]
        begun = GAP.join(text for text in (state.get("opening"), begun) if text)
        return lay_out(self.system_prompt, conversation, f"{RULE}\n{continuing(begun)}" if begun else None)


def _update(state: SotState, message: AIMessage, voice: Voice) -> Update:
    text = voice.finish()
    voice.end()
    return answer_update(state, text, record_call(voice.config, "direct", message), voice.config)
