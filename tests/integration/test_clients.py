"""The clients that people have, over loopback: how replies end, which errors pass, who retries."""

from collections.abc import Sequence
from typing import Any

import pytest
from langgraph.types import RetryPolicy

from sot_graph import ExpansionError, create_sot_graph
from sot_graph.prompts import TELL_BRIEFLY
from tests.clients import CLIENTS, Client, chat_stream
from tests.script_server import HttpRequest, Part, Script, ScriptServer, response

FAST = RetryPolicy(initial_interval=0.001, jitter=False)
QUESTION: Any = {"question": "How can I sleep better?", "outline": ["Light", "Noise"]}
TEXT = "About this there is something to say."


WAYS = ["sync", "async", "sync stream", "async stream"]
PAIRS = [(name, way) for name, client in CLIENTS.items() for way in WAYS if client.can_stream or "stream" not in way]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A client, and a way to run the graph."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def client(pair: tuple[str, str]) -> Client:
    return CLIENTS[pair[0]]


@pytest.fixture
def way(pair: tuple[str, str]) -> str:
    return pair[1]


async def answer(graph: Any, way: str, given: Any = None) -> dict[str, Any]:
    """Run the graph in one of four ways; a streamed one is read in "values" and "messages" mode."""
    given, modes, result = given or QUESTION, ["values", "messages"], None
    if way == "sync":
        result = graph.invoke(given)
    elif way == "async":
        result = await graph.ainvoke(given)
    elif way == "sync stream":
        result = [part for mode, part in graph.stream(given, stream_mode=modes) if mode == "values"][-1]
    else:
        result = [part async for mode, part in graph.astream(given, stream_mode=modes) if mode == "values"][-1]
    return dict(result)


def asks_for_first(request: HttpRequest) -> bool:
    return TELL_BRIEFLY.format(title="Light") in str(request.body)


def first_point(client: Client, *replies: Sequence[Part]) -> Script:
    """Answer the requests for the first point with these replies, in order, and all others well."""
    left = list(replies)

    def script(request: HttpRequest) -> Sequence[Part]:
        if asks_for_first(request) and left:
            return left.pop(0)
        return client.reply(request, TEXT)

    return script


def ended(client: Client, end: str | None, text: str = "Half a") -> Any:
    """A script whose first reply for the first point ends for this reason."""
    state = {"is_first": True}

    def script(request: HttpRequest) -> Sequence[Part]:
        if asks_for_first(request) and state.pop("is_first", False):
            return client.reply(request, text, end)
        return client.reply(request, TEXT)

    return script


async def test_a_good_end_is_whole(http_server: ScriptServer, client: Client, way: str) -> None:
    http_server.script = lambda request: client.reply(request, TEXT)
    result = await answer(create_sot_graph(client.make(http_server.url), retry_policy=FAST), way)
    assert [(point["text"], point["status"]) for point in result["points"]] == [(TEXT, "written")] * 2
    usage = result["messages"][-1].usage_metadata
    assert usage["output_tokens"] == 4
    assert len(http_server.requests) == 2


async def test_an_unknown_end_is_retried(http_server: ScriptServer, client: Client, way: str) -> None:
    http_server.script = ended(client, client.broken)
    result = await answer(create_sot_graph(client.make(http_server.url), retry_policy=FAST), way)
    assert [point["status"] for point in result["points"]] == ["written"] * 2
    assert TEXT.rsplit(maxsplit=1)[-1] in result["points"][0]["text"]
    assert len(http_server.requests) == 3


async def test_a_length_end_is_truncated(http_server: ScriptServer, client: Client, way: str) -> None:
    http_server.script = ended(client, client.length)
    result = await answer(create_sot_graph(client.make(http_server.url), retry_policy=FAST), way)
    assert [(point["text"], point["status"]) for point in result["points"]] == [
        ("Half a", "truncated"),
        (TEXT, "written"),
    ]
    assert len(http_server.requests) == 2


async def test_a_filters_end_is_a_refusal(http_server: ScriptServer, client: Client, way: str) -> None:
    http_server.script = ended(client, client.filtered)
    graph = create_sot_graph(client.make(http_server.url), retry_policy=FAST)
    with pytest.raises(ExpansionError, match=r"refused|content filter") as raised:
        await answer(graph, way)
    assert [point["title"] for point in raised.value.failed] == ["Light"]
    assert len(http_server.requests) == 2


# Servers that speak OpenAI's protocol, but not as OpenAI does.
CHAT = [pair for pair in PAIRS if CLIENTS[pair[0]].streamed is chat_stream]
in_chat = pytest.mark.parametrize("pair", CHAT, ids="-".join)


