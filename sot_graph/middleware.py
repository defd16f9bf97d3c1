"""The graph inside an agent of LangChain's `create_agent`: the agent's own model decides when to answer by an outline.

The way of such an answer through the agent's loop:

1. `model`: the agent's model calls our tool and gives the outline. `wrap_model_call` notes in that message what the
   points have to know (the agent's system prompt) and what the call cost.
2. `tools`: our tool runs the graph. It is a tool like any other, so what others put around tools holds for it too: a
   person's approval (and edits: of the outline), limits, error handling. Its text is streamed as the agent's own.
3. `model`: `wrap_model_call` finds the written answer and makes no call. The answer takes the place of the tool call
   and its result, so that the thread reads as a plain conversation.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field
from typing_extensions import TypeIs

from sot_graph.graph import create_sot_graph
from sot_graph.prompt import plain_conversation
from sot_graph.reading import SPEAKER
from sot_graph.tools import OUTLINE_DESCRIPTION, Text, checked_graph
from sot_graph.usage import add_call, single_call

DESCRIPTION = (
    "Answers the user with a long, structured text. You give the outline; each of its parts is then written out from "
    "this conversation and the results of your tools, all of them at the same time, and shown to the user as your "
    "answer. Use it for a question that deserves several paragraphs on separate aspects: an overview, a comparison, "
    "advice, a plan, a report. Do not use it for a short answer, a calculation, program code or a single chain of "
    "reasoning, nor to ask something back. First gather with your other tools what the answer needs; then call this "
    "one alone, with no text beside it: it ends your turn."
)
WRITTEN = "The answer has been written and shown to the user."
GRAPH_OR_MODEL = "a graph from create_sot_graph, a chat model or the name of one"
NOTE = "sot"
"""Where the message that calls our tool, and the tool's artifact, hold what the next step needs."""


class OutlineRequest(BaseModel):
    """What the agent's model gives: nothing but the outline, since everything waits for it."""

    outline: list[Text] = Field(description=OUTLINE_DESCRIPTION, min_length=1)


class SkeletonOfThoughtMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Lets an agent of LangChain's `create_agent` answer by Skeleton-of-Thought when its model finds that it suits.

    The model is offered a tool, `answer_by_outline`. When it calls that with an outline, the points are written in
    parallel, with the system prompt and the whole conversation, tool results included, as their context. The merged
    text is the agent's final message: streamed in reading order, with the usage of all calls. Everything else that the
    agent does stays as it was.

    Called together with other tools, it waits for them: they run, and the model is asked again. An agent that owes a
    structured response (`response_format`) is not offered the tool. If points fail for good, the agent's run raises
    `ExpansionError`; with a checkpointer, `agent.invoke(None, config)` asks for the failed ones only.

    Put it last in the list of middleware: the points get the system prompt as those before it have made it. A limit on
    the agent's model calls counts such an answer twice, since the loop comes round once more to hand it on.

    Args:
        graph: From `create_sot_graph`; or the model that writes the points, from which the graph is then made: a chat
            model, or a name for `init_chat_model`.
        tool_name: The name of the tool that the agent's model is offered.
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
        self,
        graph: Runnable[Any, Any] | str | BaseChatModel,
        *,
        tool_name: str = "answer_by_outline",
        description: str = DESCRIPTION,
    ) -> None:
        super().__init__()
        self.graph: Runnable[Any, Any]
        if isinstance(graph, str | BaseChatModel):
            self.graph = create_sot_graph(graph)
        else:
            self.graph = checked_graph(graph, GRAPH_OR_MODEL)
        self.tool_name = tool_name
        self.tools: Sequence[BaseTool] = [
            StructuredTool.from_function(
                self._write,
                self._awrite,
                name=tool_name,
                description=description,
                args_schema=OutlineRequest,
                response_format="content_and_artifact",
            )
        ]

    def before_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:  # noqa: ARG002
        """Forget a call that was never answered, because its run failed or was left: providers refuse such a thread."""
        answered = {message.tool_call_id for message in state["messages"] if isinstance(message, ToolMessage)}
        abandoned = [
            RemoveMessage(id=message.id)
            for message in state["messages"]
            if isinstance(message, AIMessage)
            and message.id
            and message.tool_calls
            and all(call["name"] == self.tool_name and call["id"] not in answered for call in message.tool_calls)
        ]
        return {"messages": abandoned} if abandoned else None

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Hand a written answer on, or offer the tool."""
        if (written := self._written(request.state["messages"])) is not None:
            return written
        began = time.time()
        return self._planned(request, handler(self._offered(request)), began)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Hand a written answer on, or offer the tool; see `wrap_model_call`."""
        if (written := self._written(request.state["messages"])) is not None:
            return written
        began = time.time()
        return self._planned(request, await handler(self._offered(request)), began)

    def _offered(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        if request.response_format is None:
            return request
        others = [t for t in request.tools if not (isinstance(t, BaseTool) and t.name == self.tool_name)]
        return request.override(tools=others)

    def _planned(self, request: ModelRequest[Any], response: ModelResponse[Any], began: float) -> ModelResponse[Any]:
        """Keep one call of our tool, and only if it stands alone."""
        messages = [self._planned_message(request, message, began) for message in response.result]
        return ModelResponse(result=messages, structured_response=response.structured_response)

    def _planned_message(self, request: ModelRequest[Any], message: BaseMessage, began: float) -> BaseMessage:
        if not isinstance(message, AIMessage):
            return message
        ours = [call["id"] for call in message.tool_calls if call["name"] == self.tool_name]
        if not ours:
            return message
        # The points need the results of the other tools, and of two outlines only one can be the answer.
        if len(ours) < len(message.tool_calls):
            return without_calls(message, ours)
        # A call that cannot be read at all goes too: it would get an error, which would stay behind in the thread.
        message = without_calls(message, [*ours[1:], *(call["id"] for call in message.invalid_tool_calls)])
        system = request.system_message
        note = {"system": system.content if system else None, "call": single_call("agent", message, began)}
        return message.model_copy(update={"response_metadata": {**message.response_metadata, NOTE: note}})

    def _write(self, outline: list[str], runtime: ToolRuntime[Any, Any], config: RunnableConfig) -> tuple[str, Any]:
        call = _asked(runtime)
        result = self.graph.invoke({"messages": call.context, "outline": outline}, _speaking(config))
        return WRITTEN, _artifact(result, call.message)

    async def _awrite(
        self, outline: list[str], runtime: ToolRuntime[Any, Any], config: RunnableConfig
    ) -> tuple[str, Any]:
        call = _asked(runtime)
        result = await self.graph.ainvoke({"messages": call.context, "outline": outline}, _speaking(config))
        return WRITTEN, _artifact(result, call.message)

    def _written(self, messages: Sequence[BaseMessage]) -> ModelResponse[Any] | None:
        """The answer that our tool has just written, in the place of the call and its result."""
        last = messages[-1] if messages else None
        if not (isinstance(last, ToolMessage) and last.name == self.tool_name and isinstance(last.artifact, dict)):
            return None
        if NOTE not in last.artifact:
            return None
        passed = [m for m in messages if m is last or _made(m, last.tool_call_id)]
        gone = [RemoveMessage(id=message.id) for message in passed if message.id]
        answer = AIMessage.model_validate(last.artifact[NOTE])
        # In one update, with the answer last, which is where readers of "updates" mode look for it.
        return ModelResponse(result=[*gone, answer])


class _Asked(NamedTuple):
    """A call of our tool."""

    message: AIMessage
    context: list[BaseMessage]
    """What the points are written from."""


def _asked(runtime: ToolRuntime[Any, Any]) -> _Asked:
    messages = runtime.state["messages"]
    message = _call_of(messages, runtime.tool_call_id)
    system = _note(message).get("system")
    conversation = plain_conversation(messages[: messages.index(message)])
    return _Asked(message, [*([SystemMessage(system)] if system else []), *conversation])


def _call_of(messages: Sequence[BaseMessage], call_id: str | None) -> AIMessage:
    """The message that made a tool call."""
    return next(message for message in reversed(messages) if _made(message, call_id))


def _made(message: BaseMessage, call_id: str | None) -> TypeIs[AIMessage]:
    return isinstance(message, AIMessage) and any(call["id"] == call_id for call in message.tool_calls)


def _note(message: AIMessage) -> dict[str, Any]:
    note: dict[str, Any] = message.response_metadata.get(NOTE) or {}
    return note


def _speaking(config: RunnableConfig) -> RunnableConfig:
    """Have the answer streamed as a message of the agent, and not of a graph inside it."""
    configurable = {**(config.get("configurable") or {}), SPEAKER: config.get("metadata")}
    return {**config, "configurable": configurable}


def _artifact(result: dict[str, Any], call: AIMessage) -> dict[str, Any]:
    """The agent's final message, as plain values, for the step that hands it on."""
    answer = convert_to_messages(result["messages"])[-1]
    if not isinstance(answer, AIMessage):
        msg = f"The graph's last message must be the answer's AIMessage, not a {type(answer).__name__}."
        raise TypeError(msg)
    if record := _note(call).get("call"):
        answer = add_call(answer, record)
    return {NOTE: {**answer.model_dump(), "name": call.name}}


def without_calls(message: AIMessage, ids: Sequence[str | None]) -> AIMessage:
    """Take tool calls out of a message, wherever providers keep them: a call without a result would be refused."""
    if not ids:
        return message
    content = message.content
    kept = content if isinstance(content, str) else [block for block in content if not _holds_call(block, ids)]
    extra = dict(message.additional_kwargs)
    if "tool_calls" in extra:
        extra["tool_calls"] = [call for call in extra["tool_calls"] if call.get("id") not in ids]
    return message.model_copy(
        update={
            "content": kept,
            "additional_kwargs": extra,
            "tool_calls": [call for call in message.tool_calls if call["id"] not in ids],
            "invalid_tool_calls": [call for call in message.invalid_tool_calls if call["id"] not in ids],
        }
    )


def _holds_call(block: str | dict[Any, Any], ids: Sequence[str | None]) -> bool:
    """Whether a content block is one of these calls: Anthropic's `tool_use`, OpenAI's `function_call`, ..."""
    if isinstance(block, str) or block.get("type") not in {"tool_use", "function_call", "tool_call"}:
        return False
    return (block.get("call_id") or block.get("id")) in ids
