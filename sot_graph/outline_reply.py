"""Readers of what the outline's call returns: an outline in any form, or a refusal of the schema."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple

from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import from_json

from sot_graph._engine import reply_in, with_counts
from sot_graph.errors import ReplyError
from sot_graph.outline import read_outline
from sot_graph.prompts import DECLINED
from sot_graph.replies import REPLY_LIMIT, ValueReply, end_of, message_of, reason_of
from sot_graph.retry import has_no_reply, http_status, is_transient, words_of
from sot_graph.scopes import items_in, title_of

_ABOUT_THE_FORM = re.compile(
    r"schema|json.?(?:mode|object)|grammar|sampler|structured|response_format|guided", re.IGNORECASE
)
"""Words of a server that fails over structured output, and would fail again."""
_ABOUT_THE_BOUNDS = re.compile(r"m(?:in|ax)_?items", re.IGNORECASE)
_LASTING = frozenset({None, 400, 404, 405, 415, 422, 500, 501})
"""Statuses of a server that will refuse a schema again; others may be those of a passing fault."""


class Outline(BaseModel):
    """The points of an answer."""

    # No index and no other key: each token that only carries structure delays the whole answer.
    points: list[str] = Field(description="The title of each point, in order: three to five words.")


class ScopedPoint(BaseModel):
    """A point, and what belongs to it."""

    title: str = Field(description="Three to five words.")
    covers: str = Field(description="What belongs to this point and to no other, in a few words.")
    needs: list[int] = Field(description="The numbers, from 1, of the points that its text builds on; mostly none.")
    words: int = Field(description="About how many words its text takes.")


class ScopedOutline(BaseModel):
    """The points of an answer."""

    points: list[ScopedPoint] = Field(description="The points, in order.")


def bounded(fewest: int, most: int, outline: type[BaseModel] = Outline) -> type[BaseModel]:
    """The same schema with its bounds, which a server may hold the model to; any number of titles can be read."""
    points = outline.model_fields["points"]
    limits = Field(description=points.description, json_schema_extra={"minItems": fewest, "maxItems": most})
    options: Any = {"points": Annotated[points.annotation, limits]}
    return create_model(Outline.__name__, __base__=outline, __doc__=outline.__doc__, **options)


class Outlined(NamedTuple):
    """What the outline's call returned."""

    titles: list[Any] | None
    """None if the call failed, and may succeed without a schema."""
    message: AIMessage | None
    """The model's reply, for its token counts."""
    refused: Literal["bounds", "schema"] | None = None
    """What of the schema each call will be refused for."""


class OutlineReply(ValueReply):
    """Reads the titles out of whatever a model returns: an outline, a message, its chunks, a text, JSON."""

    def __init__(self) -> None:
        self._chunks: list[AIMessageChunk] = []

    def add(self, chunk: Any) -> str:
        """Add a chunk of a message, or the whole reply. A chain streams a value that grows: the last one is whole."""
        if isinstance(chunk, AIMessageChunk):
            self._chunks.append(chunk)
            self.is_full = len(self._chunks) >= REPLY_LIMIT
        return super().add(chunk)

    def end(self) -> str:
        """Merge the chunks."""
        if self._chunks:
            self.value = with_counts(message_of(self._chunks))
        return ""

    def reply(self) -> Outlined:
        """The titles; an empty list if the reply has none; a `ReplyError` if it broke off."""
        result, message = self.value, None
        if isinstance(result, Mapping) and "raw" in result:  # a model that returns both, whatever it is asked for
            message, result = result["raw"], result.get("parsed")
        if isinstance(result, AIMessage):
            result, message = None, result
        if result is None:
            result = _text_of(message) if isinstance(message, AIMessage) else message
        if isinstance(message, AIMessage) and end_of(message) == "broken":
            msg = "The model's outline ended early."
            raise ReplyError(msg, is_retryable=True)
        titles = [item for item in _titles(result) if title_of(item).strip(" .").upper() != DECLINED]
        return Outlined(titles, message if isinstance(message, AIMessage) else None)

    def is_spent(self, reply: Outlined | None) -> bool:
        """See `ValueReply.is_spent`."""
        message = reply.message if reply and not reply.titles else None
        return message is not None and end_of(message) == "truncated"


class StructuredReply(OutlineReply):
    """Reads the reply of a model that is bound to the schema."""

    def reply(self) -> Outlined:
        """As for any outline; if the model made a malformed call, it is asked again without the schema."""
        if isinstance(self.value, AIMessage) and "malformed" in reason_of(self.value):
            return Outlined(None, self.value)
        return super().reply()

    def recover(self, error: Exception, reply: AIMessage | None) -> Outlined | None:
        """The outline of a reply that was paid for, or a sign that the provider has no structured output."""
        message = reply or reply_in(error)
        if isinstance(error, ReplyError) or (message and end_of(message) == "broken"):
            return None
        if message is not None:  # cut off by its length, or not the JSON that was asked for
            return Outlined(read_outline(_text_of(message)), message)
        if not _may_refuse_schema(error):
            return None
        is_lasting = http_status(error) in _LASTING and not has_no_reply(error)
        what: Literal["bounds", "schema"] = "bounds" if _ABOUT_THE_BOUNDS.search(words_of(error)) else "schema"
        return Outlined(None, None, what if is_lasting else None)


def _titles(result: Any) -> list[Any]:
    if isinstance(result, BaseModel):
        result = result.model_dump()
    with suppress(TypeError, ValueError):  # no JSON, or lone surrogates
        items = items_in(from_json(result) if isinstance(result, str) else result)
        if any(isinstance(item, dict) for item in items):
            return items
    text = result if isinstance(result, str) else json.dumps(result, default=str, ensure_ascii=False)
    try:
        titles = Outline.model_validate_json(text).points
    except ValidationError:
        titles = read_outline(text) if result is not None else []
    # Small models put a whole list into one title.
    return titles if len(titles) != 1 else read_outline(titles[0]) or titles


def _text_of(message: AIMessage) -> str:
    """A reply's text, or the arguments of its tool call."""
    invalid = [str(call["args"]) for call in message.invalid_tool_calls]
    arguments = [json.dumps(call["args"], default=str, ensure_ascii=False) for call in message.tool_calls]
    return message.text or "\n".join([*arguments, *invalid])


def _may_refuse_schema(error: Exception) -> bool:
    """Whether the call may succeed without a schema: servers refuse one in all words, and a bad request fails again."""
    status = http_status(error)
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        said = words_of(error)
        is_about_it = status == HTTPStatus.INTERNAL_SERVER_ERROR and _ABOUT_THE_FORM.search(said) and "<" not in said
        return status == HTTPStatus.NOT_IMPLEMENTED or bool(is_about_it)
    others = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.FAILED_DEPENDENCY}
    return status not in others and not is_transient(error)
