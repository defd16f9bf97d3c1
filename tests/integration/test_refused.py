"""Servers that refuse a part of our request: the schema of the outline, or the token counts of a stream."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langgraph.types import RetryPolicy

from sot_graph import create_sot_graph
from sot_graph.prompts import PLAIN_FORM
from tests.clients import CLIENTS, Client
from tests.script_server import HttpRequest, Part, ScriptServer, response

FAST = RetryPolicy(initial_interval=0.001, jitter=False)
QUESTION: Any = {"question": "How can I sleep better?"}
OPENAI, BEDROCK = CLIENTS["openai"], CLIENTS["bedrock"]
LIST = "1. Light\n2. Noise"


@pytest.fixture(params=["sync", "async"])
def answer(request: pytest.FixtureRequest) -> Any:
    async def run(graph: Any, *, streamed: bool = False) -> dict[str, Any]:
        mode: Any = ["values", "messages"] if streamed else ["values"]
        if request.param == "sync":
            parts = list(graph.stream(QUESTION, stream_mode=mode))
        else:
            parts = [part async for part in graph.astream(QUESTION, stream_mode=mode)]
        return dict([value for kind, value in parts if kind == "values"][-1])

    return run


def has_schema(request: HttpRequest) -> bool:
    return any(key in request.body for key in ("response_format", "tools", "toolConfig", "format"))


def outlines(http_server: ScriptServer) -> list[HttpRequest]:
    return [each for each in http_server.requests if has_schema(each) or PLAIN_FORM in str(each.body)]


def well(request: HttpRequest, client: Any = OPENAI) -> Sequence[Part]:
    if has_schema(request):
        return tuple(client.reply(request, json.dumps({"points": ["Light", "Noise"]})))
    return tuple(client.reply(request, LIST if PLAIN_FORM in str(request.body) else "There is something to say."))


def refusing(refusal: Sequence[Part], client: Any = OPENAI) -> Any:
    return lambda request: refusal if has_schema(request) else well(request, client)


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


FAILED = error("Failed to generate JSON", code="json_validate_failed", failed_generation="1. Light\n2. Noise")
REFUSALS: dict[str, Sequence[Part]] = {
    "failed generation": response(FAILED, 400),
    "empty body": response("", 400),
    "json mode": response(error("json mode is not supported for this model"), 400),
    "strict": response(error("Unrecognized request argument supplied: strict"), 400),
    "guided decoding": response(error("Guided decoding is not enabled"), 400),
    "no endpoints": response(error("No endpoints found that can handle the requested parameters."), 404),
    "another language": response(error("Параметр не поддерживается"), 422),
    "method": response("Method Not Allowed", 405, content_type="text/plain"),
    "samplers": response(error("Failed to initialize samplers: failed to parse grammar"), 500),
    "not implemented": response(error("nope"), 501),
    "no choices": response({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": []}),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_schema_may_be_refused_in_any_words(
    http_server: ScriptServer, answer: Any, kind: str, *, streamed: bool
) -> None:
    http_server.script = refusing(REFUSALS[kind])
    graph = create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST)
    result = await answer(graph, streamed=streamed)
    assert [point["title"] for point in result["points"]] == ["Light", "Noise"]
    assert [has_schema(request) for request in http_server.requests[:2]] == [True, False]
    assert len(http_server.requests) == 4


@pytest.mark.parametrize("kind", [kind for kind in REFUSALS if kind != "no choices"])
async def test_a_refused_schema_is_not_sent_again_by_the_same_graph(
    http_server: ScriptServer, answer: Any, kind: str
) -> None:
    http_server.script = refusing(REFUSALS[kind])
    graph = create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST)
    for _ in range(3):
        await answer(graph)
    assert [has_schema(request) for request in outlines(http_server)] == [True, False, False, False]
    await answer(create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST))
    assert has_schema(outlines(http_server)[4]), "another graph asks for itself"


PASSING = {
    "a web page": response("<html><script>(function(){})</script>json schema</html>", 502, content_type="text/html"),
    "another function": response(error("no healthy upstream for function 3f2a"), 503),
    "an inner error": response(error("Internal error in function worker_pool"), 500),
}


@pytest.mark.parametrize("kind", PASSING)
async def test_a_passing_fault_is_no_refusal_of_the_schema(http_server: ScriptServer, answer: Any, kind: str) -> None:
    left = [PASSING[kind]]
    http_server.script = lambda request: left.pop() if left else well(request)
    graph = create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST)
    for _ in range(2):
        await answer(graph)
    assert [has_schema(request) for request in outlines(http_server)] == [True] * 3


async def test_bedrocks_validation_exception(http_server: ScriptServer, answer: Any) -> None:
    refusal = response({"message": "This model doesn't support tool use."}, 400, x_amzn_errortype="ValidationException")
    http_server.script = refusing(refusal, BEDROCK)
    result = await answer(create_sot_graph(BEDROCK.make(http_server.url), retry_policy=FAST))
    assert [point["title"] for point in result["points"]] == ["Light", "Noise"]
    assert len(http_server.requests) == 4


@pytest.mark.parametrize("status", [401, 403])
async def test_what_is_no_refusal_of_a_schema_is_sent_once(http_server: ScriptServer, answer: Any, status: int) -> None:
    http_server.script = lambda _request: response(error("no"), status)
    with pytest.raises(Exception, match=str(status)):
        await answer(create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST))
    assert len(http_server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_overloaded_server_gets_no_more_than_the_retries(
    http_server: ScriptServer, answer: Any, status: int
) -> None:
    http_server.script = lambda _request: response(error("overloaded"), status)
    with pytest.raises(Exception, match=str(status)):
        await answer(create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST))
    assert [has_schema(request) for request in http_server.requests] == [True] * 3


async def test_a_bad_request_fails_by_itself_and_is_not_remembered(http_server: ScriptServer, answer: Any) -> None:
    http_server.script = lambda _request: response(error("This model's maximum context length is 10 tokens"), 400)
    graph = create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST)
    with pytest.raises(Exception, match="maximum context length"):
        await answer(graph)
    assert [has_schema(request) for request in http_server.requests] == [True, False]
    http_server.script = lambda request: (
        OPENAI.reply(request, json.dumps({"points": ["One", "Two"]})) if has_schema(request) else well(request)
    )
    assert len((await answer(graph))["points"]) == 2
    assert has_schema(http_server.requests[2])


# --- the token counts of a stream ----------------------------------------------------------------

COUNTS = "stream_options"
STREAM_REFUSALS = {
    "by name": response(error("Unrecognized request argument supplied: stream_options"), 400),
    "as a field": response({"detail": [{"loc": ["body", COUNTS], "msg": "Extra inputs are not permitted"}]}, 422),
    "without a name": response(error("Unknown parameter in the request body."), 400),
    "by its content": response(error("`include_usage` is not available on this deployment"), 400),
}


@pytest.mark.parametrize("kind", STREAM_REFUSALS)
async def test_stream_options_that_are_refused_are_left_out(http_server: ScriptServer, answer: Any, kind: str) -> None:
    http_server.script = lambda request: STREAM_REFUSALS[kind] if COUNTS in request.body else well(request)
    model = OPENAI.make(http_server.url, max_retries=0)
    graph = create_sot_graph(model, retry_policy=RetryPolicy(max_attempts=1), route="always")
    result = await answer(graph, streamed=True)
    assert [point["status"] for point in result["points"]] == ["written"] * 2
    before = len(http_server.requests)
    await answer(graph, streamed=True)
    assert not any(COUNTS in request.body for request in http_server.requests[before:]), "the graph remembers it"
    assert model.stream_usage is None, "the caller's own model is changed"  # type: ignore[attr-defined]


async def test_another_bad_request_of_a_stream_is_sent_once(http_server: ScriptServer, answer: Any) -> None:
    http_server.script = lambda request: response(error("bad"), 400) if request.body.get("stream") else well(request)
    with pytest.raises(Exception, match="bad"):
        await answer(
            create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST, route=lambda _: False), streamed=True
        )
    assert len(http_server.requests) == 1


# --- usage ---------------------------------------------------------------------------------------

CONVERSATION = ChatPromptTemplate.from_messages([("system", "Be brief."), MessagesPlaceholder("messages")])
WRAPPED = {
    "bound": lambda model: model.bind(stop=["###"]),
    "with fallbacks": lambda model: model.with_fallbacks([model]),
    "with retry": lambda model: model.with_retry(),
    "configured": lambda model: model.with_config(tags=["mine"]),
    "chain": lambda model: RunnableLambda(lambda messages: {"messages": messages}) | CONVERSATION | model,
    "parsed": lambda model: model | StrOutputParser(),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
async def test_the_usage_of_a_wrapped_model_as_expander_is_counted(
    http_server: ScriptServer, answer: Any, kind: str, *, streamed: bool
) -> None:
    """On a base URL of its own, ChatOpenAI leaves the counts out of streams, unless asked for them."""

    def script(request: HttpRequest) -> Sequence[Part]:
        parts = well(request)
        if COUNTS in request.body or not request.body.get("stream"):
            return parts
        return [part.replace(b'"usage"', b'"other"') for part in parts if isinstance(part, bytes)]

    http_server.script = script
    model = OPENAI.make(http_server.url)
    graph = create_sot_graph(model, expander=WRAPPED[kind](model), retry_policy=FAST)
    message = (await answer(graph, streamed=streamed))["messages"][-1]
    stages = message.response_metadata["sot"]["stages"]
    assert stages["expand"]["calls"] == 2
    assert stages["expand"]["usage"]["output_tokens"] == 4


async def test_a_chains_model_does_not_retry_below_ours(http_server: ScriptServer, answer: Any) -> None:
    model = OPENAI.make(http_server.url)
    graph = create_sot_graph(model, expander=WRAPPED["chain"](model), retry_policy=FAST, route="always")
    http_server.script = lambda request: well(request) if has_schema(request) else response({}, 503)
    with pytest.raises(Exception, match="2 of 2 points"):
        await answer(graph)
    assert len(http_server.requests) - len(outlines(http_server)) == 6


# --- the bounds of the schema ------------------------------------------------------------------------


def bounds_in(request: HttpRequest) -> list[int]:
    """The fewest and the most points of a request's schema, in the words of any provider."""
    return sorted(int(bound) for bound in re.findall(r"'m(?:in|ax)_?[iI]tems': '?(\d+)", str(request.body)))


