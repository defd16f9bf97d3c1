"""Stage 1: the question in, the outline out.

The skeleton is decoded one token after the other and every point waits for it, so the model returns a plain list of
short titles and nothing else (section 2 of the paper).
"""

import logging
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from langchain_core.load import dumps
from langchain_core.messages import SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.types import Overwrite, RetryPolicy

from sot_graph import _engine, prefix
from sot_graph.calls import Call
from sot_graph.hedging import Hedge
from sot_graph.limits import TokenLimit
from sot_graph.models import Model, structured
from sot_graph.nodes.base import Node, Request, Steps, Turn, read_turn
from sot_graph.outline import clean_titles
from sot_graph.outline_reply import Outline, Outlined, OutlineReply, ScopedOutline, StructuredReply, bounded
from sot_graph.prompts import bounds, outline_turns
from sot_graph.redaction import secrets_of
from sot_graph.replies import ValueReply
from sot_graph.run import run_of
from sot_graph.scopes import clean_items, title_of
from sot_graph.state import Revision, SotState, Update
from sot_graph.streaming import OutlineEvent, emit
from sot_graph.thoughts import Habits, closes_unopened
from sot_graph.usage import Attempt

logger = logging.getLogger(__name__)

OUTLINE_LIMIT = 1_000
"""Titles that are read; the rest is never written."""


