"""Skeleton-of-Thought for LangGraph: long answers, written in parallel."""

from sot_graph.demo import DemoChatModel
from sot_graph.errors import ExpansionError, ReplyError, SotError
from sot_graph.graph import create_sot_graph
from sot_graph.state import Point, SotInput, SotOutput, SotState
from sot_graph.streaming import SotEvent, astream_answer, stream_answer

__all__ = [
    "DemoChatModel",
    "ExpansionError",
    "Point",
    "ReplyError",
    "SotError",
    "SotEvent",
    "SotInput",
    "SotOutput",
    "SotState",
    "astream_answer",
    "create_sot_graph",
    "stream_answer",
]
