"""What callers pass: options, inputs, configs and graphs, refused before a model is called."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.cache.base import BaseCache
from langgraph.errors import EmptyInputError
from langgraph.store.base import BaseStore
from langgraph.types import CachePolicy, Command

from sot_graph.models import is_model, told
from sot_graph.state import SotInput

FUNCTION = (Runnable | Callable | None, "a function or a Runnable")
FLAG = (bool, "True or False")
OPTIONS: dict[str, tuple[Any, str]] = {
    "expander": FUNCTION,
    "route": (Runnable | Callable | str, "'auto', 'always', a function or a Runnable"),
    "system_prompt": (str | SystemMessage | None, "text or a SystemMessage"),
    "min_points": (int, "a whole number"),
    "max_points": (int, "a whole number"),
    "max_tokens": (int | None, "a whole number or None"),
    "headings": FLAG,
    "lead": FLAG,
    "closing": FLAG,
    "merge": FUNCTION,
    "on_error": (str, "'raise' or 'keep'"),
    "review": FLAG,
    "detail": (str, "'titles' or 'scoped'"),
    "hedge": (float | int | str | None, "seconds, a multiple such as '3x', or None"),
    "cache_policy": (CachePolicy | None, "a langgraph CachePolicy"),
    "store": (BaseStore | None, "a langgraph BaseStore"),
    "cache": (BaseCache | None, "a langgraph BaseCache"),
    "name": (str, "text"),
}
"""What each option may be."""
CHOICES = {"route": ("auto", "always"), "on_error": ("raise", "keep"), "detail": ("titles", "scoped")}
ARGUMENTS = {"expander": "the point's messages", "route": "the question", "merge": "the list of points"}
"""What the functions among the options receive."""
KEYS = tuple(SotInput.__annotations__)
EXAMPLE = "Pass a dict such as {'question': '...'}."


class NothingToResumeError(EmptyInputError, ValueError):
    """LangGraph's error over None as the input of a new thread, in words of ours."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of `create_sot_graph`: their types, their values, and two that exclude each other."""
    for option, (kind, valid) in OPTIONS.items():
        value = options[option]
        is_class = option in ARGUMENTS and isinstance(value, type)  # callable, but it only makes an object of itself
        if is_class or not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            msg = f"{option} must be {valid}, not {told(value, f'{value!r:.200}')}."
            raise TypeError(msg)
    for option, choices in CHOICES.items():
        if isinstance(value := options[option], str) and value not in choices:
            msg = f"{option} must be one of {', '.join(map(repr, choices))}, not {value!r}."
            raise ValueError(msg)
    for option in ARGUMENTS:
        _check_argument(option, options[option])
    _check_together(options)


def _check_together(options: Mapping[str, Any]) -> None:
    """Refuse values that are too small, and options that need or exclude each other."""
    fewest, most, max_tokens = options["min_points"], options["max_points"], options["max_tokens"]
    wrong = {
        f"min_points must be at least 1 and max_points at least min_points; got min_points={fewest}, "
        f"max_points={most}.": not 1 <= fewest <= most,
        f"max_tokens must be at least 1, or None for no limit; got max_tokens={max_tokens}.": (
            max_tokens is not None and max_tokens < 1
        ),
        "cache_policy needs a cache to keep results in, such as cache=langgraph.cache.memory.InMemoryCache().": (
            options["cache_policy"] is not None and options["cache"] is None
        ),
        "headings is for the default merge; a merge of your own has the titles in its points.": (
            options["headings"] and options["merge"] is not None
        ),
        "lead begins the answer before its outline could be reviewed; use review or lead, not both.": (
            options["review"] and options["lead"]
        ),
    }
    for msg in (message for message, is_wrong in wrong.items() if is_wrong):
        raise ValueError(msg)


