"""All prompts, and how the messages of a call are laid out.

A call is the conversation, going on: the system prompt, the conversation and the question come first, in the same bytes
in every call of an answer, so that a provider's prefix cache can read them. Then come the call's own turns, of the
assistant and of the user. tests/benchmarks/prompts.py measures each of these sentences, and docs/prompts.md shows it.
"""

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from sot_graph.messages import GAP, joined, kind_of, question_of, sendable, without_tool_calls
from sot_graph.state import Point, Revision, Scope

MIN_ASKED = 3
"""The fewest points that the model is asked for, if the options allow that many (the paper's figure)."""

LANGUAGE = "Answer in the language of the question."
"""The system message if there is no other. Each turn of the user's that is ours is in English."""
LANGUAGE_BY_DEFAULT = "Unless told otherwise, answer in the language of the question."
"""Below any other system message."""
PLAN = "Let me plan."
PLAN_AFTER_OPENING = "Let me plan what comes after a short opening."
POINTS = "Name {points} that your answer will cover, three to five words each"
DECLINED = "NONE"
MAY_DECLINE = f"If it needs none, as for a sum, code, a short fact or one chain of reasoning, name only {DECLINED}."
PLAIN_FORM = ", as a numbered list"
"""For a model that cannot be given a schema."""
AGAIN = "Name all the points again."
LEAD = "Begin the answer with one or two sentences that lead into the subject."
CLOSE = "End the answer with one or two sentences."
TELL = "Tell me more about {title}."
"""For an expander, whose length is its own."""
TELL_BRIEFLY = "In one or two sentences, tell me more about {title}."
TELL_AT_LENGTH = "In about {words} words, tell me more about {title}."
"""For a point of which the outline says how long it is."""
SCOPES = " For each, say in a few words what belongs to it and to no other, and on which of the others its text builds"
"""For an outline that says more than titles."""
TELL_BY_DEFAULT = "In one or two sentences by default, tell me more about {title}."
"""Below a system message, which may ask for another length."""
GO_ON = "Go on where you stopped, with the very next word."
WRITTEN = "[The assistant had written:]"
"""Stands above what the assistant wrote before the user's first message."""


def bounds(min_points: int, max_points: int) -> tuple[int, int]:
    """How many points the model is asked for (section 2 of the paper: 3 to 10)."""
    return max(min_points, min(MIN_ASKED, max_points)), max_points


def outline_turns(
    count: tuple[int, int] | None,
    *,
    may_decline: bool,
    has_opening: bool,
    revision: Revision | None = None,
    is_scoped: bool = False,
) -> list[str]:
    """Ask for an outline, or for another one that follows a person's remark.

    Args:
        count: The fewest and the most points, for a numbered list; None if a schema says them.
        may_decline: Whether the model may find that an outline does not suit the question.
        has_opening: Whether an opening is being written at the same time.
        revision: The outline that there was, and the remark.
        is_scoped: Whether the outline says more of a point than its title.
    """
    fewest, most = count or (0, 0)
    number = f"{fewest} to {most}" if fewest < most else f"{most}"
    ask = POINTS.format(points=f"{number} points" if count else "the points") + (PLAIN_FORM if count else "")
    ask += f".{SCOPES}" if is_scoped else ""
    if revision:
        before = _titles(revision["titles"], revision.get("scopes", []))
        return [PLAN, f"{ask}.", before, f"{revision['remark']}{GAP}{AGAIN}"]
    return [PLAN_AFTER_OPENING if has_opening else PLAN, f"{ask}. {MAY_DECLINE}" if may_decline else f"{ask}."]


def lead_turns(shown: str) -> list[str]:
    """Ask for the opening of the answer, or for its rest."""
    return [PLAN, LEAD, *continuation(shown)]


