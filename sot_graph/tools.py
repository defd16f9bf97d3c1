"""The graph as a tool: an agent passes a question and gets a long answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import uuid4

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from sot_graph.checks import check_graph
from sot_graph.errors import ExpansionError, failures
from sot_graph.nodes.merge import join_points
from sot_graph.outline import read_outline, titles_in

TOOL_DESCRIPTION = (
    "Has a long, structured answer to one question written, and returns it. Made for overviews, comparisons, advice, "
    "plans and explanations with several aspects; not for short facts, calculations, program code or a single chain of "
    "reasoning. The writer does not see this conversation: put everything that matters into the question."
)
OUTLINE_DESCRIPTION = (
    "The titles of the answer's parts, in reading order: three to ten of them, three to five words each, in the "
    "language of the question. Together they cover the whole answer, and no two of them overlap."
)


def _not_blank(value: str) -> str:
    if not value.strip():
        msg = "it must not be blank"
        raise ValueError(msg)
    return value


def _as_titles(value: Any) -> Any:
    """A list of titles, from the other forms in which models write one: a text, JSON, objects."""
    match value:
        case [str(text)]:
            return read_outline(text) or value  # small models put a whole list into one title
        case [*items] if any(isinstance(item, str) for item in items):
            return [next(iter(titles_in([item])), item) for item in items]
        case str() | list() | dict():
            titles = read_outline(value) if isinstance(value, str) else titles_in(value)
            if not titles and value != []:
                msg = f'it must be a list of titles, such as ["One", "Two"]; none can be read in {value!r:.100}'
                raise ValueError(msg)
            return titles
    return value


Text = Annotated[str, AfterValidator(_not_blank)]  # some providers refuse `minLength` in a JSON schema
Titles = Annotated[list[Text], BeforeValidator(_as_titles)]


class LongAnswerRequest(BaseModel):
    """The arguments of the tool."""

    question: Text = Field(description="What to answer, in full, with all that the writer has to know.")
    outline: Titles | None = Field(
        default=None, description=f"{OUTLINE_DESCRIPTION} Leave it out unless you have one in mind."
    )


def create_sot_tool(
    graph: Runnable[Any, Any], *, name: str = "write_long_answer", description: str = TOOL_DESCRIPTION
) -> BaseTool:
    """Create a LangChain tool of a graph, for `create_agent(model, [tool])`, a `ToolNode` or `model.bind_tools`.

    It takes a `question` and, optionally, an `outline`, which saves the outline's call. If points failed, the agent
    gets a tool error with the written ones; with `tool.handle_tool_error = False` it is raised, as all others are.

    Args:
        graph: From `create_sot_graph`, or a `RemoteGraph` of one.
        name: The tool's name, as the agent's model sees it.
        description: Tells the agent's model when to use the tool.

    Returns:
        The tool, sync and async. The content of its `ToolMessage` is the answer, the artifact the list of points.

    Raises:
        TypeError: `graph` is not a graph.

    Example:
        ```python
        from sot_graph import DemoChatModel, create_sot_graph, create_sot_tool

        tool = create_sot_tool(create_sot_graph(DemoChatModel()))
        print(tool.invoke({"question": "How do bees find their way home?"}))
        ```
    """
    graph = check_graph(graph)

    def write(config: RunnableConfig, **arguments: Any) -> tuple[str, Any]:
        with _tool_call(graph, config) as own:
            result = graph.invoke(arguments, own)
        return result["answer"], result["points"]

    async def awrite(config: RunnableConfig, **arguments: Any) -> tuple[str, Any]:
        with _tool_call(graph, config) as own:
            result = await graph.ainvoke(arguments, own)
        return result["answer"], result["points"]

    options: dict[str, Any] = {"response_format": "content_and_artifact", "handle_tool_error": True}
    return StructuredTool.from_function(write, awrite, name, description, args_schema=LongAnswerRequest, **options)


@contextmanager
def _tool_call(graph: Runnable[Any, Any], config: RunnableConfig) -> Iterator[RunnableConfig]:
    """Give a call a thread, if the graph stores threads; tell the agent's model which points failed."""
    if getattr(graph, "checkpointer", None):
        config = {**config, "configurable": {"thread_id": f"tool-{uuid4()}", **(config.get("configurable") or {})}}
    try:
        yield config
    except ExpansionError as error:
        count = f"{len(error.failed)} of {len(error.failed) + len(error.written)} points"
        msg = f"{count} could not be written: {failures(error.failed)}."
        others = join_points(error.written, headings=True)
        raise ToolException(f"{msg} The others are:\n\n{others}" if others else msg) from error
