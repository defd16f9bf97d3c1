"""Readers of replies: a text that is whole, truncated or refused, or any other value."""

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.utils import message_chunk_to_message

from sot_graph.errors import ReplyError
from sot_graph.text import storable

REPLY_LIMIT = 200_000
"""Characters of a reply that are read, and chunks: a model may never stop."""
MERGED_AT = 1_000
"""Chunks that are kept apart: a chunk takes kilobytes, its text a few bytes."""
# Providers name the reason why a reply ended differently; a whole reply has one of these.
END_KEYS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")
LENGTH_ENDS = frozenset({"length", "max_tokens", "model_length", "incomplete"})
REFUSED_ENDS = frozenset({"content_filter", "refusal", "safety", "guardrail_intervened"})


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


class ModelReply(ValueReply):
    """Reads a chat model's reply, streamed or whole."""

    def __init__(self) -> None:
        self.chunks: list[BaseMessage] = []
        self._count = self._length = 0

    def add(self, chunk: BaseMessage) -> str:
        """Add a chunk, or the whole reply; returns its text."""
        text = storable(chunk.text)[: REPLY_LIMIT - self._length]
        self.chunks.append(chunk)
        self._count += 1
        self._length += len(text)
        self.is_full = max(self._count, self._length) >= REPLY_LIMIT
        if len(self.chunks) > MERGED_AT:
            self.chunks = [_merged(self.chunks)]
        return text

    def reply(self) -> AIMessage:
        """The whole reply; see `checked`."""
        return checked(self.chunks, end="length" if self.is_full else None)

    def partial(self) -> BaseMessage | None:
        """See `ValueReply.partial`."""
        return _message_of(self.chunks) if self.chunks else None


def checked(chunks: Sequence[BaseMessage], end: str | None = None) -> AIMessage:
    """Merge the chunks of a reply, and check it.

    Args:
        chunks: What the model streamed or returned.
        end: Why the reply ended, if it was not the model that ended it.

    Raises:
        ReplyError: The reply is empty, refused, or ended without a finish reason.
    """
    message = _message_of(chunks)
    if end:
        message.response_metadata = {**message.response_metadata, END_KEYS[0]: end}
    end = _end(message)
    blocks = [block for block in message.content if isinstance(block, dict)]
    # The second is how OpenAI's Responses API refuses.
    refusals = [message.additional_kwargs.get("refusal"), *(block.get("refusal") for block in blocks)]
    refusal = next(filter(None, refusals), None)
    if refusal or end in REFUSED_ENDS:
        msg = f"The model refused to answer{f': {refusal}' if refusal else ''} (finish reason: {end or 'none'})."
        raise ReplyError(msg, is_retryable=False)
    # LangChain's providers name themselves in their replies, and each of them says how a reply ended; a chat model of
    # the caller's own may do neither.
    if not end and "model_provider" in message.response_metadata:
        msg = "The model's stream ended without a finish reason."
        raise ReplyError(msg, is_retryable=True)
    if not message.text.strip():
        if end in LENGTH_ENDS:
            msg = "The model reached its token limit before it wrote any text; raise the limit (max_tokens)."
            raise ReplyError(msg, is_retryable=False)
        msg = f"The model's reply has no text (finish reason: {end or 'none'})."
        raise ReplyError(msg, is_retryable=True)
    return message


def is_truncated(message: BaseMessage) -> bool:
    """Whether the model's token limit cut the text off."""
    return _end(message) in LENGTH_ENDS


def _message_of(chunks: Sequence[BaseMessage]) -> AIMessage:
    whole = _merged(chunks)
    return cast("AIMessage", message_chunk_to_message(whole) if isinstance(whole, BaseMessageChunk) else whole)


def _merged(chunks: Sequence[BaseMessage]) -> BaseMessage:
    first, *rest = cast("Sequence[AIMessageChunk]", chunks)
    return add_ai_message_chunks(first, *rest) if rest else first


def _end(message: BaseMessage) -> str:
    """Why the reply ended, in lower case; `""` if the provider does not say."""
    metadata: dict[str, Any] = message.response_metadata
    return next((str(metadata[key]).lower() for key in END_KEYS if metadata.get(key)), "")
