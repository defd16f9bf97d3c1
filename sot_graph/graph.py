"""The graph: options in, wired graph out."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.runnables.graph import Graph
from langgraph.cache.base import BaseCache
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore
from langgraph.types import CachePolicy, Checkpointer, Command, RetryPolicy

from sot_graph.caching import keyed
from sot_graph.calls import prepare_model, retry_policies
from sot_graph.direct import Direct
from sot_graph.expand import Expand, dispatch_points
from sot_graph.expander import Expander
from sot_graph.lead import Lead, skip_opening
from sot_graph.merge import Merge
from sot_graph.reading import OPENING, Reading, with_reading
from sot_graph.review import Review, after_review, review_outline
from sot_graph.safety import encodable, storable
from sot_graph.skeleton import Skeleton
from sot_graph.state import SotInput, SotOutput, SotState
from sot_graph.streaming import stoppable
from sot_graph.tracing import OWN_PART, OWN_PART_WITH_POINTS, Way, stamp, without_keys

SotGraph = CompiledStateGraph[SotState, None, SotInput, SotOutput]

MOST_CALLS = 1_000
"""How many calls of one run a sync run's pool of threads has room for, unless `max_concurrency` says fewer."""
SPARE_PLACES = 6
"""Places beside the points' own: a stream's waiter, and the checkpointer's writes, run in the same pool."""


