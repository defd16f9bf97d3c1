"""Stage 1: the question in, the outline out.

The skeleton is decoded one token after the other and everything waits for it, so the model is asked for a plain list
of short titles and nothing else (section 2 of the paper: 3 to 10 points of 3 to 5 words).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableSequence
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.constants import CONFIG_KEY_CHECKPOINTER
from langgraph.types import Overwrite
from pydantic import BaseModel, Field

from sot_graph.calls import call_config, http_status, inner_calls, is_transient, unstreamed
from sot_graph.keys import secrets_of
from sot_graph.outline import clean_titles, read_outline
from sot_graph.prompt import RULE, Turn, lay_out, open_turn
from sot_graph.stage import Stage
from sot_graph.state import Revision, SotState, Update
from sot_graph.streaming import OutlineEvent, emit
from sot_graph.usage import meter_of, record_call

logger = logging.getLogger(__name__)

FEWEST_POINTS = 3
"""How few points the model is asked for, where the options allow that many (the paper's figure)."""


class Outline(BaseModel):
    """The points of an answer."""

    # No index and no other key: each token that only carries structure delays the whole answer.
    points: list[str] = Field(description="The title of each point, in order: three to five words.")


def skeleton_instruction(min_points: int, max_points: int, *, may_decline: bool, opened: bool = False) -> str:
    """What stands below the question in the skeleton's prompt.

    Args:
        min_points: The fewest points that are an outline.
        max_points: The most points.
        may_decline: Whether the model may find that the question does not suit an outline.
        opened: Whether the answer's opening is being written already.
    """
    fewest = max(min_points, min(FEWEST_POINTS, max_points))
    count = str(max_points) if fewest == max_points else f"{fewest} to {max_points}"
    lines = [
        RULE,
        "Do not answer yet. Plan the answer to the question above: list the points that it will consist of.",
        "Afterwards each point is written on its own, at the same time as all the others. Therefore:",
        f"- give {count} points, in the order in which they should be read;",
        "- name each one in three to five words, in the language of the question;",
        "- let the points cover the whole question without overlapping;",
        "- choose them so that none needs the text of another to be written.",
    ]
    if opened:
        lines.append("An opening of one or two sentences is being written already: plan what comes after it.")
    if may_decline:
        lines.append(MAY_DECLINE)
    return "\n".join(lines)


MAY_DECLINE = (
    "Some questions are better answered in one go: a calculation, a proof or another chain of reasoning, program code, "
    "an estimate, a short fact, a text that has to flow as one piece. For these, give an empty list of points."
)
PLAIN_FORM = "Write the points as a numbered list, one a line. For an empty list write the word NONE."
"""What a model is told besides where it cannot be given a schema."""

OUTLINE_LIMIT = 1_000
"""How many titles are looked at; what comes behind them is never written."""


def revision_instruction(revision: Revision) -> str:
    """What stands below that where a person wants another outline."""
    titles = "\n".join(f"{i}. {title}" for i, title in enumerate(revision["titles"], start=1))
    return f"{REVISE}\n\n{titles}\n\n{REMARK}\n\n{revision['remark']}\n\nGive the whole list of points anew."


REVISE = "These points were planned before:"
REMARK = "A person has looked at them, and this remark is to be followed:"

Outlined = tuple[list[str], AIMessage | None]
"""The titles that a reply holds, and the reply itself where there is one (for its token counts)."""


class Skeleton(Stage[SotState, Update]):
    """The node that begins a fresh answer in the state and yields its outline."""

    def __init__(  # noqa: PLR0913 - the options of the graph that are this stage's
        self,
        model: BaseChatModel,
        *,
        route: Literal["auto", "always"] | Runnable[str, bool],
        system_prompt: SystemMessage | None,
        min_points: int,
        max_points: int,
        opened: bool,
        reviewed: bool,
    ) -> None:
        self.secrets = secrets_of(model, route)
        self.model = unstreamed(model)
        self.structured = _with_schema(self.model)
        self.route = route
        self.system_prompt = system_prompt
        self.min_points = min_points
        self.max_points = max_points
        self.reviewed = reviewed
        self.instruction = skeleton_instruction(min_points, max_points, may_decline=route == "auto", opened=opened)
        self.planned = skeleton_instruction(min_points, max_points, may_decline=False)

    def run(self, given: SotState, config: RunnableConfig) -> Update:
        """Write the outline, unless the caller brought one or the question does not suit."""
        turn = self._open(given, config)
        if revision := given.get("revision"):
            return self._revised(revision, self._ask(turn, config, revision), config)
        titles, raw = turn.outline, None
        if titles is None and self._suits(turn, config):
            titles, raw = self._ask(turn, config)
        return self._update(turn, titles or [], raw, config)

    async def arun(self, given: SotState, config: RunnableConfig) -> Update:
        """Write the outline; see `run`."""
        turn = self._open(given, config)
        if revision := given.get("revision"):
            return self._revised(revision, await self._aask(turn, config, revision), config)
        titles, raw = turn.outline, None
        if titles is None and await self._asuits(turn, config):
            titles, raw = await self._aask(turn, config)
        return self._update(turn, titles or [], raw, config)

    def _open(self, state: SotState, config: RunnableConfig) -> Turn:
        turn = open_turn(state)
        if self.reviewed and not isinstance(config["configurable"].get(CONFIG_KEY_CHECKPOINTER), BaseCheckpointSaver):
            msg = (
                "review=True interrupts the run, which needs a checkpointer to go on: give one to create_sot_graph or "
                "to the parent graph, and a thread_id to the run."
            )
            raise ValueError(msg)
        return turn

    def _suits(self, turn: Turn, config: RunnableConfig) -> bool:
        if isinstance(self.route, str):
            return True
        return _decision(self.route.invoke(turn.question, call_config(config, "skeleton", "route")))

    async def _asuits(self, turn: Turn, config: RunnableConfig) -> bool:
        if isinstance(self.route, str):
            return True
        return _decision(await self.route.ainvoke(turn.question, call_config(config, "skeleton", "route")))

    def _ask(self, turn: Turn, config: RunnableConfig, revision: Revision | None = None) -> Outlined:
        config = call_config(config, "skeleton", "outline")
        with inner_calls(config):
            if self.structured is not None:
                try:
                    result = self.structured.invoke(self._prompt(turn, revision), config)
                    return _read_result(result, meter_of(config).reply)
                except Exception as error:  # noqa: BLE001 - _salvage raises it again where nothing is to be saved
                    if (outlined := _salvage(error, meter_of(config).reply)) is not None:
                        return outlined
            return _read_result(self.model.invoke(self._prompt(turn, revision, PLAIN_FORM), config))

    async def _aask(self, turn: Turn, config: RunnableConfig, revision: Revision | None = None) -> Outlined:
        config = call_config(config, "skeleton", "outline")
        with inner_calls(config):
            if self.structured is not None:
                try:
                    result = await self.structured.ainvoke(self._prompt(turn, revision), config)
                    return _read_result(result, meter_of(config).reply)
                except Exception as error:  # noqa: BLE001 - _salvage raises it again where nothing is to be saved
                    if (outlined := _salvage(error, meter_of(config).reply)) is not None:
                        return outlined
            return _read_result(await self.model.ainvoke(self._prompt(turn, revision, PLAIN_FORM), config))

    def _prompt(self, turn: Turn, revision: Revision | None, *more: str) -> list[BaseMessage]:
        instruction = [self.planned, revision_instruction(revision)] if revision else [self.instruction]
        return lay_out(self.system_prompt, turn.conversation, "\n".join([*instruction, *more]))

    def _update(self, turn: Turn, titles: Sequence[str], raw: AIMessage | None, config: RunnableConfig) -> Update:
        # Too few points are no outline: the question is answered directly.
        outline = self._capped(titles)
        emit(OutlineEvent(type="outline", titles=outline))
        return {
            **({"messages": turn.added} if turn.added else {}),
            "outline": outline,
            # A thread that is used again begins a fresh answer.
            "points": Overwrite([]),
            "answer": "",
            "answer_id": None,
            "calls": Overwrite(record_call(config, "skeleton", raw)),
            "tried": False,
        }

    def _revised(self, revision: Revision, outlined: Outlined, config: RunnableConfig) -> Update:
        """Yield the outline that follows a person's remark, or the old one where the model gave none."""
        titles, raw = outlined
        outline = self._capped(titles)
        if not outline:
            logger.warning("The model gave no outline that follows the remark; the one before it stands.")
            outline = revision["titles"]
        emit(OutlineEvent(type="outline", titles=outline))
        return {"outline": outline, "calls": record_call(config, "skeleton", raw)}

    def _capped(self, titles: Sequence[str]) -> list[str]:
        """The points to be written; none where they are too few for an outline."""
        outline = clean_titles(titles[:OUTLINE_LIMIT])
        if len(outline) > self.max_points:
            more = " or more" if len(titles) > OUTLINE_LIMIT else ""
            logger.warning(
                "The outline has %d%s points; the first %d are written (max_points).",
                len(outline),
                more,
                self.max_points,
            )
        return outline[: self.max_points] if len(outline) >= self.min_points else []


def _with_schema(model: BaseChatModel) -> Runnable[Any, Any] | None:
    """The model bound to the outline's schema; None for a model that cannot be."""
    try:
        structured = model.with_structured_output(Outline)
    except Exception as error:  # noqa: BLE001 - models say in many ways that they cannot
        logger.debug("No structured output from %s: %s", type(model).__name__, error)
        return None
    match structured:
        case RunnableSequence(
            first=RunnableBinding(bound=BaseChatModel() as bound, kwargs=kwargs, config={**more})
        ) if not more:
            return _Structured(bound, kwargs, structured.steps[1:])
    return structured


class _Structured(Runnable[Any, Any]):
    """A bound model and its parser, one called after the other.

    The engine's own binding would mix up those who listen to the model: a tracer could hear of an error before the keys
    are taken out of it.
    """

    def __init__(self, model: BaseChatModel, kwargs: Mapping[str, Any], parsers: Sequence[Runnable[Any, Any]]) -> None:
        self.model, self.kwargs, self.parsers = model, dict(kwargs), parsers

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_kwargs: Any) -> Any:  # noqa: A002 - Runnable's
        """Ask the model, and parse its reply."""
        result: Any = self.model.invoke(input, config, **self.kwargs)
        for parser in self.parsers:
            result = parser.invoke(result, _unnamed(config))
        return result

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_kwargs: Any) -> Any:  # noqa: A002 - the same
        """Ask the model, and parse its reply."""
        result: Any = await self.model.ainvoke(input, config, **self.kwargs)
        for parser in self.parsers:
            result = await parser.ainvoke(result, _unnamed(config))
        return result


