"""What the graph tells while it works: the events of `stream_mode="custom"`."""

from typing import Literal

from langgraph.config import get_stream_writer
from typing_extensions import TypedDict


class OutlineEvent(TypedDict):
    """The outline is known."""

    type: Literal["outline"]
    titles: list[str]


class TokenEvent(TypedDict):
    """A piece of one point's text has come, as the model wrote it."""

    type: Literal["token"]
    index: int
    text: str


class PointEvent(TypedDict):
    """A point has ended."""

    type: Literal["point"]
    index: int
    status: Literal["written", "truncated", "failed"]


SotEvent = OutlineEvent | TokenEvent | PointEvent
"""What `stream_mode="custom"` yields; `type` tells which."""


def emit(event: SotEvent) -> None:
    """Send an event to whoever streams the graph with `stream_mode="custom"`; from within a node."""
    get_stream_writer()(event)
