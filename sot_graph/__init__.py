"""Skeleton-of-Thought for LangGraph: long answers, written in parallel."""

import typing

if typing.TYPE_CHECKING:
    from sot_graph.bulk import abatch_answers, batch_answers
    from sot_graph.demo import DemoChatModel
    from sot_graph.errors import ExpansionError, ReplyError, SotError
    from sot_graph.graph import SotGraph, create_sot_graph
    from sot_graph.local import local_chat_model
    from sot_graph.middleware import SkeletonOfThoughtMiddleware
    from sot_graph.references import merge_with_references
    from sot_graph.routing import Router, load_router
    from sot_graph.state import OutlineItem, Point, SotInput, SotOutput, SotState
    from sot_graph.streaming import SotEvent, SotTransformer, astream_answer, stream_answer
    from sot_graph.tools import create_sot_tool
    from sot_graph.tracing import __version__
    from sot_graph.usage import SotMetadata
else:
    _MODULES = {
        "bulk": ("abatch_answers", "batch_answers"),
        "demo": ("DemoChatModel",),
        "errors": ("ExpansionError", "ReplyError", "SotError"),
        "graph": ("SotGraph", "create_sot_graph"),
        "local": ("local_chat_model",),
        "middleware": ("SkeletonOfThoughtMiddleware",),
        "references": ("merge_with_references",),
        "routing": ("Router", "load_router"),
        "state": ("OutlineItem", "Point", "SotInput", "SotOutput", "SotState"),
        "streaming": ("SotEvent", "SotTransformer", "astream_answer", "stream_answer"),
        "tools": ("create_sot_tool",),
        "tracing": ("__version__",),
        "usage": ("SotMetadata",),
    }

    def __getattr__(name: str) -> typing.Any:
        """Import a name when it is first used: LangChain takes seconds, and `sot-graph --help` needs none of it."""
        from importlib import import_module  # noqa: PLC0415 - so that it is no name of this module

        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"sot_graph.{module}"), name)
                return value
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)


__all__ = [
    "DemoChatModel",
    "ExpansionError",
    "OutlineItem",
    "Point",
    "ReplyError",
    "Router",
    "SkeletonOfThoughtMiddleware",
    "SotError",
    "SotEvent",
    "SotGraph",
    "SotInput",
    "SotMetadata",
    "SotOutput",
    "SotState",
    "SotTransformer",
    "__version__",
    "abatch_answers",
    "astream_answer",
    "batch_answers",
    "create_sot_graph",
    "create_sot_tool",
    "load_router",
    "local_chat_model",
    "merge_with_references",
    "stream_answer",
]