def create_sot_graph(  # noqa: PLR0913 - one option each, keyword-only
    model: str | BaseChatModel,
    *,
    skeleton_model: str | BaseChatModel | None = None,
    expander: Runnable[Any, Any] | Callable[..., Any] | None = None,
    route: Literal["auto", "always"] | Callable[[str], bool | Awaitable[bool]] | Runnable[str, bool] = "auto",
    system_prompt: str | SystemMessage | None = None,
    min_points: int = 2,
    max_points: int = 10,
    headings: bool = False,
    lead: bool = False,
    merge: Runnable[list[Any], Any] | Callable[..., Any] | None = None,
    on_error: Literal["raise", "keep"] = "raise",
    review: bool = False,
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
    cache_policy: CachePolicy[Any] | None = None,
    checkpointer: Checkpointer = None,
    store: BaseStore | None = None,
    cache: BaseCache[Any] | None = None,
    name: str = "skeleton_of_thought",
) -> SotGraph:
    """Make a graph that answers a question by Skeleton-of-Thought (Ning et al., 2024, arXiv 2307.15337).

    A model writes a short outline, every point of it is written in parallel, and the points are merged. The graph
    takes `SotInput` and gives back `SotOutput`. It can be a node of a larger graph as it is.

    Args:
        model: Writes the points, and the direct answer: a chat model, or a name for `init_chat_model`.
        skeleton_model: Writes the outline in place of `model`; a small, quick one may do.
        expander: Writes the points in place of `model`: any Runnable or function, such as an agent with tools, a
            retrieval chain, or another SoT graph (a long document; its depth is that of what you nest, and its calls
            at most `1 + max_points * calls of the inner graph`, times the attempts). It gets the point's messages (a
            graph gets them as its `messages`) and returns a message, a text, or a state with `messages` or `answer`.
        route: What is answered by an outline. `"auto"`: the skeleton call itself may decline, which costs no call when
            an outline suits. `"always"`: every question. Or your own: the question in, True (outline) or False
            (direct) out.
        system_prompt: Your own, the same for every stage. Length and style of the points are yours to set here.
        min_points: An outline with fewer points is none, and the question is answered directly.
        max_points: No more points than this are written.
        headings: Whether each point's title stands above its text as a Markdown heading. For the default merge.
        lead: Whether the answer begins with an opening of a sentence or two, which is written from the question alone
            while the skeleton is: the first words then come as soon as a plain answer's. It costs one more call. There
            is none where the caller brings the outline.
        merge: The written points in (a list of `Point`), the answer out, as text or as a message. None joins the texts
            with a blank line between them, without a model call.
        on_error: When a point fails after its retries: `"raise"` an `ExpansionError` once the others are written, or
            `"keep"` the others as the answer.
        review: Whether the run interrupts after the outline, with `{"question": ..., "titles": [...]}`, before anything
            is written. It is resumed with `Command(resume=True)` (accepted), with a list of titles (write these) or
            with a remark as text (a new outline that follows it, which is shown again). It needs a checkpointer, of its
            own or of a parent graph. A question that suits no outline is answered without.
        retry_policy: Of the model calls. The default makes three attempts, and only at what may pass (see
            `is_transient` in `sot_graph.calls`). It is the one layer that retries: the client's own `max_retries` is
            set to 0 in the graph's copy of your model.
        cache_policy: Of the outline's, the opening's and the points' calls, as they are nodes; it needs a `cache`. A
            point that comes out of the cache is read when the others have been written.
        checkpointer: Makes threads, and `invoke(None, config)` after a failure, which asks for no written point again.
            Leave it out where a parent graph has one.
        store: As for any graph.
        cache: Where a `cache_policy` keeps its results.
        name: The graph's, in traces and as a node.

    Returns:
        The compiled graph; `.builder` is its `StateGraph`.

    Raises:
        TypeError: An option is not of a kind that can be used.
        ValueError: An option has a value that it cannot have.

    Invoking the graph raises:
        ValueError: The input has no question, or a blank one.
        ExpansionError: Points failed; see `on_error`.
        Exception: The model's own error, where the skeleton or the direct answer failed.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph

        graph = create_sot_graph(DemoChatModel())  # or "openai:gpt-5.5"
        result = graph.invoke({"question": "How can I sleep better?"})
        print(result["answer"])
        ```
    """
    _check_points(min_points, max_points)
    _check_choice("on_error", on_error, ("raise", "keep"))
    if headings and merge is not None:
        msg = "headings is for the default merge; a merge of your own has the titles in its points."
        raise ValueError(msg)
    for option, value in (("headings", headings), ("lead", lead), ("review", review)):
        if not isinstance(value, bool):
            msg = f"{option} must be True or False, not {value!r}."
            raise TypeError(msg)
    if review and lead:
        msg = "lead begins the answer before its outline could be reviewed; use review or lead, not both."
        raise ValueError(msg)
    if not isinstance(cache_policy, CachePolicy | None):
        msg = f"cache_policy must be a langgraph CachePolicy, not {type(cache_policy).__name__}."
        raise TypeError(msg)
    writer = prepare_model(model)
    outliner = prepare_model(skeleton_model, "skeleton_model") if skeleton_model is not None else writer
    system = _system_message(system_prompt)
    router = _router(route)
    retry = retry_policies(retry_policy)

    builder = StateGraph(SotState, input_schema=SotInput, output_schema=SotOutput)
    builder.add_node(
        "skeleton",
        Skeleton(
            outliner,
            route=router,
            system_prompt=system,
            min_points=min_points,
            max_points=max_points,
            opened=lead,
            reviewed=review,
        ),
        retry_policy=retry,
        cache_policy=keyed(
            cache_policy,
            outliner,
            system,
            ("question", "messages", "outline", "revision"),
            repr(route),
            min_points,
            max_points,
            lead,
        ),
        trace_policy=OWN_PART,
    )
    if lead:
        builder.add_node(
            "lead",
            Lead(writer, system_prompt=system),
            retry_policy=retry,
            error_handler=cast("Any", skip_opening),  # the same
            cache_policy=keyed(cache_policy, writer, system, ("question", "messages", "outline")),
            trace_policy=OWN_PART,
        )
        builder.add_edge(START, "lead")
    expand = Expand(_expander(expander) or writer, system_prompt=system, headings=headings, muted=merge is not None)
    builder.add_node(
        "expand",
        expand,
        retry_policy=retry,
        error_handler=cast("Any", expand.keep_failure),  # add_node has no type for a handler that takes the error
        cache_policy=keyed(cache_policy, writer, system, ("index", "outline", "context"), repr(expander)),
    )
    builder.add_node("direct", Direct(writer, system_prompt=system), retry_policy=retry, trace_policy=OWN_PART)
    builder.add_node(
        "merge",
        Merge(_runnable("merge", merge), headings=headings, keep=on_error == "keep"),
        retry_policy=retry,
        trace_policy=OWN_PART_WITH_POINTS,
    )
    builder.add_edge(START, "skeleton")
    if review:
        builder.add_node("review", Review(max_points), trace_policy=OWN_PART)
        builder.add_conditional_edges("skeleton", Way(review_outline), ["review", "direct"])
        builder.add_conditional_edges("review", Way(after_review), ["expand", "skeleton"])
    else:
        builder.add_conditional_edges("skeleton", Way(dispatch_points), ["expand", "direct"])
    builder.add_edge("expand", "merge")
    builder.add_edge("merge", END)
    builder.add_edge("direct", END)

    compiled = builder.compile(checkpointer=checkpointer, store=store, cache=cache, name=name)
    return _ReadAloud(**vars(compiled))


