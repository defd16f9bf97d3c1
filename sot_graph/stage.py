"""What the nodes have in common."""

from abc import abstractmethod
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

Given = TypeVar("Given")
Written = TypeVar("Written")


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
        return self.run(input, ensure_config(config))

    async def ainvoke(
        self,
        input: Given,  # noqa: A002 - Runnable's name for it
        config: RunnableConfig | None = None,
        **_kwargs: Any,
    ) -> Written:
        """Run as a node of the graph; see `invoke`."""
        return await self.arun(input, ensure_config(config))
