"""Readers of replies: a text that is whole, truncated or refused, or any other value."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.utils import message_chunk_to_message

from sot_graph.errors import ReplyError
from sot_graph.text import storable

REPLY_LIMIT = 200_000
"""Characters of a reply that are read, and chunks: a model may never stop."""
MERGED_AT = 1_000
"""Chunks that are kept apart: a chunk takes kilobytes, its text a few bytes."""
END_KEYS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")
"""Where providers say why a reply ended."""
_TOLD_IN = {*END_KEYS, "prompt_feedback", "incomplete_details"}
# Only a known good end is good. Providers have many words for the others, and new ones each year.
_WHOLE = frozenset(
    {"stop", "stop_sequence", "stop_string", "stop_token", "end", "end_turn", "end_of_turn", "end_of_text", "endoftext"}
    | {"end_of_sequence", "eos", "eos_id", "eos_token", "eot_id", "im_end", "complete", "completed", "done", "finish"}
    | {"finished", "normal", "ok", "success", "function_call", "tool_call", "tool_calls", "tool_use"}
)
_REFUSED = re.compile(
    r"filter|safety|refus|guardrail|recitation|prohibit|block|spii|sensitive|moderat|policy|violat|toxic|unsafe"
)
_TRUNCATED = re.compile(
    r"length|max.{0,20}tokens|token.?limit|context.{0,8}(?:window|limit|exceed)|time.?limit|incomplete|too.?long"
)


class ValueReply:
    """Reads what a Runnable returns, as it is."""

    is_full = False  # whether no more is read

    def add(self, chunk: Any) -> str:
        """Add a chunk, or the whole reply; returns its text."""
        self.value = chunk
        return ""

    def end(self) -> str:
        """End the reply; returns the text that is known only now."""
        return ""

    def reply(self) -> Any:
        """The whole reply; a `ReplyError` if it cannot be used."""
        return self.value

    def recover(self, error: Exception, reply: AIMessage | None) -> Any:  # noqa: ARG002 - for subclasses
        """The reply in spite of an error, such as its parser's; None if the attempt has failed."""
        return None

    def partial(self) -> BaseMessage | None:
        """The reply of a failed attempt, as far as there is one: its tokens were paid for."""
        return None

    def is_spent(self, reply: Any) -> bool:  # noqa: ARG002 - for subclasses
        """Whether the token limit left nothing to read: of a reply, or without one of the failed attempt."""
        return False


class ModelReply(ValueReply):
    """Reads a chat model's reply, streamed or whole."""

    def __init__(self) -> None:
        self.chunks: list[BaseMessage] = []
        self._count = self._length = 0
        self._end = ""

    def add(self, chunk: BaseMessage) -> str:
        """Add a chunk, or the whole reply; returns its text."""
        text = storable(chunk.text)[: REPLY_LIMIT - self._length]
        self.chunks.append(chunk)
        self._end = reason_of(chunk) or self._end  # of the last chunk, because merging joins the reasons of all
        self._count += 1
        self._length += len(text)
        self.is_full = max(self._count, self._length) >= REPLY_LIMIT
        if len(self.chunks) > MERGED_AT:
            self.chunks = [_merged(self.chunks)]
        return text

    def reply(self) -> AIMessage:
        """The whole reply; see `checked`."""
        return checked(self.chunks, end="length" if self.is_full else self._end)

    def partial(self) -> BaseMessage | None:
        """See `ValueReply.partial`."""
        return message_of(self.chunks) if self.chunks else None

    def is_spent(self, reply: Any) -> bool:
        """See `ValueReply.is_spent`."""
        return reply is None and bool(self.chunks) and end_of(message_of(self.chunks)) == "truncated"


def checked(chunks: Sequence[BaseMessage], end: str) -> AIMessage:
    """Merge the chunks of a reply, and check it.

    A reply without a reason is whole: some servers never give one, and a connection that breaks raises by itself.

    Args:
        chunks: What the model streamed or returned.
        end: Why the reply ended; `""` if nobody says.

    Raises:
        ReplyError: The reply is empty, refused, or ended for a reason that is not known to be good.
    """
    message = message_of(chunks)
    if end:
        message.response_metadata = {**message.response_metadata, END_KEYS[0]: end}
    kind = end_of(message)
    blocks = [block for block in message.content if isinstance(block, dict)]
    # The second is how OpenAI's Responses API refuses.
    refusals = [message.additional_kwargs.get("refusal"), *(block.get("refusal") for block in blocks)]
    refusal = next(filter(None, refusals), None)
    if refusal or kind == "refused":
        msg = f"The model refused to answer{f': {refusal}' if refusal else ''} (finish reason: {end or 'none'})."
        raise ReplyError(msg, is_retryable=False)
    if kind == "broken":
        msg = f"The model's reply ended early (finish reason: {end})."
        raise ReplyError(msg, is_retryable=True)
    if not message.text.strip():
        if kind == "truncated":
            msg = "The model reached its token limit before it wrote any text; raise the limit (max_tokens)."
            raise ReplyError(msg, is_retryable=False)
        msg = f"The model's reply has no text (finish reason: {end or 'none'})."
        raise ReplyError(msg, is_retryable=True)
    return message


def end_of(message: BaseMessage) -> Literal["whole", "refused", "truncated", "broken"]:
    """How a reply ended."""
    end = reason_of(message)
    if not end or end in _WHOLE:
        return "whole"
    return "refused" if _REFUSED.search(end) else "truncated" if _TRUNCATED.search(end) else "broken"


def message_of(chunks: Sequence[BaseMessage]) -> AIMessage:
    """The message of all chunks."""
    whole = _merged(chunks)
    return cast("AIMessage", message_chunk_to_message(whole) if isinstance(whole, BaseMessageChunk) else whole)


def _merged(chunks: Sequence[BaseMessage]) -> BaseMessage:
    first, *rest = cast("Sequence[AIMessageChunk]", chunks)
    return add_ai_message_chunks(first, *rest) if rest else first


def reason_of(message: BaseMessage) -> str:
    """Why the reply ended, in lower case; `""` if the provider does not say."""
    metadata: dict[str, Any] = message.response_metadata
    if metadata.keys().isdisjoint(_TOLD_IN):  # as of nearly each chunk
        return ""
    details = {key: value for key, value in metadata.items() if isinstance(value, Mapping)}
    blocked = details.get("prompt_feedback", {}).get("block_reason")  # Gemini's, without any candidate
    values = [details.get("incomplete_details", {}).get("reason"), *map(metadata.get, END_KEYS)]
    reasons = [getattr(each, "name", each) for each in values]  # some are an enum
    known = (each for each in reasons if isinstance(each, str) and each.lower() not in {"", "none", "null"})
    reason = "blocked" if blocked else next(known, "")
    # Some servers send it twice, and a client that merges chunks joins both: "stopstop".
    return re.sub(r"^(.+?)\1+$", r"\1", reason.lower().removeprefix("finish_reason_"))
