"""The ways to answer one question: by other clients, which send the very same prompts, and by the graph."""

import asyncio
import importlib
import importlib.util
import inspect
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send
from openai import AsyncOpenAI
from pydantic import BaseModel
from typing_extensions import TypedDict

from sot_graph import SotInput, astream_answer, create_sot_graph, create_sot_tool
from tests.benchmarks.load import QUESTION, Load, script
from tests.benchmarks.server import Server, TraceServer
from tests.fake_openai import Host

Way = Callable[[], Awaitable[object] | object]
Call = Callable[[Any], Awaitable[Any]]
Prompt = list[dict[str, Any]]

PLAIN, PLAIN_STREAMED = "plain ChatOpenAI", "plain ChatOpenAI, streamed"
SDK, SDK_STREAMED = "openai SDK, gather", "openai SDK, streamed"
CHAT, CHAT_STREAMED = "ChatOpenAI, gather", "ChatOpenAI, streamed"
INSTRUCTOR, INSTRUCTOR_TEXT = "instructor, as documented", "instructor, points as text"
BY_HAND = "Send graph by hand"
OURS, SYNC, STREAMED, MESSAGES = "ours", "ours, sync", "ours, stream_answer", 'ours, stream_mode="messages"'
LEAD, HEDGE, SUBGRAPH, TOOL = "ours, lead", "ours, hedge", "ours, as a subgraph", "ours, as a tool"
TRACED, SYNC_TRACED, UNTAKEN = "ours, traced", "ours, sync, traced", "ours, traced, no reply"
STREAMS = {PLAIN_STREAMED, SDK_STREAMED, CHAT_STREAMED, STREAMED, MESSAGES, LEAD}


class Outline(BaseModel):
    points: list[str]


class PointText(BaseModel):
    text: str


class HandState(TypedDict, total=False):
    titles: list[str]
    texts: Annotated[list[tuple[int, str]], operator.add]
    answer: str


def given_of(conversation: Sequence[Any]) -> SotInput:
    """The graph's input: a question, or a conversation that ends with one."""
    return {"messages": [*conversation]} if conversation else {"question": QUESTION}


def prompts_of(load: Load, conversation: Sequence[Any] = ()) -> list[Prompt]:
    """The prompts of the graph's own requests, the outline's first."""
    at_once = Load(load.points, (1,))
    with Host().running() as host:
        host.fake.script = script
        model = host.fake.model().model_copy(update={"model_name": at_once.model})
        create_sot_graph(model, max_points=load.points).invoke(given_of(conversation))
        requests = sorted(host.fake.requests, key=lambda request: request.title)
        return [request.messages for request in requests]


def graph_by_hand(model: Any, prompts: Sequence[Prompt]) -> Any:
    """The least that LangGraph needs: an outline, a `Send` for each point, the texts joined."""
    structured = model.with_structured_output(Outline)

    async def outline(_state: HandState) -> Any:
        return {"titles": (await structured.ainvoke(prompts[0])).points}

    async def point(task: Any) -> Any:
        return {"texts": [(task["index"], (await model.ainvoke(prompts[task["index"]])).text)]}

    def dispatch(state: HandState) -> list[Send]:
        return [Send("point", {"index": number}) for number, _ in enumerate(state["titles"], 1)]

    def merge(state: HandState) -> Any:
        return {"answer": "\n\n".join(text for _, text in sorted(state["texts"]))}

    builder: Any = StateGraph(HandState)
    builder.add_node("outline", outline)
    builder.add_node("point", point)
    builder.add_node("merge", merge)
    builder.add_edge(START, "outline")
    builder.add_conditional_edges("outline", dispatch, ["point"])
    builder.add_edge("point", "merge")
    builder.add_edge("merge", END)
    return builder.compile()


def parent_of(graph: Any) -> Any:
    """A graph with ours as its only node."""
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    return builder.compile()


def new_thread() -> RunnableConfig:
    return {"configurable": {"thread_id": f"{uuid4()}"}}


async def consume(chunks: AsyncIterator[object]) -> None:
    async for _ in chunks:
        pass


