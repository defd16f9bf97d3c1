"""The state of the graph: what goes in, what comes out, what the stages hand each other.

Plain JSON-able values and messages only, so that every checkpointer and LangGraph Server take it as it is.
"""

from typing import Annotated, Any, Literal

from langchain_core.messages import AnyMessage
from langgraph.channels import EphemeralValue, UntrackedValue
from langgraph.graph import add_messages
from typing_extensions import TypedDict

from sot_graph.usage import CallRecord, merge_calls


class Point(TypedDict):
    """One item of the outline, and what became of it."""

    index: int
    """The place in the outline, from 1."""
    title: str
    text: str
    """What was written. Of a failed point: what a reader had got of it already, mostly `""`."""
    status: Literal["written", "truncated", "failed"]
    """`"truncated"`: the model's own token limit cut the text off."""
    error: str | None
    """Why the point failed."""


class SotInput(TypedDict, total=False):
    """What the graph takes: a question, a conversation, or both."""

    question: str | None
    """What to answer. Missing: the last human message of `messages`."""
    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation, as context for every stage."""
    outline: list[str] | None
    """Titles for the points, where the caller has them: the skeleton then makes no call."""


class SotOutput(TypedDict):
    """What the graph gives back."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; the answer's `AIMessage` stands last."""
    points: list[Point]
    """The points in order; `[]` after a direct answer."""
    answer: str
    """The merged text."""


def merge_points(left: list[Point], right: list[Point]) -> list[Point]:
    """Reduce points by index: the newer text of a point replaces the older, whatever the order of arrival."""
    by_index = {point["index"]: point for point in [*left, *right]}
    return [by_index[index] for index in sorted(by_index)]


class Revision(TypedDict):
    """What a person wants different about an outline."""

    titles: list[str]
    """The outline as it was."""
    remark: str


class SotState(TypedDict, total=False):
    """The whole state, the stages' own keys included."""

    # Ephemeral: gone after one step, so that no turn is answered with the last turn's question or outline.
    question: Annotated[str | None, EphemeralValue]
    outline: Annotated[list[str] | None, EphemeralValue]
    revision: Annotated[Revision | None, EphemeralValue]
    messages: Annotated[list[AnyMessage], add_messages]
    points: Annotated[list[Point], merge_points]
    answer: str
    answer_id: str | None
    """The id of the answer's message: when failed points are written after all, that message is replaced."""
    opening: str
    """What the answer begins with, where it has an opening of its own (`lead=True`)."""
    opening_call: dict[str, CallRecord] | None
    """What the opening's call cost; beside `calls`, because the skeleton resets those in the same step."""
    calls: Annotated[dict[str, CallRecord], merge_calls]
    """What every other model call of this answer cost, by the call's name."""
    # Whether a point has failed in this run. Never checkpointed, so it is missing in a resumed run: the sign that
    # failed points deserve another try.
    tried: Annotated[bool, UntrackedValue(bool, guard=False)]


class PointTask(TypedDict):
    """What one `Send` carries to `expand`: the point, not the conversation.

    A checkpointer stores each payload, so the conversation stays in the state and `expand` reads it there.
    """

    index: int
    title: str
    outline: list[str]
    context: str
    """A digest of the conversation, so that a node cache tells two conversations apart."""


Update = dict[str, Any]
"""What a stage writes to the state."""
