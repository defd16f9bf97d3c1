"""The private parts of LangGraph, LangChain and OpenAI's client are what `_engine.py` takes them for.

Each test runs a small real graph or client, so it fails when an upgrade changes the part; its message names the part.
"""

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import anthropic
import pytest
from langchain.chat_models import init_chat_model
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda, ensure_config
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.constants import TAG_NOSTREAM
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import push_message
from langgraph.types import Command, Send, interrupt
from openai import LengthFinishReasonError, NotFoundError
from pydantic import BaseModel, PrivateAttr
from typing_extensions import TypedDict

from sot_graph import _engine
from sot_graph.replies import message_of
from tests.clients import CLIENTS
from tests.fake_openai import FakeOpenAI, Reply
from tests.integration.conftest import THREAD
from tests.script_server import ScriptServer


def _added(left: list[Any], right: list[Any]) -> list[Any]:
    return [*left, *right]


class State(TypedDict, total=False):
    text: str
    parts: Annotated[list[Any], _added]


Node = Callable[[Any, RunnableConfig], Any]


def graph_of(node: Any, **options: Any) -> Any:
    """A graph of one node."""
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(**options)


def seen_by_a_node(look: Callable[[RunnableConfig], Any], **options: Any) -> tuple[Any, list[Any]]:
    """A graph that notes what a function makes of its node's config, and the notes."""
    notes: list[Any] = []

    def node(_state: State, config: RunnableConfig) -> State:
        notes.append(look(config))
        return {"parts": ["done"]}

    return graph_of(node, **options), notes


