"""What the stages tell in a trace, and its way out when the process ends."""

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.types import TracePolicy
from langsmith.utils import get_env_var

from sot_graph.safety import hide
from sot_graph.state import SotState

BOOKKEEPING = frozenset({"answer_id", "calls", "opening_call", "tried"})


def _own_part(state: SotState) -> dict[str, Any]:
    """What a stage works on: the graph's run and each model run have the whole conversation already."""
    shown = {key: value for key, value in state.items() if value and key not in BOOKKEEPING}
    return {**shown, "messages": state["messages"][-1:]} if "messages" in shown else shown


OWN_PART = TracePolicy(process_inputs=_own_part)
"""Of a stage that gets the whole state: its run in a trace shows the last message, not the conversation once more."""


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
        line = record.getMessage().partition("\n")[0]
        if found := _TROUBLE.match(line):
            key = get_env_var("API_KEY")
            self.why = hide(line, [key] if key else [])
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
