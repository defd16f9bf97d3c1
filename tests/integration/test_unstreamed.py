"""The model streams only where somebody reads the run; replies are checked and measured the same in both forms."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import RunnableConfig
from langgraph.types import RetryPolicy

from sot_graph import (
    ExpansionError,
    SkeletonOfThoughtMiddleware,
    SotInput,
    astream_answer,
    create_sot_graph,
    create_sot_tool,
    stream_answer,
)
from tests.agents import OUTLINED, calling, lookup, playing
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import Run, parent_of
from tests.langsmith_sink import Sink

QUESTION: SotInput = {"question": "How can I sleep better?"}
MESSAGES = {"messages": [{"role": "user", "content": "How can I sleep better?"}]}
TEXTS = [f"About {title.lower()} there is this to say." for title in TITLES]
ANSWER = "\n\n".join(TEXTS)
OUTPUT_TOKENS = sum(len(reply.split(" ")) for reply in [outline_json(TITLES), *TEXTS])
QUICK = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False)
FORMS = ["not streamed", "streamed"]


def assert_unstreamed(server: FakeOpenAI) -> None:
    assert server.requests
    assert not any(request.body.get("stream") for request in server.requests), "nobody reads, and the model streams"


def assert_streamed(server: FakeOpenAI, stage: str = "expand") -> None:
    """Check that the text's calls were streamed; the outline's are not, because nobody reads JSON."""
    assert server.of_stage(stage)
    assert all(request.body.get("stream") for request in server.of_stage(stage)), (
        "somebody reads, and the model does not"
    )


def collecting(is_async: bool) -> Any:  # noqa: FBT001 - a fixture's parameter
    async def stream(graph: Any, given: Any, config: RunnableConfig | None = None, **options: Any) -> list[Any]:
        if is_async:
            return [part async for part in graph.astream(given, config, **options)]
        return list(graph.stream(given, config, **options))

    return stream


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def collect(request: pytest.FixtureRequest) -> Any:
    """Collect what a graph streams, once by `stream` and once by `astream`."""
    return collecting(request.param)


# --- nobody reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"headings": True}, {"route": lambda _: False}])
async def test_an_invoked_run_does_not_stream(server: FakeOpenAI, run: Run, options: dict[str, Any]) -> None:
    await run(create_sot_graph(server.model(), **options), QUESTION)
    assert_unstreamed(server)


async def test_only_the_opening_streams_so_that_it_can_end_early(server: FakeOpenAI, run: Run) -> None:
    await run(create_sot_graph(server.model(), lead=True), QUESTION)
    streamed = [request.stage for request in server.requests if request.body.get("stream")]
    assert streamed == ["direct"], "to this server, the opening is a direct answer"


async def test_a_batch_does_not_stream(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    results = graph.batch([QUESTION] * 2) + await graph.abatch([QUESTION] * 2)
    assert [result["answer"] for result in results] == [ANSWER] * 4
    assert len(server.requests) == 20
    assert_unstreamed(server)


async def test_a_tool_call_of_an_agent_does_not_stream(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling(("write_long_answer", QUESTION)), Reply("Here it is."))  # type: ignore[arg-type]
    agent = create_agent(server.model(), [create_sot_tool(create_sot_graph(server.model()))])
    await run(agent, MESSAGES)
    assert len(server.of_stage("expand")) == 4
    assert_unstreamed(server)


async def test_the_middleware_does_not_stream(server: FakeOpenAI, run: Run) -> None:
    playing(server, OUTLINED)
    agent = create_agent(server.model(), [lookup], middleware=[SkeletonOfThoughtMiddleware(server.model())])
    assert (await run(agent, MESSAGES))["messages"][-1].text == ANSWER
    assert_unstreamed(server)


async def test_a_node_of_a_parent_does_not_stream(server: FakeOpenAI, run: Run) -> None:
    result = await run(parent_of(create_sot_graph(server.model())), MESSAGES)
    assert result["messages"][-1].content == ANSWER
    assert_unstreamed(server)


@pytest.mark.parametrize("mode", ["values", "updates", "tasks", "debug"])
async def test_modes_without_tokens_do_not_stream(server: FakeOpenAI, collect: Any, mode: str) -> None:
    await collect(create_sot_graph(server.model()), QUESTION, stream_mode=mode)
    assert_unstreamed(server)


async def test_a_tracer_alone_does_not_stream(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    await run(create_sot_graph(server.model()), QUESTION, {"callbacks": [sink.tracer()]})
    assert_unstreamed(server)
    assert len(sink.of_type("llm")) == 5


class Ends(BaseCallbackHandler):
    """Wants no tokens."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_llm_end(self, response: Any, **_kwargs: Any) -> None:
        self.texts.append(response.generations[0][0].text)