class Ways:
    """The ways to answer, for one load and one conversation."""

    def __init__(self, server: Server, client: AsyncOpenAI, load: Load, conversation: Sequence[Any] = ()) -> None:
        self.load, self.given = load, given_of(conversation)
        self.model = server.model(load.model)
        self.plain: Any = [*conversation] or QUESTION
        self._client, self._conversation = client, conversation
        self._prompts: list[Prompt] = []

    @property
    def prompts(self) -> list[Prompt]:
        self._prompts = self._prompts or prompts_of(self.load, self._conversation)
        return self._prompts

    def graph(self, **options: Any) -> Any:
        return create_sot_graph(self.model, max_points=self.load.points, **options)

    def others(self) -> dict[str, Way]:
        """The other clients."""
        client, model = self._client.chat.completions, self.model
        parse = self._asking(client.parse, response_format=Outline)
        stream = self._asking(client.create, stream=True, stream_options={"include_usage": True})
        structured = model.with_structured_output(Outline)

        async def read(prompt: Prompt) -> None:
            await consume(await stream(prompt))

        ways: dict[str, Way] = {
            PLAIN: lambda: model.ainvoke(self.plain),
            PLAIN_STREAMED: lambda: consume(model.astream(self.plain)),
            SDK: lambda: self._gathered(parse, self._asking(client.create)),
            SDK_STREAMED: lambda: self._gathered(parse, read),
            CHAT: lambda: self._gathered(structured.ainvoke, model.ainvoke),
            CHAT_STREAMED: lambda: self._gathered(structured.ainvoke, lambda prompt: consume(model.astream(prompt))),
        }
        by_hand = graph_by_hand(model, self.prompts)
        return {**ways, **self._instructor(), BY_HAND: lambda: by_hand.ainvoke({})}

    def _instructor(self) -> dict[str, Way]:
        """Only where it is installed. Its documentation has each point parsed, too."""
        if not importlib.util.find_spec("instructor"):
            return {}
        instructor = importlib.import_module("instructor")
        ask = instructor.from_openai(self._client, mode=instructor.Mode.JSON_SCHEMA).create
        outline, text, parsed = (self._asking(ask, response_model=form) for form in (Outline, None, PointText))
        return {
            INSTRUCTOR: lambda: self._gathered(outline, parsed),
            INSTRUCTOR_TEXT: lambda: self._gathered(outline, text),
        }

    def ours(self) -> dict[str, Way]:
        """The graph, as it can be run."""
        graph, lead, given = self.graph(), self.graph(lead=True), self.given
        parent, tool = parent_of(graph), create_sot_tool(graph)
        turn: Any = {"messages": given.get("messages") or [("user", QUESTION)]}
        ways: dict[str, Way] = {
            OURS: lambda: graph.ainvoke(given),
            SYNC: lambda: graph.invoke(given),
            STREAMED: lambda: consume(astream_answer(graph, given)),
            MESSAGES: lambda: consume(graph.astream(given, stream_mode="messages")),
            LEAD: lambda: consume(astream_answer(lead, given)),
            SUBGRAPH: lambda: parent.ainvoke(turn),
            TOOL: lambda: tool.ainvoke({"question": QUESTION}),
        }
        if "hedge" in inspect.signature(create_sot_graph).parameters:
            hedged = self.graph(hedge="3x")
            ways[HEDGE] = lambda: hedged.ainvoke(given)
        return ways

    def stored(self, savers: dict[str, Any]) -> dict[str, Way]:
        """The graph with each checkpointer, each run in a thread of its own."""
        return {
            f"ours, {name}": partial(self._stored_run, self.graph(checkpointer=each)) for name, each in savers.items()
        }

    def _stored_run(self, graph: Any) -> Any:
        return graph.ainvoke(self.given, new_thread())

    def traced(self, sink: TraceServer) -> dict[str, Way]:
        """The graph with LangSmith's client: until all is sent, sync too, and to a server that takes nothing yet."""
        graph, config, given = self.graph(), RunnableConfig(callbacks=[sink.tracer()]), self.given

        async def traced() -> None:
            await graph.ainvoke(given, config)
            sink.client.flush()

        def sync_traced() -> None:
            graph.invoke(given, config)
            sink.client.flush()

        async def untaken() -> None:
            sink.answers(from_now_on=False)
            await graph.ainvoke(given, config)
            sink.answers(from_now_on=True)

        return {TRACED: traced, SYNC_TRACED: sync_traced, UNTAKEN: untaken}

    async def plain_texts(self) -> AsyncIterator[str]:
        async for chunk in self.model.astream(self.plain):
            yield chunk.text

    def _asking(self, call: Callable[..., Awaitable[Any]], **options: Any) -> Call:
        return lambda prompt: call(model=self.load.model, messages=prompt, **options)

    async def _gathered(self, outline: Call, point: Call) -> None:
        await outline(self.prompts[0])
        await asyncio.gather(*map(point, self.prompts[1:]))