def test_each_part_has_a_test() -> None:
    own = {name for name, part in vars(_engine).items() if inspect.isfunction(part) or inspect.isclass(part)}
    parts = {name for name in own if vars(_engine)[name].__module__ == _engine.__name__}
    parts = {name for name in parts if not name.startswith("_")}
    tested = {part for name in globals() for part in name.removeprefix("test_").split("_and_")}
    snake = {"".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_"): name for name in parts}
    assert {name for name in snake if not any(test.startswith(name) for test in tested)} == set()


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_push_chunk_and_push_end() -> None:
    """`StreamMessagesHandlerV2`, its `stream` and `seen`, and `message_to_events`."""
    whole = AIMessage("One two.", id="1", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})

    def node(_state: Any, config: RunnableConfig) -> dict[str, Any]:
        for text in ("One ", "two."):
            _engine.push_chunk(config, "1", text, starts=text == "One ")
        _engine.push_end(config, "1", whole)
        return {"messages": [whole]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile()
    run = graph.stream_events({"messages": []}, version="v3")
    assert [[*message.text] for message in run.messages] == [["One ", "two."]], "events no longer make one message"
    run = graph.stream_events({"messages": []}, version="v3")
    assert [message.output.usage_metadata for message in run.messages] == [whole.usage_metadata]
    chunks = [message.text for message, _ in graph.stream({"messages": []}, stream_mode="messages")]
    assert chunks == ["One ", "two."], "a subscriber of chunks no longer gets them, or gets the message again"


def test_read_state() -> None:
    """`__pregel_read` in a node's config."""
    notes = []

    def part(payload: dict[str, int], config: RunnableConfig) -> State:
        notes.append((payload, _engine.read_state(config, "text"), _engine.read_state(config, "parts")))
        return {"parts": [payload["number"]]}

    builder: Any = StateGraph(State)
    builder.add_node("part", part)
    builder.add_conditional_edges(START, lambda _: [Send("part", {"number": n}) for n in (1, 2)], ["part"])
    graph: Any = builder.compile()
    graph.invoke({"text": "whole"})
    expected: list[Any] = [({"number": number}, "whole", []) for number in (1, 2)]
    assert sorted(notes, key=str) == expected, "__pregel_read no longer reads a key of the state in a Send's task"


@pytest.mark.parametrize("mode", ["custom", "messages", "values"])
@pytest.mark.parametrize("subgraphs", [True, False])
def test_parent_streams(mode: str, *, subgraphs: bool) -> None:
    """`__pregel_stream` and its `modes` in the config that a parent's node inherits to a graph inside it."""
    inner, _ = seen_by_a_node(lambda _: None)
    notes: list[Any] = []

    def node(_state: State, config: RunnableConfig) -> State:
        notes.append(_engine.parent_streams(mode, config))
        return dict(inner.invoke({"text": ""}, config))  # type: ignore[return-value]

    list(graph_of(node).stream({"text": ""}, stream_mode=mode, subgraphs=subgraphs))
    assert notes == [subgraphs], "__pregel_stream no longer tells the stream modes of a parent with subgraphs=True"


def test_configurable_of() -> None:
    """The same in a config of the caller's own, which has no keys of the engine."""
    graph, notes = seen_by_a_node(lambda _: _engine.configurable_of({"configurable": {"mine": 1}}))
    list(graph.stream({"text": ""}, stream_mode="custom", subgraphs=True))
    assert notes[0]["mine"] == 1
    assert _engine.configurable_of({}) == {}, "the config of a run stays after it"
    assert "__pregel_stream" in notes[0], "the context variable of the config has no __pregel_stream"


def test_parent_resumes() -> None:
    """`__pregel_resuming` in the config of a graph within a parent that resumes."""
    notes: list[bool] = []

    def node(_state: State, config: RunnableConfig) -> State:
        notes.append(_engine.parent_resumes(config))
        return {"parts": [interrupt("?")]}

    builder = StateGraph(State)
    builder.add_node("inner", graph_of(node))
    builder.add_edge(START, "inner")
    graph: Any = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({"text": ""}, THREAD)
    graph.invoke(Command(resume="!"), THREAD)
    assert notes == [False, True], "__pregel_resuming no longer says whether the parent resumes"


def test_checkpointer_of() -> None:
    """`CONFIG_KEY_CHECKPOINTER` in a node's config."""
    saver = InMemorySaver()
    without, notes = seen_by_a_node(_engine.checkpointer_of)
    without.invoke({"text": ""})
    own, notes_of_own = seen_by_a_node(_engine.checkpointer_of, checkpointer=saver)
    own.invoke({"text": ""}, THREAD)
    assert (notes, notes_of_own) == ([None], [saver]), "CONFIG_KEY_CHECKPOINTER is no longer the checkpointer"

    inner, notes_of_inner = seen_by_a_node(_engine.checkpointer_of)
    builder = StateGraph(State)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    parent: Any = builder.compile(checkpointer=saver)
    parent.invoke({"text": ""}, {"configurable": {"thread_id": "2"}})
    assert notes_of_inner == [saver], "CONFIG_KEY_CHECKPOINTER is no longer inherited from the parent"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_inner", [False, True], ids=["a graph", "a graph in a parent"])
async def test_pending_writes(*, is_async: bool, is_inner: bool) -> None:
    """The pending writes of the checkpoint that a step began with, and the namespace that finds it."""
    notes: list[Any] = []
    fails = [True]

    async def write(payload: int, config: RunnableConfig) -> State:
        if payload == 1:
            return {"parts": ["one"]}
        if fails.pop() if fails else False:
            await asyncio.sleep(0.05)  # until the other one is written
            msg = "a fault of the test's"
            raise ValueError(msg)
        pending = _engine.PendingWrites("parts", config)
        notes.append(await pending.arun() if is_async else pending.run())
        return {"parts": ["two"]}

    builder: Any = StateGraph(State)
    builder.add_node("write", write)
    builder.add_conditional_edges(START, lambda _: [Send("write", number) for number in (1, 2)], ["write"])
    graph: Any = builder.compile(checkpointer=None if is_inner else InMemorySaver())
    if is_inner:
        outer = StateGraph(State)
        outer.add_node("inner", graph)
        outer.add_edge(START, "inner")
        graph = outer.compile(checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="a fault of the test's"):
        await graph.ainvoke({"text": ""}, THREAD)
    result = await graph.ainvoke(None, THREAD)
    assert result["parts"] == ["one", "two"]
    assert notes == [[["one"]]], "the checkpoint no longer has what the tasks of a stopped step wrote"


@pytest.mark.parametrize("mode", ["messages", "custom", "values"])
def test_has_message_subscriber(mode: str) -> None:
    """`StreamMessagesHandler`, the callback handler behind "messages" mode."""

    def look(config: RunnableConfig) -> tuple[bool, bool]:
        tagged: RunnableConfig = {**config, "tags": [TAG_NOSTREAM]}
        return _engine.has_message_subscriber(config), _engine.has_message_subscriber(tagged)

    graph, notes = seen_by_a_node(look)
    list(graph.stream({"text": ""}, stream_mode=mode))
    assert notes == [(mode == "messages", False)], "StreamMessagesHandler is no longer the handler of messages mode"


def test_context_config_of_a_pushed_message() -> None:
    """`push_message`, which reads its config from a context variable."""
    chunks = [AIMessageChunk(content=text, id="one") for text in ("a", "b")]

    def push(config: RunnableConfig) -> None:
        with _engine.context_config({"callbacks": []}), _engine.context_config(config):  # within any other
            for chunk in chunks:
                push_message(chunk, state_key=None)

    graph, _ = seen_by_a_node(push)
    parts = list(graph.stream({"text": ""}, stream_mode=["messages", "values"]))
    streamed = [part[0] for mode, part in parts if mode == "messages"]
    assert streamed == chunks, "push_message no longer streams each chunk, in order and once"
    assert parts[-1][1]["parts"] == ["done"], "push_message writes to the state, in spite of state_key=None"


class Started(BaseCallbackHandler):
    """Notes the names of the runs, and the chunks."""

    run_inline = True

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_chain_start(self, *_args: Any, **kwargs: Any) -> None:
        self.names.append(str(kwargs.get("name")))

    def on_chat_model_start(self, *_args: Any, **_kwargs: Any) -> None:
        self.names.append("model")


def test_callbacks_of_call() -> None:
    """`StreamMessagesHandler`, by which the messages of a call become the graph's, among the callbacks of a config."""
    model = FakeListChatModel(responses=["a text"])
    before: list[bool] = []
    added, started = Started(), Started()

    def node(_state: State, config: RunnableConfig) -> State:
        before.append(_engine.has_message_subscriber(config))
        inner: RunnableConfig = {**config, "callbacks": _engine.callbacks_of_call(config, added)}
        assert not _engine.has_message_subscriber(inner)
        assert _engine.has_message_subscriber(config), "the config of the node stays as it was"
        return {"parts": [model.invoke("?", inner).text]}

    config: RunnableConfig = {"callbacks": [started]}
    parts: list[Any] = list(
        graph_of(node, name="graph").stream({"text": ""}, config, stream_mode=["messages", "values"])
    )
    assert before == [True]
    assert {mode for mode, _part in parts} == {"values"}, "the messages of the call are the graph's"
    assert (started.names, added.names) == (["graph", "node", "model"], ["model"])


@pytest.mark.parametrize("subgraphs", [True, False])
def test_without_parent_stream(*, subgraphs: bool) -> None:
    """`__pregel_stream`, by which an inner graph's events become the outer graph's."""

    def inner_node(_state: State) -> State:
        get_stream_writer()("an event of the inner graph")
        return {"parts": ["done"]}

    inner = graph_of(inner_node)

    def node(_state: State, config: RunnableConfig) -> State:
        return {"parts": inner.invoke({"text": ""}, _engine.without_parent_stream(config))["parts"]}

    parts = list(graph_of(node).stream({"text": ""}, stream_mode=["custom", "values"], subgraphs=subgraphs))
    assert {mode for *_, mode, _part in parts} == {"values"}, "the events of the inner graph are the outer graph's"
    assert len(parts) == 2, "the states of the inner graph are the outer graph's"


@pytest.mark.parametrize("form", ["list", "manager", "none"])
def test_handlers_of(form: str) -> None:
    """`BaseCallbackManager.handlers`, and the two forms of callbacks in a config."""
    handler = BaseCallbackHandler()
    callbacks: Any = {"list": [handler], "manager": CallbackManager([handler]), "none": None}[form]
    expected = [] if form == "none" else [handler]
    assert _engine.handlers_of({"callbacks": callbacks}) == expected
    graph, notes = seen_by_a_node(lambda config: list(_engine.handlers_of(config)))
    graph.invoke({"text": ""}, {"callbacks": [handler]})
    assert notes == [[handler]], "a node's config no longer has the caller's callback handlers"


def test_context_config() -> None:
    """`var_child_runnable_config`, the config that calls without one of their own inherit."""
    seen: list[RunnableConfig] = []
    call = RunnableLambda(lambda _value, config: seen.append(config))  # type: ignore[var-annotated]
    with _engine.context_config({"tags": ["mine"], "metadata": {"customer": 7}, "run_name": "outer"}):
        call.invoke(1)
        inside = ensure_config()
    call.invoke(1)
    assert seen[0]["tags"] == inside["tags"] == ["mine"], "var_child_runnable_config is no longer inherited"
    assert seen[0]["metadata"] == {"customer": 7}
    assert inside.get("run_name") is None, "the run's name is inherited"
    assert seen[1]["tags"] == [], "the config stays after the block"


async def test_untraced() -> None:
    """`RunnableCallable` with `trace=False`."""
    started = Started()

    def choose(state: State) -> str:
        return "node" if state.get("text") else END

    builder = StateGraph(State)
    builder.add_node("node", lambda _state: {"parts": ["done"]})
    builder.add_conditional_edges(START, _engine.untraced(choose), ["node", END])
    graph: Any = builder.compile(name="graph")
    config: RunnableConfig = {"callbacks": [started]}
    assert graph.invoke({"text": "yes"}, config)["parts"] == ["done"]
    assert (await graph.ainvoke({"text": "yes"}, config))["parts"] == ["done"]
    assert "choose" not in started.names, "RunnableCallable(trace=False) makes a run in the trace"
    drawn = graph.get_graph()
    assert {(edge.source, edge.target) for edge in drawn.edges} >= {("__start__", "node"), ("__start__", "__end__")}


def test_same_server(server: FakeOpenAI) -> None:
    """`_client` of a resource, its `base_url` and `api_key`."""
    model = server.model()
    other = ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key=model.openai_api_key)
    assert _engine.same_server(model.client, server.model().client)
    assert not _engine.same_server(model.client, other.client), "a resource no longer has its client as _client"
    assert not _engine.same_server(model.root_client, other.root_client)
    assert not _engine.same_server(model.client, model.root_client)


