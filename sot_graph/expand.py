"""Stage 2: one point in, its text out. One task per point, all of them in flight at once."""

import time
from collections.abc import Sequence
from functools import partial

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import NodeError
from langgraph.types import Command, Send

from sot_graph.calls import areply, call_config, is_truncated, reply
from sot_graph.errors import ReplyError
from sot_graph.prompt import RULE, digest, lay_out
from sot_graph.stage import Stage
from sot_graph.state import Point, PointTask, SotState, Update
from sot_graph.streaming import PointEvent, TokenEvent, emit
from sot_graph.tidy import tidy
from sot_graph.usage import record_call

ERROR_LIMIT = 500
"""How many characters of an error message a point keeps."""

YOUR_POINT = "Your point is number"


def expand_instruction(task: PointTask) -> str:
    """What stands below the question in one point's prompt; the point's own part comes last."""
    outline = "\n".join(f"{i}. {title}" for i, title in enumerate(task["outline"], start=1))
    return (
        f"{RULE}\n"
        "The answer to the question above is made of the points below, and each of them is being written at this "
        "moment by somebody else who sees this same page:\n\n"
        f"{outline}\n\n"
        "Write the text of one point, so that the texts read as one answer when they are put together. One or two "
        "sentences, unless you were told before how long or in what form to answer. Begin with the text itself, "
        "without a number, a title or an introduction, and keep out what belongs to the other points.\n\n"
        f"{YOUR_POINT} {task['index']}: {task['title']}"
    )


def dispatch_points(state: SotState) -> list[Send] | str:
    """Turn the outline into one `Send` a point; without an outline, on to the direct answer."""
    outline = state.get("outline") or []
    if not outline:
        return "direct"
    return send_points(outline, range(1, len(outline) + 1), state["messages"])


def send_points(outline: Sequence[str], indexes: Sequence[int], conversation: Sequence[BaseMessage]) -> list[Send]:
    """One `Send` for each of these points of the outline."""
    context = digest(list(conversation))
    return [
        Send(
            "expand",
            PointTask(index=i, title=outline[i - 1], outline=list(outline), context=context),
        )
        for i in indexes
    ]


class Expand(Stage[PointTask, Update]):
    """The node that writes one point."""

    def __init__(self, model: BaseChatModel, *, system_prompt: SystemMessage | None) -> None:
        self.model = model
        self.system_prompt = system_prompt

    def run(self, given: PointTask, config: RunnableConfig) -> Update:
        """Write the point."""
        began = time.time()
        message = reply(
            self.model,
            self._prompt(given, config),
            _point_config(given, config),
            partial(_tell, given["index"]),
        )
        return _written(given, message, began)

    async def arun(self, given: PointTask, config: RunnableConfig) -> Update:
        """Write the point; see `run`."""
        began = time.time()
        message = await areply(
            self.model,
            self._prompt(given, config),
            _point_config(given, config),
            partial(_tell, given["index"]),
        )
        return _written(given, message, began)

    def _prompt(self, task: PointTask, config: RunnableConfig) -> list[BaseMessage]:
        return lay_out(self.system_prompt, _conversation(config), expand_instruction(task))


def _conversation(config: RunnableConfig) -> list[BaseMessage]:
    """Read the conversation from the graph's state.

    A `Send` task gets its payload only. The engine's own ToolNode reads the state through this same function.
    """
    read = config["configurable"].get("__pregel_read")
    if read is None:
        msg = "expand runs as a node of the graph that create_sot_graph makes, not by itself."
        raise RuntimeError(msg)
    messages: list[BaseMessage] = read("messages")
    return messages


def _point_config(task: PointTask, config: RunnableConfig) -> RunnableConfig:
    name = f"point {task['index']}: {task['title']}"
    return call_config(config, name, "expand", point=task["index"], title=task["title"])


def _tell(index: int, text: str) -> None:
    if text:
        emit(TokenEvent(type="token", index=index, text=text))


def _written(task: PointTask, message: AIMessage, began: float) -> Update:
    text = tidy(message.text, task["index"], task["title"])
    if not text:
        msg = "The model's reply has no text but the point's own title."
        raise ReplyError(msg, is_retryable=True)
    point = Point(
        index=task["index"],
        title=task["title"],
        text=text,
        status="truncated" if is_truncated(message) else "written",
        error=None,
    )
    emit(PointEvent(type="point", index=point["index"], status=point["status"]))
    call = record_call("expand", message, began)
    return {"points": [point], "calls": {f"expand {task['index']}": call}}


def keep_failure(task: PointTask, error: NodeError) -> Command[str]:
    """Note a point that failed after its retries, so that its siblings go on and `merge` decides.

    The engine runs this in place of the failed task, and may run it again when a thread resumes.
    """
    # Gone through a checkpoint, an error comes back as something else: then it is not this run's failure, and the
    # point is tried again.
    tried = isinstance(error.error, Exception)
    point = Point(
        index=task["index"],
        title=task["title"],
        text="",
        status="failed",
        error=_describe(error.error),
    )
    emit(PointEvent(type="point", index=point["index"], status="failed"))
    return Command(update={"points": [point], "tried": tried}, goto="merge")


def _describe(error: object) -> str:
    if not isinstance(error, BaseException):
        return str(error)[:ERROR_LIMIT]
    return f"{type(error).__name__}: {error}"[:ERROR_LIMIT]
