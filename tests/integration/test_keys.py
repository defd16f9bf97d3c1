"""No key and no header is told: not in what arrives at LangSmith, not in errors, not in the points."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langgraph.types import RetryPolicy
from pydantic import SecretStr

from sot_graph import ExpansionError, create_sot_graph
from tests.agents import Around
from tests.fake_openai import TITLES, Asked, FakeOpenAI, Reply, usual
from tests.integration.conftest import Run
from tests.langsmith_sink import Sink

KEY = "sk-test-key"
OWN_KEY = "own-secret-1"
QUESTION = {"question": "How can I sleep better?"}
ONCE = RetryPolicy(max_attempts=1)


def own_model(server: FakeOpenAI, **options: Any) -> Any:
    """A model of the caller's own, which the graph does not make."""
    return server.model(max_retries=0, **options).model_copy(update={"openai_api_key": SecretStr(OWN_KEY)})


def refusing(*secrets: str, title: str = TITLES[0]) -> Callable[[Asked], Reply]:
    """A server that refuses one point, and says back what it was sent."""
    return lambda asked: Reply(status=401, message=f"Wrong: {secrets}") if asked.title == title else usual(asked)


async def test_no_key_is_in_a_trace(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    """A server may say back the key that it refuses, and clients put that into their errors."""
    headers = {"x-auth": "header-secret-1", "user-agent": "tests"}
    more = {"extra_headers": {"x-more": "header-secret-2"}}
    server.script = refusing(KEY, *headers.values(), *more["extra_headers"].values())
    server.url = server.url.replace("://", "://user:url-secret-1@")
    graph = create_sot_graph(server.model(default_headers=headers, model_kwargs=more), on_error="keep")
    result = await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    assert len(sink.of_type("llm")) == 5
    assert b"Wrong" in sink.received
    for name, value in {"x-auth": "header-secret-1", "x-more": "header-secret-2"}.items():
        assert {asked.headers[name] for asked in server.asked} == {value}, "the calls have it"
    for secret in (KEY, "header-secret", "url-secret-1", "lsv2-test-key"):
        assert secret.encode() not in sink.received
        assert secret not in str(result["points"])


async def test_a_key_in_the_skeletons_error_is_not_told(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    server.script = lambda _: Reply(status=401, message=f"Refused ({KEY})")
    with pytest.raises(openai.AuthenticationError):
        await run(create_sot_graph(server.model()), QUESTION, {"callbacks": [sink.tracer()]})
    sink.client.flush()
    assert b"Refused" in sink.received
    assert KEY.encode() not in sink.received


EXPANDERS: dict[str, Callable[[Any], Any]] = {
    "function": lambda model: RunnableLambda(model.invoke, model.ainvoke),
    "closure": lambda model: lambda messages: model.invoke(list(messages)),
    "binding": lambda model: model.bind(stop=["---"]),
    "fallbacks": lambda model: model.with_fallbacks([model]),
    "chain": lambda model: RunnableLambda(lambda messages: messages) | model,
    "agent": lambda model: create_agent(model, []),
    "graph of ours": lambda model: create_sot_graph(model, route=lambda _: False),
}


@pytest.mark.parametrize("made", EXPANDERS.values(), ids=EXPANDERS)
async def test_a_key_of_a_model_that_writes_points_is_not_told(
    server: FakeOpenAI, run: Run, sink: Sink, made: Callable[[Any], Runnable[Any, Any]]
) -> None:
    def script(asked: Asked) -> Reply:
        is_first = f"number 1: {TITLES[0]}" in asked.prompt
        return Reply(status=401, message=f"Refused ({OWN_KEY})") if is_first else usual(asked)

    server.script = script
    graph = create_sot_graph(server.model(), expander=made(own_model(server)), on_error="keep")
    result = await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    assert "Refused (***)" in result["points"][0]["error"]
    assert [each for each in sink.all_runs() if "Refused (***)" in each.get("error", "")]
    assert OWN_KEY.encode() not in sink.received


@pytest.mark.parametrize("option", ["route", "merge"])
async def test_a_key_of_a_model_that_decides_or_merges_is_not_told(
    server: FakeOpenAI, run: Run, sink: Sink, option: str
) -> None:
    server.script = lambda asked: (
        Reply(status=401, message=f"Refused ({OWN_KEY})") if asked.stage == "direct" else usual(asked)
    )
    own = RunnableLambda(lambda _: "Say something.") | own_model(server)
    options: Any = {option: own}
    with pytest.raises(openai.AuthenticationError, match=r"Refused \(\*\*\*\)"):
        await run(create_sot_graph(server.model(), **options), QUESTION, {"callbacks": [sink.tracer()]})
    sink.client.flush()
    assert b"Refused (***)" in sink.received
    assert OWN_KEY.encode() not in sink.received


async def test_a_key_of_the_environment_is_not_told(
    server: FakeOpenAI, run: Run, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "key-of-the-environment")
    server.script = refusing("key-of-the-environment")
    graph = create_sot_graph(server.model(), on_error="keep")
    result = await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    sink.client.flush()
    assert "***" in result["points"][0]["error"]
    assert b"key-of-the-environment" not in sink.received


def refuse(_: Any) -> str:
    raise RuntimeError(*REFUSED)


REFUSED = ["Refused (key-of-the-environment)"]


@tool
def look_up(topic: str) -> str:
    """Look a topic up."""
    return refuse(topic)


@pytest.mark.parametrize("option", ["expander", "merge", "route", "a tool of an agent"])
async def test_a_key_in_an_error_of_the_callers_own_is_not_told(
    server: FakeOpenAI, run: Run, sink: Sink, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "key-of-the-environment")
    server.script = lambda asked: (
        Reply(None, finish="tool_calls", calls=[("look_up", {"topic": "x"})])
        if asked.stage == "agent"
        else usual(asked)
    )
    options: Any = {option: refuse} if option in {"expander", "merge", "route"} else {}
    graph = create_sot_graph(server.model(), **(options or {"expander": create_agent(own_model(server), [look_up])}))
    with pytest.raises((RuntimeError, ExpansionError), match=r"Refused \(\*\*\*\)"):
        await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    sink.client.flush()
    assert b"Refused (***)" in sink.received
    assert b"key-of-the-environment" not in sink.received


async def test_no_trace_tells_a_key_of_the_config(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    keys = {"openai_api_key": "told-secret-1", "userToken": "told-secret-2", "customer": "seven"}
    await run(create_sot_graph(server.model()), QUESTION, {"callbacks": [sink.tracer()], "configurable": keys})
    assert {each["extra"]["metadata"]["customer"] for each in sink.all_runs()} == {"seven"}
    assert b"told-secret" not in sink.received


SERVER_TOOL = {"type": "mcp", "headers": {"X-API-Key": "told-secret-1"}, "authorization": "told-secret-2"}
SETTINGS: dict[str, dict[str, Any]] = {
    "headers": {"default_headers": {"x-auth": "told-secret-1"}},
    "headers of a call": {"model_kwargs": {"extra_headers": {"x-more": "told-secret-1"}}},
    "a tool of the server's": {"extra_body": {"servers": [SERVER_TOOL]}},
    "body": {"extra_body": {"api_key": "told-secret-1", "gateway": {"clientSecret": "told-secret-2"}}},
    "query": {"default_query": {"subscription-key": "told-secret-1"}},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_no_trace_tells_what_a_model_is_made_with(
    server: FakeOpenAI, run: Run, sink: Sink, settings: dict[str, Any]
) -> None:
    """Whether the graph makes it, or an expander asks it."""
    for expander in (None, RunnableLambda(server.model(**settings).invoke), server.model(**settings).bind(stop=["-"])):
        graph = create_sot_graph(server.model(**settings), expander=expander)
        await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    assert len(sink.of_type("llm")) == 15
    assert b"told-secret" not in sink.received


async def test_no_trace_tells_what_a_model_is_bound_to(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    bound = server.model().bind(extra_headers={"x-more": "bound-secret-1"})
    await run(create_sot_graph(server.model(), expander=bound), QUESTION, {"callbacks": [sink.tracer()]})
    assert {asked.headers["x-more"] for asked in server.of_stage("expand")} == {"bound-secret-1"}, "the calls have it"
    assert len(sink.of_type("llm")) == 5
    assert b"bound-secret-1" not in sink.received


async def test_no_trace_tells_the_headers_of_a_refusal(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    server.script = lambda asked: (
        Reply(status=400, headers={"set-cookie": "session=cookie-secret-1"})
        if asked.title == TITLES[0]
        else usual(asked)
    )
    graph = create_sot_graph(server.model(), on_error="keep")
    await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    assert [each for each in sink.of_type("llm") if each.get("error")]
    assert b"cookie-secret-1" not in sink.received


class Keyed(Around):
    """Of a class that LangChain cannot serialize, which is told by its repr."""

    token: str = "plain-secret-1"


@pytest.mark.parametrize(
    "made", [lambda model: model.invoke, lambda model: model.bind(stop=["---"]), lambda model: create_agent(model, [])]
)
async def test_a_model_around_another_is_one_call_in_what_writes_points(
    server: FakeOpenAI, run: Run, made: Callable[[Any], Any]
) -> None:
    server.script = lambda asked: usual(asked) if asked.stage == "skeleton" else Reply("A text of five words.")
    graph = create_sot_graph(server.model(), expander=made(Around(inner=server.model())))
    message = (await run(graph, QUESTION))["messages"][-1]
    assert (message.response_metadata["sot"]["calls"], len(server.asked)) == (5, 5)
    assert message.response_metadata["sot"]["stages"]["expand"]["usage"]["output_tokens"] == 4 * 5


async def test_a_model_around_another_is_one_call_and_its_keys_are_not_told(
    server: FakeOpenAI, run: Run, sink: Sink
) -> None:
    server.script = refusing(OWN_KEY, "plain-secret-1")
    own = own_model(server, default_headers={"x-auth": "header-secret-1"})
    graph = create_sot_graph(Keyed(inner=own.bind(stop=["---"])), on_error="keep", retry_policy=ONCE)
    result = await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    assert "***" in result["points"][0]["error"]
    inner = [each for each in sink.of_type("llm") if each["name"] == "ChatOpenAI"]
    assert {each["extra"]["metadata"]["sot_stage"] for each in inner} == {"skeleton", "expand"}
    message = result["messages"][-1]
    assert message.response_metadata["sot"]["calls"] == len(server.asked)
    good = [each for each in inner if not each.get("error")]
    assert message.usage_metadata["total_tokens"] == sum(
        each["outputs"]["generations"][0][0]["message"]["kwargs"]["usage_metadata"]["total_tokens"] for each in good
    )
    for secret in (OWN_KEY, "plain-secret-1", "header-secret-1"):
        assert secret.encode() not in sink.received