@pytest.mark.parametrize("name", ["openai", "groq", "ollama", "bedrock"])
def test_client_url(name: str) -> None:
    """`root_client`, `client` and `_client` of a model, `_client` and `base_url` of these, and boto3's `meta`."""
    url = _engine.client_url(CLIENTS[name].make("http://127.0.0.1:9"))
    says = f"the client of {name} no longer has its base URL where it was"
    assert url.rstrip("/").removesuffix("/v1") == "http://127.0.0.1:9", says
    assert _engine.client_url(FakeListChatModel(responses=[])) == ""


def test_with_private_values() -> None:
    """`__pydantic_private__`, which a model has if its class has private attributes."""

    class Private(FakeListChatModel):
        _tenant: str = PrivateAttr(default="")

    original, made = Private(responses=[]), Private(responses=[])
    original._tenant = "acme"  # noqa: SLF001 - as its own code would
    assert _engine.with_private_values(made, original) is made
    tenant = made._tenant  # noqa: SLF001 - as its own code would
    assert tenant == "acme", "pydantic no longer has private attributes in __pydantic_private__"


class Shape(BaseModel):
    points: list[str]


async def test_warns_when_schema_is_streamed(server: FakeOpenAI) -> None:
    """OpenAI's models, known by `root_client`: a streamed call with a schema warns, which a strict caller may raise."""
    assert _engine.warns_when_schema_is_streamed(server.model())
    assert not _engine.warns_when_schema_is_streamed(FakeListChatModel(responses=[]))
    server.script = lambda _: Reply('{"points": ["one"]}')
    chain = server.model(disable_streaming=True).with_structured_output(Shape)
    chunks = [chunk async for chunk in chain.astream("?")]
    assert chunks[-1] == Shape(points=["one"])
    assert not server.requests[0].body.get("stream"), (
        "disable_streaming no longer keeps a call with a schema unstreamed"
    )


