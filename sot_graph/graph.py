"""The graph: options in, wired graph out."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, Self, TypeAlias, cast, get_type_hints

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import ensure_config
from langgraph.cache.base import BaseCache
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore
from langgraph.types import CachePolicy, Checkpointer, Command, RetryPolicy
from pydantic import BaseModel, create_model

from sot_graph import _engine
from sot_graph.caching import with_key
from sot_graph.checks import Resumed, check_configurable, check_input, check_limits, check_options, resumed
from sot_graph.expander import Expander
from sot_graph.hedging import Hedge
from sot_graph.limits import limits_of, with_limit
from sot_graph.models import Model, habits_of, is_model, prepare_model
from sot_graph.nodes.closing import Closing
from sot_graph.nodes.direct import Direct
from sot_graph.nodes.expand import Expand, dispatch_points
from sot_graph.nodes.lead import Lead
from sot_graph.nodes.merge import Merge
from sot_graph.nodes.review import Review, after_review, review_outline
from sot_graph.nodes.skeleton import Skeleton
from sot_graph.retry import retry_policies
from sot_graph.run import OPENING, RUN, Run
from sot_graph.state import SotInput, SotOutput, SotState
from sot_graph.streaming import SotTransformer, UntilCancelled, until_closed
from sot_graph.text import encodable, storable
from sot_graph.tracing import LAST_MESSAGE, graph_metadata

Route: TypeAlias = Callable[[str], bool | Awaitable[bool | None] | None] | Runnable[str, bool | None]
"""Decides which questions are answered by an outline; see `create_sot_graph`."""


def create_sot_graph(  # noqa: PLR0913 - one option each, keyword-only
    model: str | Model,
    *,
    skeleton_model: str | Model | None = None,
    expander: Runnable[Any, Any] | Callable[..., Any] | None = None,
    route: Literal["auto", "always"] | Route = "auto",
    system_prompt: str | SystemMessage | None = None,
    min_points: int = 2,
    max_points: int = 10,
    max_tokens: int | None = 4096,
    headings: bool = False,
    lead: bool = False,
    closing: bool = False,
    merge: Runnable[list[Any], Any] | Callable[..., Any] | None = None,
    on_error: Literal["raise", "keep"] = "raise",
    review: bool = False,
    hedge: float | str | None = None,
    detail: Literal["titles", "scoped"] = "titles",
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
    cache_policy: CachePolicy[Any] | None = None,
    checkpointer: Checkpointer = None,
    store: BaseStore | None = None,
    cache: BaseCache[Any] | None = None,
    name: str = "skeleton_of_thought",
) -> "SotGraph":
    """Create a graph that answers a question by Skeleton-of-Thought (Ning et al., 2024, arXiv 2307.15337).

    A model writes a short outline, every point of it is written in parallel, and the points are merged. The graph
    takes `SotInput` and returns `SotOutput`. It can be a node of a larger graph as it is.

    Args:
        model: Writes the points, and the direct answer: a name for `init_chat_model`, a chat model, or what a chat
            model's `with_fallbacks`, `bind`, `with_config`, `configurable_fields`, ... returns.
        skeleton_model: Writes the outline instead of `model`; a small, fast one may do.
        expander: Writes the points instead of `model`: any Runnable or function, such as an agent, a retrieval chain or
            another SoT graph. It receives the point's messages (a graph as its `messages`) and returns a message, a
            text, or a state with `messages` or `answer`.
        route: Which questions are answered by an outline. `"auto"`: the outline's call may decline, which costs no call
            if an outline suits. `"always"`: all. Or your own, or that of `load_router`: question in, True (outline),
            False (direct) or None (the outline's call may decline) out.
        system_prompt: Your own, the same for every stage. Set length, style and language of the points here; without a
            word on the language, it is the question's. "" for a model that takes no system message.
        min_points: With fewer points in the model's outline, the question is answered directly. Yours is written.
        max_points: No more points than this are written.
        max_tokens: The most tokens of a point (of the outline: 1,024 at most, of opening and ending: 256), for a model
            without a limit of its own; None sets none. A call that fails because of it is made again without it. A
            direct answer may be as long as the model makes it.
        headings: Whether each point's title stands above its text as a Markdown heading. For the default merge.
        lead: Whether the answer begins with an opening of one or two sentences, written while the outline is: the first
            words then arrive as soon as a plain answer's, for one more call. Not if the caller supplies the outline.
            Once the outline is there, the points wait for the end of its sentence, and half a second at most.
        closing: Whether the answer ends with one or two sentences that are written from the points once they are there,
            while the reader reads, for one more call. They stand last, also after what a `merge` of yours returns.
        merge: The written points in (a list of `Point`), the answer out, as text or as a message. None joins the texts
            with a blank line between them.
        on_error: What happens when a point fails after its retries: `"raise"` an `ExpansionError` once the others are
            written, or `"keep"` the others as the answer.
        review: Whether the run interrupts after the outline, with `{"question": ..., "titles": [...]}`. Resume it with
            `Command(resume=True)` (accept), a list of titles (write these) or a remark as text (a new outline that
            follows it). It needs a checkpointer, its own or the parent graph's.
        hedge: When a request is sent once more because no text has come: after so many seconds (2.5), or a multiple
            ("3x") of the median time to the first token of the other points (for the other calls: of earlier answers).
            The first of the two that is answered is read. At most one more for each call, and for a quarter of the
            points (two at least). The calls are streamed for it. Not for an expander, unless its config has
            `metadata={"sot_hedge": True}`.
        detail: `"scoped"`: the model's outline also says what each point covers, which others it needs and how long it
            is, as an `OutlineItem` of yours can. Points then keep apart, or build on others, for a longer outline.
        retry_policy: When a model call is retried. The default makes three attempts, and retries only errors that may
            pass (see `sot_graph.retry.is_transient`). It is the one layer that retries: in the graph's copy of your
            model, the client's own retries and `with_retry` are off.
        cache_policy: For the nodes that write the outline, the opening, the points and the ending; it needs a `cache`.
            A point from the cache is streamed when the others are written. One that failed is written again in each
            later run.
        checkpointer: For threads, and for `invoke(None, config)` after a failure, which writes no written point again.
            Leave it out if a parent graph has one.
        store: As for any graph.
        cache: Where a `cache_policy` keeps its results.
        name: The name of the graph, in traces and as a node.

    Returns:
        The compiled graph; `.builder` is its `StateGraph`.

    Raises:
        TypeError: An option has a type that it cannot have.
        ValueError: An option has a value that it cannot have.

    Invoking the graph raises:
        ValueError: The input has no question, or a blank one; the config has a concurrency limit that is none.
        TypeError: The input is no dict with the keys of `SotInput`, or a value in it has another type.
        ExpansionError: Points failed; see `on_error`.
        Exception: The model's own error, if the outline or the direct answer failed, with a note on model and host.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph

        graph = create_sot_graph(DemoChatModel())  # or "openai:gpt-5.5"
        result = graph.invoke({"question": "How can I sleep better?"})
        print(result["answer"])
        ```
    """
    check_options(locals())
    limit, outline_limit, short_limit = limits_of(max_tokens)
    prepared = prepare_model(model)
    writer = with_limit(prepared, limit)
    outliner = prepared if skeleton_model is None else prepare_model(skeleton_model, "skeleton_model")
    outliner = with_limit(outliner, outline_limit)
    other = _runnable(expander)
    own = with_limit(prepare_model(other), limit) if is_model(other) else other
    point_writer = writer if other is None else own if is_model(own) else Expander(other)
    system = SystemMessage(system_prompt) if isinstance(system_prompt, str) else system_prompt
    retry = retry_policies(retry_policy)
    counts = {"min_points": min_points, "max_points": max_points}
    habits = habits_of(writer)
    outline_habits = habits if skeleton_model is None else habits_of(outliner)
    point_habits = habits if point_writer is writer else habits_of(point_writer)
    options: Any = {**counts, "route": _runnable(route), "has_opening": lead, "is_reviewed": review}
    options |= {"limit": outline_limit, "hedge": Hedge.read(hedge), "is_scoped": detail == "scoped"}
    options |= {"warms": skeleton_model is None and other is None and not lead}
    skeleton = Skeleton(outliner, retry, system, outline_habits, **options)
    of_points: Any = {"headings": headings, "is_answer": merge is None, "limit": limit, "hedge": Hedge.read(hedge)}
    expand = Expand(point_writer, retry, system, point_habits, **of_points)
    of_answer: Any = {"headings": headings, "keep": on_error == "keep"}
    merger = Merge(_runnable(merge), retry, **of_answer, has_ending=closing)
    given = ("question", "messages", "outline")  # what the first calls depend on
    told = (counts, lead, max_tokens, detail)
    outline_key = with_key(cache_policy, outliner, (*given, "revision"), system, route, *told)
    point_key = with_key(cache_policy, writer, ("index", "context"), system, other, max_tokens)
    of_short: Any = (with_limit(prepared, short_limit), retry, system, habits, short_limit)

    builder = SotStateGraph(SotState, input_schema=SotInput, output_schema=SotOutput)
    builder.add_node("skeleton", skeleton, cache_policy=outline_key, trace_policy=LAST_MESSAGE)
    if lead:
        opening_key = with_key(cache_policy, writer, given, system, max_tokens)
        opener = Lead(*of_short, Hedge.read(hedge), warms=other is None)
        builder.add_node("lead", opener, cache_policy=opening_key, trace_policy=LAST_MESSAGE)
    builder.add_node("expand", expand, cache_policy=point_key)
    if closing:
        ending_key = with_key(cache_policy, writer, ("messages", "opening", "points"), system, max_tokens)
        closer = Closing(*of_short, Hedge.read(hedge), **of_answer, is_answer=merge is None)
        builder.add_node("closing", closer, cache_policy=ending_key, trace_policy=LAST_MESSAGE)
    direct = Direct(prepared, retry, system, habits, hedge=Hedge.read(hedge))
    builder.add_node("direct", direct, trace_policy=LAST_MESSAGE)
    builder.add_node("merge", merger, trace_policy=LAST_MESSAGE)
    if review:
        builder.add_node("review", Review(max_points), trace_policy=LAST_MESSAGE)
    _connect(builder, lead=lead, review=review, closing=closing)
    return builder.compile(checkpointer=checkpointer, store=store, cache=cache, name=name)


def _connect(builder: "SotStateGraph", *, lead: bool, review: bool, closing: bool) -> None:
    """The edges between the nodes."""
    builder.add_edge(START, "skeleton")
    if lead:
        builder.add_edge(START, "lead")
    if review:
        builder.add_conditional_edges("skeleton", _engine.untraced(review_outline), ["review", "direct"])
        builder.add_conditional_edges("review", _engine.untraced(after_review), ["expand", "skeleton"])
    else:
        builder.add_conditional_edges("skeleton", _engine.untraced(dispatch_points), ["expand", "direct"])
    if closing:
        builder.add_edge("closing", "merge")
    builder.add_edge("expand", "closing" if closing else "merge")
    builder.add_edge("merge", END)
    builder.add_edge("direct", END)


class SotGraph(CompiledStateGraph[SotState, None, SotInput, SotOutput]):
    """The compiled graph: a LangGraph graph that gives each of its runs a `Run`.

    All ways to run a graph (`invoke`, `batch`, as a node of a parent, ...) use `stream` and `astream`.
    """

    is_sot_graph = True

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002 - the engine's signature, without its overloads
        """Stream the graph; see LangGraph."""
        check_input(input)
        # A caller's own control stays as it is, and a parent's stops its subgraphs, too.
        control = None if kwargs.get("control") or ensure_config()["configurable"] else RunControl()
        kwargs |= {"control": control} if control else {}
        stream = super().stream(_storable(input), self._run_config(input, config, kwargs), **kwargs)
        stream = resumed(stream) if input is None else stream
        return until_closed(stream, control) if control else stream

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002 - the engine's signature, without its overloads
        """Stream the graph; see LangGraph."""
        check_input(input)
        config = self._run_config(input, config, kwargs)
        stream = super().astream(_storable(input), config, **kwargs)
        run = (config.get("configurable") or {}).get(RUN)
        stream = UntilCancelled(stream, run.tasks) if run else stream
        return Resumed(stream) if input is None else stream

    def with_config(self, config: RunnableConfig | None = None, **options: Any) -> Self:
        """Bind a config; see LangChain, which would drop a limit of 0."""
        check_limits([config, cast("RunnableConfig", options)])
        return super().with_config(config, **options)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002 - the engine's signature
        """The input as pydantic knows it, for `as_tool`: LangChain would make each key of the input required."""
        kinds = get_type_hints(SotInput, include_extras=True)
        fields: Any = {key: (kind, [] if key == "messages" else None) for key, kind in kinds.items()}
        return create_model(self.get_name("Input"), **fields)

    # A pool of threads, and asyncio's semaphore, would be made of a limit before any run could refuse it.
    def batch(self, inputs: Any, config: Any = None, **options: Any) -> list[Any]:
        """Invoke the graph for each input; see LangChain."""
        check_limits(config)
        return super().batch(inputs, config, **options)

    async def abatch(self, inputs: Any, config: Any = None, **options: Any) -> list[Any]:
        """Invoke the graph for each input; see LangChain."""
        check_limits(config)
        return await super().abatch(inputs, config, **options)

    def batch_as_completed(self, inputs: Any, config: Any = None, **options: Any) -> Iterator[Any]:
        """Invoke the graph for each input; see LangChain."""
        check_limits(config)
        return super().batch_as_completed(inputs, config, **options)

    def abatch_as_completed(self, inputs: Any, config: Any = None, **options: Any) -> AsyncIterator[Any]:
        """Invoke the graph for each input; see LangChain."""
        check_limits(config)
        return super().abatch_as_completed(inputs, config, **options)

    def _run_config(self, given: Any, config: RunnableConfig | None, options: dict[str, Any]) -> RunnableConfig:
        config, bound = config or {}, self.config or {}
        limits = check_limits([config, bound, ensure_config()])
        configurable = {**(bound.get("configurable") or {}), **_engine.configurable_of(config)}
        check_configurable(configurable)
        # `Run` enforces the limit. For LangGraph it is the size of a thread pool, in which the waiter of a streamed run
        # takes a thread: with a limit of 1, nothing else would ever run.
        config = {**config, "max_concurrency": _engine.THREADS}
        config["metadata"] = {**(config.get("metadata") or {}), **graph_metadata(self.name)}
        if self.checkpointer and not configurable:
            return config  # LangGraph says that a `thread_id` is missing, but not if there is any other key
        modes = (options.get("stream_mode") or self.stream_mode, options.get("print_mode") or ())
        run = Run(
            events=any("custom" in each for each in modes) or _engine.parent_streams("custom", config),
            is_fresh=not (given is None or isinstance(given, Command) or _engine.parent_resumes(config)),
            first=OPENING if "lead" in self.nodes else OPENING + 1,
            limit=next(filter(None, limits), None),
            outer=configurable.get(RUN),
        )
        return {**config, "configurable": {**(config.get("configurable") or {}), RUN: run}}


class SotStateGraph(StateGraph[SotState, None, SotInput, SotOutput]):
    """The builder, which compiles to a `SotGraph`."""

    def compile(self, *args: Any, **kwargs: Any) -> SotGraph:
        """Compile the graph; see LangGraph."""
        kwargs["transformers"] = [SotTransformer, *(kwargs.get("transformers") or ())]
        compiled = super().compile(*args, **kwargs)
        compiled.__class__ = SotGraph
        return cast("SotGraph", compiled)


def _storable(given: Any) -> Any:
    """The same input, with its question as a message if a checkpointer could not store it as text.

    LangGraph stores an input before a node receives it. Postgres stores text as JSON, which has no null characters and
    no lone surrogates, but messages as bytes.
    """
    question = given.get("question") if isinstance(given, dict) else None
    if not isinstance(question, str) or storable(question) == question:
        return given
    messages = add_messages(given.get("messages") or [], HumanMessage(encodable(question)))
    return {**given, "question": None, "messages": messages}


def _runnable(value: Any) -> Any:
    """A function as a Runnable; anything else as it is."""
    return RunnableLambda(value) if callable(value) and not isinstance(value, Runnable) else value
