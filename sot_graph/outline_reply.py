"""Readers of what the outline's call returns: an outline in any form, or a refusal of the schema."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field, ValidationError

from sot_graph._engine import reply_in
from sot_graph.outline import read_outline
from sot_graph.replies import ValueReply
from sot_graph.retry import http_status, is_transient

PARSING_ERRORS = (ValueError, TypeError, AttributeError, RuntimeError)
"""What parsers and bindings raise; no error of the network is one of these."""
SCHEMA_REFUSALS = frozenset({400, 404, 415, 422, 501})
SCHEMA_WORDS = ("response_format", "schema", "structured", "tool", "function", "grammar")
"""Words of a server's message that refuses structured output, and not the request as such."""


class Outline(BaseModel):
    """The points of an answer."""

    # No index and no other key: each token that only carries structure delays the whole answer.
    points: list[str] = Field(description="The title of each point, in order: three to five words.")


class Outlined(NamedTuple):
    """What the outline's call returned."""

    titles: list[str] | None
    """None if the provider refuses the schema."""
    message: AIMessage | None
    """The model's reply, for its token counts."""


class OutlineReply(ValueReply):
    """Reads the titles out of whatever a model returns: an outline, a message, a text, JSON."""

    def reply(self) -> Outlined:
        """The titles; an empty list if the reply has none."""
        result, message = self.value, None
        if isinstance(result, Mapping) and "raw" in result:  # a model that returns both, whatever it is asked for
            message, result = result["raw"], result.get("parsed")
        if isinstance(result, AIMessage):
            result, message = None, result
        if result is None:
            result = _text_of(message) if isinstance(message, AIMessage) else message
        return Outlined(_titles(result), message if isinstance(message, AIMessage) else None)


class StructuredReply(OutlineReply):
    """Reads the reply of a model that is bound to the schema."""

    def recover(self, error: Exception, reply: AIMessage | None) -> Outlined | None:
        """The outline of a reply that was paid for, or a sign that the provider has no structured output."""
        message = reply or reply_in(error)
        if message is not None:  # cut off by its length, or not the JSON that was asked for
            return Outlined(read_outline(_text_of(message)), message)
        return Outlined(None, None) if _refuses_schema(error) else None


def _titles(result: Any) -> list[str]:
    if isinstance(result, BaseModel):
        result = result.model_dump()
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


def _refuses_schema(error: Exception) -> bool:
    status, text = http_status(error), str(error).lower()
    if status in SCHEMA_REFUSALS:
        return any(word in text for word in SCHEMA_WORDS)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "response_format" in text or "json_schema" in text
    return status is None and isinstance(error, PARSING_ERRORS) and not is_transient(error)
