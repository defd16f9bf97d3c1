"""Messages of any kind, told so that every server and chat template accepts them: as text, in three roles."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import groupby
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    message_chunk_to_message,
)

from sot_graph.text import encodable

GAP = "\n\n"
"""Stands between two texts of one message."""
ROLES: dict[type[BaseMessage], set[str]] = {
    SystemMessage: {"system", "developer"},
    AIMessage: {"ai", "assistant", "model"},
    ToolMessage: {"tool", "function"},
}
THOUGHTS = {"thinking", "redacted_thinking", "reasoning", "reasoning_content"}
CALL, RESULT = re.compile("tool|function|_call$|executable"), re.compile("(tool|call|execution).*_(result|output)")
"""The types of blocks: thoughts, tool calls, and their results."""


def kind_of(message: BaseMessage) -> type[BaseMessage]:
    """Whose message it is, whatever its class: the system's, the assistant's, a tool's; any other is the user's."""
    role = (message.role if isinstance(message, ChatMessage) else message.type).removesuffix("MessageChunk").lower()
    return next((kind for kind, roles in ROLES.items() if role in roles), HumanMessage)


def question_of(messages: Sequence[BaseMessage]) -> BaseMessage | None:
    """The last message of the user's."""
    return next((message for message in reversed(messages) if kind_of(message) is HumanMessage), None)


def is_blank(message: BaseMessage) -> bool:
    """Whether a message has neither text nor anything else (a picture) to send."""
    return all(block.get("type") in THOUGHTS for block in _blocks(message.content))


def without_tool_calls(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Turn tool calls and their results into text of the assistant, and drop empty messages.

    The calls of the graph have no tools, and Anthropic and Bedrock refuse tool calls in a request without tools.
    """
    plain: list[BaseMessage] = []
    texts: list[str] = []
    pending: list[Any] = []  # calls without a result so far
    for message in map(_typed, [*messages, HumanMessage("")]):
        kind, calls = kind_of(message), _calls(message)
        if kind is ToolMessage:
            texts.append(_result_text(message, pending))
        elif kind is AIMessage and (calls or texts):
            texts.append(message.text)
            pending += calls
        else:
            texts += [_call_text(call, "failed with", call.get("error")) for call in pending]
            if text := GAP.join(text for text in texts if text.strip()):
                plain.append(AIMessage(text))
            texts, pending = [], []
            plain += [] if is_blank(message) else [message]
    return plain


def _typed(message: BaseMessage) -> BaseMessage:
    """The same message in its kind's own class, unless it is a tool's, which is told as text."""
    message, kind = message_chunk_to_message(message), kind_of(message)
    if kind is ToolMessage or isinstance(message, kind):
        return message
    return kind(message.content, id=message.id, name=message.name, additional_kwargs=message.additional_kwargs)


def _calls(message: BaseMessage) -> list[Any]:
    """The tool calls of a message, valid or not, wherever a provider keeps them."""
    known = [*getattr(message, "tool_calls", []), *getattr(message, "invalid_tool_calls", [])]
    raw = [block for block in _blocks(message.content) if CALL.search(str(block.get("type")))]
    raw += filter(None, [message.additional_kwargs.get("function_call")])
    return known or [{**call, "id": call.get("call_id") or call.get("id")} for call in raw]


def _result_text(result: BaseMessage, pending: list[Any]) -> str:
    """Tell a result, with the call that it is of, which then is no longer pending."""
    key = getattr(result, "tool_call_id", result.name)
    call: Any = next((call for call in pending if key in (call["id"], call.get("name"))), {})
    pending[:] = [each for each in pending if each is not call]
    outcome = "failed with" if getattr(result, "status", None) == "error" else "gave"
    return _call_text({**call, "name": result.name or call.get("name")}, outcome, result.text)


def _call_text(call: Any, outcome: str, text: str | None) -> str:
    args = next((call[key] for key in ("args", "arguments", "input") if call.get(key) is not None), "")
    shown = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False, default=str)
    ending = "was called.]" if text is None else f"{outcome}:]\n{text}"
    return f"[The tool {call.get('name') or 'call'}({shown}) {ending}"


def joined(messages: Iterable[BaseMessage], key: Callable[[BaseMessage], object] = kind_of) -> list[BaseMessage]:
    """Make one message of neighbours of one kind, or of those with the same key."""
    return [reduce(_join, neighbours) for _key, neighbours in groupby(messages, key)]


def _join(first: BaseMessage, second: BaseMessage) -> BaseMessage:
    """Put a blank line between two texts; blocks stay blocks."""
    content: Any = f"{first.content}{GAP}{second.content}"
    if not (isinstance(first.content, str) and isinstance(second.content, str)):
        before, after = _blocks(first.content), _blocks(second.content)
        gap = [{**block, "text": GAP + block["text"]} for block in after[:1] if block.get("type") == "text"]
        content = [*before, *gap, *after[len(gap) :]]
    name = first.name if second.name in {None, first.name} else None
    return first.model_copy(update={"content": content, "name": name})


def _blocks(content: Any) -> list[Any]:
    """Content as blocks, without blank texts; the result of a tool is text."""
    blocks = []
    for each in [content] if isinstance(content, str) else content:
        block = {"type": "text", "text": each} if isinstance(each, str) else each
        if RESULT.search(str(block.get("type"))):
            status = "error" if block.get("is_error") else "success"
            result = ToolMessage(block.get("content") or block.get("output") or "", tool_call_id="", status=status)
            block = {"type": "text", "text": _result_text(result, [])}
        if block.get("type") != "text" or str(block.get("text") or "").strip():
            blocks.append(block)
    return blocks


def sendable(message: BaseMessage) -> BaseMessage:
    """The same message if all of it can be sent, else a copy with what can."""
    content = message.content if isinstance(message.content, str) else _blocks(message.content)
    update = {"content": _encodable(content), "name": _encodable(message.name)}
    is_same = update == {"content": message.content, "name": message.name}
    return message if is_same else message.model_copy(update=update)


def _encodable(value: Any) -> Any:
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    if isinstance(value, dict):
        return {key: _encodable(each) for key, each in value.items()}
    return encodable(value) if isinstance(value, str) else value