class Skeleton(Node):
    """Starts a fresh answer in the state and writes its outline."""

    def __init__(  # noqa: PLR0913 - the graph's options for this stage
        self,
        model: Model,
        policies: Sequence[RetryPolicy],
        system_prompt: SystemMessage | None,
        habits: Habits,
        *,
        route: Literal["auto", "always"] | Runnable[str, bool | None],
        min_points: int,
        max_points: int,
        has_opening: bool,
        is_reviewed: bool,
        limit: TokenLimit | None,
        hedge: Hedge | None,
        is_scoped: bool,
        warms: bool,  # whether the points may read the prefix that this call writes; see `sot_graph.prefix`
    ) -> None:
        super().__init__(model, policies, system_prompt, habits, limit, hedge)
        self.secrets = secrets_of(model, route)
        self.route, self.is_reviewed, self.warms = route, is_reviewed, warms
        self.min_points, self.max_points, self.has_opening = min_points, max_points, has_opening
        self.count = bounds(min_points, max_points)
        self.is_scoped = is_scoped
        outline = ScopedOutline if is_scoped else Outline
        # To decline is one title, because some servers cannot give an empty list (vLLM issue 13821).
        self.schemas = {
            is_sure: (bounded(self.count[0] if is_sure else 1, max_points, outline), outline, None)
            for is_sure in (True, False)
        }
        self._bound: dict[bool, tuple[Model, Model | None]] = {}
        self._refused: dict[str, int] = {}  # how many of the schemas a model's provider refused

    def steps(self, state: SotState, config: RunnableConfig) -> Steps:
        """Write the outline, unless the caller has one or the question does not suit."""
        turn = read_turn(state)
        if self.is_reviewed and _engine.checkpointer_of(config) is None:
            msg = (
                "review=True interrupts the run, which needs a checkpointer to resume: give one to create_sot_graph or "
                "to the parent graph, and a thread_id to the run."
            )
            raise ValueError(msg)
        revision, titles = state.get("revision"), turn.outline
        attempts: list[Attempt] = []
        if revision or titles is None:
            suits = yield from self._suits(turn, config, attempts, revision)
            if suits is not False:
                titles = yield from self._outline(turn, config, attempts, revision, is_sure=suits is True)
        # Too few points of a model, also of an agent's, are no outline: the question is answered directly.
        is_callers = turn.outline and not revision and run_of(config).message_config is None
        items = [*(titles or [])][:OUTLINE_LIMIT]
        outline, scopes = clean_items(items, self.max_points)
        if turn.outline and not revision and not outline:
            msg = "`outline` has no title with a letter or a digit. Leave it out to have the model write one."
            raise ValueError(msg)
        self._note_cap(outline, items, len(titles or []))
        outline = outline if is_callers or len(outline) >= self.min_points else []
        if revision and not outline:
            logger.warning("The model returned no outline that follows the remark; the outline before it stays.")
            outline, scopes = revision["titles"], revision.get("scopes", [])
        scopes = scopes if outline else []
        emit(OutlineEvent(type="outline", titles=outline))
        if outline:
            run_of(config).note_outline()
        if revision:
            return {"outline": outline, "scopes": scopes, "attempts": attempts}
        # Nothing of the thread's last answer is left.
        fresh: Update = {"points": Overwrite([]), "attempts": Overwrite(attempts), "outline": outline, "scopes": scopes}
        fresh |= {"answer": "", "answer_id": None, "ending": None}
        return {**fresh, **({"messages": turn.added} if turn.added else {})}

    def _suits(
        self, turn: Turn, config: RunnableConfig, attempts: list[Attempt], revision: Revision | None
    ) -> Generator[Request, Any, bool | None]:
        """Whether the question suits an outline; None leaves that to the outline's call."""
        if revision or isinstance(self.route, str):
            return None if self.route == "auto" else True
        options: Any = {"runnable": self.route, "reader": ValueReply, "attempts": attempts}
        options |= {"takes_slot": not isinstance(self.route, RunnableLambda)}  # a function calls no model
        suits = yield self.call("skeleton", "route", config, lambda _shown: turn.question, **options)
        if suits is None or isinstance(suits, bool):
            return suits
        msg = (
            "route must return True (the question suits an outline), False (answer it directly) or None (let the "
            f"outline's call decide), not {suits!r}."
        )
        raise TypeError(msg)

    def _outline(
        self,
        turn: Turn,
        config: RunnableConfig,
        attempts: list[Attempt],
        revision: Revision | None,
        *,
        is_sure: bool,
    ) -> Generator[Request, Any, list[Any]]:
        """Ask for the outline: by a schema if the model can, else as plain text, which has titles only."""
        may_decline = not (is_sure or revision)
        told = partial(
            outline_turns, may_decline=may_decline, has_opening=self.has_opening and not revision, revision=revision
        )

        def call(runnable: Model, reader: type[OutlineReply], turns: list[str]) -> Call:
            made = self.cached(runnable, turn.conversation, lambda _shown: turns, is_marked=is_warming)
            return self.call("skeleton", "outline", config, reader=reader, attempts=attempts, **made)

        model = self.resolved(config)
        is_warming = self.warms and prefix.warms(model, self.messages(turn.conversation))
        if is_warming:
            run_of(config).is_warm = True
        reply: Outlined | None = None
        while not is_warming and (bound := self._structured(model, is_sure=is_sure)) is not None:
            reply = yield call(bound, StructuredReply, told(None, is_scoped=self.is_scoped))
            titles: list[Any] | None = reply.titles
            if titles is not None and (may_decline or len(clean_items(titles)[0]) >= self.min_points):
                return titles
            if reply.refused != "bounds":
                break
            self._refuse(model)
        outlined: Outlined = yield call(model, OutlineReply, told(self.count))
        if outlined.message:
            self.habits.learn(closes_unopened=closes_unopened(outlined.message.text))
        if reply and reply.refused == "schema":
            self._refuse(model, all_of_them=True)
        return outlined.titles or []

    def _structured(self, model: Model, *, is_sure: bool) -> Model | None:
        """The model bound to a schema, if it can be, made once for as long as the model stays the same."""
        made = self._bound.get(is_sure)
        if made is None or made[0] is not model:
            schema = self.schemas[is_sure][self._refused.get(dumps(model), 0) if self._refused else 0]
            is_streamed = self.hedge is not None
            made = (model, structured(model, schema, is_streamed=is_streamed) if schema else None)
            self._bound[is_sure] = made
        return made[1]

    def _refuse(self, model: Model, *, all_of_them: bool = False) -> None:
        """Do without the schema that a model's provider refused, or without any."""
        name, last = dumps(model), len(self.schemas[True]) - 1
        self._refused[name] = last if all_of_them else min(self._refused.get(name, 0) + 1, last)
        self._bound = {}

    def _note_cap(self, outline: list[str], items: list[Any], given: int) -> None:
        """Say in the log that an outline has more points than are written."""
        titles = clean_titles(map(title_of, items)) if len(items) > len(outline) else outline
        if len(titles) > len(outline):
            count = f"{len(titles)}{' or more' if given > OUTLINE_LIMIT else ''}"
            logger.warning("The outline has %s points; the first %d are written (max_points).", count, self.max_points)
