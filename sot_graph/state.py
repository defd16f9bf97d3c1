"""The state of the graph: its input, its output, and what the nodes pass to each other.

All values are JSON-able or messages, so that every checkpointer and LangGraph Server can store them.
"""

import operator
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Required

from langchain_core.messages import AnyMessage
from langgraph.channels import EphemeralValue
from langgraph.graph import add_messages
from typing_extensions import TypedDict

from sot_graph.usage import Attempt


class Point(TypedDict):
    """One item of the outline."""

    index: int  # its number in the outline, from 1
    title: str
    text: str  # of a failed point: what a subscriber had received of it, mostly ""
    status: Literal["written", "truncated", "failed"]  # truncated: cut off by a token limit, or as a loop
    error: str | None  # why the point failed


class Scope(TypedDict, total=False):
    """What an outline says of a point beside its title; each key may be missing."""

    covers: str  # what belongs to this point and to no other, in some words
    needs: list[int]  # indexes (from 1) of the points whose texts it builds on
    words: int  # about how long it is


class OutlineItem(Scope, total=False):
    """A title of an outline, with what there is to say of the point."""

    title: Required[str]


class SotInput(TypedDict, total=False):
    """The input: a question, a conversation, or both."""

    question: str | None  # what to answer; left out: the last human message of `messages`
    messages: Annotated[list[AnyMessage], add_messages]  # the conversation, as context for every call
    outline: Sequence[str | OutlineItem] | None  # the points' titles, if the caller has them: saves the outline's call


class SotOutput(TypedDict):
    """The output."""

    messages: Annotated[list[AnyMessage], add_messages]  # the conversation; the answer's `AIMessage` is the last
    points: list[Point]  # in order; [] after a direct answer
    answer: str  # the merged text


def merge_points(left: list[Point], right: list[Point]) -> list[Point]:
    """Reduce points by index: a newer point replaces an older one, in any order of arrival."""
    by_index = {point["index"]: point for point in [*left, *right]}
    return [by_index[index] for index in sorted(by_index)]


class Revision(TypedDict):
    """A person's remark on an outline."""

    titles: list[str]  # the outline before the revision
    scopes: list[Scope]
    remark: str


class SotState(TypedDict, total=False):
    """The whole state, with the keys that only the nodes use."""

    # Ephemeral keys last for one step, so no turn is answered with the question or the outline of the last one.
    question: Annotated[str | None, EphemeralValue]
    outline: Annotated[Sequence[str | OutlineItem] | None, EphemeralValue]
    scopes: list[Scope]  # of the points of the outline, in order; [] if it has titles only
    revision: Annotated[Revision | None, EphemeralValue]
    messages: Annotated[list[AnyMessage], add_messages]
    points: Annotated[list[Point], merge_points]
    answer: str
    answer_id: str | None  # of the answer's message, which is replaced when failed points are written later
    opening: str  # the beginning of the answer, with `lead=True`
    ending: str | None  # the end of the answer, with `closing=True`; None until it is written from these points
    opening_attempts: list[Attempt]  # not in `attempts`, because the outline's node resets those in the same step
    attempts: Annotated[list[Attempt], operator.add]  # of all other calls


class PointTask(TypedDict):
    """The payload of one `Send` to `expand`: nothing that all points share, because a checkpointer stores each."""

    index: int
    title: str
    context: str  # a digest of conversation and outline, so that a node cache can tell two answers apart
    is_new: bool  # whether a cache is not read


Update = dict[str, Any]
"""What a node writes to the state."""