def test_import_for_streamed_schema() -> None:
    """A first streamed call with a schema imports nothing of `beta`, after this."""
    code = (
        "import sys; from langchain_openai import ChatOpenAI; from sot_graph import _engine\n"
        "model = ChatOpenAI(model='m', api_key='none')\n"
        "print('openai.resources.beta' in sys.modules)\n"
        "_engine.import_for_streamed_schema(model)\n"
        "before = set(sys.modules)\n"
        "model.root_client.beta.chat.completions, model.root_async_client.beta.chat.completions\n"
        "print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "0"]
    _engine.import_for_streamed_schema(FakeListChatModel(responses=[]))


async def test_strictness_of(server: FakeOpenAI) -> None:
    """A dict's schema is streamed without a warning, and asked for as a class is, but for names and descriptions."""
    model = server.model()
    assert _engine.strictness_of(model) == {"strict": True}
    assert _engine.strictness_of(FakeListChatModel(responses=[])) == {}
    server.script = lambda _: Reply('{"points": ["one"]}')
    bound: Any = model.with_structured_output(Shape.model_json_schema(), strict=True)
    _ = [chunk async for chunk in bound.first.astream("?")]
    await model.with_structured_output(Shape).ainvoke("?")
    streamed, whole = (request.body["response_format"]["json_schema"] for request in server.requests)
    assert (streamed["name"], streamed["strict"]) == (whole["name"], whole["strict"]) == ("Shape", True)
    kept = {key: value for key, value in whole["schema"].items() if key not in {"title", "description"}}
    assert streamed["schema"] == kept


async def test_with_counts(server: FakeOpenAI) -> None:
    """`_create_usage_metadata`, and the counts in the metadata of a stream with a schema."""
    server.script = lambda _: Reply('{"points": ["one"]}')
    bound: Any = server.model(stream_usage=True).with_structured_output(Shape.model_json_schema(), strict=True)
    message = message_of([chunk async for chunk in bound.first.astream("?")])
    assert message.usage_metadata is None, "ChatOpenAI counts the tokens of a stream with a schema now"
    counted = _engine.with_counts(message).usage_metadata
    assert counted is not None
    assert (counted["input_tokens"], counted["output_tokens"]) == (10, 2)
    assert _engine.with_counts(AIMessage("?")).usage_metadata is None


def test_reply_in(server: FakeOpenAI) -> None:
    """`error.response`, the reply over which OpenAI's client raises, and `_create_usage_metadata`."""
    server.script = lambda _: Reply('{"points": ["one", "tw', finish="length")
    with pytest.raises((ValueError, LengthFinishReasonError)) as raised:
        server.model().with_structured_output(Shape).invoke("?")
    reply = _engine.reply_in(raised.value)
    assert isinstance(reply, AIMessage), "the client's error over a reply that was cut off no longer has the reply"
    assert reply.text == '{"points": ["one", "tw'
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]) == (10, 3)


