"""The state of the graph: its input, its output, and what the nodes pass to each other.

All values are JSON-able or messages, so that every checkpointer and LangGraph Server can store them.
"""

import operator
from typing import Annotated, Any, Literal

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


class SotInput(TypedDict, total=False):
    """The input: a question, a conversation, or both."""

    question: str | None  # what to answer; left out: the last human message of `messages`
    messages: Annotated[list[AnyMessage], add_messages]  # the conversation, as context for every call
    outline: list[str] | None  # titles for the points, if the caller has them: saves the outline's call


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
    remark: str


class SotState(TypedDict, total=False):
    """The whole state, with the keys that only the nodes use."""

    # Ephemeral keys last for one step, so no turn is answered with the question or the outline of the last one.
    question: Annotated[str | None, EphemeralValue]
    outline: Annotated[list[str] | None, EphemeralValue]
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
    """The payload of one `Send` to `expand`: the point, not the conversation, because a checkpointer stores each."""

    index: int
    title: str
    outline: list[str]
    context: str  # a digest of the conversation, so that a node cache can tell two conversations apart
    again: bool  # whether the point has failed before: then a cache is not read


Update = dict[str, Any]
"""What a node writes to the state."""
