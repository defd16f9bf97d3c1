"""Real clients over loopback HTTP, and each promise in both of its forms: sync and async."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from sot_graph import llama, local_chat_model
from tests.fake_openai import FakeOpenAI, Host
from tests.langsmith_sink import Sink, langsmith_sink
from tests.script_server import ScriptServer, script_server
from tests.servers import EXAMPLES, fake_model, langgraph_dev, postgres

THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}
ASKED = {"question": "How can I sleep better?"}


Read = Callable[..., Awaitable[tuple[str, dict[str, Any]]]]


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


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a Postgres that all tests share."""
    with postgres(tmp_path_factory.mktemp("postgres")) as uri:
        yield uri


@pytest.fixture(scope="session")
def url(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `langgraph dev` with the example's graph, and the real ChatOpenAI before the fake server."""
    folder = server_folder(tmp_path_factory)
    config = folder / "langgraph.json"
    to_here = {"webhooks": {"url": {"disable_loopback": False, "require_https": False}}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **to_here}))
    with langgraph_dev(folder, environment={"CRON_SCHEDULER_SLEEP_TIME": "1", **fake_model(host.url)}) as served:
        yield served.url


def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, where the server may leave its threads."""
    folder = tmp_path_factory.mktemp("server") / "example"
    shutil.copytree(EXAMPLES / "server", folder, ignore=shutil.ignore_patterns(".langgraph_api", "__pycache__"))
    return folder


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


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def read(form: str) -> Read:
    """Make a run, streamed or not; returns the text that was streamed, and the result."""

    async def make(
        graph: Any, given: Any = ASKED, config: Any = None, *, streamed: bool = True
    ) -> tuple[str, dict[str, Any]]:
        modes: Any = {"stream_mode": ["custom", "values"] if streamed else ["values"]}
        if form == "sync":
            parts = await asyncio.to_thread(lambda: list(graph.stream(given, config, **modes)))
        else:
            parts = [part async for part in graph.astream(given, config, **modes)]
        shown = "".join(part["text"] for mode, part in parts if mode == "custom" and part["type"] == "answer")
        result = [part for mode, part in parts if mode == "values"][-1]
        assert not streamed or shown == result["answer"]
        return shown, result

    return make
