"""Names, tags and metadata of the runs in a trace."""

from importlib.metadata import version
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from langgraph.types import TracePolicy

from sot_graph.hedging import KEY
from sot_graph.state import SotState

TAG = "sot:"
__version__ = version("sot-graph")
BOOKKEEPING = frozenset({"answer_id", "attempts", "opening_attempts"})


def graph_metadata(name: str) -> dict[str, str]:
    """Metadata of all runs of a graph."""
    return {"ls_integration": "sot_graph", "sot_graph_name": name, "sot_graph_version": __version__}


def call_config(  # noqa: PLR0913 - what names a call
    config: RunnableConfig,
    stage: str,
    what: str,
    attempt: int,
    *,
    index: int | None = None,
    title: str | None = None,
    is_hedge: bool = False,
) -> RunnableConfig:
    """Name the run of one attempt, so that a trace tells the calls apart by name, tags (`sot:expand`) and metadata."""
    point = {key: value for key, value in {"point": index, "title": title}.items() if value is not None}
    # `nostream` keeps the tokens of single calls out of "messages" mode, where the answer is one message in order.
    tags = [f"{TAG}{stage}", *(f"{TAG}{key}:{value}" for key, value in point.items()), TAG_NOSTREAM]
    metadata = {f"sot_{key}": value for key, value in {"stage": stage, "attempt": attempt, **point}.items()}
    metadata |= {KEY: True} if is_hedge else {}
    return {
        **config,
        "run_name": f"{stage} {what}",  # not the node's name, or the engine would take the run for the node
        "tags": [*(config.get("tags") or []), *tags],
        "metadata": {**(config.get("metadata") or {}), **metadata},
    }


def nested_config(config: RunnableConfig) -> RunnableConfig:
    """The config of a SoT graph that writes a point: its calls have stages of their own, and `sot_within` the point."""
    tags = [tag for tag in config.get("tags") or () if not tag.startswith(TAG)]
    own = {"sot_stage", "sot_attempt", "sot_point", "sot_title", KEY}
    metadata = {key: value for key, value in (config.get("metadata") or {}).items() if key not in own}
    return {**config, "tags": tags, "metadata": {**metadata, "sot_within": config.get("run_name")}}


def _visible(state: SotState) -> dict[str, Any]:
    last_turn = {"answer", "ending", "points"} if state.get("answer") else set()
    shown = {key: value for key, value in state.items() if value and key not in BOOKKEEPING | last_turn}
    return {**shown, "messages": state["messages"][-1:]} if "messages" in shown else shown


LAST_MESSAGE = TracePolicy(process_inputs=_visible)
"""A node's run shows the last message only: the graph's run and the model runs have the whole conversation."""
