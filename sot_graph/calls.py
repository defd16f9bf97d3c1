"""One model call: prepared, streamed, checked, and tried again only where that can help."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, aclosing, closing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from json import JSONDecodeError
from math import isfinite
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from langgraph.types import RetryPolicy

from sot_graph.errors import ReplyError
from sot_graph.listeners import ambient
from sot_graph.safety import storable
from sot_graph.tracing import call_metadata, call_tags

# Providers name the reason why a reply ended differently; a whole reply has one of these.
END_KEYS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "status")
LENGTH_ENDS = frozenset({"length", "max_tokens", "model_length", "incomplete"})
REFUSED_ENDS = frozenset({"content_filter", "refusal", "safety", "guardrail_intervened"})
TRANSIENT_STATUSES = frozenset({408, 429})
LONGEST_PAUSE = 60.0
"""For how many seconds a server may ask to be left alone; a call that would have to wait longer has failed."""
OUT_OF_QUOTA = "insufficient_quota"
"""What OpenAI calls a 429 that no waiting mends."""
# By name, because the classes belong to HTTP and provider packages that may not be installed: the base of
# httpx's errors (and httpx2's), and OpenAI's for an error event or a lost connection within a stream.
TRANSIENT_NAMES = frozenset({"TransportError", "APIConnectionError", "APIError"})


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed when it is sent again.

    True for 408, 429 and 5xx, timeouts, refused and dropped connections, corrupt or unfinished streams and
    empty replies; false for all else, 400, 401, 403, 404 and 422 among it, and where the server asks for a pause of
    more than a minute or says that the account has no quota left.
    """
    if (retry_after(error) or 0) > LONGEST_PAUSE or getattr(error, "code", None) == OUT_OF_QUOTA:
        return False
    retryable = getattr(error, "is_retryable", None)  # langchain-core's ModelError, and our ReplyError
    if retryable is not None:
        return bool(retryable)
    status = http_status(error)
    if status is not None:
        return status in TRANSIENT_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, ConnectionError | TimeoutError | JSONDecodeError):
        return True
    return any(cls.__name__ in TRANSIENT_NAMES for cls in type(error).__mro__)


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an error reports, if it reports a failed one."""
    for source in (error, getattr(error, "response", None)):
        status = getattr(source, "status_code", None)
        if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST:
            return status
    return None


def retry_after(error: BaseException) -> float | None:
    """For how many seconds a server that refused a request asks to be left alone (`Retry-After`), if it does."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        else:
            seconds = _seconds_until(headers.get("retry-after") or "")
    except (AttributeError, TypeError, ValueError):
        return None
    return seconds if seconds > 0 and isfinite(seconds) else None


def _seconds_until(when: str) -> float:
    """Read the header: a number of seconds, or a date."""
    try:
        return float(when)
    except ValueError:
        return parsedate_to_datetime(when).timestamp() - time.time()


DEFAULT_RETRY = RetryPolicy(max_interval=8.0, retry_on=is_transient)
"""Three attempts; half a second to a second and a half between the first two, then up to twice that."""


def retry_policies(policy: RetryPolicy | Sequence[RetryPolicy] | None) -> list[RetryPolicy]:
    """Fill in what a caller's retry policy leaves open.

    The engine's default for `retry_on` would send a request again that was refused with a 400 or a 401; a policy
    that leaves `retry_on` at that default gets ours.
    """
    if policy is None:
        return [DEFAULT_RETRY]
    policies = [policy] if isinstance(policy, RetryPolicy) else policy  # a policy is itself a sequence
    if not isinstance(policies, Sequence) or not all(isinstance(each, RetryPolicy) for each in policies):
        msg = f"retry_policy must be a langgraph RetryPolicy or a sequence of them, not {policy!r}."
        raise TypeError(msg)
    engine_default = RetryPolicy().retry_on
    return [each._replace(retry_on=is_transient) if each.retry_on is engine_default else each for each in policies]