def point_turns(  # noqa: PLR0913 - what a point's call tells
    index: int,
    outline: Sequence[str],
    scopes: Sequence[Scope] = (),
    tell: str = TELL_BRIEFLY,
    *,
    opening: str = "",
    shown: str = "",
    needed: Sequence[tuple[int, str]] = (),
) -> list[str]:
    """Ask for the text of one point, below the answer's opening, or for the rest of it.

    Args:
        index: The point's, from 1.
        outline: The titles of all points.
        scopes: What the outline says of each beside its title; empty if it has titles only.
        tell: The sentence that asks for a point.
        opening: The beginning of the answer.
        shown: What subscribers have received of the text.
        needed: The points that it builds on: index and text, as if they had been asked for before.
    """

    def ask(index: int) -> str:
        scope = scopes[index - 1] if scopes else Scope()
        title = ": ".join(filter(None, (outline[index - 1], scope.get("covers"))))
        return (TELL_AT_LENGTH if "words" in scope else tell).format(title=title, words=scope.get("words"))

    said = GAP.join(filter(None, (opening, _titles(outline, scopes))))
    turns = [turn for need, text in needed for turn in (ask(need), text)]
    return [said, *turns, ask(index), *continuation(shown)]


def closing_turns(points: Sequence[Point], *, opening: str = "", shown: str = "") -> list[str]:
    """Ask for the ending of the answer, below the texts of its points, or for the rest of it."""
    titles, texts = [point["title"] for point in points], [point["text"] for point in points]
    return [GAP.join(filter(None, (opening, _titles(titles, ()), *texts))), CLOSE, *continuation(shown)]


def tell_of(system_prompt: SystemMessage | None, conversation: Sequence[BaseMessage]) -> str:
    """The sentence that asks a model for a point."""
    return TELL_BY_DEFAULT if _system(system_prompt, conversation) else TELL_BRIEFLY


def continuation(shown: str) -> list[str]:
    """Ask for the rest of a text of which subscribers have received the beginning; no turns if there is none."""
    return [shown, GO_ON] if shown else []


def _titles(titles: Sequence[str], scopes: Sequence[Scope]) -> str:
    """The outline as a turn of the assistant's: the titles, and in brackets what each covers.

    A numbered list makes lists of the points.
    """
    covers = [scope.get("covers") for scope in scopes or [Scope()] * len(titles)]
    told = (f"{title} ({matter})" if matter else title for title, matter in zip(titles, covers, strict=True))
    return f"{'; '.join(told)}."


def messages_of(
    system_prompt: SystemMessage | None, conversation: Sequence[BaseMessage], turns: Sequence[str] = ()
) -> list[BaseMessage]:
    """Lay out the messages of one call, as the strictest servers and chat templates want them.

    One system message at most, in front; then user and assistant in turns, the user first and last; no empty message
    and no tool calls. A message that fits is sent as it is.

    Args:
        system_prompt: The caller's own, the same for every stage; a blank one for no system message of ours.
        conversation: Ends with the question, or with the tool results that follow it: then the question is repeated.
        turns: What follows the question, of the assistant and of the user in turns. It is text, never a template.
    """
    system = _system(system_prompt, conversation)
    if system_prompt is None or system_prompt.text.strip():
        system.append(SystemMessage(LANGUAGE_BY_DEFAULT if system else LANGUAGE))
    said = joined(without_tool_calls([message for message in conversation if kind_of(message) is not SystemMessage]))
    if said and isinstance(said[0], AIMessage):
        said[:1] = [HumanMessage(f"{WRITTEN}\n{text}")] if (text := said[0].text.strip()) else []
    if said and isinstance(said[-1], AIMessage) and (question := question_of(conversation)):
        said += without_tool_calls([question.model_copy(update={"id": None})])  # an agent keeps one message of an id
    own = [HumanMessage(text) if number % 2 else AIMessage(text) for number, text in enumerate(turns)]
    return [sendable(message) for message in joined([*system, *said, *own])]


def _system(system_prompt: SystemMessage | None, conversation: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The system messages that are not ours, without blank ones."""
    messages = [message for message in (system_prompt, *conversation) if message and kind_of(message) is SystemMessage]
    return without_tool_calls(messages)
