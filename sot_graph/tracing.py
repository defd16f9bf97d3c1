"""What the stages tell in a trace, and its way out when the process ends."""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.types import TracePolicy

from sot_graph.keys import is_secret, secrets_of
from sot_graph.safety import HIDDEN, hide
from sot_graph.state import SotState
from sot_graph.usage import this_attempt

TAG = "sot:"
"""How the tags begin that say what a call writes."""
TOLD_OF_A_CALL = frozenset({"sot_stage", "sot_attempt", "sot_point", "sot_title"})
"""The keys of metadata that do."""
VERSION = version("sot-graph")
BOOKKEEPING = frozenset({"answer_id", "calls", "opening_call", "tried"})
WRITTEN = frozenset({"answer", "points"})


def stamp(name: str) -> dict[str, str]:
    """What all runs of a graph have as metadata."""
    return {"ls_integration": "sot_graph", "sot_graph_name": name, "sot_graph_version": VERSION}


def without_keys(configurable: Mapping[str, Any]) -> dict[str, str]:
    """What stands for the keys in a caller's config as metadata: the engine puts there all that is not there yet."""
    return {name: HIDDEN for name in configurable if is_secret(name)}


def call_tags(stage: str, **told: str | int) -> list[str]:
    """The tags that say what a call writes."""
    return [f"{TAG}{stage}", *(f"{TAG}{key}:{value}" for key, value in told.items())]


def call_metadata(stage: str, **told: str | int) -> dict[str, str | int]:
    """What says the same as metadata."""
    return {f"sot_{key}": value for key, value in {"stage": stage, "attempt": this_attempt(), **told}.items()}


def within(config: RunnableConfig) -> RunnableConfig:
    """The config for a graph of ours that writes a point: its calls tell what they write, and which point it is in."""
    tags = [tag for tag in config.get("tags") or () if not tag.startswith(TAG)]
    metadata = {key: value for key, value in (config.get("metadata") or {}).items() if key not in TOLD_OF_A_CALL}
    return {**config, "tags": tags, "metadata": {**metadata, "sot_within": config.get("run_name")}}


def _own_part(state: SotState, left_out: frozenset[str]) -> dict[str, Any]:
    shown = {key: value for key, value in state.items() if value and key not in left_out}
    return {**shown, "messages": state["messages"][-1:]} if "messages" in shown else shown


OWN_PART = TracePolicy(process_inputs=partial(_own_part, left_out=BOOKKEEPING | WRITTEN))
"""Of a stage that gets the whole state: its run in a trace shows what it works on. The graph's run and each model run
have the whole conversation already, and what is written in the state is the last turn's."""
OWN_PART_WITH_POINTS = TracePolicy(process_inputs=partial(_own_part, left_out=BOOKKEEPING))
"""The same for a stage that works on the points."""


class Way(Runnable[SotState, Any]):
    """Where to go from a node. A plain function would be traced: the whole state, and each point's copy of the outline.

    Args:
        choose: State in, name of the next node or `Send`s out.
    """

    def __init__(self, choose: Callable[[SotState], Any]) -> None:
        self.choose = choose
        self.name = choose.__name__

    def invoke(
        self,
        input: SotState,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,  # noqa: ARG002 - the same
        **_kwargs: Any,
    ) -> Any:
        """Choose."""
        return self.choose(input)

    async def ainvoke(
        self,
        input: SotState,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,  # noqa: ARG002 - the same
        **_kwargs: Any,
    ) -> Any:
        """Choose; see `invoke`."""
        return self.choose(input)


_TROUBLE = re.compile(
    r"(?P<lost>Failed to (?:batch|multipart|send)|Dropped|\w+ tracing error)|Failed to get info", re.IGNORECASE
)
"""How a line of LangSmith's client begins that says that it gave runs up, or that it cannot reach the other side."""


class ClientLog(logging.Handler):
    """Takes what LangSmith's client logs, which would stand in the midst of an answer, and keeps what went wrong.

    Attributes:
        why: The first line of the client's last complaint, without keys; "" where it had none.
        has_lost: Whether it gave runs up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.why = ""
        self.has_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        with suppress(TypeError, ValueError):  # one that cannot be put together
            self._read(record.getMessage().partition("\n")[0])

    def _read(self, line: str) -> None:
        if found := _TROUBLE.match(line):
            self.why = hide(line, secrets_of())
            self.has_lost = self.has_lost or found["lost"] is not None


def take_client_log() -> ClientLog:
    """Have LangSmith's client log nowhere else, in the whole process."""
    log, logger = ClientLog(), logging.getLogger("langsmith")
    logger.addHandler(log)
    logger.propagate = False
    return log


def flush_traces(seconds: float) -> bool:
    """Wait for what is on its way to LangSmith, but no longer than this.

    Args:
        seconds: How long.

    Returns:
        Whether nothing is left to send.
    """
    # In a thread, because flushing has no end of its own where the other side does not answer.
    sending = threading.Thread(target=wait_for_all_tracers, daemon=True)
    sending.start()
    sending.join(seconds)
    return not sending.is_alive()