def _check_argument(option: str, value: Any) -> None:
    """Refuse a function that cannot be called as LangChain calls it: with one argument, and a config if it has one."""
    if isinstance(value, RunnableLambda):
        value = value.func if hasattr(value, "func") else value.afunc
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # no function, or one of C's that says nothing of its arguments
        return
    if isinstance(value, Runnable):
        return
    try:
        signature.bind(None, **{name: None for name in ("config", "run_manager") if name in signature.parameters})
    except TypeError as error:
        name = getattr(value, "__name__", type(value).__name__)
        msg = f"{option} must take one argument, {ARGUMENTS[option]}; {name}{signature} cannot be called so: {error}."
        raise TypeError(msg) from None


def check_input(given: Any) -> None:
    """Refuse an input in which the graph would find none of its keys; a parent's state may be an object with them."""
    if given is None or isinstance(given, Command) or any(hasattr(given, key) for key in KEYS):
        return
    if isinstance(given, dict):
        if not given or any(key in given for key in KEYS):
            return
        names = f"{', '.join(map(repr, given)):.200}"
        msg = f"The graph reads `question`, `messages` and `outline`; the input has only {names}. {EXAMPLE}"
        raise ValueError(msg)
    is_conversation = isinstance(given, BaseMessage | list | tuple)
    example = "{'messages': [...]}" if is_conversation else f"{{'question': {f'{given}'[:40]!r}}}"
    msg = f"The input of the graph must be a dict with a `question` or `messages`, not {told(given)}: pass {example}."
    raise TypeError(msg)


def check_limits(configs: RunnableConfig | Sequence[RunnableConfig | None] | None) -> list[int | None]:
    """The concurrency limits of configs; None of one that has none."""
    several: Any = configs if isinstance(configs, list | tuple) else [configs]
    limits: list[Any] = [(each or {}).get("max_concurrency") for each in several]
    for limit in limits:
        is_number = isinstance(limit, int) and not isinstance(limit, bool)
        if limit is not None and not (is_number and limit >= 1):
            msg = f"max_concurrency must be a whole number of at least 1, or None for no limit, not {limit!r}."
            raise ValueError(msg) if is_number else TypeError(msg)
    return limits


def check_configurable(configurable: Mapping[str, Any]) -> None:
    """Refuse a concurrency limit where LangGraph ignores it."""
    if "max_concurrency" in configurable:
        value = configurable["max_concurrency"]
        msg = (
            "max_concurrency has no effect under `configurable`. Put it at the top level of the config: "
            f"{{'max_concurrency': {value!r}}}."
        )
        raise ValueError(msg)


def check_graph(graph: object, accepted: str = "a graph from create_sot_graph") -> Runnable[Any, Any]:
    """Refuse what is not a graph, such as a model."""
    if isinstance(graph, Runnable) and not (isinstance(graph, BaseLanguageModel) or is_model(graph)):
        return graph
    how = "" if "model" in accepted else " Make one of a model: create_sot_graph(model)."
    msg = f"graph must be {accepted}, not {told(graph)}.{how}"
    raise TypeError(msg)


def _nothing_to_resume(error: EmptyInputError) -> NothingToResumeError:
    return NothingToResumeError(
        f"There is nothing to resume: {error}. None continues a thread that a checkpointer has stored, and this one is "
        f"new. {EXAMPLE}"
    )


def resumed(stream: Iterator[Any]) -> Iterator[Any]:
    """The stream of a sync run without an input."""
    try:
        yield from stream
    except EmptyInputError as error:
        raise _nothing_to_resume(error) from error


class Resumed(AsyncIterator[Any]):
    """The stream of an async run without an input; no generator, for the reason of `AsyncAnswerIterator`."""

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self._stream = stream

    async def __anext__(self) -> Any:
        try:
            return await anext(self._stream)
        except EmptyInputError as error:
            raise _nothing_to_resume(error) from error

    async def aclose(self) -> None:
        """Cancel the model calls."""
        await cast("AsyncGenerator[Any, None]", self._stream).aclose()