def test_reply_in_is_none_without_a_reply(server: FakeOpenAI) -> None:
    server.script = lambda _: Reply(status=404)
    with pytest.raises(NotFoundError) as raised:
        server.model().invoke("?")
    assert _engine.reply_in(raised.value) is None
    assert _engine.reply_in(ValueError("no reply")) is None


def test_openai_request(server: FakeOpenAI) -> None:
    model, messages = server.model(temperature=0.5), [HumanMessage("Hello")]
    model.invoke(messages, extra_body={"id_slot": 3})
    made = _engine.openai_request(model, messages, {"extra_body": {"id_slot": 3}})
    extra = made.pop("extra_body")
    assert {**made, **extra}.items() <= server.requests[0].body.items()


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_anthropic_model(http_server: ScriptServer, form: str) -> None:
    """`_client`, `_async_client` and `_client_params` of `ChatAnthropic`."""
    client = CLIENTS["anthropic"]
    http_server.script = lambda request: client.reply(request, "Hello.")
    used: list[str] = []
    settings = {"base_url": http_server.url, "api_key": "sk-test-key"}
    with anthropic.DefaultHttpxClient(event_hooks={"request": [lambda _: used.append("sync")]}) as sync:

        async def note(_request: object) -> None:
            used.append("async")

        async with anthropic.DefaultAsyncHttpxClient(event_hooks={"request": [note]}) as other:
            model = _engine.anthropic_model("m", (sync, other), settings)
            reply = model.invoke("Hello") if form == "sync" else await model.ainvoke("Hello")
    assert (reply.text, used) == ("Hello.", [form]), "ChatAnthropic no longer takes its HTTP client from there"
    assert http_server.requests[0].body["model"] == "m"


