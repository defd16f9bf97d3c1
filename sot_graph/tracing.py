"""What the stages tell in a trace, and its way out when the process ends."""

import threading
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.types import TracePolicy

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
