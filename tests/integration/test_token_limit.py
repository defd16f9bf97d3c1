"""The token limit of a call: in each client's own words, only where there is none, and left out where it does harm."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langgraph.types import RetryPolicy

from sot_graph import create_sot_graph, stream_answer
from tests.clients import CLIENTS
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import Run
from tests.script_server import HttpRequest, Part, ScriptServer

QUESTION: Any = {"question": "How can I sleep better?"}
ONCE = RetryPolicy(max_attempts=1)
FIELD = "max_completion_tokens"
NAMES = {"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "num_predict", "maxTokens"}
SENT = {"anthropic": None, "ollama": "num_predict", "gemini": "maxOutputTokens", "bedrock": "maxTokens"}


def limits(body: Any) -> dict[str, int]:
    """The limits in a request, wherever its client writes them."""
    inner = [limits(value) for value in body.values() if isinstance(value, dict)]
    own = {key: value for key, value in body.items() if key in NAMES and value is not None}
    return {key: value for each in [*inner, own] for key, value in each.items()}


def limits_of(server: FakeOpenAI, stage: str) -> list[int | None]:
    return [request.body.get(FIELD) for request in server.of_stage(stage)]


# --- where it is set ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENTS)
async def test_each_client_sends_it_in_its_own_words(http_server: ScriptServer, run: Run, name: str) -> None:
    client = CLIENTS[name]

    def script(request: HttpRequest) -> Sequence[Part]:
        has_schema = any(key in str(request.body) for key in ("chema", "tools", "toolConfig", "format"))
        return client.reply(request, json.dumps({"points": ["Light", "Noise"]}) if has_schema else "A text.")

    http_server.script = script
    model = client.make(http_server.url)
    before = model.model_dump()
    await run(create_sot_graph(model, route="always", max_tokens=2000), QUESTION)
    sent = [limits(request.body) for request in http_server.requests]
    if name == "anthropic":  # it has a default of its own
        assert len({each["max_tokens"] for each in sent}) == 1
        assert sent[0]["max_tokens"] not in {1024, 2000}
    else:
        assert [[*each.values()] for each in sent] == [[1024], [2000], [2000]], sent
    assert model.model_dump() == before, "the caller's own model is changed"


async def test_it_holds_for_outline_points_and_opening(server: FakeOpenAI, run: Run) -> None:
    await run(create_sot_graph(server.model(), route="always", lead=True), QUESTION)
    assert {*limits_of(server, "skeleton")} == {1024}
    assert {*limits_of(server, "expand"), *limits_of(server, "direct")} == {4096, 256}, (
        "the opening, to this server, is a direct answer"
    )


async def test_a_direct_answer_may_be_long(server: FakeOpenAI, run: Run) -> None:
    await run(create_sot_graph(server.model(), route=lambda _: False), QUESTION)
    assert limits_of(server, "direct") == [None]


async def test_the_outline_has_no_more_than_the_limit(server: FakeOpenAI, run: Run) -> None:
    await run(create_sot_graph(server.model(), max_tokens=500), QUESTION)
    assert {*limits_of(server, "skeleton"), *limits_of(server, "expand")} == {500}


async def test_nor_has_the_opening(server: FakeOpenAI, run: Run) -> None:
    for model, most, expected in ((server.model(), 77, 77), (server.model(max_tokens=500), 4096, 500)):
        await run(create_sot_graph(model, lead=True, max_tokens=most), QUESTION)
        assert limits_of(server, "direct")[-1] == expected


async def test_none_sets_none(server: FakeOpenAI, run: Run) -> None:
    await run(create_sot_graph(server.model(), max_tokens=None), QUESTION)
    assert {*limits_of(server, "skeleton"), *limits_of(server, "expand")} == {None}


OWN: dict[str, tuple[Callable[[FakeOpenAI], Any], dict[str, int]]] = {
    "field": (lambda server: server.model(max_tokens=77), {FIELD: 77}),
    "model_kwargs": (lambda server: server.model().model_copy(update={"model_kwargs": {FIELD: 77}}), {FIELD: 77}),
    "extra_body": (lambda server: server.model(extra_body={"max_tokens": 77}), {"max_tokens": 77}),
    "binding": (lambda server: server.model().bind(max_tokens=77), {FIELD: 77}),
    "binding of another name": (lambda server: server.model().bind(max_completion_tokens=77), {FIELD: 77}),
    "binding, configured": (lambda server: server.model().bind(max_tokens=77).with_config(tags=["x"]), {FIELD: 77}),
    "nested": (lambda server: server.model().bind(extra_body={"max_tokens": 77}), {"max_tokens": 77}),
}


@pytest.mark.parametrize("kind", OWN)
async def test_a_limit_of_the_models_own_stays(server: FakeOpenAI, run: Run, kind: str) -> None:
    make, expected = OWN[kind]
    await run(create_sot_graph(make(server)), QUESTION)
    assert [limits(request.body) for request in server.requests] == [expected] * 5


async def test_each_fallback_has_its_own(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply(status=500) if request.body["model"] == "a" else usual(request)
    first = server.model().model_copy(update={"model_name": "a"}).bind(max_tokens=77)
    await run(create_sot_graph(first.with_fallbacks([server.model()])), QUESTION)
    assert {(request.body["model"], request.body[FIELD]) for request in server.of_stage("expand")} == {
        ("a", 77),
        ("fake", 4096),
    }


@pytest.mark.parametrize("chosen", [None, 77])
async def test_a_configurable_model(server: FakeOpenAI, run: Run, chosen: int | None) -> None:
    model = server.model().configurable_fields(max_tokens=ConfigurableField(id="most"))
    await run(create_sot_graph(model), QUESTION, {"configurable": {"most": chosen} if chosen else {}})
    assert {*limits_of(server, "expand")} == {chosen or 4096}
    assert {*limits_of(server, "skeleton")} == {chosen or 1024}


async def test_a_chain_as_expander_has_none_and_a_model_has(server: FakeOpenAI, run: Run) -> None:
    model = server.model()
    await run(create_sot_graph(model, expander=RunnableLambda(lambda messages: messages) | model), QUESTION)
    assert {*limits_of(server, "expand")} == {None}
    await run(create_sot_graph(model, expander=model), QUESTION)
    assert [*limits_of(server, "expand")][4:] == [4096] * 4


# --- refused --------------------------------------------------------------------------------------

REFUSALS = {
    "by name": "Unsupported parameter: 'max_completion_tokens' is not supported with this model.",
    "as unknown": "Unrecognized request argument supplied: max_completion_tokens",
    "without a name": "Unknown parameter in the request body.",
    "too large": "max_tokens is too large: 4096. This model supports at most 2048 completion tokens.",
    "does not fit": "maximum context length is 4097 tokens; you requested 4200 (104 in the messages, 4096 in the "
    "completion).",
}


def refusing(message: str, status: int = 400) -> Callable[[Request], Reply]:
    return lambda request: Reply(status=status, message=message) if FIELD in request.body else usual(request)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_limit_that_is_refused_is_left_out(server: FakeOpenAI, run: Run, kind: str, *, streamed: bool) -> None:
    server.script = refusing(REFUSALS[kind])
    model = server.model()
    graph = create_sot_graph(model, retry_policy=ONCE)
    for runs in range(2):
        before = len(server.requests)
        result = "".join(stream_answer(graph, QUESTION)) if streamed else (await run(graph, QUESTION))["answer"]
        assert result.count("there is this to say") == 4
        if runs:
            assert not any(FIELD in request.body for request in server.requests[before:]), "the graph remembers it"
    if kind != "without a name":
        assert all("response_format" in request.body for request in server.of_stage("skeleton")), "the schema stays"
        assert all(request.body.get("stream_options") for request in server.requests if request.body.get("stream"))
    assert model.max_tokens is None


async def test_a_configurable_models_refusal_is_remembered_too(server: FakeOpenAI, run: Run) -> None:
    server.script = refusing(REFUSALS["by name"], 422)
    graph = create_sot_graph(server.model().configurable_fields(temperature=ConfigurableField(id="t")))
    for _ in range(2):
        before = len(server.requests)
        await run(graph, QUESTION, {"configurable": {"t": 0.5}})
    assert not any(FIELD in request.body for request in server.requests[before:])


async def test_a_limit_of_the_callers_own_is_never_left_out(server: FakeOpenAI, run: Run) -> None:
    server.script = refusing(REFUSALS["by name"])
    with pytest.raises(Exception, match="Unsupported parameter"):
        await run(create_sot_graph(server.model(max_tokens=77), retry_policy=ONCE), QUESTION)
    assert all(FIELD in request.body for request in server.requests)


async def test_counts_and_limit_may_be_refused_both(server: FakeOpenAI) -> None:
    def script(request: Request) -> Reply:
        for name in ("stream_options", FIELD):
            if name in request.body:
                return Reply(status=400, message=f"Unknown parameter: {name}")
        return usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=ONCE)
    given: Any = {**QUESTION, "outline": ["Light"]}
    assert "".join(stream_answer(graph, given)) == "About light there is this to say."
    assert len(server.requests) == 3


# --- a thinking model -----------------------------------------------------------------------------


def thinking(stage: str, text: str) -> Callable[[Request], Reply]:
    """A model whose thoughts take more tokens than the limit, and leave this text."""

    def script(request: Request) -> Reply:
        spent = request.stage == stage and FIELD in request.body
        return Reply(text, finish="length") if spent else usual(request)

    return script


@pytest.mark.parametrize("text", ["", "  ", "<think>I should say that"])
async def test_a_limit_that_the_thoughts_have_spent_is_left_out(server: FakeOpenAI, run: Run, text: str) -> None:
    server.script = thinking("expand", text)
    graph = create_sot_graph(server.model(), retry_policy=ONCE, route="always")
    result = await run(graph, QUESTION)
    assert {point["status"] for point in result["points"]} <= {"written"}
    assert result["answer"]
    assert result["messages"][-1].response_metadata["sot"]["calls"] == len(server.requests), "each is counted"
    before = len(server.requests)
    await run(graph, QUESTION)
    assert not any(FIELD in request.body for request in server.requests[before:] if request.stage == "expand")


async def test_a_streamed_text_whose_limit_is_spent(server: FakeOpenAI) -> None:
    server.script = thinking("expand", "<think>I should say that")
    answer = "".join(stream_answer(create_sot_graph(server.model(), retry_policy=ONCE), QUESTION))
    assert answer == "\n\n".join(f"About {title.lower()} there is this to say." for title in TITLES)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("text", ["", '{"points": ["Regular sl'])
async def test_an_outline_that_was_cut_off_before_its_first_title(
    server: FakeOpenAI, run: Run, text: str, *, plain: bool
) -> None:
    def script(request: Request) -> Reply:
        if plain and "response_format" in request.body:
            return Reply(status=400, message="no response_format")
        return thinking("skeleton", text)(request)

    server.script = script
    graph = create_sot_graph(server.model(), retry_policy=ONCE)
    result = await run(graph, QUESTION)
    assert [point["title"] for point in result["points"]] == TITLES
    stage = result["messages"][-1].response_metadata["sot"]["stages"]["skeleton"]
    assert stage["calls"] == len(server.of_stage("skeleton")) == 2 + plain
    assert stage["usage"]["output_tokens"] > len(outline_json(TITLES).split(" ")), "what was cut off was paid for"
    await run(graph, QUESTION)
    assert len(server.of_stage("skeleton")) == 3 + plain, "the graph remembers it"
    assert {*limits_of(server, "expand")} == {4096}, "of the outline's call only"


@pytest.mark.parametrize("own", [{"max_tokens": 100}, {"max_completion_tokens": 100}])
async def test_a_limit_of_the_callers_own_is_no_reason_to_pay_more(
    server: FakeOpenAI, run: Run, own: dict[str, Any]
) -> None:
    server.script = thinking("expand", "")
    with pytest.raises(Exception, match="token limit"):
        await run(create_sot_graph(server.model(**own), retry_policy=ONCE), {**QUESTION, "outline": ["Light"]})
    assert len(server.requests) == 1


async def test_a_text_that_is_cut_off_is_kept(server: FakeOpenAI, run: Run) -> None:
    server.script = thinking("expand", "The beginning of a")
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert {(point["text"], point["status"]) for point in result["points"]} == {("The beginning of a", "truncated")}
    assert len(server.requests) == 5


async def test_titles_that_are_whole_are_read_from_an_outline_that_was_cut_off(server: FakeOpenAI, run: Run) -> None:
    server.script = thinking("skeleton", outline_json(TITLES)[:50])
    result = await run(create_sot_graph(server.model()), QUESTION)
    assert [point["title"] for point in result["points"]] == TITLES[:2]
    assert len(server.of_stage("skeleton")) == 1