async def test_a_callback_without_tokens_does_not_stream(server: FakeOpenAI, run: Run) -> None:
    ends = Ends()
    await run(create_sot_graph(server.model()), QUESTION, {"callbacks": [ends]})
    assert_unstreamed(server)
    assert set(ends.texts) >= set(TEXTS)


@pytest.fixture
def llm_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("llm_cache")
async def test_langchains_own_cache_answers_the_second_run(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model())
    first = await run(graph, QUESTION)
    assert len(server.requests) == 5
    second = await run(graph, QUESTION)
    assert len(server.requests) == 5, "the cache has all replies"
    assert first["answer"] == second["answer"] == ANSWER


# --- somebody reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["custom", "messages", ["values", "custom"], ["updates", "messages"]], ids=str)
async def test_modes_with_tokens_stream(server: FakeOpenAI, collect: Any, mode: Any) -> None:
    await collect(create_sot_graph(server.model()), QUESTION, stream_mode=mode)
    assert_streamed(server)


@pytest.mark.parametrize(("options", "stage"), [({"lead": True}, "expand"), ({"route": lambda _: False}, "direct")])
async def test_all_texts_are_streamed(server: FakeOpenAI, collect: Any, options: dict[str, Any], stage: str) -> None:
    await collect(create_sot_graph(server.model(), **options), QUESTION, stream_mode="custom")
    assert_streamed(server, stage)
    assert_streamed(server, "direct" if options else stage)  # the opening, to this server, is a direct answer