def prepare_model(model: str | BaseChatModel, option: str = "model") -> BaseChatModel:
    """Make the chat model that a stage calls, from what the caller gave.

    Raises:
        TypeError: It is neither a model's name nor a chat model.
        ValueError: `init_chat_model` knows no such model.
    """
    if isinstance(model, str):
        if not model.strip():
            msg = f"{option} is blank: give the name of a model, such as 'openai:gpt-5.5'."
            raise ValueError(msg)
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow, and needed only here

        model = init_chat_model(model)
    if not isinstance(model, BaseChatModel):
        msg = (
            f"{option} must be a chat model (BaseChatModel) or the name of one for init_chat_model, such as "
            f"'openai:gpt-5.5', not {type(model).__name__}."
        )
        raise TypeError(msg)
    changes = _overrides(model)
    return model.model_copy(update=changes) if changes else model


def unstreamed(model: BaseChatModel) -> BaseChatModel:
    """The same model, not streamed where somebody streams the graph: OpenAI's client warns at a streamed schema."""
    return model.model_copy(update={"disable_streaming": True}) if hasattr(model, "root_client") else model


def _overrides(model: BaseChatModel) -> dict[str, Any]:
    """What our copy of a caller's model does differently."""
    changes: dict[str, Any] = {}
    if getattr(model, "stream_usage", False) is None:
        # ChatOpenAI leaves token counts out of streams when it has a base URL of its own, unless told.
        changes["stream_usage"] = True
    if hasattr(model, "max_retries"):
        # The graph's retry policy is the one layer that retries: a client that also does multiplies the attempts,
        # out of sight of the trace.
        changes["max_retries"] = 0
        for root, completions in (("root_client", "client"), ("root_async_client", "async_client")):
            # OpenAI's clients are built with the model and keep the number they were given.
            if (client := getattr(model, root, None)) is not None:
                changes[root] = client.with_options(max_retries=0)
                changes[completions] = changes[root].chat.completions
    return changes


def call_config(config: RunnableConfig, stage: str, what: str, **told: str | int) -> RunnableConfig:
    """Name one model call's run, so that a trace tells the calls apart.

    Args:
        config: The node's.
        stage: The stage, as the first word of the run's name, as a tag (`sot:expand`) and as metadata (`sot_stage`).
        what: What the call writes. With it the name is not the node's: the engine takes a run of the node's name for
            the node itself.
        told: More of it, as tags (`sot:point:3`) and as metadata (`sot_point`), beside the attempt's number
            (`sot_attempt`).
    """
    own = RunnableConfig(
        run_name=f"{stage} {what}",
        # The tokens of the single calls stay out of "messages" mode, where the answer is one message in reading order.
        tags=[*call_tags(stage, **told), TAG_NOSTREAM],
        metadata=call_metadata(stage, **told),
    )
    # Not by merge_configs: it would add the callbacks that are in the context once more, and in any order.
    tags, told_before = config.get("tags") or [], config.get("metadata") or {}
    return {**config, **own, "tags": [*tags, *own["tags"]], "metadata": {**told_before, **own["metadata"]}}


def inner_calls(config: RunnableConfig) -> AbstractContextManager[None]:
    """Give a call's config to the calls within that get none, as those of a model around another one."""
    return ambient(cast("RunnableConfig", {key: value for key, value in config.items() if key != "run_name"}))


def reply(
    model: BaseChatModel,
    messages: list[BaseMessage],
    config: RunnableConfig,
    on_text: Callable[[str], None],
) -> AIMessage:
    """Call a model and wait for its whole reply.

    Streamed even where nobody listens: a stream tells a reply that broke off from a whole one. `on_text` gets the text
    of each piece as it comes.

    Raises:
        ReplyError: The reply is empty, refused, or was broken off.
    """
    pieces = Pieces()
    try:
        stream = cast("Generator[BaseMessage, None, None]", model.stream(messages, config))
        with inner_calls(config), closing(stream):
            for piece in stream:
                on_text(pieces.take(piece))
                if pieces.are_enough:
                    break
    except ValueError as error:
        raise _empty_stream(error) from error
    return pieces.checked()


async def areply(
    model: BaseChatModel,
    messages: list[BaseMessage],
    config: RunnableConfig,
    on_text: Callable[[str], None],
) -> AIMessage:
    """Call a model and wait for its whole reply; see `reply`."""
    pieces = Pieces()
    try:
        stream = cast("AsyncGenerator[BaseMessage, None]", model.astream(messages, config))
        raise_if_cancelled = cancellation()
        with inner_calls(config):
            async with aclosing(stream):
                async for piece in stream:
                    raise_if_cancelled()
                    on_text(pieces.take(piece))
                    if pieces.are_enough:
                        break
    except ValueError as error:
        raise _empty_stream(error) from error
    return pieces.checked()


