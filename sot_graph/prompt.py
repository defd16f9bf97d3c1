"""How every stage's prompt is laid out: what all calls share first, what is one call's alone last.

The system prompt, the conversation and the question come first, in the same bytes in every call of an answer, so that
a provider's prefix cache (and a local server's) reads them once.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from sot_graph.safety import encodable
from sot_graph.state import SotState


def lay_out(
    system_prompt: SystemMessage | None,
    conversation: Sequence[BaseMessage],
    instruction: str | None = None,
) -> list[BaseMessage]:
    """Make one call's prompt.

    Args:
        system_prompt: The caller's own; the same for every stage.
        conversation: It ends with the question, or with what came after it (tool results).
        instruction: What this call is to do. It goes below the question in the same message, because the chat templates
            of many local models refuse two human messages in a row. It is text, never a template.
    """
    plain = plain_conversation(conversation)
    prompt = [encodable_message(message) for message in ([system_prompt, *plain] if system_prompt else plain)]
    if instruction is None:
        return prompt
    last = prompt[-1]
    if not isinstance(last, HumanMessage):
        return [*prompt, HumanMessage(instruction)]
    content = last.content
    below = (
        f"{content}\n\n{instruction}"
        if isinstance(content, str)
        else [*content, {"type": "text", "text": f"\n\n{instruction}"}]
    )
    return [*prompt[:-1], last.model_copy(update={"content": below})]


def encodable_message(message: BaseMessage) -> BaseMessage:
    """The same message, with text that can be sent."""
    fields = {name: getattr(message, name, None) for name in ("content", "name")}
    changes = {name: new for name, old in fields.items() if (new := _encodable(old)) is not old}
    return message.model_copy(update=changes) if changes else message


def _encodable(value: Any) -> Any:
    """The same value with text that can be sent; the very same object where it has no other."""
    changed = value
    if isinstance(value, str):
        changed = encodable(value)
    elif isinstance(value, list):
        changed = [_encodable(each) for each in value]
    elif isinstance(value, dict):
        changed = {key: _encodable(each) for key, each in value.items()}
    return value if changed == value else changed


GAP = "\n\n"
"""What stands between the parts of an answer."""
RULE = "---"
"""Parts the question from what a stage says below it."""


def plain_conversation(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Tell tool calls and their results as text.

    The stages have no tools, and Anthropic and Bedrock refuse a request that has tool calls in it but no
    tools. Nothing stands between the user's messages but one message of the assistant, because the chat templates of
    many local models want the two to take turns.
    """
    plain: list[BaseMessage] = []
    told: list[str] = []
    calls = {call["id"]: call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    for message in messages:
        if isinstance(message, ToolMessage):
            told.append(_result_text(message, calls.get(message.tool_call_id)))
        elif isinstance(message, AIMessage) and (message.tool_calls or told):
            told.append(message.text)
        else:
            _tell(plain, told)
            plain.append(message)
    _tell(plain, told)
    return plain


def _tell(plain: list[BaseMessage], told: list[str]) -> None:
    if text := GAP.join(filter(None, told)):
        plain.append(AIMessage(text))
    told.clear()


def _result_text(message: ToolMessage, call: Any) -> str:
    arguments = json.dumps(call["args"], ensure_ascii=False, default=str) if call else ""
    outcome = "failed with" if message.status == "error" else "gave"
    return f"[The tool {message.name or 'call'}({arguments}) {outcome}:]\n{message.text}"


class Turn(NamedTuple):
    """What one run of the graph is asked."""

    question: str
    conversation: list[BaseMessage]
    """It holds the question."""
    added: list[dict[str, str]]
    """The question as a new message, where the conversation did not hold it yet."""
    outline: list[str] | None
    """The titles that the caller brought."""


def open_turn(state: SotState) -> Turn:
    """Find the question, and refuse what cannot be answered before any model is called.

    Raises:
        ValueError: There is no question, or it is blank.
        TypeError: The question is no text, or the outline no list of titles.
    """
    messages: list[BaseMessage] = list(state.get("messages", []))
    outline = _supplied_outline(state.get("outline"))
    question = state.get("question")
    if question is None:
        asked = next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)
        if asked is None or _is_blank(asked):
            msg = "There is nothing to answer: pass a `question`, or `messages` with a human message that is not blank."
            raise ValueError(msg)
        return Turn(asked.text, messages, [], outline)
    if not isinstance(question, str):
        msg = f"`question` must be text, not {type(question).__name__}."
        raise TypeError(msg)
    if not question.strip():
        msg = "There is nothing to answer: `question` is blank. Leave it out to answer the last of `messages`."
        raise ValueError(msg)
    question = encodable(question)
    if messages and isinstance(messages[-1], HumanMessage) and messages[-1].text.strip() == question.strip():
        return Turn(question, messages, [], outline)
    # As a dict, because the engine streams every message object that a node returns, and this is not the answer's.
    added = [{"role": "user", "content": question}]
    return Turn(question, [*messages, HumanMessage(question)], added, outline)


def _supplied_outline(outline: object) -> list[str] | None:
    if not outline:
        return None
    if isinstance(outline, list | tuple) and all(isinstance(title, str) for title in outline):
        return list(outline)
    msg = "`outline` must be a list of titles, such as ['Causes', 'Symptoms', 'Treatment']."
    raise TypeError(msg)


def _is_blank(message: BaseMessage) -> bool:
    """Whether a message has neither text nor anything else (a picture) to answer."""
    if message.text.strip():
        return False
    return isinstance(message.content, str) or all(
        isinstance(block, str) or block.get("type") == "text" for block in message.content
    )


def before_answer(messages: Sequence[BaseMessage], answer_id: str | None) -> list[BaseMessage]:
    """The conversation up to an answer that stands in it already, because points of it are written after all."""
    answered = (i for i, message in enumerate(messages) if answer_id and message.id == answer_id)
    return list(messages[: next(answered, None)])


def continuing(begun: str) -> str:
    """What a call is told that has to go on with a text of which the reader has the beginning."""
    return f"The text has been begun already. Write only what follows, from the very next word on:\n\n{begun}\n\n"


def digest(*parts: object) -> str:
    """A short name for what a call depends on, the random ids of messages left out."""
    return hashlib.sha256(json.dumps(parts, default=_plain).encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    if isinstance(value, BaseMessage):
        tool_calls = getattr(value, "tool_calls", None)
        return [value.type, value.content, tool_calls]
    return repr(value)
