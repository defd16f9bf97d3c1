"""What the nodes have in common."""

from abc import abstractmethod
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from sot_graph.reading import place_of

Given = TypeVar("Given")
Written = TypeVar("Written")


def read_state(config: RunnableConfig, key: str) -> Any:
    """Read a key of the graph's state from within a node; None where nothing is there.

    A `Send` task gets its payload only. The engine's own ToolNode reads the state through this same function.
    """
    read = config["configurable"].get("__pregel_read")
    if read is None:
        msg = "This stage runs as a node of the graph that create_sot_graph makes, not by itself."
        raise RuntimeError(msg)
    return read([key]).get(key)


class Stage(Runnable[Given, Written]):
    """A node with a sync and an async form; a plain function would have only one of them."""

    @abstractmethod
    def run(self, given: Given, config: RunnableConfig) -> Written:
        """Do the stage's work."""

    @abstractmethod
    async def arun(self, given: Given, config: RunnableConfig) -> Written:
        """Do the stage's work; see `run`."""

    def invoke(
        self,
        input: Given,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,
        **_kwargs: Any,
    ) -> Written:
        """Run as a node of the graph."""
        config = ensure_config(config)
        with place_of(config):
            return self.run(input, config)

    async def ainvoke(
        self,
        input: Given,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,
        **_kwargs: Any,
    ) -> Written:
        """Run as a node of the graph; see `invoke`."""
        return await self.arun(input, ensure_config(config))