def test_is_configurable_model(server: FakeOpenAI) -> None:
    """`_ConfigurableModel` in `langchain.chat_models.base`."""
    assert _engine.is_configurable_model(init_chat_model()), "init_chat_model() no longer returns a _ConfigurableModel"
    assert _engine.is_configurable_model(init_chat_model(configurable_fields="any", config_prefix="mine"))
    assert _engine.is_configurable_model(init_chat_model().with_config(tags=["mine"]))
    assert not _engine.is_configurable_model(server.model())
    assert not _engine.is_configurable_model(RunnableLambda(str))


def test_configured_model(server: FakeOpenAI) -> None:
    """`_ConfigurableModel._model`, which makes the chat model that a config chooses."""
    model = init_chat_model(
        configurable_fields=("model", "model_provider", "temperature"), base_url=server.url, api_key="k"
    )
    chosen = {"model": "mine", "model_provider": "openai", "temperature": 0.7}
    made = _engine.configured_model(model, {"configurable": {**chosen, "thread_id": "1"}})
    assert isinstance(made, ChatOpenAI), "_ConfigurableModel._model no longer makes the chat model"
    assert (made.model_name, made.temperature, made.openai_api_base) == ("mine", 0.7, server.url)
    made.invoke("?")
    assert (server.requests[0].body["model"], server.requests[0].body["temperature"]) == ("mine", 0.7)


async def test_cancellation_check() -> None:
    """`Task.cancelling`, which counts a cancellation even if the task swallowed it."""
    reached: list[str] = []

    async def work() -> None:
        raise_if_cancelled = _engine.cancellation_check()
        raise_if_cancelled()
        reached.append("not cancelled")
        with suppress(asyncio.CancelledError):  # as asyncio.wait_for does in Python 3.11
            await asyncio.sleep(10)
        reached.append("swallowed")
        raise_if_cancelled()
        reached.append("went on")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == ["not cancelled", "swallowed"], "Task.cancelling no longer counts a swallowed cancellation"


async def test_cancellation_check_ignores_an_earlier_cancellation() -> None:
    """Only what came since the call counts: `asyncio.timeout` cancels and uncancels within a task."""

    async def work() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        raise_if_cancelled = _engine.cancellation_check()
        raise_if_cancelled()
        return "went on"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "went on"
    assert not inspect.iscoroutinefunction(_engine.cancellation_check)


def test_threads() -> None:
    """The thread pool of a sync run: `max_concurrency` is its size, and a streamed run needs a thread of its own."""
    started: list[str] = []

    def node(state: dict[str, Any]) -> State:
        started.append(str(state))
        return {"parts": ["done"]}

    builder: Any = StateGraph(State)
    builder.add_node("node", node)
    builder.add_conditional_edges(START, lambda _: [Send("node", {"number": n}) for n in range(40)], ["node"])
    graph: Any = builder.compile()
    parts = list(graph.stream({"text": ""}, {"max_concurrency": _engine.THREADS}, stream_mode="custom"))
    assert (parts, len(started)) == ([], 40)
    assert _engine.THREADS >= 100
