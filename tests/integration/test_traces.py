"""What arrives at LangSmith: the real client, and a loopback server in LangSmith's place."""

import json
import subprocess
import time
from collections import Counter
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

from sot_graph import SkeletonOfThoughtMiddleware, create_sot_graph, create_sot_tool
from tests.agents import OUTLINED, calling, playing
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import THREAD, Run
from tests.langsmith_sink import Sink
from tests.processes import CommandLine, environment, wait_until
from tests.processes import run as run_command

QUESTION = {"messages": [{"role": "user", "content": "How can I sleep better?"}]}
QUICK = RetryPolicy(initial_interval=0.001, jitter=False)
TWICE = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2)


def meta(run: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = run["extra"]["metadata"]
    return metadata


async def test_each_model_run_is_named_after_what_it_wrote(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    graph = create_sot_graph(server.model(), name="my_writer")
    config = {"callbacks": [sink.tracer()], "tags": ["mine"], "metadata": {"customer": 7}}
    await run(graph, QUESTION, config)  # type: ignore[arg-type]  # a plain dict, as users write it
    models = sink.of_type("llm")
    assert sink.encodings == {"zstd"}
    names = [f"expand {index}: {title}" for index, title in enumerate(TITLES, start=1)]
    assert sorted(each["name"] for each in models) == sorted(["skeleton outline", *names])
    for each in models:
        stage = each["name"].split(" ")[0]
        assert {f"sot:{stage}", "mine"} <= set(each["tags"])
        assert (meta(each)["sot_stage"], meta(each)["sot_attempt"], meta(each)["customer"]) == (stage, 1, 7)
        assert (meta(each)["sot_graph_name"], meta(each)["sot_graph_version"]) == ("my_writer", "0.1.0")
    for index, title in enumerate(TITLES, start=1):
        (point,) = (each for each in models if f"sot:point:{index}" in each["tags"])
        assert f"sot:title:{title}" in point["tags"]
    points = {each["name"]: (meta(each)["sot_point"], meta(each)["sot_title"]) for each in models[1:]}
    chains = [meta(each)["ls_integration"] for each in sink.of_type("chain")]
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
    def script(request: Request) -> Reply:
        fails = request.title == TITLES[1] or (request.title == TITLES[0] and request.attempt == 1)
        return Reply(status=500) if fails else usual(request)

    server.script = script
    graph = create_sot_graph(server.model(), on_error="keep", retry_policy=QUICK)
    await run(graph, QUESTION, {"callbacks": [sink.tracer()]})
    attempts = {
        index: [
            (meta(each)["sot_attempt"], "500" in each.get("error", ""))
            for each in sink.of_type("llm")
            if meta(each).get("sot_point") == index
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


FIVE = [*TITLES, "No screens in bed"]
TREE = """
parent (chain) [mine] {customer, ls_integration}
  write (chain) [mine] {customer, ls_integration}
    skeleton_of_thought (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
      skeleton (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
        skeleton outline (llm) [mine, sot:skeleton] MODEL
      expand (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
        expand 1: Regular sleep hours (llm) [mine, sot:expand, sot:point:1, sot:title:Regular sleep hours] POINT
      expand (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
        expand 2: A dark room (llm) [mine, sot:expand, sot:point:2, sot:title:A dark room] POINT FAILED
        expand 2: A dark room (llm) [mine, sot:expand, sot:point:2, sot:title:A dark room] POINT FAILED
      expand (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
        expand 3: Less evening caffeine (llm) [mine, sot:expand, sot:point:3, sot:title:Less evening caffeine] POINT
      expand (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
        expand 4: Daily exercise (llm) [mine, sot:expand, sot:point:4, sot:title:Daily exercise] POINT
      expand (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
        expand 5: No screens in bed (llm) [mine, sot:expand, sot:point:5, sot:title:No screens in bed] POINT
      merge (chain) [mine] {customer, ls_integration, sot_graph_name, sot_graph_version}
"""
CALL = "customer, ls_integration, ls_max_tokens, ls_model_name, ls_model_type, ls_provider, ls_temperature"
MODEL = f"{{{CALL}, sot_attempt, sot_graph_name, sot_graph_version, sot_stage}}"
POINT = f"{{{CALL}, sot_attempt, sot_graph_name, sot_graph_version, sot_point, sot_stage, sot_title}}"


async def test_the_whole_tree_of_a_run_with_a_kept_failure(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    def script(request: Request) -> Reply:
        if request.stage == "skeleton":
            return Reply(outline_json(FIVE))
        return Reply(status=500) if request.title == FIVE[1] else usual(request)

    server.script = script
    builder = StateGraph(MessagesState)
    builder.add_node("write", create_sot_graph(server.model(), on_error="keep", retry_policy=TWICE))
    builder.add_edge(START, "write")
    config = {"callbacks": [sink.tracer()], "tags": ["mine"], "metadata": {"customer": 7}}
    await run(builder.compile(name="parent"), QUESTION, config)  # type: ignore[arg-type]  # a plain dict
    shown = TREE.strip().replace("MODEL", MODEL).replace("POINT", POINT)
    assert sink.tree("customer", "ls_", "sot_") == shown


async def test_the_calls_of_a_graph_that_writes_points_name_their_stage_and_the_point(
    server: FakeOpenAI, run: Run, sink: Sink
) -> None:
    inner = create_sot_graph(server.model(), name="inner")
    graph = create_sot_graph(server.model(), expander=inner, name="outer")
    await run(graph, QUESTION, {"callbacks": [sink.tracer()], "tags": ["mine"], "metadata": {"customer": 7}})
    within = [each for each in sink.of_type("llm") if "sot_within" in meta(each)]
    assert Counter((meta(each)["sot_within"], meta(each)["sot_stage"]) for each in within) == Counter(
        (f"expand {index}: {title}", stage)
        for index, title in enumerate(TITLES, start=1)
        for stage in ("skeleton", *["expand"] * 4)
    )
    for each in within:
        own = [f"sot:{meta(each)['sot_stage']}"]
        if point := meta(each).get("sot_point"):
            own += [f"sot:point:{point}", f"sot:title:{meta(each)['sot_title']}"]
        assert {tag for tag in each["tags"] if tag.startswith("sot:")} == set(own)
        assert (meta(each)["sot_graph_name"], meta(each)["customer"]) == ("inner", 7)
        assert "mine" in each["tags"]
    assert Counter(meta(each)["sot_graph_name"] for each in sink.of_type("llm")) == {"inner": 20, "outer": 1}


async def test_a_model_that_routes_is_named_by_its_stage(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    model = server.model()
    routes: list[Any] = [lambda question: bool(model.invoke(question)), RunnableLambda(str) | model | bool]
    for route in routes:
        await run(create_sot_graph(model, route=route), QUESTION, {"callbacks": [sink.tracer()]})
    deciding = [each for each in sink.of_type("llm") if each["name"] == "ChatOpenAI"]
    assert [(meta(each)["sot_stage"], "sot:skeleton" in each["tags"]) for each in deciding] == [("skeleton", True)] * 2


async def test_the_last_turns_answer_is_traced_as_conversation_only(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    graph = create_sot_graph(server.model(), lead=True, checkpointer=InMemorySaver())
    await run(graph, QUESTION, THREAD)
    await run(graph, QUESTION, {**THREAD, "callbacks": [sink.tracer()]})
    stages = [each for each in sink.all_runs() if each["name"] in {"skeleton", "lead", "expand"}]
    assert len(stages) == 6
    assert not [each["name"] for each in stages if "there is this to say" in json.dumps(each["inputs"])]


async def test_the_conversation_is_traced_no_more_often_than_needed(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    """By the graph's own run, and by each model run, which was given it."""
    messages = [HumanMessage("A long report."), AIMessage("I have read it."), *QUESTION["messages"]]
    graph = create_sot_graph(server.model(), lead=True)
    await run(graph, {"messages": messages}, {"callbacks": [sink.tracer()]})
    telling = Counter(each["name"] for each in sink.all_runs() if "A long report." in json.dumps(each["inputs"]))
    models = [each["name"] for each in sink.of_type("llm")]
    assert telling == Counter(["skeleton_of_thought", *models])
    (skeleton,) = (each for each in sink.all_runs() if each["name"] == "skeleton")
    assert [message["content"] for message in skeleton["inputs"]["messages"]] == ["How can I sleep better?"]


async def test_it_is_one_tree_in_an_agents_tool(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    tool = create_sot_tool(create_sot_graph(server.model()))
    playing(server, calling((tool.name, {"question": "Why sleep?"})), Reply("There you are."))
    agent = create_agent(server.model(), [tool], name="clerk")
    await run(agent, QUESTION, {"callbacks": [sink.tracer()]})
    above = ["clerk", "tools", tool.name, "skeleton_of_thought"]
    assert paths_above(sink, "expand 2") == [*above, "expand"]
    assert paths_above(sink, "skeleton outline") == [*above, "skeleton"]


async def test_it_is_one_tree_in_the_middleware(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    playing(server, OUTLINED)
    agent = create_agent(server.model(), middleware=[SkeletonOfThoughtMiddleware(server.model())], name="clerk")
    await run(agent, QUESTION, {"callbacks": [sink.tracer()]})
    assert {sink.path(each)[0] for each in sink.all_runs()} == {"clerk"}
    assert paths_above(sink, "expand 2")[-2:] == ["skeleton_of_thought", "expand"]


def paths_above(sink: Sink, name: str) -> list[str]:
    """The names of the runs above the only model run whose name begins like this."""
    (found,) = (each for each in sink.of_type("llm") if each["name"].startswith(name))
    return sink.path(found)[:-1]


async def test_an_answer_does_not_wait_for_langsmith(server: FakeOpenAI, run: Run, sink: Sink) -> None:
    sink.open.clear()
    answer = await run(create_sot_graph(server.model()), QUESTION, {"callbacks": [sink.tracer()]})
    assert answer["answer"]
    assert not sink.runs
    sink.open.set()
    assert len(sink.all_runs()) == 12


async def test_without_tracing_nothing_is_sent(
    server: FakeOpenAI, run: Run, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in at(sink).items():
        monkeypatch.setenv(name, value)
    await run(create_sot_graph(server.model()), QUESTION)
    wait_for_all_tracers()
    assert not sink.received


def at(sink: Sink) -> dict[str, str]:
    return {"LANGSMITH_ENDPOINT": sink.client.api_url, "LANGSMITH_API_KEY": "lsv2-test-key"}


LINE = ["ask", "--model", "demo", "How can I sleep?"]
UNSENT = "sot-graph: LangSmith did not get the whole trace: "


def ask(**env: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a process of its own."""
    return run_command(*LINE, **env)


def test_the_command_line_sends_all_before_it_ends(sink: Sink) -> None:
    done = ask(**at(sink), LANGSMITH_TRACING="true")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 2), done.stderr
    assert all(each.get("end_time") for each in sink.runs.values())
    assert {"skeleton_of_thought", "merge"} <= {each["name"] for each in sink.runs.values()}


def test_the_command_line_does_not_hang_on_langsmith(sink: Sink) -> None:
    sink.open.clear()
    done = ask(**at(sink), LANGSMITH_TRACING="true")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.splitlines()[2:] == [f"{UNSENT}sending took longer than 5 seconds"]
    assert not sink.runs, "it has not waited until there was an answer"


@pytest.mark.parametrize("answers", [True, False])
def test_the_command_line_shows_in_one_line_why_traces_were_not_sent(server: FakeOpenAI, *, answers: bool) -> None:
    """Of a server that takes no traces, and where none is at all."""
    url = server.url if answers else "http://127.0.0.1:9"
    done = ask(LANGSMITH_ENDPOINT=url, LANGSMITH_API_KEY="lsv2-test-key", LANGSMITH_TRACING="true")
    _, closing, shown = done.stderr.splitlines()
    assert "points ·" in closing
    why = "Failed to batch ingest runs: " if answers else f"Failed to get info from {url}: "
    assert shown.startswith(UNSENT + why)
    assert len(shown) <= len(UNSENT) + 200
    assert done.returncode == 0


def test_ctrl_c_ends_the_waiting_for_langsmith(sink: Sink) -> None:
    sink.open.clear()
    with CommandLine(*LINE, env=environment(**at(sink), LANGSMITH_TRACING="true")) as process:
        wait_until(lambda: "points ·" in process.stderr())
        time.sleep(1)  # it is waiting by then
        process.interrupt()
        done = process.wait(10)
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith(f"{UNSENT}the wait was interrupted\n")
    assert done.returncode == 0
