"""Points written by something else than a model: an agent, a retrieval chain, another SoT graph."""

from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langgraph.pregel.protocol import PregelProtocol

from sot_graph.calls import Pieces, cancellation
from sot_graph.listeners import ambient
from sot_graph.usage import inner_times, requests_of, total_usage

OnText = Callable[[str], None]


class Expander:
    """Writes a point with any Runnable, by the same rules as a model."""

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self.runnable = runnable
        graph = runnable.bound if isinstance(runnable, RunnableBinding) else runnable
        self.takes_state = isinstance(graph, PregelProtocol)
        self.reads_aloud = bool(getattr(graph, "reads_aloud", False))
        """Whether it is a graph of ours: then its answer is heard while it is being written."""
        if self.takes_state and "messages" not in getattr(graph, "channels", {"messages": None}):
            msg = (
                "expander must take messages: this graph has no `messages` key. Put a function around it that takes a "
                "list of messages and returns a message or a text."
            )
            raise ValueError(msg)

    def reply(self, messages: list[BaseMessage], config: RunnableConfig, on_text: OnText) -> AIMessage:
        """Have a point written; `on_text` gets its text as it comes.

        Raises:
            ReplyError: There is no text.
            TypeError: What came is neither a message nor a text nor a state with `messages` or `answer`.
        """
        outcome = _Outcome(on_text, heard=self.reads_aloud)
        given, options = self._given(messages)
        stream = cast("Generator[Any, None, None]", self.runnable.stream(given, config, **options))
        with ambient(config), closing(stream):
            for piece in stream:
                outcome.take(piece)
                if outcome.pieces.are_enough:
                    break
        return outcome.message()

    async def areply(self, messages: list[BaseMessage], config: RunnableConfig, on_text: OnText) -> AIMessage:
        """Have a point written; see `reply`."""
        outcome = _Outcome(on_text, heard=self.reads_aloud)
        given, options = self._given(messages)
        stream = cast("AsyncGenerator[Any, None]", self.runnable.astream(given, config, **options))
        raise_if_cancelled = cancellation()
        with ambient(config):
            async with aclosing(stream):
                async for piece in stream:
                    raise_if_cancelled()
                    outcome.take(piece)
                    if outcome.pieces.are_enough:
                        break
        return outcome.message()

    def _given(self, messages: list[BaseMessage]) -> tuple[Any, dict[str, Any]]:
        if not self.takes_state:
            return messages, {}
        return {"messages": messages}, {"stream_mode": ["custom", "values"] if self.reads_aloud else ["values"]}


class _Outcome:
    """What a Runnable gave, piece by piece: texts, messages or the states of a graph."""

    def __init__(self, on_text: OnText, *, heard: bool) -> None:
        self.pieces = Pieces()
        self._on_text = on_text
        self._heard = heard
        self._state: Mapping[str, Any] | None = None

    def take(self, piece: Any) -> None:
        """Take a piece in."""
        match piece:
            case ("custom", {"type": "answer", "text": str(text)}):
                self._hear(AIMessageChunk(content=text))
            case ("custom", _):
                pass
            case ("values", state):
                self._state = state
            case str():
                self._hear(AIMessageChunk(content=piece))
            case BaseMessage():
                self._hear(_chunk(piece))
            case Mapping():
                # A chain may stream a dict key by key.
                self._state = {**(self._state or {}), **piece}
            case _:
                raise TypeError(_unreadable(piece))

    def message(self) -> AIMessage:
        """Put the reply together, and refuse one that is no answer."""
        if self._state is not None:
            last = _last_message(self._state)
            # What was heard already is not heard again, but what it cost counts.
            self._hear(last.model_copy(update={"content": ""}) if self._heard else last)
        if not self.pieces:
            raise TypeError(_unreadable(None))
        return self.pieces.checked()

    def _hear(self, chunk: AIMessageChunk) -> None:
        self._on_text(self.pieces.take(chunk))


def _last_message(state: Mapping[str, Any]) -> AIMessageChunk:
    """The reply that a state holds, with the usage of all the calls that it took."""
    messages: Sequence[Any] = state.get("messages") or []
    new: list[BaseMessage] = []
    for message in reversed(messages):
        if not isinstance(message, BaseMessage) or isinstance(message, HumanMessage):
            break
        new.insert(0, message)
    answer = state.get("answer")
    if not new and not isinstance(answer, str):
        raise TypeError(_unreadable(state))
    last = _chunk(new[-1]) if new else AIMessageChunk(content="")
    replies = [message for message in new if isinstance(message, AIMessage)]
    last.usage_metadata = total_usage(reply.usage_metadata for reply in replies)
    # Of several replies, none knows how long all of them took.
    times = inner_times(replies[0]) if len(replies) == 1 else None
    sot = {"calls": sum(map(requests_of, replies)) or 1, **(times or {})}
    last.response_metadata = {**last.response_metadata, "sot": sot}
    if isinstance(answer, str) and not last.text.strip():
        last.content = answer
    return last


def _chunk(message: BaseMessage) -> AIMessageChunk:
    if isinstance(message, AIMessageChunk):
        return message
    metadata = message.response_metadata
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    refusal = {key: value for key, value in message.additional_kwargs.items() if key == "refusal"}
    return AIMessageChunk(
        content=message.text, usage_metadata=usage, response_metadata=metadata, additional_kwargs=refusal
    )


def _unreadable(given: object) -> str:
    return (
        "expander must return a message, a text, or a state with `messages` (a reply last) or `answer`; it returned "
        f"{given!r:.200}."
    )