def _unnamed(config: RunnableConfig | None) -> RunnableConfig:
    return {**(config or {}), "run_name": "skeleton parser"}


def _read_result(result: Any, raw: Any = None) -> Outlined:
    """Take the titles out of whatever a model gave: an outline, raw text, or nothing."""
    if isinstance(result, dict) and "raw" in result:  # a model that gives both whatever it is asked for
        raw, result = raw or result["raw"], result.get("parsed")
    elif isinstance(result, AIMessage):
        raw, result = result, None
    reply = raw if isinstance(raw, AIMessage) else None
    if isinstance(result, Outline):
        titles = result.points
        # A whole list in one title is what small models make of a schema.
        return (titles if len(titles) > 1 else read_outline("\n".join(titles)) or titles), reply
    if result is None:
        result = _text(reply) if reply else raw
    if result is None:
        return [], reply
    return read_outline(result if isinstance(result, str) else json.dumps(result, default=str)), reply


def _text(raw: AIMessage) -> str:
    """The reply's text, or what it put into a tool call that the schema did not accept."""
    invalid = [str(call["args"]) for call in raw.invalid_tool_calls]
    arguments = [json.dumps(call["args"], default=str) for call in raw.tool_calls]
    return raw.text or "\n".join([*arguments, *invalid])


