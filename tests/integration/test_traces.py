"""What arrives at LangSmith: the real client, and a loopback server in LangSmith's place."""

from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from sot_graph import create_sot_graph
from tests.fake_openai import TITLES, Asked, FakeOpenAI, Reply, usual
from tests.integration.conftest import Run
from tests.langsmith_sink import Sink, langsmith_sink

KEY = "sk-test-key"
QUESTION = {"messages": [{"role": "user", "content": "How can I sleep better?"}]}
QUICK = RetryPolicy(initial_interval=0.001, jitter=False)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with langsmith_sink() as sink:
        yield sink


def told(run: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = run["extra"]["metadata"]
    return metadata


async def test_each_model_run_says_what_it_wrote(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    graph = create_sot_graph(server.model())
    config = {"callbacks": [sink.tracer()], "tags": ["mine"], "metadata": {"customer": 7}}
    await run(graph, QUESTION, config)  # type: ignore[arg-type]  # a plain dict, as users write it
    models = sink.of_type("llm")
    assert sink.encodings == {"zstd"}
    names = [f"expand {index}: {title}" for index, title in enumerate(TITLES, start=1)]
    assert sorted(each["name"] for each in models) == sorted(["skeleton outline", *names])
    for each in models:
        stage = each["name"].split(" ")[0]
        assert {f"sot:{stage}", "mine"} <= set(each["tags"])
        assert (told(each)["sot_stage"], told(each)["sot_attempt"], told(each)["customer"]) == (stage, 1, 7)
        assert told(each)["sot_graph_version"] == "0.1.0"
    points = {each["name"]: (told(each)["sot_point"], told(each)["sot_title"]) for each in models[1:]}
    chains = [told(each)["ls_integration"] for each in sink.of_type("chain")]
    assert set(chains) == {"sot_graph"}, "model runs name what calls them: LangChain's chat model"
    assert points == {name: (index, TITLES[index - 1]) for index, name in enumerate(names, start=1)}


async def test_it_is_one_tree_in_a_parent_graph(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("write", create_sot_graph(server.model()))
    builder.add_edge(START, "write")
    await run(builder.compile(name="parent"), QUESTION, {"callbacks": [sink.tracer()]})
    assert {sink.path(each)[0] for each in sink.all_runs()} == {"parent"}
    *above, _ = sink.path(next(each for each in sink.of_type("llm") if each["name"].startswith("expand 2")))
    assert above == ["parent", "write", "skeleton_of_thought", "expand"]


async def test_retries_show_as_attempts_and_a_kept_failure_as_an_error(
    server: FakeOpenAI, run: Run, sink: Sink
) -> None:
    def script(asked: Asked) -> Reply:
        fails = asked.title == TITLES[1] or (asked.title == TITLES[0] and asked.attempt == 1)
        return Reply(status=500) if fails else usual(asked)

    server.script = script
    graph = create_sot_graph(server.model(), on_error="keep", retry_policy=QUICK)
    await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    attempts = {
        index: [
            (told(each)["sot_attempt"], "500" in each.get("error", ""))
            for each in sink.of_type("llm")
            if told(each).get("sot_point") == index
        ]
        for index in (1, 2, 3)
    }
    assert attempts == {
        1: [(1, True), (2, False)],
        2: [(1, True), (2, True), (3, True)],
        3: [(1, False)],
    }
    root = sink.all_runs()[0]
    assert "error" not in root


async def test_no_key_is_in_a_trace(server: FakeOpenAI, run: Run, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may say back the key that it refuses, and clients put that into their errors."""
    monkeypatch.setenv("MY_SECRET", "env-secret-value-1")
    server.script = lambda asked: (
        Reply(status=401, message=f"Wrong key: {KEY}, header-secret-1") if asked.title == TITLES[0] else usual(asked)
    )
    server.url = server.url.replace("://", "://user:url-secret-1@")
    headers = {"x-auth": "header-secret-1", "user-agent": "tests"}
    model = server.model(default_headers=headers)
    await run(create_sot_graph(model, on_error="keep"), QUESTION, {"callbacks": [sink.tracer()]})
    assert len(sink.of_type("llm")) == 5
    assert b"Wrong key" in sink.received
    assert {asked.headers["x-auth"] for asked in server.asked} == {"header-secret-1"}, "the calls have it"
    for secret in (KEY, "header-secret-1", "url-secret-1", "env-secret-value-1", "lsv2-test-key"):
        assert secret.encode() not in sink.received
