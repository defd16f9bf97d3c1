"""Stage 2: one point in, its text out. One task for each point, all of them in flight at once."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.types import RetryPolicy, Send

from sot_graph._engine import PendingWrites, read_state
from sot_graph.caching import digest
from sot_graph.calls import Call
from sot_graph.expander import Expander
from sot_graph.hedging import Hedge
from sot_graph.limits import TokenLimit
from sot_graph.messages import GAP
from sot_graph.models import Model
from sot_graph.needs import Needed
from sot_graph.nodes.base import Node, Steps, before_answer
from sot_graph.prompts import TELL, point_turns, tell_of
from sot_graph.redaction import describe
from sot_graph.replies import end_of
from sot_graph.run import OPENING, TextWriter, run_of
from sot_graph.scopes import needs_of, outlined
from sot_graph.state import Point, PointTask, Scope, SotState, merge_points
from sot_graph.streaming import PointEvent, emit
from sot_graph.text import echo_length
from sot_graph.thoughts import Habits


def heading(title: str) -> str:
    """A point's title as a Markdown heading above its text."""
    return f"## {title}{GAP}"


def dispatch_points(state: SotState) -> list[Send] | str:
    """Turn the outline into one `Send` for each point; without an outline, go to the direct answer.

    If there are points already, the failed ones are sent again.
    """
    outline, scopes = outlined(state.get("outline"), state.get("scopes"))
    failed = [point["index"] for point in state.get("points") or [] if point["status"] == "failed"]
    context = digest(list(state["messages"]), outline, scopes)
    # A failed point must not be read from the cache. If points need others, none is cached: LangGraph does not run the
    # node of one that is, and those that wait for its text would wait for ever.
    is_new = bool(failed) or any("needs" in scope for scope in scopes)
    tasks = (
        PointTask(index=index, title=outline[index - 1], context=context, is_new=is_new)
        for index in failed or range(1, len(outline) + 1)
    )
    return [Send("expand", task) for task in tasks] or "direct"


class Expand(Node):
    """Writes one point."""

    def __init__(  # noqa: PLR0913 - the graph's options for this stage
        self,
        model: Model | Expander,
        policies: Sequence[RetryPolicy],
        system_prompt: SystemMessage | None,
        habits: Habits,
        *,
        headings: bool,
        is_answer: bool,  # false if a merge of the caller's makes the answer
        limit: TokenLimit | None,
        hedge: Hedge | None,
    ) -> None:
        self.expander = model if isinstance(model, Expander) else None
        if self.expander:  # it may have a system prompt of its own
            system_prompt = system_prompt or SystemMessage("")
        runnable = model.runnable if isinstance(model, Expander) else model
        super().__init__(runnable, policies, system_prompt, habits, limit, hedge)
        self.headings, self.is_answer = headings, is_answer

    def steps(self, task: PointTask, config: RunnableConfig) -> Steps:
        """Write the point; a failure is a failed point, so that its siblings continue and `merge` decides."""
        run, index, title = run_of(config), task["index"], task["title"]
        outline, scopes = _outline_in(config)
        needs = needs_of(scopes, index)
        with run.texts.writing(index) as written:
            self._restore_answer((yield from self._written_before(needs, config)), config)
            texts: list[str | None] = (yield Needed(run.texts, needs)) if needs else []
            echo = partial(echo_length, index, title)
            above = heading(title) if self.headings else ""
            options: Any = {"heading": above, "is_answer": self.is_answer, "ends_loops": self.expander is None}
            writer = TextWriter(index, config, self.habits, echo=echo, events=True, **options)
            needed = [(need, text) for need, text in zip(needs, texts, strict=True) if text]
            turns = partial(point_turns, index, outline, scopes, needed=needed)
            call = self._call(task, config, writer, turns, siblings=len(outline))
            point = Point(index=index, title=title, text="", status="written", error=None)
            try:
                reply = yield call
            except GraphBubbleUp:
                raise
            except Exception as error:  # noqa: BLE001 - `merge` raises it, with those of the other points
                run.errors[index] = error
                point |= {"text": writer.drop(), "status": "failed", "error": describe(error, call.secrets)}
            else:
                is_cut = writer.is_runaway or end_of(reply) == "truncated"
                point |= {"text": writer.text, "status": "truncated" if is_cut else "written"}
            emit(PointEvent(type="point", index=index, status=point["status"]))
            writer.end()
            written.set_result(point["text"] if point["status"] != "failed" else None)
            more: Any = {"needs": needs} if needs else {}
            return {"points": [point], "attempts": [{**attempt, **more} for attempt in call.attempts]}

    def _call(
        self,
        task: PointTask,
        config: RunnableConfig,
        writer: TextWriter,
        turns: Callable[..., list[str]],
        **options: Any,
    ) -> Call:
        """The call; `turns` makes its own messages, from how to ask and what there is of the answer."""
        conversation = before_answer(read_state(config, "messages"), read_state(config, "answer_id"))
        opening = read_state(config, "opening") or ""
        expander = self.expander
        tell = TELL if expander else tell_of(self.system_prompt, conversation)

        def own(shown: str) -> list[str]:
            return turns(tell, opening=opening, shown=shown)

        if expander:
            options |= expander.call_options()
            options["prompt"] = lambda shown: expander.input(self.messages(conversation, own(shown)))
        else:
            is_warm = run_of(config).is_warm
            options |= self.cached(self.resolved(config), conversation, own, is_marked=is_warm)
        options |= {"writer": writer, "index": task["index"], "title": task["title"]}
        return self.call("expand", f"{task['index']}: {task['title']}", config, **options)

    def _written_before(
        self, needs: Sequence[int], config: RunnableConfig
    ) -> Generator[PendingWrites, list[Any], list[Point]]:
        """The points that a run before this one has written, or has failed to write; their texts are known at once."""
        run = run_of(config)
        is_restored = run.is_restored or not (self.is_answer and run.is_streamed(config))
        if run.is_fresh or (is_restored and not needs):
            return []
        ended = [point for points in (yield PendingWrites("points", config)) for point in points]
        # A failed point in the state is being written again.
        written = [point for point in read_state(config, "points") or [] if point["status"] != "failed"]
        known = merge_points(written, ended)
        for point in known:
            run.texts.note(point["index"], point["text"] if point["status"] != "failed" else None)
        return known

    def _restore_answer(self, known: Sequence[Point], config: RunnableConfig) -> None:
        """Stream what is written already: the opening, and in a resumed run the points of the run before."""
        run = run_of(config)
        if not run.is_fresh:
            run.message_id = read_state(config, "answer_id") or run.message_id
        if not (self.is_answer and run.is_streamed(config)):
            return
        run.answer.put(OPENING, read_state(config, "opening") or "", config, ends=True)
        if not run.is_restored:
            run.is_restored = True
            for point in (point for point in known if point["status"] != "failed"):
                text = (heading(point["title"]) if self.headings else "") + point["text"]
                run.answer.put(point["index"], text, config, ends=True)


def _outline_in(config: RunnableConfig) -> tuple[list[str], list[Scope]]:
    """The titles and scopes of all points; if points that failed before are written, there is no outline any more."""
    outline = read_state(config, "outline") or [point["title"] for point in read_state(config, "points")]
    return outlined(outline, read_state(config, "scopes"))