@in_chat
async def test_no_reason_is_whole(http_server: ScriptServer, client: Client, way: str) -> None:
    http_server.script = lambda request: client.reply(request, TEXT, "")
    result = await answer(create_sot_graph(client.make(http_server.url), retry_policy=FAST), way)
    assert [point["status"] for point in result["points"]] == ["written"] * 2
    assert len(http_server.requests) == 2


@in_chat
@pytest.mark.parametrize(("end", "status"), [("stop", "written"), ("length", "truncated"), ("content_filter", None)])
async def test_a_reason_sent_twice_counts_once(
    http_server: ScriptServer, client: Client, way: str, end: str, status: str | None
) -> None:
    def twice(request: HttpRequest) -> Sequence[Part]:
        parts = list(client.reply(request, TEXT, end))
        return [*parts[:4], *parts[3:]] if request.body.get("stream") else parts

    http_server.script = twice
    graph = create_sot_graph(client.make(http_server.url), retry_policy=FAST, on_error="keep")
    if status is None:
        with pytest.raises(ExpansionError, match=r"refused|content filter"):
            await answer(graph, way)
    else:
        assert [point["status"] for point in (await answer(graph, way))["points"]] == [status] * 2
    assert len(http_server.requests) == 2


# --- errors --------------------------------------------------------------------------------------


# Each client whole and streamed, sync and async; not all four of them, for the time that they take.
FEWER = [
    pair for pair in PAIRS if pair[1] == "sync" or pair[1] == ("async stream" if pair[0] != "bedrock" else "async")
]
in_fewer_ways = pytest.mark.parametrize("pair", FEWER, ids="-".join)


def failing(status: int, **headers: str) -> Sequence[Part]:
    error = {"message": "a fault of the test's", "type": "test", "code": status, "status": "TEST"}
    return response({"error": error, "message": "a fault of the test's"}, status, **headers)


@in_fewer_ways
@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
async def test_our_policy_is_the_one_that_counts(
    http_server: ScriptServer, client: Client, way: str, *, used: bool
) -> None:
    """A client keeps no retries below ours, or they are counted; also if it was made and used before the graph."""
    model = client.make(http_server.url)
    if used:
        http_server.script = lambda request: client.reply(request, TEXT)
        model.invoke("Hi")
        http_server.requests.clear()
    http_server.script = first_point(client, *[failing(503)] * 9)
    graph = create_sot_graph(model, retry_policy=FAST, on_error="keep")
    result = await answer(graph, way)
    assert [point["status"] for point in result["points"]] == ["failed", "written"]
    assert sum(map(asks_for_first, http_server.requests)) == 3


@in_fewer_ways
@pytest.mark.parametrize("status", [408, 429, 529])
async def test_what_may_pass_is_retried(http_server: ScriptServer, client: Client, way: str, status: int) -> None:
    http_server.script = first_point(client, failing(status))
    result = await answer(create_sot_graph(client.make(http_server.url), retry_policy=FAST), way)
    assert [point["status"] for point in result["points"]] == ["written"] * 2


@in_fewer_ways
@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_stays_is_not_retried(http_server: ScriptServer, client: Client, way: str, status: int) -> None:
    http_server.script = first_point(client, *[failing(status)] * 9)
    graph = create_sot_graph(client.make(http_server.url), retry_policy=FAST, on_error="keep")
    result = await answer(graph, way)
    assert [point["status"] for point in result["points"]] == ["failed", "written"]
    assert sum(map(asks_for_first, http_server.requests)) == 1


CUT = [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n", b'{"id": ']
WITHOUT_ANSWER: dict[str, Sequence[Part]] = {
    "choices []": response({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": []}),
    "choices null": response({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": None}),
    "error object": response({"error": {"message": "Provider overloaded", "code": 502}}),
    "web page": response("<html>Bad gateway</html>", content_type="text/html"),
    "cut off": CUT,
    "closed": [],
}


@in_fewer_ways
@pytest.mark.parametrize("fault", WITHOUT_ANSWER)
async def test_200_without_an_answer_is_retried(
    http_server: ScriptServer, client: Client, way: str, fault: str
) -> None:
    http_server.script = first_point(client, WITHOUT_ANSWER[fault])
    result = await answer(create_sot_graph(client.make(http_server.url), retry_policy=FAST), way)
    assert [point["status"] for point in result["points"]] == ["written"] * 2
    assert len(http_server.requests) >= 3