async def test_stream_answer_streams(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    assert "".join(stream_answer(graph, QUESTION)) == ANSWER
    assert "".join([chunk async for chunk in astream_answer(graph, QUESTION)]) == ANSWER
    assert len(server.of_stage("expand")) == 8
    assert_streamed(server)


@pytest.mark.parametrize("mode", ["custom", "messages"])
async def test_a_parent_that_is_streamed_with_its_subgraphs_streams(
    server: FakeOpenAI, collect: Any, mode: str
) -> None:
    await collect(parent_of(create_sot_graph(server.model())), MESSAGES, stream_mode=mode, subgraphs=True)
    assert_streamed(server)


@pytest.mark.parametrize("mode", ["custom", "messages"])
async def test_an_agents_tool_that_is_streamed_streams(server: FakeOpenAI, collect: Any, mode: str) -> None:
    playing(server, OUTLINED)
    agent = create_agent(server.model(), [lookup], middleware=[SkeletonOfThoughtMiddleware(server.model())])
    await collect(agent, MESSAGES, stream_mode=mode, subgraphs=True)
    assert_streamed(server)


async def test_astream_events_streams(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model())
    events = [event async for event in graph.astream_events(QUESTION, version="v2")]
    assert_streamed(server)
    assert len([event for event in events if event["event"] == "on_chat_model_stream"]) > len(TITLES)


async def test_a_streaming_model_streams(server: FakeOpenAI, run: Run) -> None:
    result = await run(create_sot_graph(server.model(streaming=True)), QUESTION)
    assert result["answer"] == ANSWER
    assert_streamed(server)


MODELS: dict[str, Callable[[Any], Any]] = {
    "bind": lambda model: model.bind(temperature=0.3),
    "with_config": lambda model: model.with_config(tags=["mine"]),
    "with_retry": lambda model: model.with_retry(),
    "with_fallbacks": lambda model: model.with_fallbacks([model]),
}


@pytest.mark.parametrize("wrap", MODELS.values(), ids=list(MODELS))
async def test_a_streaming_model_within_another_runnable_streams(
    server: FakeOpenAI, run: Run, wrap: Callable[[Any], Any]
) -> None:
    result = await run(create_sot_graph(wrap(server.model(streaming=True))), QUESTION)
    assert result["answer"] == ANSWER
    assert_streamed(server)


class Tokens(BaseCallbackHandler):
    """Wants the tokens."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: str | list[Any], **_kwargs: Any) -> None:
        self.tokens.append(str(token))


class AsyncTokens(AsyncCallbackHandler):
    """Wants the tokens, in a coroutine."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def on_llm_new_token(self, token: str | list[Any], **_kwargs: Any) -> None:
        self.tokens.append(str(token))


def assert_received(handler: Tokens | AsyncTokens) -> None:
    """Check the tokens of the points, which come in any order."""
    words = Counter("".join(f" {token.strip()}" for token in handler.tokens).split())
    assert words >= Counter(" ".join(TEXTS).split())
    assert len([token for token in handler.tokens if token]) > len(TITLES), "tokens, and not whole texts"


@pytest.mark.parametrize("make", [Tokens, AsyncTokens])
async def test_a_callback_for_tokens_streams(
    server: FakeOpenAI, run: Run, make: Callable[[], Tokens | AsyncTokens]
) -> None:
    handler = make()
    result = await run(create_sot_graph(server.model()), QUESTION, {"callbacks": [handler]})
    assert result["answer"] == ANSWER
    assert_streamed(server)
    assert_received(handler)


async def test_a_callback_for_tokens_of_the_parent_streams(server: FakeOpenAI, run: Run) -> None:
    handler = Tokens()
    await run(parent_of(create_sot_graph(server.model())), MESSAGES, {"callbacks": [handler]})
    assert_streamed(server)
    assert_received(handler)


ON_THE_MODEL: dict[str, Callable[[Any, Any], Any]] = {
    "callbacks of the model": lambda server, handler: server.model(callbacks=[handler]),
    "with_config of the model": lambda server, handler: server.model().with_config(callbacks=[handler]),
}


@pytest.mark.parametrize("make", ON_THE_MODEL.values(), ids=list(ON_THE_MODEL))
async def test_a_callback_for_tokens_on_the_model_streams(
    server: FakeOpenAI, run: Run, make: Callable[[Any, Any], Any]
) -> None:
    handler = Tokens()
    await run(create_sot_graph(make(server, handler)), QUESTION)
    assert_streamed(server)
    assert_received(handler)


async def test_a_callback_for_tokens_on_the_graph_streams(server: FakeOpenAI, run: Run) -> None:
    handler = Tokens()
    await run(create_sot_graph(server.model()).with_config(callbacks=[handler]), QUESTION)
    assert_streamed(server)
    assert_received(handler)


# --- the same checks and figures ---------------------------------------------------------------------


@pytest.fixture(params=["sync, not streamed", "sync, streamed", "async, not streamed", "async, streamed"])
def answer(request: pytest.FixtureRequest) -> Any:
    """Run a graph to its end in each form; returns the output."""
    form, _, kind = request.param.partition(", ")
    modes = ["values"] if kind == "not streamed" else ["values", "custom"]
    collect = collecting(form == "async")

    async def run_to_end(graph: Any) -> dict[str, Any]:
        output: dict[str, Any] = (await collect(graph, QUESTION, stream_mode=modes))[-1][1]
        return output

    run_to_end.is_streamed = kind == "streamed"  # type: ignore[attr-defined]
    return run_to_end


def fails_first(server: FakeOpenAI, fault: Reply, *, title: str = TITLES[0], attempts: int = 1) -> None:
    """Have the first attempts at one point fail."""
    server.script = lambda request: fault if request.title == title and request.attempt <= attempts else usual(request)


async def test_usage_calls_and_times(server: FakeOpenAI, answer: Any) -> None:
    message = (await answer(create_sot_graph(server.model())))["messages"][-1]
    assert any(request.body.get("stream") for request in server.requests) == answer.is_streamed
    usage = message.usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (
        50,
        OUTPUT_TOKENS,
        50 + OUTPUT_TOKENS,
    )
    sot = message.response_metadata["sot"]
    assert sot["calls"] == 5
    assert all(point["usage"]["output_tokens"] == len(TEXTS[point["index"] - 1].split()) for point in sot["points"])
    figures = [sot["stages"]["expand"], *sot["points"]]
    firsts = [each["first_token_seconds"] for each in figures]
    if not answer.is_streamed:
        assert firsts == [None] * 5
    else:
        assert all(0 <= first <= each["seconds"] for first, each in zip(firsts, figures, strict=True))


async def test_a_truncated_point_says_so(server: FakeOpenAI, answer: Any) -> None:
    fails_first(server, Reply("Cut off in the", finish="length"))
    result = await answer(create_sot_graph(server.model(), retry_policy=QUICK))
    assert (result["points"][0]["text"], result["points"][0]["status"]) == ("Cut off in the", "truncated")
    assert len(server.requests) == 5, "it is not paid for again"


@pytest.mark.parametrize(
    "fault",
    [
        Reply("A text without an end", finish="error"),
        Reply(""),
        Reply("  "),
        Reply(status=500),
        Reply(status=429),
        Reply(hang_up=True),
        Reply("Lost at once", drop_after=0),
    ],
    ids=["unknown end", "empty", "blank", "500", "429", "hang up", "dropped"],
)
async def test_what_may_pass_is_retried(server: FakeOpenAI, answer: Any, fault: Reply) -> None:
    fails_first(server, fault)
    result = await answer(create_sot_graph(server.model(), retry_policy=QUICK))
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    requests = Counter(request.title for request in server.of_stage("expand"))
    assert requests == {TITLES[0]: 2, **dict.fromkeys(TITLES[1:], 1)}
    sot = result["messages"][-1].response_metadata["sot"]
    assert (sot["calls"], sot["points"][0]["attempts"], sot["points"][0]["status"]) == (6, 2, "written")
    assert result["answer"].endswith("\n\n".join(TEXTS[1:]))
    if fault.finish and not (answer.is_streamed and fault.tokens):
        assert result["answer"] == ANSWER


async def test_a_reply_that_was_paid_for_counts_although_it_is_retried(server: FakeOpenAI, answer: Any) -> None:
    fails_first(server, Reply("   "))
    message = (await answer(create_sot_graph(server.model(), retry_policy=QUICK)))["messages"][-1]
    assert message.usage_metadata["input_tokens"] == 60


@pytest.mark.parametrize(
    "fault",
    [
        Reply("I cannot", finish="content_filter"),
        Reply("", finish="length"),
        Reply(status=400),
        Reply(status=401),
    ],
    ids=["content_filter", "no text within the limit", "400", "401"],
)
async def test_what_no_retry_mends_is_not_retried(server: FakeOpenAI, answer: Any, fault: Reply) -> None:
    fails_first(server, fault, attempts=9)
    with pytest.raises(ExpansionError) as raised:
        await answer(create_sot_graph(server.model(max_tokens=500), retry_policy=QUICK))
    assert [point["title"] for point in raised.value.failed] == [TITLES[0]]
    assert [point["text"] for point in raised.value.written] == TEXTS[1:]
    assert len(server.of_stage("expand")) == 4


async def test_a_refusal_is_not_retried(server: FakeOpenAI, run: Run) -> None:
    """Not streamed only: langchain-openai drops the refusal of a stream."""
    fails_first(server, Reply(None, finish="stop", refusal="I will not."), attempts=9)
    with pytest.raises(ExpansionError, match=r"refused to answer: I will not\."):
        await run(create_sot_graph(server.model(), retry_policy=QUICK), QUESTION)
    assert len(server.of_stage("expand")) == 4


async def test_a_kept_failure_is_told_the_same(server: FakeOpenAI, answer: Any) -> None:
    fails_first(server, Reply(status=500), attempts=9)
    result = await answer(create_sot_graph(server.model(), retry_policy=QUICK, on_error="keep"))
    assert result["answer"] == "\n\n".join(TEXTS[1:])
    point = result["points"][0]
    assert (point["status"], point["text"]) == ("failed", "")
    assert "500" in point["error"]
    assert result["messages"][-1].response_metadata["sot"]["calls"] == 6


async def test_echoes_are_removed_the_same(server: FakeOpenAI, answer: Any) -> None:
    def script(request: Request) -> Reply:
        return usual(request) if request.stage == "skeleton" else Reply(f"**{request.title}**: It matters.")

    server.script = script
    result = await answer(create_sot_graph(server.model()))
    assert result["answer"] == "\n\n".join(["It matters."] * 4)


async def test_a_direct_answer_is_checked_the_same(server: FakeOpenAI, answer: Any) -> None:
    server.script = lambda request: Reply("At", finish="unload") if request.attempt == 1 else Reply("At last.")
    result = await answer(create_sot_graph(server.model(), route=lambda _: False, retry_policy=QUICK))
    assert result["answer"] == "At last."
    direct = result["messages"][-1].response_metadata["sot"]["stages"]["direct"]
    assert direct["calls"] == 2
    assert (direct["first_token_seconds"] is not None) == answer.is_streamed
