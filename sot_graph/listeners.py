"""Who hears of a run's calls: tracers, meters, readers of a stream."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

Handlers = list[BaseCallbackHandler]


def first_hearing(config: RunnableConfig, *first: BaseCallbackHandler) -> RunnableConfig:
    """The same config, with these to hear of the calls before all others do."""
    return _heard(config, lambda handlers: [*first, *handlers])


def unheard_by(config: RunnableConfig, is_meant: Callable[[BaseCallbackHandler], bool]) -> RunnableConfig:
    """The same config, without those that are meant."""
    return _heard(config, lambda handlers: [each for each in handlers if not is_meant(each)])


def _heard(config: RunnableConfig, change: Callable[[Handlers], Handlers]) -> RunnableConfig:
    manager = config.get("callbacks")
    if not isinstance(manager, BaseCallbackManager):
        return {**config, "callbacks": change(manager or [])}
    manager = manager.copy()
    manager.handlers = change(manager.handlers)
    manager.inheritable_handlers = change(manager.inheritable_handlers)
    return {**config, "callbacks": manager}


@contextmanager
def ambient(config: RunnableConfig) -> Iterator[None]:
    """Make a config the one that calls within add to theirs. The engine's is the node's, with all who listen to it."""
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
