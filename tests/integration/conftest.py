"""Real clients over loopback HTTP, and each promise in both of its forms: sync and async."""

from collections.abc import Awaitable, Iterator
from typing import Any, Protocol

import pytest
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import llama, local_chat_model
from tests.fake_openai import FakeOpenAI, Host
from tests.langsmith_sink import Sink, langsmith_sink
from tests.script_server import ScriptServer, script_server

THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}


class Run(Protocol):
    def __call__(
        self, graph: Runnable[Any, Any], given: Any, config: RunnableConfig | None = None
    ) -> Awaitable[dict[str, Any]]: ...


def parent_of(graph: Runnable[Any, Any], **options: Any) -> Any:
    """A graph of messages that has another one as its only node."""
    builder = StateGraph(MessagesState)
    builder.add_node("write", graph)
    builder.add_edge(START, "write")
    return builder.compile(**options)


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    with Host().running() as host:
        yield host


@pytest.fixture
def server(host: Host) -> FakeOpenAI:
    """A server that has not been asked anything yet."""
    return host.fresh()


@pytest.fixture(scope="module")
def http() -> Iterator[ScriptServer]:
    with script_server() as server:
        yield server


@pytest.fixture
def http_server(http: ScriptServer) -> ScriptServer:
    """A server that sends raw bytes, and has received nothing yet."""
    http.requests.clear()
    return http


@pytest.fixture(scope="session")
def served() -> Iterator[ChatOpenAI]:
    """The local model, whose server all tests of it share. One thread: the other tests need the other core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama, "default_threads", lambda: 1)
        yield local_chat_model()


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A server in LangSmith's place."""
    with langsmith_sink() as sink:
        yield sink


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Invoke a graph, once by `invoke` and once by `ainvoke`."""

    async def invoke(graph: Runnable[Any, Any], given: Any, config: RunnableConfig | None = None) -> dict[str, Any]:
        result: dict[str, Any]
        if request.param == "sync":
            result = graph.invoke(given, config)
        else:
            result = await graph.ainvoke(given, config)
        return result

    return invoke