class _ReadAloud(SotGraph):
    """The compiled graph, with a reading of its own for every run.

    All other ways to run a graph (`invoke`, `batch`, as a node of a parent, ...) go through these two.
    """

    reads_aloud = True

    def stream(
        self,
        input: Any,  # noqa: A002 - the engine's signature, less its overloads
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        config, reading = self._read(input, config, kwargs)
        # The reading counts the places. The engine's own limit is the size of its pool of threads, and of these a
        # streamed run takes one to wait for what is streamed: with a limit of 1, nothing else would ever run.
        config["max_concurrency"] = (reading.places.limit or MOST_CALLS) + SPARE_PLACES
        parts = super().stream(_storable_input(input), config, **kwargs)
        yield from stoppable(cast("Generator[Any, None, None]", parts), reading.stop)

    def astream(
        self,
        input: Any,  # noqa: A002 - the engine's signature, less its overloads
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        config, _ = self._read(input, config, kwargs)
        return super().astream(_storable_input(input), config, **kwargs)

    def _read(
        self, given: Any, config: RunnableConfig | None, options: Mapping[str, Any]
    ) -> tuple[RunnableConfig, Reading]:
        configs = (each or {} for each in (config, var_child_runnable_config.get(), self.config))
        limit = next((each["max_concurrency"] for each in configs if each.get("max_concurrency")), None)
        first = OPENING if "lead" in self.nodes else OPENING + 1
        modes = (options.get("stream_mode") or self.stream_mode, options.get("print_mode") or ())
        is_fresh = not (given is None or isinstance(given, Command))
        config, reading = with_reading(config, modes, is_fresh=is_fresh, first=first, limit=limit)
        # At each run, because it would inherit the stamp of an agent, or of a graph of ours, around it.
        metadata = {**(config.get("metadata") or {}), **stamp(self.name), **without_keys(config["configurable"])}
        return {**config, "metadata": metadata}, reading

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:
        return _without_handlers(super().get_graph(config, xray=xray))

    async def aget_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:
        return _without_handlers(await super().aget_graph(config, xray=xray))


def _storable_input(given: Any) -> Any:
    """The same input, with its question as a message if a checkpointer could not store it as text.

    The engine stores an input before any node sees it; Postgres keeps text as JSON, which has no null characters and no
    lone surrogates, but messages as bytes.
    """
    question = given.get("question") if isinstance(given, dict) else None
    if not isinstance(question, str) or storable(question) == question:
        return given
    messages = add_messages(given.get("messages") or [], HumanMessage(encodable(question)))
    return {**given, "question": None, "messages": messages}


def _without_handlers(drawn: Graph) -> Graph:
    """Leave the nodes out of a drawing that the engine adds for error handlers."""
    for node in [node for node in drawn.nodes.values() if node.name.startswith("__error_handler__")]:
        drawn.remove_node(node)
    return drawn


def _check_points(min_points: int, max_points: int) -> None:
    for option, value in (("min_points", min_points), ("max_points", max_points)):
        if not isinstance(value, int) or isinstance(value, bool):
            msg = f"{option} must be a whole number, not {value!r}."
            raise TypeError(msg)
    if not 1 <= min_points <= max_points:
        msg = (
            "min_points must be at least 1 and max_points at least min_points; "
            f"got min_points={min_points}, max_points={max_points}."
        )
        raise ValueError(msg)


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        msg = f"{option} must be one of {', '.join(map(repr, choices))}, not {value!r}."
        raise ValueError(msg)


def _system_message(system_prompt: object) -> SystemMessage | None:
    if system_prompt is None or isinstance(system_prompt, SystemMessage):
        return system_prompt
    if isinstance(system_prompt, str):
        return SystemMessage(system_prompt) if system_prompt.strip() else None
    msg = f"system_prompt must be text or a SystemMessage, not {type(system_prompt).__name__}."
    raise TypeError(msg)


def _router(route: object) -> Any:
    if isinstance(route, str):
        _check_choice("route", route, ("auto", "always"))
        return route
    if route is None:
        msg = "route must be 'auto', 'always', a function or a Runnable, not None."
        raise TypeError(msg)
    return _runnable("route", route)


def _expander(value: object) -> BaseChatModel | Expander | None:
    if isinstance(value, BaseChatModel):
        return prepare_model(value, "expander")
    runnable = _runnable("expander", value)
    return Expander(runnable) if runnable else None


def _runnable(option: str, value: object) -> Runnable[Any, Any] | None:
    if value is None or isinstance(value, Runnable):
        return value
    if callable(value):
        return RunnableLambda(value)
    msg = f"{option} must be a function or a Runnable, not {type(value).__name__}."
    raise TypeError(msg)