@pytest.mark.parametrize(
    ("options", "bounds"),
    [
        ({}, [1, 10]),
        ({"route": "always"}, [3, 10]),
        ({"route": lambda _: True, "min_points": 4, "max_points": 6}, [4, 6]),
        ({"route": "always", "max_points": 2}, [2, 2]),
    ],
    ids=["auto", "always", "a function", "few"],
)
async def test_the_schema_bounds_the_outline(
    http_server: ScriptServer, answer: Any, options: dict[str, Any], bounds: list[int]
) -> None:
    http_server.script = well
    await answer(create_sot_graph(OPENAI.make(http_server.url), **options))
    assert bounds_in(outlines(http_server)[0]) == bounds


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
async def test_each_client_sends_the_bounds(http_server: ScriptServer, answer: Any, client: Client) -> None:
    http_server.script = lambda request: well(request, client)
    await answer(create_sot_graph(client.make(http_server.url), min_points=1))
    assert bounds_in(http_server.requests[0]) == [1, 10]


@pytest.mark.parametrize(
    "words",
    ["'minItems' is not permitted", "property 'maxItems' is not supported", 'Unknown name "min_items"'],
)
async def test_bounds_that_are_refused_are_left_out(http_server: ScriptServer, answer: Any, words: str) -> None:
    http_server.script = lambda request: response(error(words), 400) if bounds_in(request) else well(request)
    graph = create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST)
    for _ in range(2):
        assert [point["title"] for point in (await answer(graph))["points"]] == ["Light", "Noise"]
    assert [bool(bounds_in(request)) for request in outlines(http_server)] == [True, False, False]
    assert all(map(has_schema, outlines(http_server)))


async def test_a_schema_that_is_refused_even_without_bounds_is_left_out(http_server: ScriptServer, answer: Any) -> None:
    http_server.script = refusing(response(error("minItems, maxItems, items: not supported"), 400))
    graph = create_sot_graph(OPENAI.make(http_server.url), retry_policy=FAST)
    for _ in range(2):
        assert [point["title"] for point in (await answer(graph))["points"]] == ["Light", "Noise"]
    assert [has_schema(request) for request in outlines(http_server)] == [True, True, False, False]