def cancellation() -> Callable[[], None]:
    """A function that raises the running task's cancellation if one came since now and was swallowed.

    In Python 3.11, `asyncio.wait_for` swallows one that comes together with the result, and with that clients wait for
    the next piece of a stream; the stream would go on to its end.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0

    def raise_if_cancelled() -> None:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError

    return raise_if_cancelled


def _empty_stream(error: ValueError) -> Exception:
    """Tell langchain-core's bare ValueError for a stream without a single piece from any other."""
    if "No generation" in str(error):
        msg = "The model's stream ended without a single token."
        return ReplyError(msg, is_retryable=True)
    return error


REPLY_LIMIT = 200_000
"""How many characters of a reply are read, and how many pieces: a model may never stop."""
FOLDED = 1000
"""How many pieces are kept apart; a piece takes some kilobytes, and its text a few bytes."""


class Pieces:
    """The pieces of a reply, as they come."""

    def __init__(self) -> None:
        self._pieces: list[BaseMessage] = []
        self._count = self._length = 0

    def __len__(self) -> int:
        return self._count

    @property
    def are_enough(self) -> bool:
        """Whether no more is read."""
        return max(self._count, self._length) >= REPLY_LIMIT

    def take(self, piece: BaseMessage) -> str:
        """Take a piece in, and give its text."""
        text = storable(piece.text)
        self._pieces.append(piece)
        self._count += 1
        self._length += len(text)
        if len(self._pieces) > FOLDED:
            self._pieces = [_joined(self._pieces)]
        return text

    def checked(self) -> AIMessage:
        """Put the reply together; see `checked`."""
        return checked(self._pieces, end="length" if self.are_enough else None)


def _joined(pieces: Sequence[BaseMessage]) -> BaseMessage:
    if len(pieces) == 1:
        return pieces[0]
    first, *rest = cast("list[AIMessageChunk]", pieces)
    return add_ai_message_chunks(first, *rest)


def checked(pieces: Sequence[BaseMessage], end: str | None = None) -> AIMessage:
    """Put a streamed reply together and refuse one that is no answer.

    Args:
        pieces: What the model streamed.
        end: Why the reply ended, where the model does not tell because it was not let finish.

    Raises:
        ReplyError: The reply is empty, refused, or was broken off.
    """
    whole = _joined(pieces)
    message = cast("AIMessage", message_chunk_to_message(whole) if isinstance(whole, BaseMessageChunk) else whole)
    if end:
        message.response_metadata = {**message.response_metadata, END_KEYS[0]: end}
    _refuse_unusable(message)
    return message


def _refuse_unusable(message: AIMessage) -> None:
    end = _end(message)
    refusal = message.additional_kwargs.get("refusal") or _refusal_block(message)
    if refusal or end in REFUSED_ENDS:
        msg = f"The model refused to answer{f': {refusal}' if refusal else ''} (finish reason: {end or 'none'})."
        raise ReplyError(msg, is_retryable=False)
    # LangChain's providers name themselves in what they return, and each of them tells how a reply ended; a chat
    # model of the caller's own may do neither.
    if not end and "model_provider" in message.response_metadata:
        msg = "The model's stream broke off: it ended without a finish reason."
        raise ReplyError(msg, is_retryable=True)
    if not message.text.strip():
        if end in LENGTH_ENDS:
            msg = "The model reached its token limit before it wrote any text; raise the limit (max_tokens)."
            raise ReplyError(msg, is_retryable=False)
        msg = f"The model's reply has no text (finish reason: {end or 'none'})."
        raise ReplyError(msg, is_retryable=True)


def _refusal_block(message: AIMessage) -> str | None:
    """What OpenAI's Responses API says in place of a text."""
    blocks = (block for block in message.content if isinstance(block, dict) and block.get("type") == "refusal")
    return next((str(block.get("refusal")) for block in blocks), None)


def is_truncated(message: BaseMessage) -> bool:
    """Whether the model's own token limit cut the text off."""
    return _end(message) in LENGTH_ENDS


def _end(message: BaseMessage) -> str:
    """Why the reply ended, in lower case, or `""` where nothing says."""
    metadata = message.response_metadata
    return next((str(metadata[key]).lower() for key in END_KEYS if metadata.get(key)), "")
