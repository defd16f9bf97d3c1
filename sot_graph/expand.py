"""Stage 2: one point in, its text out. One task per point, all of them in flight at once."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.constants import CONFIG_KEY_CHECKPOINTER
from langgraph.errors import NodeError
from langgraph.runtime import get_runtime
from langgraph.types import Command, Send

from sot_graph.calls import areply, call_config, is_truncated, reply
from sot_graph.errors import ReplyError
from sot_graph.expander import Expander
from sot_graph.keys import secrets_of
from sot_graph.prompt import GAP, RULE, before_answer, continuing, digest, lay_out
from sot_graph.reading import Reading, Voice, heard_reading, inner_config, recall_opening, said_before
from sot_graph.safety import describe
from sot_graph.stage import Stage, failed_call, read_state
from sot_graph.state import Point, PointTask, SotState, Update, merge_points
from sot_graph.streaming import PointEvent, TokenEvent, emit
from sot_graph.tidy import echo_length
from sot_graph.usage import call_name, record_call, this_attempt

YOUR_POINT = "Your point is number"


def heading(title: str) -> str:
    """What stands above a point's text where headings are wanted."""
    return f"## {title}{GAP}"


LENGTH = "One or two sentences, unless you were told before how long or in what form to answer. "


def expand_instruction(task: PointTask, *, length: str = LENGTH, opening: str = "", begun: str = "") -> str:
    """What stands below the question in one point's prompt; the point's own part comes last.

    Args:
        task: The point.
        length: How long the text should be; an expander knows that itself.
        opening: The answer's opening, where it has one.
        begun: The text of which the reader has this beginning already.
    """
    outline = "\n".join(f"{i}. {title}" for i, title in enumerate(task["outline"], start=1))
    return (
        f"{RULE}\n"
        f"{f'The answer to the question above opens with this text:{GAP}{opening}{GAP}' if opening else ''}"
        "The answer to the question above is made of the points below. You write one of them; at the same time the "
        "others are being written by others, who see this same page:\n\n"
        f"{outline}\n\n"
        "Write your point's text, in the language of the question, so that all texts read as one answer when they "
        f"are put together. {length}"
        "Begin with the text itself, without a number, a title or an introduction, and keep out what belongs to the "
        "other points.\n\n"
        f"{continuing(begun) if begun else ''}"
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

    def __init__(
        self,
        model: BaseChatModel | Expander,
        *,
        system_prompt: SystemMessage | None,
        headings: bool,
        muted: bool,
    ) -> None:
        """Set the stage up.

        Args:
            model: Writes the points.
            system_prompt: The caller's own.
            headings: Whether each point's title stands above its text.
            muted: Whether the points are not the answer's own text, because a merge of the caller's makes that.
        """
        if isinstance(model, Expander):
            self.reply, self.areply = model.reply, model.areply
        else:
            self.reply, self.areply = partial(reply, model), partial(areply, model)
        self.expander = model if isinstance(model, Expander) else None
        # The calls of a graph of ours take the places themselves.
        self.takes_place = not (self.expander and self.expander.reads_aloud)
        self.secrets = secrets_of(self.expander.runnable if self.expander else model)
        self.system_prompt = system_prompt
        self.headings = headings
        self.muted = muted

    def run(self, given: PointTask, config: RunnableConfig) -> Update:
        """Write the point."""
        if reading := self._resumed(config):
            reading.recall(self._recalled(pending_points(config), config), config)
        with self._voice(given, config) as voice:
            prompt, call = self._prompt(given, config, voice.begun), self._call_config(given, config)
            message = self.reply(prompt, call, partial(_hear, voice))
            return _written(given, message, voice, config)

    async def arun(self, given: PointTask, config: RunnableConfig) -> Update:
        """Write the point; see `run`."""
        if reading := self._resumed(config):
            reading.recall(self._recalled(await apending_points(config), config), config)
        with self._voice(given, config) as voice:
            prompt, call = self._prompt(given, config, voice.begun), self._call_config(given, config)
            message = await self.areply(prompt, call, partial(_hear, voice))
            return _written(given, message, voice, config)

    def keep_failure(self, task: PointTask, error: NodeError, config: RunnableConfig) -> Command[str]:
        """Note a point that failed after its retries, so that its siblings go on and `merge` decides.

        The engine runs this in place of the failed task, and may run it again when a thread resumes.
        """
        # Gone through a checkpoint, an error comes back as something else: then it is not this run's failure, and the
        # point is tried again.
        tried = isinstance(error.error, Exception)
        point = Point(
            index=task["index"],
            title=task["title"],
            text=said_before(config, task["index"], self._heading(task["title"])),
            status="failed",
            error=describe(error.error),
        )
        emit(PointEvent(type="point", index=point["index"], status="failed"))
        if reading := heard_reading(config):
            reading.end(point["index"], config)
        calls = failed_call(config, "expand", task["index"])
        return Command(update={"points": [point], "calls": calls, "tried": tried}, goto="merge")

    def call_name(self, given: PointTask) -> str:
        """The name of a point's call."""
        return call_name("expand", given["index"])

    def _prompt(self, task: PointTask, config: RunnableConfig, begun: str) -> list[BaseMessage]:
        opening, length = read_state(config, "opening") or "", "" if self.expander else LENGTH
        instruction = expand_instruction(task, length=length, opening=opening, begun=begun)
        conversation = before_answer(read_state(config, "messages"), read_state(config, "answer_id"))
        return lay_out(self.system_prompt, conversation, instruction)

    def _call_config(self, task: PointTask, config: RunnableConfig) -> RunnableConfig:
        what = f"{task['index']}: {task['title']}"
        config = call_config(config, "expand", what, point=task["index"], title=task["title"])
        return inner_config(config, is_ours=not self.takes_place) if self.expander else config

    def _voice(self, task: PointTask, config: RunnableConfig) -> Voice:
        recall_opening(read_state(config, "opening"), config)
        front = partial(echo_length, task["index"], task["title"])
        return Voice(task["index"], config, front, heading=self._heading(task["title"]), muted=self.muted)

    def _heading(self, title: str) -> str:
        return heading(title) if self.headings else ""

    def _resumed(self, config: RunnableConfig) -> Reading | None:
        """The reading of a run that goes on with an earlier one's points, when it has not recalled them yet."""
        reading = heard_reading(config)
        if reading is None or self.muted or read_state(config, "tried") is not None:
            return None
        return reading if reading.begin_recall(read_state(config, "answer_id")) else None

    def _recalled(self, pending: list[Point], config: RunnableConfig) -> dict[int, str]:
        """What is written already: in the state, and by those tasks of this step that had finished."""
        written = merge_points(read_state(config, "points") or [], pending)
        return {p["index"]: self._heading(p["title"]) + p["text"] for p in written if p["status"] != "failed"}


def _hear(voice: Voice, piece: str) -> None:
    if piece and voice.is_watched:
        emit(TokenEvent(type="token", index=voice.place, text=piece, attempt=this_attempt()))
    voice.hear(piece)


def pending_points(config: RunnableConfig) -> list[Point]:
    """The points that siblings wrote in this step before the run was broken off; the state does not have them yet."""
    saver, where = _saved(config)
    return _points_in(saver.get_tuple(where)) if saver else []


async def apending_points(config: RunnableConfig) -> list[Point]:
    """The points that siblings wrote before; see `pending_points`."""
    saver, where = _saved(config)
    return _points_in(await saver.aget_tuple(where)) if saver else []


def _saved(config: RunnableConfig) -> tuple[BaseCheckpointSaver[Any] | None, RunnableConfig]:
    """The checkpointer of this run, and the checkpoint that this step began with."""
    saver = config["configurable"].get(CONFIG_KEY_CHECKPOINTER)
    info = get_runtime().execution_info
    if info is None or not isinstance(saver, BaseCheckpointSaver):
        return None, {}
    graph_ns = info.checkpoint_ns.rpartition("|")[0]  # the last part names the task
    where = {"thread_id": info.thread_id, "checkpoint_ns": graph_ns, "checkpoint_id": info.checkpoint_id}
    return saver, {"configurable": where}


def _points_in(saved: CheckpointTuple | None) -> list[Point]:
    writes = saved.pending_writes or [] if saved else []
    return [point for _, channel, value in writes if channel == "points" for point in value]


def _written(task: PointTask, message: AIMessage, voice: Voice, config: RunnableConfig) -> Update:
    text = voice.finish()
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
    voice.end()
    return {"points": [point], "calls": record_call(config, "expand", message, task["index"])}
