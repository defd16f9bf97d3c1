"""What tests of agents share: scripts of what the agent's model does, and what providers ask of a thread."""

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, usual

OURS = "answer_by_outline"
OUTLINED = Reply(None, finish="tool_calls", calls=[(OURS, {"outline": TITLES})])
ANSWER = "\n\n".join(f"About {title.lower()} there is this to say." for title in TITLES)
QUESTION = {"messages": [{"role": "user", "content": "How can I sleep better?"}]}


@tool
def lookup(topic: str) -> str:
    """Look a topic up."""
    return f"Facts on {topic}."


def calling(*calls: tuple[str, dict[str, Any]]) -> Reply:
    return Reply(None, finish="tool_calls", calls=calls)


def playing(server: FakeOpenAI, *replies: Reply, others: Script = usual) -> None:
    """Have the agent's model give these replies, one after the other; the graph's calls get the usual ones."""
    left = list(replies)
    server.script = lambda request: left.pop(0) if request.stage == "agent" else others(request)


def kinds(messages: Sequence[BaseMessage]) -> list[str]:
    return [message.type for message in messages]


def assert_valid(messages: Sequence[BaseMessage]) -> None:
    """What OpenAI and Anthropic ask for: each tool call has its result, right behind it."""
    due: list[str | None] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            due.remove(message.tool_call_id)
            continue
        assert not due
        if isinstance(message, AIMessage):
            due = [call["id"] for call in message.tool_calls]
    assert not due


def assert_accepted(sent: Sequence[Request]) -> None:
    """The same of what was sent; and a request that offers no tools speaks of none."""
    for request in sent:
        due: list[str] = []
        for message in request.messages:
            if message["role"] == "tool":
                due.remove(message["tool_call_id"])
                continue
            assert not due
            due = [call["id"] for call in message.get("tool_calls") or []]
        assert not due
        speaks_of_tools = any(m["role"] == "tool" or m.get("tool_calls") for m in request.messages)
        assert "tools" in request.body or not speaks_of_tools


class Tree(BaseCallbackHandler):
    """Which run is below which."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.parents: dict[Any, Any] = {}

    def on_chain_start(self, serialized: Any, *_args: Any, **kwargs: Any) -> None:
        self._note(serialized, kwargs)

    def on_tool_start(self, serialized: Any, *_args: Any, **kwargs: Any) -> None:
        self._note(serialized, kwargs)

    def on_chat_model_start(self, serialized: Any, *_args: Any, **kwargs: Any) -> None:
        self._note(serialized, kwargs)

    def _note(self, serialized: Any, kwargs: dict[str, Any]) -> None:
        self.names[kwargs["run_id"]] = kwargs.get("name") or (serialized or {}).get("name") or "?"
        self.parents[kwargs["run_id"]] = kwargs.get("parent_run_id")

    def above(self, name: str) -> list[str]:
        """The names of the runs around the first run of a name, from the innermost."""
        run_id = next(key for key, value in self.names.items() if value == name)
        names = []
        while run_id := self.parents[run_id]:
            names.append(self.names[run_id])
        return names


class TokenCallback(BaseCallbackHandler):
    """Wants tokens, so that the calls are streamed."""

    def on_llm_new_token(self, *_args: Any, **_kwargs: Any) -> None:
        pass


class Around(BaseChatModel):
    """A model around another one, which hands nothing on but the messages."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "around"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])