def _salvage(error: Exception, raw: AIMessage | None) -> Outlined | None:
    """Decide what a failed structured call leaves.

    Args:
        error: Why it failed.
        raw: The model's reply, where only its parsing failed.

    Returns:
        The outline, where a client raised over a reply that was paid for (cut off by its length, or not the JSON that
        was asked for); None where the provider cannot give structured output, so that the model is asked plainly.

    Raises:
        Exception: The error itself, where it is neither.
    """
    if (reply := raw or _reply_within(error)) is not None:
        return read_outline(_text(reply)), reply
    status = http_status(error)
    said = str(error).lower()
    if status in SCHEMA_REFUSALS and any(word in said for word in SCHEMA_WORDS):
        return None
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and ("response_format" in said or "json_schema" in said):
        return None
    if status is None and isinstance(error, PARSING_ERRORS) and not is_transient(error):
        return None
    raise error


PARSING_ERRORS = (ValueError, TypeError, AttributeError, RuntimeError)
"""What parsers and bindings raise; no error of the network is one of these."""
SCHEMA_REFUSALS = frozenset({400, 404, 415, 422, 501})
SCHEMA_WORDS = ("response_format", "schema", "structured", "tool", "function", "grammar")
"""What a server's message speaks of when it refuses structured output, and not the request as such."""


def _reply_within(error: Exception) -> AIMessage | None:
    """The chat completion that OpenAI's client received and then raised over, if it did."""
    try:
        body = error.response.json()  # type: ignore[attr-defined]
        text = body["choices"][0]["message"]["content"] or ""
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return AIMessage(text, usage_metadata=_usage(body.get("usage") or {}))


def _usage(counts: Mapping[str, Any]) -> UsageMetadata | None:
    """OpenAI's token counts as LangChain tells them; None where there are none."""
    if not counts:
        return None
    tokens = (counts.get("prompt_tokens", 0), counts.get("completion_tokens", 0))
    usage = UsageMetadata(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens))
    if cached := (counts.get("prompt_tokens_details") or {}).get("cached_tokens"):
        usage["input_token_details"] = InputTokenDetails(cache_read=cached)
    if reasoning := (counts.get("completion_tokens_details") or {}).get("reasoning_tokens"):
        usage["output_token_details"] = OutputTokenDetails(reasoning=reasoning)
    return usage


def _decision(suits: object) -> bool:
    if isinstance(suits, bool):
        return suits
    msg = f"route must return True (the question suits an outline) or False (answer it directly), not {suits!r}."
    raise TypeError(msg)
