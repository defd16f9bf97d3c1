"""The graph inside an agent of LangChain's `create_agent`: the agent's own model decides when to answer by an outline.

An answer takes three steps of the agent's loop:

1. `model`: the model calls our tool with an outline. `wrap_model_call` notes in that message, under "sot", what the
   points need (the system prompt) and what the call cost.
2. `tools`: our tool runs the graph. A person's approval, limits and error handling hold for it as for any tool.
3. `model`: `wrap_model_call` makes no call, but replaces the tool call and its result by the answer.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import StructuredTool
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from sot_graph.checks import check_graph
from sot_graph.graph import create_sot_graph
from sot_graph.messages import joined, kind_of, without_tool_calls
from sot_graph.models import is_model
from sot_graph.run import RUN, Run
from sot_graph.tools import OUTLINE_DESCRIPTION, Titles
from sot_graph.usage import attempt_record

DESCRIPTION = (
    "Answers the user with a long, structured text. You give the outline; each of its parts is then written out from "
    "this conversation and the results of your tools, all of them at the same time, and shown to the user as your "
    "answer. Use it for a question that deserves several paragraphs on separate aspects: an overview, a comparison, "
    "advice, a plan, a report. Do not use it for a short answer, a calculation, program code or a single chain of "
    "reasoning, nor to ask something back. First gather with your other tools what the answer needs; then call this "
    "one alone, with no text beside it: it ends your turn."
)
Request = ModelRequest[Any]
Response = ModelResponse[Any]


class OutlineRequest(BaseModel):
    """The arguments of our tool: nothing but the outline, since every point waits for it."""

    outline: Titles = Field(description=OUTLINE_DESCRIPTION, min_length=1)


class SkeletonOfThoughtMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Lets an agent of LangChain's `create_agent` answer by Skeleton-of-Thought when its model finds that it suits.

    The model gets a tool, `answer_by_outline`. When the model calls it, the points are written in parallel, with the
    system prompt and the conversation, tool results included, as their context. The merged text is the agent's final
    message: streamed in reading order, with the usage of all calls.

    If other tools are called together with ours, they run first, and the model is called again. An agent with a
    `response_format` does not get the tool. If points fail after their retries, the agent's run raises
    `ExpansionError`; with a checkpointer, `agent.invoke(None, config)` writes the failed ones.

    Put it last in the list of middleware: the points get the system prompt as the middleware before it made it. A limit
    on the agent's model calls counts such an answer twice, because the loop runs once more to return it.

    Args:
        graph: From `create_sot_graph`; or the model that writes the points, as `create_sot_graph` takes it.
        tool_name: The name of the tool that the agent's model gets.
        description: Tells the agent's model when to use it.

    Raises:
        TypeError: `graph` is neither a graph nor a model.

    Example:
        ```python
        from langchain.agents import create_agent

        from sot_graph import DemoChatModel, SkeletonOfThoughtMiddleware

        agent = create_agent(DemoChatModel(), middleware=[SkeletonOfThoughtMiddleware(DemoChatModel())])
        result = agent.invoke({"messages": [("user", "How do bees find their way home?")]})
        print(result["messages"][-1].text)
        ```
    """

    def __init__(
        self, graph: Runnable[Any, Any] | str, *, tool_name: str = "answer_by_outline", description: str = DESCRIPTION
    ) -> None:
        super().__init__()
        if isinstance(graph, str) or is_model(graph):
            graph = create_sot_graph(graph)
        self.graph = check_graph(graph, "a graph from create_sot_graph, a chat model or the name of one")
        self.tool_name = tool_name
        options: dict[str, Any] = {"args_schema": OutlineRequest, "response_format": "content_and_artifact"}
        self.tools = [StructuredTool.from_function(self._write, self._awrite, tool_name, description, **options)]

    def before_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002 - the hook's signature
        """Remove a call of a run that failed or was stopped: providers refuse a thread with a call without a result."""
        answered = {message.tool_call_id for message in state["messages"] if isinstance(message, ToolMessage)}
        abandoned = [
            RemoveMessage(id=message.id)
            for message in state["messages"]
            if message.id and {*_calls(message).values()} == {self.tool_name} and answered.isdisjoint(_calls(message))
        ]
        return {"messages": abandoned} if abandoned else None

    def wrap_model_call(self, request: Request, handler: Callable[[Request], Response]) -> Response:
        """Return a written answer, or call the model with the tool."""
        return self._answer(request) or self._checked(request, time.time(), handler(self._with_tool(request)))

    async def awrap_model_call(self, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """See `wrap_model_call`."""
        return self._answer(request) or self._checked(request, time.time(), await handler(self._with_tool(request)))

    def _answer(self, request: Request) -> Response | None:
        """The answer that our tool has just written, in place of the call and its result."""
        match messages := request.state["messages"]:
            case [*_, ToolMessage(name=self.tool_name, artifact={"sot": answer}, tool_call_id=call_id) as last]:
                removed = [RemoveMessage(id=m.id) for m in messages if m.id and (m is last or call_id in _calls(m))]
                # In one update, with the answer last, where readers of "updates" mode look for it.
                return Response(result=[*removed, AIMessage.model_validate(answer)])
        return None

    def _with_tool(self, request: Request) -> Request:
        # Many chat templates refuse two messages of the user's in a row, as a failed turn leaves them.
        users: Any = joined(request.messages, lambda each: each.name if kind_of(each) is HumanMessage else id(each))
        request = request.override(messages=users)
        if request.response_format is None:
            return request
        return request.override(tools=[tool for tool in request.tools if getattr(tool, "name", None) != self.tool_name])

    def _checked(self, request: Request, began: float, response: Response) -> Response:
        """Keep one call of our tool, and only if it is the only call of its message."""
        system, result = request.system_message, list(response.result)
        for place, message in enumerate(response.result):
            if not isinstance(message, AIMessage):
                continue
            ours = [call["id"] for call in message.tool_calls if call["name"] == self.tool_name]
            if len(ours) < len(message.tool_calls):  # the points need the results of the other tools
                result[place] = without_calls(message, ours)
            elif ours:
                # Only one of two outlines can be the answer. The error of an invalid call would stay in the thread.
                single = without_calls(message, [*ours[1:], *(call["id"] for call in message.invalid_tool_calls)])
                attempt = attempt_record("agent", (began, began, began, None), message)
                note = {"system": system.content if system else None, "call": attempt}
                metadata = {**message.response_metadata, "sot": note}
                result[place] = single.model_copy(update={"response_metadata": metadata})
        return Response(result=result, structured_response=response.structured_response)

    def _write(self, outline: list[str], runtime: ToolRuntime, config: RunnableConfig) -> tuple[str, Any]:
        call, state, config = _graph_call(outline, runtime, config)
        return _written(self.graph.invoke(state, config), call)

    async def _awrite(self, outline: list[str], runtime: ToolRuntime, config: RunnableConfig) -> tuple[str, Any]:
        call, state, config = _graph_call(outline, runtime, config)
        return _written(await self.graph.ainvoke(state, config), call)


def _graph_call(outline: list[str], runtime: ToolRuntime, config: RunnableConfig) -> tuple[Any, Any, RunnableConfig]:
    """The message that called our tool, and the input and the config of the graph."""
    messages = runtime.state["messages"]
    call = next(message for message in reversed(messages) if runtime.tool_call_id in _calls(message))
    note = call.response_metadata.get("sot") or {}
    system = [SystemMessage(note["system"])] if note.get("system") else []
    context = [*system, *without_tool_calls(messages[: messages.index(call)])]
    # The answer is streamed as a message of the agent, not of a graph inside it.
    run = Run()
    run.inner = config, [note["call"]] if note else []
    config = {**config, "configurable": {**(config.get("configurable") or {}), RUN: run}}
    return call, {"messages": context, "outline": outline}, config


def _written(result: dict[str, Any], call: AIMessage) -> tuple[str, dict[str, Any]]:
    """The content of our tool's result, and its artifact: the agent's final message, as plain values."""
    answer = convert_to_messages(result["messages"])[-1]
    if not isinstance(answer, AIMessage):
        msg = f"The graph's last message must be the answer's AIMessage, not a {type(answer).__name__}."
        raise TypeError(msg)
    return "The answer has been written and shown to the user.", {"sot": {**answer.model_dump(), "name": call.name}}


def _calls(message: BaseMessage) -> dict[str | None, str]:
    """The ids of a message's tool calls, with the names of the tools."""
    return {call["id"]: call["name"] for call in getattr(message, "tool_calls", ())}


def without_calls(message: AIMessage, ids: Sequence[str | None]) -> AIMessage:
    """Remove tool calls from a message, wherever providers keep them: a call without a result would be refused."""
    content, extra = message.content, message.additional_kwargs
    update: dict[str, Any] = {
        "tool_calls": [call for call in message.tool_calls if call["id"] not in ids],
        "invalid_tool_calls": [call for call in message.invalid_tool_calls if call["id"] not in ids],
    }
    if "tool_calls" in extra:
        others = [call for call in extra["tool_calls"] if call.get("id") not in ids]
        update["additional_kwargs"] = {**extra, "tool_calls": others}
    if isinstance(content, list):
        update["content"] = [block for block in content if not _is_call(block, ids)]
    return message.model_copy(update=update) if ids else message


def _is_call(block: Any, ids: Sequence[str | None]) -> bool:
    """Whether a content block is one of these calls: Anthropic's `tool_use`, OpenAI's `function_call`, ..."""
    is_call = isinstance(block, dict) and block.get("type") in {"tool_use", "function_call", "tool_call"}
    return is_call and (block.get("call_id") or block.get("id")) in ids
