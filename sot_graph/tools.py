"""The graph as a tool: an agent hands a question over and gets a long answer back."""

from typing import Annotated, Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import AfterValidator, BaseModel, Field

from sot_graph.errors import ExpansionError
from sot_graph.merge import join_points
from sot_graph.state import Point, SotInput

TOOL_DESCRIPTION = (
    "Has a long, structured answer to one question written, and returns it. Made for overviews, comparisons, advice, "
    "plans and explanations with several aspects; not for short facts, calculations, program code or a single chain of "
    "reasoning. The writer does not see this conversation: put everything that matters into the question."
)
OUTLINE_DESCRIPTION = (
    "The titles of the answer's parts, in reading order: three to ten of them, three to five words each, in the "
    "language of the question. Together they cover the whole answer, and no two of them overlap."
)


def _text(value: str) -> str:
    if not value.strip():
        msg = "it must not be blank"
        raise ValueError(msg)
    return value


Text = Annotated[str, AfterValidator(_text)]
"""Text that is not blank. Checked here and not by the JSON schema, of which some providers refuse `minLength`."""


class LongAnswerRequest(BaseModel):
    """What the tool takes."""

    question: Text = Field(description="What to answer, in full, with all that the writer has to know.")
    outline: list[Text] | None = Field(
        default=None, description=f"{OUTLINE_DESCRIPTION} Leave it out unless you have one in mind."
    )


def create_sot_tool(
    graph: Runnable[Any, Any],
    *,
    name: str = "write_long_answer",
    description: str = TOOL_DESCRIPTION,
) -> BaseTool:
    """Make a LangChain tool of a graph, for `create_agent`, a `ToolNode` or `model.bind_tools`.

    Its arguments are `question` and, optionally, `outline`: an agent that has one saves the skeleton call. The content
    of its `ToolMessage` is the answer, the artifact the list of points. Points that could not be written come back as
    a tool error that holds the written ones; set the tool's `handle_tool_error` to False to have it raised. So do bad
    arguments within an agent. Any other error (a refused key, an unknown model) is raised.

    Args:
        graph: From `create_sot_graph`, or a `RemoteGraph` of one.
        name: The tool's, as the agent's model sees it.
        description: Tells the agent's model when to use the tool.

    Returns:
        The tool, with a sync and an async form.

    Raises:
        TypeError: `graph` is no graph.

    Example:
        ```python
        from langchain.agents import create_agent

        from sot_graph import DemoChatModel, create_sot_graph, create_sot_tool

        tool = create_sot_tool(create_sot_graph(DemoChatModel()))
        agent = create_agent(DemoChatModel(), [tool])
        result = agent.invoke({"messages": [("user", "How do bees find their way home?")]})
        print(result["messages"][-1].text)
        ```
    """
    graph = checked_graph(graph)

    def write(question: str, config: RunnableConfig, outline: list[str] | None = None) -> tuple[str, list[Point]]:
        try:
            result = graph.invoke(SotInput(question=question, outline=outline), _own_thread(graph, config))
        except ExpansionError as error:
            raise _tool_error(error) from error
        return result["answer"], result["points"]

    async def awrite(
        question: str, config: RunnableConfig, outline: list[str] | None = None
    ) -> tuple[str, list[Point]]:
        try:
            result = await graph.ainvoke(SotInput(question=question, outline=outline), _own_thread(graph, config))
        except ExpansionError as error:
            raise _tool_error(error) from error
        return result["answer"], result["points"]

    return StructuredTool.from_function(
        write,
        awrite,
        name=name,
        description=description,
        args_schema=LongAnswerRequest,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def checked_graph(graph: object, wanted: str = "a graph from create_sot_graph") -> Runnable[Any, Any]:
    """Refuse what is no graph.

    Raises:
        TypeError: It is none.
    """
    if isinstance(graph, Runnable) and not isinstance(graph, BaseChatModel):
        return graph
    msg = f"graph must be {wanted}, not {type(graph).__name__}."
    raise TypeError(msg)


def _own_thread(graph: Runnable[Any, Any], config: RunnableConfig) -> RunnableConfig:
    """Give a call a thread of its own where the graph's checkpointer asks for one and the caller has none."""
    configurable = config.get("configurable") or {}
    if "thread_id" in configurable or not isinstance(getattr(graph, "checkpointer", None), BaseCheckpointSaver):
        return config
    return {**config, "configurable": {**configurable, "thread_id": f"tool-{uuid4()}"}}


def _tool_error(error: ExpansionError) -> ToolException:
    """Say to an agent's model what is missing, and give it what there is."""
    failed = "; ".join(f"{point['title']!r} ({point['error']})" for point in error.failed)
    msg = f"{len(error.failed)} of {len(error.failed) + len(error.written)} parts could not be written: {failed}."
    if error.written:
        msg += f" The others are:\n\n{join_points(error.written, headings=True)}"
    return ToolException(msg)
