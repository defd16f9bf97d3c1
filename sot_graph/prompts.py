"""All prompts, and how the messages of a call are laid out.

The system prompt, the conversation and the question come first, in the same bytes in every call of an answer, so that a
provider's prefix cache reads them once. The call's own instruction comes last.
"""

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from sot_graph.messages import GAP, joined, kind_of, question_of, sendable, without_tool_calls
from sot_graph.state import PointTask, Revision

RULE = "---"
"""Separates the question from the instruction below it."""
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
    return [sendable(message) for message in joined([*without_tool_calls(system), *turns])]
