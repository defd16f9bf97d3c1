"""Skeleton-of-Thought for LangGraph: long answers, written in parallel."""

import typing

from sot_graph.demo import DemoChatModel
from sot_graph.errors import ExpansionError, ReplyError, SotError
from sot_graph.graph import SotGraph, create_sot_graph
from sot_graph.state import Point, SotInput, SotOutput, SotState
from sot_graph.streaming import SotEvent, astream_answer, stream_answer
from sot_graph.tools import create_sot_tool
from sot_graph.tracing import __version__
from sot_graph.usage import SotMetadata

if typing.TYPE_CHECKING:
    from sot_graph.local import local_chat_model
    from sot_graph.middleware import SkeletonOfThoughtMiddleware
else:

    def __getattr__(name: str) -> typing.Any:
        """Import what few use when it is asked for: the middleware needs `langchain`, which takes long to import."""
        if name == "local_chat_model":
            from sot_graph.local import local_chat_model  # noqa: PLC0415

            return local_chat_model
        if name == "SkeletonOfThoughtMiddleware":
            from sot_graph.middleware import SkeletonOfThoughtMiddleware  # noqa: PLC0415

            return SkeletonOfThoughtMiddleware
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)


__all__ = [
    "DemoChatModel",
    "ExpansionError",
    "Point",
    "ReplyError",
    "SkeletonOfThoughtMiddleware",
    "SotError",
    "SotEvent",
    "SotGraph",
    "SotInput",
    "SotMetadata",
    "SotOutput",
    "SotState",
    "__version__",
    "astream_answer",
    "create_sot_graph",
    "create_sot_tool",
    "local_chat_model",
    "stream_answer",
]
