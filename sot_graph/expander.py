"""Points written by any Runnable: an agent, a retrieval chain, another SoT graph."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langgraph.pregel.protocol import PregelProtocol

from sot_graph._engine import without_parent_stream
from sot_graph.models import prepare_models_in
from sot_graph.replies import ModelReply
from sot_graph.streaming import is_sot_graph
from sot_graph.tracing import nested_config
from sot_graph.usage import total_usage


class Expander:
    """Adapts a Runnable to the call of a point."""

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self.runnable = prepare_models_in(runnable)
        graph = runnable.bound if isinstance(runnable, RunnableBinding) else runnable
        self._is_graph, self._is_sot_graph = isinstance(graph, PregelProtocol), is_sot_graph(graph)
        if self._is_graph and "messages" not in getattr(graph, "channels", ("messages",)):
            msg = "expander must take messages: this graph has no `messages` key. Put a function around it that does."
            raise ValueError(msg)

    def input(self, messages: list[BaseMessage]) -> Any:
        """The input of the Runnable: the messages, for a graph under its `messages` key."""
        return {"messages": messages} if self._is_graph else messages

    def call_options(self) -> dict[str, Any]:
        """The options of the `Call` of a point."""
        modes = ["custom", "values"] if self._is_sot_graph else ["values"]
        options = {"stream_mode": modes} if self._is_graph else {}
        return {"reader": ExpanderReply, "adapt": self._adapt, "takes_slot": not self._is_sot_graph, "options": options}

    def _adapt(self, config: RunnableConfig) -> RunnableConfig:
        """Keep the Runnable's events and messages inside it: outside they are the point's text."""
        config = without_parent_stream(config)
        return nested_config({**config, "max_concurrency": None}) if self._is_sot_graph else config


class ExpanderReply(ModelReply):
    """Reads what a Runnable returns: texts, messages, or the states of a graph."""

    _state: Mapping[str, Any] = {}

    def add(self, chunk: Any) -> str:
        """Add a chunk, or the whole result; returns its text."""
        match chunk:
            case ("custom", {"type": "answer", "text": str(text)}) | str(text):
                return super().add(AIMessageChunk(content=text))
            case AIMessageChunk():
                return super().add(chunk)
            case BaseMessage():
                usage, metadata = getattr(chunk, "usage_metadata", None), chunk.response_metadata
                whole = AIMessageChunk(content=chunk.text, usage_metadata=usage, response_metadata=metadata)
                whole.additional_kwargs = {"refusal": chunk.additional_kwargs.get("refusal")}
                return super().add(whole)
            case ("values", Mapping() as state) | (Mapping() as state):
                self._state = {**self._state, **state}  # a chain may stream a dict key by key
                return ""
            case ("custom", _):
                return ""
        raise _unreadable(chunk)

    def end(self) -> str:
        """End the reply; returns the text of the state, if that was not streamed."""
        if self.chunks and not self._state:
            return ""
        answer, messages = self._state.get("answer"), reversed(self._state.get("messages") or [])
        new = list(takewhile(lambda m: isinstance(m, BaseMessage) and not isinstance(m, HumanMessage), messages))
        if not new and not isinstance(answer, str):
            raise _unreadable(self._state)
        last = new[0] if new else AIMessage("")
        content = answer if isinstance(answer, str) and not last.text.strip() else last.content
        if self._length:  # what was streamed is not repeated, but its usage counts
            content = ""
        replies = [message for message in new if isinstance(message, AIMessage)]
        usage = total_usage(reply.usage_metadata for reply in replies)
        figures = [reply.response_metadata.get("sot", {}) for reply in replies]
        # Of several replies, none knows how long all of them took.
        own = figures[0] if len(figures) == 1 else {"calls": sum(each.get("calls", 1) for each in figures) or 1}
        metadata = {**last.response_metadata, "sot": own}
        update = {"content": content, "usage_metadata": usage, "response_metadata": metadata}
        return self.add(last.model_copy(update=update))


def _unreadable(value: object) -> TypeError:
    return TypeError(
        "expander must return a message, a text, or a state with `messages` (a reply last) or `answer`; it returned "
        f"{value!r:.200}."
    )
