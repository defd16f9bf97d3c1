"""The answer's opening, written from the question alone while the skeleton is being written.

With it the first words come as soon as those of a plain answer, which they do not have to wait for an outline.
"""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from sot_graph.calls import areply, call_config, reply
from sot_graph.keys import secrets_of
from sot_graph.prompt import RULE, continuing, lay_out, open_turn
from sot_graph.reading import OPENING, Voice, heard_reading, said_before
from sot_graph.stage import Stage, failed_call
from sot_graph.state import SotState, Update
from sot_graph.usage import record_call

LEAD = (
    f"{RULE}\n"
    "Write only the opening of the answer to the question above, in the language of the question: one sentence, two at "
    "the most, and no more than 30 words. It leads into the subject and is true of the whole of it. What follows is "
    "being written by others, so do not announce it, list nothing, and do not ask anything back."
)


class Lead(Stage[SotState, Update]):
    """The node that writes the opening."""

    def __init__(self, model: BaseChatModel, *, system_prompt: SystemMessage | None) -> None:
        self.model = model
        self.secrets = secrets_of(model)
        self.system_prompt = system_prompt

    def run(self, given: SotState, config: RunnableConfig) -> Update:
        """Write the opening."""
        if given.get("outline"):  # nothing to bridge: the points begin at once
            return _nothing(config)
        with Voice(OPENING, config) as voice:
            call = call_config(config, "lead", "opening")
            return _update(reply(self.model, self._prompt(given, voice.begun), call, voice.hear), voice)

    async def arun(self, given: SotState, config: RunnableConfig) -> Update:
        """Write the opening; see `run`."""
        if given.get("outline"):
            return _nothing(config)
        with Voice(OPENING, config) as voice:
            call = call_config(config, "lead", "opening")
            return _update(await areply(self.model, self._prompt(given, voice.begun), call, voice.hear), voice)

    def _prompt(self, state: SotState, begun: str) -> list[BaseMessage]:
        instruction = f"{LEAD}\n\n{continuing(begun)}" if begun else LEAD
        return lay_out(self.system_prompt, open_turn(state).conversation, instruction)


def _update(message: AIMessage, voice: Voice) -> Update:
    text = voice.finish()
    voice.end()
    return {"opening": text, "opening_call": record_call(voice.config, "lead", message)}


def _nothing(config: RunnableConfig) -> Update:
    if reading := heard_reading(config):
        reading.end(OPENING, config)
    return {"opening": "", "opening_call": None}


def skip_opening(_state: SotState, config: RunnableConfig) -> Update:
    """Go on without an opening that failed after its retries, or with what the reader has got of it."""
    said = said_before(config, OPENING)
    return {**_nothing(config), "opening": said, "opening_call": failed_call(config, "lead")}
