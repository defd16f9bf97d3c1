"""Whatever LangChain people have as a model: a name, a chat model, and what is made of one."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_openai import ChatOpenAI
from langgraph.types import RetryPolicy
from openai import AsyncOpenAI, OpenAI
from pydantic import PrivateAttr, SecretStr

from sot_graph import ExpansionError, SkeletonOfThoughtMiddleware, SotInput, astream_answer, create_sot_graph
from sot_graph import stream_answer as stream_answer_sync
from sot_graph.prompts import TELL_BRIEFLY
from tests.agents import OUTLINED, lookup, playing
from tests.agents import QUESTION as AGENT_QUESTION
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, Script, outline_json, usual
from tests.integration.conftest import Run

QUESTION: SotInput = {"question": "How can I sleep better?"}
TEXTS = [f"About {title.lower()} there is this to say." for title in TITLES]
ANSWER = "\n\n".join(TEXTS)
OUTPUT_TOKENS = sum(len(reply.split(" ")) for reply in [outline_json(TITLES), *TEXTS])
TWICE = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False)
KEY = SecretStr("sk-test-key")
NEVER = 600
"""Seconds that no test waits for."""

TEMPERATURE = ConfigurableField(id="temperature")
WHICH = ConfigurableField(id="which")
NAMED = {"model": "fake", "model_provider": "openai"}


def chat(server: FakeOpenAI, name: str = "fake", **options: Any) -> ChatOpenAI:
    """The real client, with a name that the script sees; the one named `broken` fails."""
    return ChatOpenAI(model=name, base_url=server.url, api_key=KEY, **options)


@dataclass
class Kind:
    """A kind of model."""

    id: str
    make: Callable[[FakeOpenAI], Any]
    configurable: Mapping[str, Any] = field(default_factory=dict)
    """What a run chooses."""
    sent: Mapping[str, Any] = field(default_factory=dict)
    """What is in each request that is answered."""
    models: tuple[str, ...] = ("fake",)
    """The models that each call asks, in order; only the last one answers."""
    status: int = 401
    """What the model named `broken` returns."""
    tags: frozenset[str] = frozenset()
    """The tags that the model has."""

    @property
    def config(self) -> RunnableConfig:
        return {"configurable": dict(self.configurable)}

    def script(self, others: Script = usual) -> Script:
        return lambda request: Reply(status=self.status) if request.body["model"] == "broken" else others(request)

    def assert_sent(self, requests: list[Request]) -> None:
        """Check that these requests came from this model, with what is bound to it and what the run chose."""
        answered = [request for request in requests if request.body["model"] == self.models[-1]]
        assert len(answered) * len(self.models) == len(requests)
        for request in answered:
            assert dict(self.sent).items() <= request.body.items(), "what is bound, or chosen by the run, is missing"


def _with_fallback(server: FakeOpenAI) -> Any:
    return chat(server, "broken").with_fallbacks([chat(server)])


def _alternatives(server: FakeOpenAI) -> Any:
    return chat(server).configurable_alternatives(WHICH, default_key="small", large=chat(server, "large"))


ALTERNATIVES = [
    Kind("alternatives, the default", _alternatives),
    Kind("alternatives", _alternatives, configurable={"which": "large"}, models=("large",)),
    Kind(
        "alternatives, given as a function",
        lambda s: chat(s).configurable_alternatives(WHICH, default_key="small", large=lambda: chat(s, "large")),
        configurable={"which": "large"},
        models=("large",),
    ),
]
WITHOUT_A_FIXED_MODEL = [
    Kind("init_chat_model", lambda s: init_chat_model(base_url=s.url, api_key="k"), configurable=NAMED),
    Kind(
        "init_chat_model with a configurable base_url",
        lambda _: init_chat_model(configurable_fields=("model", "model_provider", "base_url"), api_key="k"),
        configurable={**NAMED, "base_url": "the server's"},
    ),
    Kind(
        "init_chat_model with a prefix",
        lambda s: init_chat_model(configurable_fields="any", config_prefix="mine", base_url=s.url, api_key="k"),
        configurable={"mine_model": "fake", "mine_model_provider": "openai", "mine_temperature": 0.7},
        sent={"temperature": 0.7},
    ),
    Kind(
        "init_chat_model with a default and a prefix",
        lambda s: init_chat_model(
            "openai:fake", configurable_fields="any", config_prefix="mine", base_url=s.url, api_key="k"
        ),
        configurable={"mine_temperature": 0.7},
        sent={"temperature": 0.7},
    ),
    Kind(
        "init_chat_model, then with_config",
        lambda s: init_chat_model(base_url=s.url, api_key="k").with_config(tags=["mine"], configurable=NAMED),
        tags=frozenset({"mine"}),
    ),
    Kind(
        "init_chat_model, then bind",
        lambda s: init_chat_model(base_url=s.url, api_key="k").bind(temperature=0.3),
        configurable=NAMED,
        sent={"temperature": 0.3},
    ),
]
COMBINED = [
    Kind(
        "bind of fallbacks",
        lambda s: _with_fallback(s).bind(temperature=0.3),
        sent={"temperature": 0.3},
        models=("broken", "fake"),
    ),
    Kind(
        "fallbacks of bound ones",
        lambda s: chat(s, "broken").bind(temperature=0.1).with_fallbacks([chat(s).bind(temperature=0.3)]),
        sent={"temperature": 0.3},
        models=("broken", "fake"),
    ),
    Kind(
        "fallbacks with with_retry",
        lambda s: chat(s, "broken").with_retry().with_fallbacks([chat(s).with_retry()]),
        models=("broken", "fake"),
        status=500,
    ),
    Kind(
        "with_retry of fallbacks",
        lambda s: _with_fallback(s).with_retry(),
        models=("broken", "fake"),
        status=500,
    ),
    Kind(
        "configurable_fields, then bind",
        lambda s: chat(s).configurable_fields(temperature=TEMPERATURE).bind(seed=5),
        configurable={"temperature": 0.7},
        sent={"temperature": 0.7, "seed": 5},
    ),
    Kind(
        "configurable_fields, then with_config",
        lambda s: chat(s).configurable_fields(temperature=TEMPERATURE).with_config(configurable={"temperature": 0.7}),
        sent={"temperature": 0.7},
    ),
    Kind(
        "fallbacks of configurable ones",
        lambda s: (
            chat(s, "broken")
            .configurable_fields(temperature=TEMPERATURE)
            .with_fallbacks([chat(s).configurable_fields(temperature=TEMPERATURE)])
        ),
        configurable={"temperature": 0.7},
        sent={"temperature": 0.7},
        models=("broken", "fake"),
    ),
    Kind(
        "alternatives of configurable fields",
        lambda s: (
            chat(s)
            .configurable_fields(temperature=TEMPERATURE)
            .configurable_alternatives(WHICH, default_key="small", large=chat(s, "large"))
        ),
        configurable={"temperature": 0.7},
        sent={"temperature": 0.7},
    ),
]
CHAT_MODEL = Kind("a chat model", chat)
NAME = Kind("a name", lambda _: "openai:fake")
KINDS = [
    CHAT_MODEL,
    Kind("with_fallbacks", _with_fallback, models=("broken", "fake")),
    Kind("with_retry", lambda s: chat(s).with_retry(stop_after_attempt=5)),
    Kind("bind", lambda s: chat(s).bind(temperature=0.3), sent={"temperature": 0.3}),
    Kind("with_config", lambda s: chat(s).with_config(tags=["mine"]), tags=frozenset({"mine"})),
    Kind(
        "configurable_fields",
        lambda s: chat(s).configurable_fields(temperature=TEMPERATURE),
        configurable={"temperature": 0.7},
        sent={"temperature": 0.7},
    ),
    *ALTERNATIVES,
    *WITHOUT_A_FIXED_MODEL,
]


@pytest.fixture(params=[NAME, *KINDS, *COMBINED], ids=lambda kind: kind.id)
def kind(request: pytest.FixtureRequest, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """Each kind of model and the combined ones; the server has its script."""
    return prepared(request.param, server, monkeypatch)


@pytest.fixture(params=[NAME, *KINDS], ids=lambda kind: kind.id)
def single_kind(request: pytest.FixtureRequest, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """Each kind of model."""
    return prepared(request.param, server, monkeypatch)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.id)
def runnable_kind(request: pytest.FixtureRequest, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """Each kind but the name."""
    return prepared(request.param, server, monkeypatch)


def prepared(kind: Kind, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Kind:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    server.script = kind.script()
    if "base_url" not in kind.configurable:
        return kind
    monkeypatch.delenv("OPENAI_BASE_URL")
    configurable = {**kind.configurable, "base_url": server.url}
    return Kind(kind.id, kind.make, configurable=configurable, sent=kind.sent, models=kind.models)


@pytest.fixture(params=["sync", "async"])
def streamed(request: pytest.FixtureRequest) -> Any:
    """Stream a graph, once by `stream` and once by `astream`."""

    async def stream(graph: Runnable[Any, Any], given: Any, config: RunnableConfig, **options: Any) -> list[Any]:
        if request.param == "sync":
            return list(graph.stream(given, config, **options))
        return [part async for part in graph.astream(given, config, **options)]

    return stream


@pytest.fixture(params=["sync", "async"])
def stream_answer(request: pytest.FixtureRequest) -> Any:
    """Stream an answer, once by `stream_answer` and once by `astream_answer`."""

    async def stream(graph: Runnable[Any, Any], given: Any, config: RunnableConfig | None = None) -> list[str]:
        if request.param == "sync":
            return list(stream_answer_sync(graph, given, config))
        return [chunk async for chunk in astream_answer(graph, given, config)]

    return stream


class Calls(BaseCallbackHandler):
    """The runs of the chat models, and of the Runnables around them."""

    run_inline = True

    def __init__(self) -> None:
        self.runs: dict[Any, tuple[str, Any]] = {}
        self.models: list[tuple[list[str], list[str], dict[str, Any]]] = []

    def on_chain_start(self, serialized: Any, *_args: Any, **kwargs: Any) -> None:
        self._note(serialized, kwargs)

    def on_chat_model_start(self, serialized: Any, *_args: Any, **kwargs: Any) -> None:
        self._note(serialized, kwargs)
        path, run_id = [], kwargs["run_id"]
        while run_id in self.runs:
            name, run_id = self.runs[run_id]
            path.append(name)
        self.models.append((path, kwargs.get("tags") or [], kwargs.get("metadata") or {}))

    def _note(self, serialized: Any, kwargs: dict[str, Any]) -> None:
        name = kwargs.get("name") or (serialized or {}).get("name") or "?"
        self.runs[kwargs["run_id"]] = (name, kwargs.get("parent_run_id"))


# --- as the model --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [False, True], ids=["not streamed", "streamed"])
async def test_it_answers(server: FakeOpenAI, streamed: Any, kind: Kind, *, is_streamed: bool) -> None:
    calls = Calls()
    config: RunnableConfig = {**kind.config, "callbacks": [calls], "metadata": {"customer": 7}}
    modes = ["values", "custom"] if is_streamed else ["values"]
    result = (await streamed(create_sot_graph(kind.make(server)), QUESTION, config, stream_mode=modes))[-1][1]

    assert result["answer"] == ANSWER
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert Counter(request.body["model"] for request in server.requests) == dict.fromkeys(kind.models, 5)
    kind.assert_sent(server.requests)
    assert_structured(server, kind)
    assert all(bool(request.body.get("stream")) == is_streamed for request in server.of_stage("expand"))
    assert_counted(result["messages"][-1], len(kind.models), is_streamed=is_streamed)
    assert_traced(calls, kind)


def assert_structured(server: FakeOpenAI, kind: Kind) -> None:
    skeletons = server.of_stage("skeleton")
    assert [request.body["model"] for request in skeletons] == list(kind.models)
    assert all("response_format" in request.body or "tools" in request.body for request in skeletons), "no schema"


def assert_counted(message: Any, per_call: int, *, is_streamed: bool) -> None:
    """Check usage and number of calls, of each point and in total."""
    assert message.usage_metadata is not None, "no usage"
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (50, OUTPUT_TOKENS)
    sot = message.response_metadata["sot"]
    assert sot["calls"] == 5 * per_call
    assert (sot["stages"]["skeleton"]["calls"], sot["stages"]["expand"]["calls"]) == (per_call, 4 * per_call)
    assert [(point["calls"], point["attempts"]) for point in sot["points"]] == [(per_call, 1)] * 4
    assert [point["usage"]["output_tokens"] for point in sot["points"]] == [len(text.split(" ")) for text in TEXTS]
    assert (sot["stages"]["expand"]["first_token_seconds"] is not None) == is_streamed


def assert_traced(calls: Calls, kind: Kind) -> None:
    """Check the name, the tags and the metadata of each call."""
    expected = ["skeleton outline", *(f"expand {i}: {title}" for i, title in enumerate(TITLES, start=1))]
    names = [next((name for name in path if name in expected), "no name") for path, _tags, _metadata in calls.models]
    assert Counter(names) == dict.fromkeys(expected, len(kind.models))
    for name, (_path, tags, metadata) in zip(names, calls.models, strict=True):
        before, _, title = name.partition(": ")
        stage, _, index = before.partition(" ")
        assert (metadata["sot_stage"], metadata["sot_attempt"], metadata["customer"]) == (stage, 1, 7)
        assert {f"sot:{stage}"} | kind.tags <= set(tags)
        if title:
            assert (metadata["sot_point"], metadata["sot_title"]) == (int(index), title)
            assert {f"sot:point:{index}", f"sot:title:{title}"} <= set(tags)


async def test_the_opening_and_a_direct_answer(server: FakeOpenAI, run: Run, single_kind: Kind) -> None:
    kind = single_kind
    graph = create_sot_graph(kind.make(server), lead=True, route=lambda _: False)
    result = await run(graph, QUESTION, kind.config)
    assert (result["answer"], result["points"]) == ("A direct answer.\n\nA direct answer.", [])
    assert result["messages"][-1].response_metadata["sot"]["calls"] == len(server.requests) == 2 * len(kind.models)
    kind.assert_sent(server.requests)


async def test_the_answer_is_one_message_in_messages_mode(server: FakeOpenAI, streamed: Any, kind: Kind) -> None:
    parts = await streamed(create_sot_graph(kind.make(server)), QUESTION, kind.config, stream_mode="messages")
    messages = [message for message, _metadata in parts]
    assert "".join(message.content for message in messages) == ANSWER
    assert len({message.id for message in messages}) == 1
    assert all(isinstance(message, AIMessageChunk) for message in messages)
    assert len(messages) > len(TITLES), "tokens, and not whole points"
    assert all(request.body["stream"] for request in server.of_stage("expand"))


async def test_the_answer_is_streamed_in_order(server: FakeOpenAI, stream_answer: Any, kind: Kind) -> None:
    chunks = await stream_answer(create_sot_graph(kind.make(server)), QUESTION, kind.config)
    assert "".join(chunks) == ANSWER
    assert len(chunks) > len(TITLES), "tokens, and not whole points"
    kind.assert_sent(server.requests)


@pytest.mark.parametrize(("stage", "is_streamed"), [("skeleton", False), ("expand", False), ("expand", True)])
async def test_cancelling_ends_the_calls(server: FakeOpenAI, kind: Kind, stage: str, *, is_streamed: bool) -> None:
    def silent(request: Request) -> Reply:
        return Reply("Late.", first_token=NEVER) if request.stage == stage else usual(request)

    server.script = kind.script(silent)
    graph = create_sot_graph(kind.make(server))

    async def answer() -> None:
        async for _part in graph.astream(QUESTION, kind.config, stream_mode="custom" if is_streamed else "values"):
            pass

    task = asyncio.create_task(answer())
    await _until(lambda: _waiting(server, kind) == (4 if stage == "expand" else 1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until(lambda: server.in_flight == 0)


def _waiting(server: FakeOpenAI, kind: Kind) -> int:
    return sum(not request.ended and request.body["model"] == kind.models[-1] for request in server.requests)


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - the server's thread sets no event
        await asyncio.sleep(0.01)
    assert condition()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["not streamed", "streamed"])
async def test_no_retries_below_ours(server: FakeOpenAI, streamed: Any, kind: Kind, *, is_streamed: bool) -> None:
    server.script = lambda request: usual(request) if answers_outline(request) else Reply(status=500)
    graph = create_sot_graph(kind.make(server), retry_policy=TWICE)
    with pytest.raises(ExpansionError) as raised:
        await streamed(graph, QUESTION, kind.config, stream_mode="custom" if is_streamed else "values")
    assert [point["status"] for point in raised.value.failed] == ["failed"] * 4
    requests = Counter((request.title, request.body["model"]) for request in server.of_stage("expand"))
    assert requests == {(title, model): 2 for title in TITLES for model in kind.models}


def answers_outline(request: Request) -> bool:
    return request.stage == "skeleton" and request.body["model"] != "broken"


async def test_no_retries_of_the_outline_below_ours(server: FakeOpenAI, run: Run, kind: Kind) -> None:
    server.script = lambda _: Reply(status=500)
    with pytest.raises(Exception, match="a fault of the test's"):
        await run(create_sot_graph(kind.make(server), retry_policy=TWICE), QUESTION, kind.config)
    assert Counter(request.body["model"] for request in server.requests) == dict.fromkeys(kind.models, 2)
    assert {request.stage for request in server.requests} == {"skeleton"}


# --- elsewhere -----------------------------------------------------------------------------------


async def test_as_the_skeletons_model(server: FakeOpenAI, run: Run, single_kind: Kind) -> None:
    kind = single_kind
    graph = create_sot_graph(chat(server, "points"), skeleton_model=kind.make(server))
    result = await run(graph, QUESTION, kind.config)
    assert result["answer"] == ANSWER
    kind.assert_sent(server.of_stage("skeleton"))
    assert_structured(server, kind)
    assert {request.body["model"] for request in server.of_stage("expand")} == {"points"}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["not streamed", "streamed"])
async def test_as_the_expander(server: FakeOpenAI, streamed: Any, runnable_kind: Kind, *, is_streamed: bool) -> None:
    kind = runnable_kind
    modes = ["values", "custom"] if is_streamed else ["values"]
    graph = create_sot_graph(chat(server, "outline"), expander=kind.make(server))
    result = (await streamed(graph, QUESTION, kind.config, stream_mode=modes))[-1][1]
    assert result["answer"] == ANSWER
    requests = server.of_stage("expand")
    kind.assert_sent(requests)
    assert Counter((request.title, request.body["model"]) for request in requests) == {
        (title, model): 1 for title in TITLES for model in kind.models
    }
    assert all(TELL_BRIEFLY.partition("{")[0] in request.prompt for request in requests), (
        "the prompt is not the one of a model"
    )
    assert [request.body["model"] for request in server.of_stage("skeleton")] == ["outline"]
    assert result["messages"][-1].usage_metadata["output_tokens"] == OUTPUT_TOKENS


async def test_no_retries_below_ours_as_the_expander(server: FakeOpenAI, run: Run, runnable_kind: Kind) -> None:
    kind = runnable_kind
    server.script = lambda request: usual(request) if answers_outline(request) else Reply(status=500)
    graph = create_sot_graph(chat(server), expander=kind.make(server), retry_policy=TWICE)
    with pytest.raises(ExpansionError):
        await run(graph, QUESTION, kind.config)
    requests = Counter((request.title, request.body["model"]) for request in server.of_stage("expand"))
    assert requests == {(title, model): 2 for title in TITLES for model in kind.models}


async def test_in_the_middleware(server: FakeOpenAI, run: Run, single_kind: Kind) -> None:
    kind = single_kind
    playing(server, OUTLINED, others=kind.script())
    middleware = SkeletonOfThoughtMiddleware(kind.make(server))
    agent = create_agent(chat(server, "agent"), [lookup], middleware=[middleware])
    result = await run(agent, AGENT_QUESTION, kind.config)
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert result["messages"][-1].text == ANSWER
    kind.assert_sent(server.of_stage("expand"))
    assert not server.of_stage("skeleton"), "the agent's model wrote the outline"


# --- fallbacks, and values of a run ----------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["not streamed", "streamed"])
async def test_fallbacks_fall_back_after_any_error(
    server: FakeOpenAI, streamed: Any, status: int, *, is_streamed: bool
) -> None:
    server.script = lambda request: Reply(status=status) if request.body["model"] == "broken" else usual(request)
    modes = ["values", "custom"] if is_streamed else ["values"]
    result = (await streamed(create_sot_graph(_with_fallback(server)), QUESTION, {}, stream_mode=modes))[-1][1]
    assert result["answer"] == ANSWER
    assert Counter(request.body["model"] for request in server.requests) == {"broken": 5, "fake": 5}


async def test_fallbacks_fall_back_for_each_call(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        fails = request.body["model"] == "first" and request.title == TITLES[1]
        return Reply(status=401) if fails else usual(request)

    server.script = script
    graph = create_sot_graph(chat(server, "first").with_fallbacks([chat(server, "second")]))
    assert (await run(graph, QUESTION))["answer"] == ANSWER
    request = [(request.stage, request.title) for request in server.requests if request.body["model"] == "second"]
    assert request == [("expand", TITLES[1])]


async def test_fallbacks_fall_back_in_a_stream_before_the_first_token(server: FakeOpenAI, stream_answer: Any) -> None:
    def script(request: Request) -> Reply:
        fails = request.body["model"] == "first" and request.title == TITLES[0]
        return Reply("Lost before", drop_after=0) if fails else usual(request)

    server.script = script
    graph = create_sot_graph(chat(server, "first").with_fallbacks([chat(server, "second")]), retry_policy=TWICE)
    assert "".join(await stream_answer(graph, QUESTION)) == ANSWER
    request = [(request.stage, request.title) for request in server.requests if request.body["model"] == "second"]
    assert request == [("expand", TITLES[0])]
    assert len(server.requests) == 6


async def test_after_the_first_token_the_call_is_retried(server: FakeOpenAI, stream_answer: Any) -> None:
    def script(request: Request) -> Reply:
        if request.title == TITLES[0] and request.attempt == 1:
            return Reply("About regular sleep hours lost", drop_after=2)
        return Reply(" sleep it is.") if request.title == TITLES[0] else usual(request)

    server.script = script
    graph = create_sot_graph(chat(server, "first").with_fallbacks([chat(server, "second")]), retry_policy=TWICE)
    answer = "".join(await stream_answer(graph, QUESTION))
    assert answer == "\n\n".join(["About regular sleep it is.", *TEXTS[1:]]), "what was shown stays"
    requests = [request.body["model"] for request in server.of_stage("expand") if request.title == TITLES[0]]
    assert requests == ["first", "first"]


async def test_runs_at_the_same_time_have_their_own_values(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        temperature = request.body["temperature"]
        return (
            Reply(outline_json([f"{temperature} one", f"{temperature} two"])) if not request.title else usual(request)
        )

    server.script = script
    graph = create_sot_graph(chat(server).configurable_fields(temperature=TEMPERATURE))
    values = [0.1, 0.2, 0.3, 0.4]
    configs: list[RunnableConfig] = [{"configurable": {"temperature": value}} for value in values]
    questions = [QUESTION] * len(values)
    for results in (graph.batch(questions, configs), await graph.abatch(questions, configs)):
        titles = [[point["title"] for point in result["points"]] for result in results]
        assert titles == [[f"{value} one", f"{value} two"] for value in values]
    points = server.of_stage("expand")
    assert all(request.title.startswith(str(request.body["temperature"])) for request in points)


async def test_the_models_that_the_caller_has_stay_as_they_were(server: FakeOpenAI, run: Run) -> None:
    first, second = chat(server, "first", max_retries=7), chat(server, "second", max_retries=7)
    model = first.with_fallbacks([second])
    await run(create_sot_graph(model), QUESTION)
    assert (first.max_retries, second.max_retries) == (7, 7)
    assert first.root_client.max_retries == first.root_async_client.max_retries == 7
    assert model.runnable is first


@pytest.mark.parametrize("is_chosen", [False, True])
async def test_streaming_may_be_configurable(server: FakeOpenAI, run: Run, *, is_chosen: bool) -> None:
    model = chat(server).configurable_fields(streaming=ConfigurableField(id="streaming"))
    result = await run(create_sot_graph(model), QUESTION, {"configurable": {"streaming": is_chosen}})
    assert result["answer"] == ANSWER
    assert all(bool(request.body.get("stream")) == is_chosen for request in server.of_stage("expand"))


def _says(text: str) -> Any:
    """A chain, which may have alternatives, unlike a single function."""
    return RunnablePassthrough() | RunnableLambda(lambda _messages: text)


OTHERS: dict[str, tuple[Callable[[], Any], Mapping[str, Any], str]] = {
    "alternatives": (
        lambda: _says("One.").configurable_alternatives(WHICH, default_key="one", two=_says("Two.")),
        {"which": "two"},
        "Two.",
    ),
    "alternatives, bound": (
        lambda: _says("One.").configurable_alternatives(WHICH, default_key="one", two=_says("Two.")).bind(),
        {"which": "two"},
        "Two.",
    ),
    "fallbacks": (lambda: RunnableLambda(itemgetter("missing")).with_fallbacks([_says("Two.")]), {}, "Two."),
    "with_retry": (lambda: _says("One.").with_retry(), {}, "One."),
    "with_config": (lambda: _says("One.").with_config(tags=["mine"]), {}, "One."),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("option", ["expander", "merge"])
async def test_runnables_that_are_no_models_stay_what_they_are(
    server: FakeOpenAI, run: Run, option: str, name: str
) -> None:
    """What holds for models inside `configurable_alternatives` and the like does not make others fail."""
    make, configurable, text = OTHERS[name]
    options: dict[str, Any] = {option: make()}
    result = await run(create_sot_graph(server.model(), **options), QUESTION, {"configurable": dict(configurable)})
    assert result["answer"] == "\n\n".join([text] * (4 if option == "expander" else 1))


# --- what is no model ------------------------------------------------------------------------------


def _chain(server: FakeOpenAI) -> Any:
    return ChatPromptTemplate.from_messages([("human", "{question}")]) | chat(server)


def _structured(server: FakeOpenAI) -> Any:
    return chat(server).with_structured_output({"title": "a", "type": "object", "properties": {}})


FUNCTION: Any = RunnableLambda(itemgetter(0))
NO_MODELS: dict[str, Callable[[FakeOpenAI], Any]] = {
    "a graph": lambda s: create_sot_graph(chat(s)),
    "an agent": lambda s: create_agent(chat(s)),
    "a function's Runnable": lambda _: FUNCTION,
    "a function": lambda _: itemgetter(0),
    "a prompt and a model": _chain,
    "a model and a parser": _structured,
    "a fallback that is none": lambda s: chat(s).with_fallbacks([FUNCTION]),
    "a class": lambda _: ChatOpenAI,
    "None": lambda _: None,
    "3": lambda _: 3,
}


CASES = [(option, name) for option in ("model", "skeleton_model") for name in NO_MODELS]
CASES.remove(("skeleton_model", "None"))  # which is the default


@pytest.mark.parametrize(("option", "name"), CASES)
def test_anything_else_is_a_type_error(server: FakeOpenAI, option: str, name: str) -> None:
    value = NO_MODELS[name](server)
    options = {"model": chat(server), option: value}
    with pytest.raises(TypeError) as raised:
        create_sot_graph(options.pop("model"), **options)
    message = str(raised.value)
    assert message.startswith(f"{option} must be ")
    assert (f"the class {value.__name__};" if isinstance(value, type) else type(value).__name__) in message
    accepted = ("openai:", "a chat model", "with_fallbacks", "with_retry", "bind", "with_config")
    for each in (*accepted, "configurable_fields", "configurable_alternatives", "init_chat_model", "expander="):
        assert each in message


@pytest.mark.parametrize("value", [ChatOpenAI, None, 3], ids=["a class", "None", "3"])
def test_the_middleware_says_what_it_takes(value: Any) -> None:
    with pytest.raises(TypeError, match="a graph from create_sot_graph, a chat model or the name of one"):
        SkeletonOfThoughtMiddleware(value)


@pytest.mark.parametrize("name", ["", "  "])
@pytest.mark.parametrize("option", ["model", "skeleton_model"])
def test_a_blank_name_is_a_value_error(server: FakeOpenAI, option: str, name: str) -> None:
    options = {"model": chat(server), option: name}
    with pytest.raises(ValueError, match=f"{option} is blank"):
        create_sot_graph(options.pop("model"), **options)  # type: ignore[arg-type]


class Gateway(ChatOpenAI):
    """A model of the caller's own, which its fields alone do not make."""

    _tenant: str = PrivateAttr(default="")

    def __init__(self, *, gateway: str = "http://127.0.0.1:9/v1", **options: Any) -> None:
        super().__init__(base_url=gateway, **options)

    def _get_request_payload(self, *args: Any, **options: Any) -> dict[str, Any]:
        return {**super()._get_request_payload(*args, **options), "user": self._tenant}


async def test_a_model_that_its_fields_do_not_make_stays_what_it_is(server: FakeOpenAI, run: Run) -> None:
    model = Gateway(gateway=server.url, model="fake", api_key=SecretStr("sk-test-key"))
    model._tenant = "acme"  # noqa: SLF001 - as its own code would
    await run(create_sot_graph(model), QUESTION)
    assert {request.body["user"] for request in server.requests} == {"acme"}
    assert len(server.requests) == 5


async def test_a_client_of_the_callers_own_is_used(server: FakeOpenAI, run: Run) -> None:
    own = OpenAI(base_url=server.url, api_key="sk-own-key")
    async_own = AsyncOpenAI(base_url=server.url, api_key="sk-own-key")
    clients: dict[str, Any] = {"root_client": own, "client": own.chat.completions}
    clients |= {"root_async_client": async_own, "async_client": async_own.chat.completions}
    model = ChatOpenAI(model="fake", base_url="http://127.0.0.1:9/v1", api_key=SecretStr("sk-other"), **clients)
    await run(create_sot_graph(model), QUESTION)
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-own-key"}
    own.close()
    await async_own.close()
