"""All prompts, and how the messages of a call are laid out.

The system prompt, the conversation and the question come first, in the same bytes in every call of an answer, so that a
provider's prefix cache reads them once. The call's own instruction comes last.
"""

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

from sot_graph.state import PointTask, Revision
from sot_graph.text import encodable

RULE = "---"
"""Separates the question from the instruction below it."""
GAP = "\n\n"
MIN_ASKED = 3
"""The fewest points that the model is asked for, if the options allow that many (the paper's figure)."""

MAY_DECLINE = (
    "Some questions are better answered in one go: a calculation, a proof or another chain of reasoning, program code, "
    "an estimate, a short fact, a text that has to flow as one piece. For these, give an empty list of points."
)
PLAIN_FORM = "Write the points as a numbered list, one a line. For an empty list write the word NONE."
"""For a model that cannot be given a schema."""
OPENED = "An opening of one or two sentences is being written already: plan what comes after it."
REVISE = "These points were planned before:"
REMARK = "A person has looked at them, and this remark is to be followed:"
AGAIN = "Give the whole list of points anew."
LEAD = (
    "Write only the opening of the answer to the question above, in the language of the question: one sentence, two at "
    "the most, and no more than 30 words. It leads into the subject and is true of the whole of it. What follows is "
    "being written by others, so do not announce it, list nothing, and do not ask anything back."
)
LENGTH = "One or two sentences, unless you were told before how long or in what form to answer. "
YOUR_POINT = "Your point is number"
WRITTEN = "[The assistant had written:]"
"""Stands above what the assistant wrote before the user's first message."""
ROLES: dict[type[BaseMessage], set[str]] = {
    SystemMessage: {"system", "developer"},
    AIMessage: {"ai", "assistant", "model"},
    ToolMessage: {"tool", "function"},
}
THOUGHTS = {"thinking", "redacted_thinking", "reasoning", "reasoning_content"}
CALL, RESULT = re.compile("tool|function"), re.compile("(tool|call).*_(result|output)")
"""The types of blocks: thoughts, tool calls, and their results."""


def outline_instruction(min_points: int, max_points: int, *, may_decline: bool, has_opening: bool) -> str:
    """Ask for an outline (section 2 of the paper: 3 to 10 points of 3 to 5 words)."""
    fewest = max(min_points, min(MIN_ASKED, max_points))
    count = str(max_points) if fewest == max_points else f"{fewest} to {max_points}"
    lines = [
        "Do not answer yet. Plan the answer to the question above: list the points that it will consist of.",
        "Afterwards each point is written on its own, at the same time as all the others. Therefore:",
        f"- give {count} points, in the order in which they should be read;",
        "- name each one in three to five words, in the language of the question;",
        "- let the points cover the whole question without overlapping;",
        "- choose them so that none needs the text of another to be written.",
        *([OPENED] if has_opening else []),
        *([MAY_DECLINE] if may_decline else []),
    ]
    return "\n".join(lines)


def revision_instruction(revision: Revision) -> str:
    """Ask for another outline that follows a person's remark; comes below `outline_instruction`."""
    return GAP.join([REVISE, _numbered(revision["titles"]), REMARK, revision["remark"], AGAIN])


def point_instruction(task: PointTask, *, length: str = LENGTH, opening: str = "", shown: str = "") -> str:
    """Ask for the text of one point, after an opening, or of the rest of a text of which the beginning was shown."""
    return (
        f"{f'The answer to the question above opens with this text:{GAP}{opening}{GAP}' if opening else ''}"
        "The answer to the question above is made of the points below. You write one of them; at the same time the "
        "others are being written by others, who see this same page:\n\n"
        f"{_numbered(task['outline'])}\n\n"
        "Write your point's text, in the language of the question, so that all texts read as one answer when they "
        f"are put together. {length}"
        "Begin with the text itself, without a number, a title or an introduction, and keep out what belongs to the "
        "other points.\n\n"
        f"{continuation(shown)}"
        f"{YOUR_POINT} {task['index']}: {task['title']}"
    )


def lead_instruction(shown: str = "") -> str:
    """Ask for the opening."""
    return f"{LEAD}\n\n{continuation(shown)}" if shown else LEAD


def continuation(shown: str) -> str:
    """Ask for the rest of a text of which subscribers have received the beginning; `""` if there is none."""
    if not shown:
        return ""
    return f"The text has been begun already. Write only what follows, from the very next word on:\n\n{shown}\n\n"


def _numbered(titles: Sequence[str]) -> str:
    return "\n".join(f"{number}. {title}" for number, title in enumerate(titles, start=1))


def messages_of(
    system_prompt: SystemMessage | None, conversation: Sequence[BaseMessage], instruction: str = ""
) -> list[BaseMessage]:
    """Lay out the messages of one call, as the strictest servers and chat templates want them.

    One system message at most, in front; then user and assistant in turns, the user first and last; no empty message
    and no tool calls. A message that fits is sent as it is.

    Args:
        system_prompt: The caller's own, the same for every stage.
        conversation: Ends with the question, or with the tool results that follow it.
        instruction: What this call is to do, below the question in the same message. It is text, never a template.
            Without one, the question is repeated if an assistant's message follows it.
    """
    system: list[BaseMessage] = [system_prompt] if system_prompt else []
    system += [message for message in conversation if kind_of(message) is SystemMessage]
    turns = joined(without_tool_calls([message for message in conversation if kind_of(message) is not SystemMessage]))
    if turns and isinstance(turns[0], AIMessage):
        turns[:1] = [HumanMessage(f"{WRITTEN}\n{text}")] if (text := turns[0].text.strip()) else []
    if instruction:
        turns.append(HumanMessage(f"{RULE}\n{instruction}"))
    elif turns and isinstance(turns[-1], AIMessage) and (question := question_of(conversation)):
        turns += without_tool_calls([question])
    return [_sendable(message) for message in joined([*without_tool_calls(system), *turns])]


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


def _sendable(message: BaseMessage) -> BaseMessage:
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
