"""What a first try may get wrong at a run: refused before a model is called, with what is valid, in each way to run."""

import operator
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import EmptyInputError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel
from typing_extensions import TypedDict

from sot_graph import (
    SkeletonOfThoughtMiddleware,
    SotInput,
    astream_answer,
    create_sot_graph,
    create_sot_tool,
    stream_answer,
)
from tests.fake_openai import FakeOpenAI
from tests.integration.conftest import THREAD, Run

QUESTION: SotInput = {"question": "How can I sleep better?"}
Way = Callable[[Any, Any, Any], Any]


async def _all(chunks: AsyncIterator[Any]) -> list[Any]:
    return [chunk async for chunk in chunks]


BATCHES: dict[str, Way] = {
    "batch": lambda graph, given, config: graph.batch([given] * 2, config),
    "abatch": lambda graph, given, config: graph.abatch([given] * 2, config),
    "batch_as_completed": lambda graph, given, config: list(graph.batch_as_completed([given] * 2, config)),
    "abatch_as_completed": lambda graph, given, config: _all(graph.abatch_as_completed([given] * 2, config)),
}
WAYS: dict[str, Way] = {
    "invoke": lambda graph, given, config: graph.invoke(given, config),
    "ainvoke": lambda graph, given, config: graph.ainvoke(given, config),
    "stream": lambda graph, given, config: list(graph.stream(given, config)),
    "astream": lambda graph, given, config: _all(graph.astream(given, config)),
    "stream_answer": lambda graph, given, config: list(stream_answer(graph, given, config)),
    "astream_answer": lambda graph, given, config: _all(astream_answer(graph, given, config)),
    **BATCHES,
}


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> Callable[..., Awaitable[Any]]:
    async def go(graph: Any, given: Any, config: Any = None) -> Any:
        result = request.param(graph, given, config)
        return result if isinstance(result, list | dict | Iterator) else await result

    return go


# --- the input -----------------------------------------------------------------------------------

INPUTS: list[tuple[Any, type[Exception], str]] = [
    ("Why?", TypeError, r"must be a dict with a `question` or `messages`, not str: pass \{'question': 'Why\?'\}"),
    ([HumanMessage("Why?")], TypeError, r"not list: pass \{'messages': \[...\]\}"),
    ([("user", "Why?")], TypeError, r"not list: pass \{'messages': \[...\]\}"),
    (HumanMessage("Why?"), TypeError, r"not HumanMessage: pass \{'messages': \[...\]\}"),
    (3, TypeError, r"not int: pass \{'question': '3'\}"),
    (None, ValueError, r"nothing to resume: .* this one is new. Pass a dict such as \{'question'"),
    ({"qestion": "Why?"}, ValueError, "reads `question`, `messages` and `outline`; the input has only 'qestion'"),
    ({"input": "Why?", "topic": 1}, ValueError, "has only 'input', 'topic'. Pass a dict such as"),
    ({**QUESTION, "outline": "One, two"}, TypeError, "`outline` must be a list of titles, .* not 'One, two'"),
    ({**QUESTION, "outline": ["One", 2]}, TypeError, "`outline` must be a list of titles, .* 2]"),
]


@pytest.mark.parametrize("stored", [False, True], ids=["no checkpointer", "a new thread"])
@pytest.mark.parametrize(("given", "error", "says"), INPUTS, ids=[str(given)[:40] for given, *_ in INPUTS])
async def test_an_input_of_another_form_is_refused(
    server: FakeOpenAI,
    way: Callable[..., Awaitable[Any]],
    given: Any,
    error: type[Exception],
    says: str,
    *,
    stored: bool,
) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver() if stored else None)
    with pytest.raises(error, match=says):
        await way(graph, given, THREAD if stored else None)
    assert server.requests == []


async def test_nothing_to_resume_is_still_the_engines_error(server: FakeOpenAI, run: Run) -> None:
    with pytest.raises(EmptyInputError):
        await run(create_sot_graph(server.model()), None)


async def test_none_and_a_command_go_on_with_a_thread(server: FakeOpenAI, way: Callable[..., Awaitable[Any]]) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    graph.invoke(QUESTION, THREAD)
    asked = len(server.requests)
    await way(graph, None, THREAD)
    await way(graph, Command(goto="merge"), THREAD)
    assert len(server.requests) == asked


async def test_a_misspelt_key_does_not_answer_a_threads_last_question_again(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    await run(graph, QUESTION, THREAD)
    asked = len(server.requests)
    with pytest.raises(ValueError, match="has only 'qestion'"):
        await run(graph, {"qestion": "And why is that?"}, THREAD)
    assert len(server.requests) == asked


class Topic(TypedDict):
    topic: str
    notes: Annotated[list[str], operator.add]


async def test_a_parent_without_our_keys_is_told_so(server: FakeOpenAI, run: Run) -> None:
    builder = StateGraph(Topic)
    builder.add_node("answer", create_sot_graph(server.model()))
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    with pytest.raises(ValueError, match="has only 'topic', 'notes'"):
        await run(builder.compile(), {"topic": "sleep", "notes": []})
    assert server.requests == []


class Chat(BaseModel):
    messages: list[AnyMessage]


async def test_objects_with_our_keys_are_inputs(server: FakeOpenAI, run: Run) -> None:
    builder = StateGraph(Chat)
    builder.add_node("answer", create_sot_graph(server.model()))
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    state = await run(builder.compile(), {"messages": [HumanMessage("How can I sleep better?")]})
    assert state["messages"][-1].text.count("there is this to say") == 4
    graph: Any = create_sot_graph(server.model())
    assert (await run(ChatPromptTemplate.from_messages([("user", "{question}")]) | graph, QUESTION))["answer"]


# --- the concurrency limit -----------------------------------------------------------------------

LIMITS: list[tuple[Any, type[Exception]]] = [
    (0, ValueError),
    (-1, ValueError),
    ("3", TypeError),
    (True, TypeError),
    (2.5, TypeError),
]


@pytest.mark.parametrize(("limit", "error"), LIMITS, ids=repr)
async def test_a_concurrency_limit_that_is_none_is_refused(
    server: FakeOpenAI, way: Callable[..., Awaitable[Any]], limit: Any, error: type[Exception]
) -> None:
    graph = create_sot_graph(server.model())
    says = rf"max_concurrency must be a whole number of at least 1, or None for no limit, not {limit!r}\."
    with pytest.raises(error, match=says):
        await way(graph, QUESTION, {"max_concurrency": limit})
    with pytest.raises(error, match=says):
        await way(graph.with_config(max_concurrency=limit), QUESTION)
    with pytest.raises(error, match=says):
        await way(graph.with_config({"max_concurrency": limit}), QUESTION)
    assert server.requests == []


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
async def test_one_config_for_each_input_is_checked(server: FakeOpenAI, batch: Way) -> None:
    configs: Any = [{"max_concurrency": 2}, {"max_concurrency": 0}]
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        await _result(batch(create_sot_graph(server.model()), QUESTION, configs))
    assert server.requests == []
    assert len(await _result(batch(create_sot_graph(server.model()), QUESTION, configs[0]))) == 2


async def _result(result: Any) -> Any:
    return result if isinstance(result, list) else await result


async def test_a_limit_where_it_has_no_effect_is_refused(
    server: FakeOpenAI, way: Callable[..., Awaitable[Any]]
) -> None:
    graph = create_sot_graph(server.model())
    config: Any = {"configurable": {"max_concurrency": 2}}
    says = r"no effect under `configurable`. Put it at the top level of the config: \{'max_concurrency': 2\}"
    with pytest.raises(ValueError, match=says):
        await way(graph, QUESTION, config)
    with pytest.raises(ValueError, match=says):
        await way(graph.with_config(config), QUESTION)
    assert server.requests == []


# --- what is no graph ----------------------------------------------------------------------------


async def test_the_stream_of_a_model_is_refused_at_once(server: FakeOpenAI) -> None:
    wrong: list[Any] = [server.model(), server.model().bind(stop=["x"]), type(server.model()), "openai:gpt-5.5", None]
    for graph in wrong:
        for stream in (stream_answer, astream_answer):
            with pytest.raises(
                TypeError, match=r"graph must be a graph from create_sot_graph.*create_sot_graph\(model"
            ):
                stream(graph, QUESTION)
    assert server.requests == []


# --- in agents -----------------------------------------------------------------------------------


async def test_as_a_tool_of_langchains_it_needs_a_question_only(server: FakeOpenAI) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `as_tool` is beta
        tool = create_sot_graph(server.model()).as_tool(description="Answers.")
    args: Any = tool.args_schema
    assert "required" not in args.model_json_schema()
    assert set(tool.args) == {"question", "messages", "outline"}
    inputs: list[Any] = [
        QUESTION,
        {"messages": [HumanMessage("How can I sleep better?")]},
        {**QUESTION, "outline": ["Light", "Noise"]},
    ]
    for given, points in zip(inputs, (4, 4, 2), strict=True):
        for result in (tool.invoke(given), await tool.ainvoke(given)):
            assert len(result["points"]) == points
    with pytest.raises(ValueError, match="nothing to answer"):
        tool.invoke({})


async def test_agents_get_the_same_words(server: FakeOpenAI, run: Run) -> None:
    """The tool and the middleware run the graph with the agent's config."""
    graph = create_sot_graph(server.model())
    config: Any = {"configurable": {"max_concurrency": 2}}
    with pytest.raises(ValueError, match="no effect under `configurable`"):
        await run(create_sot_tool(graph), {"question": "Why?"}, config)
    with pytest.raises(TypeError, match="the class ChatOpenAI; make an object of it"):
        create_agent(server.model(), middleware=[SkeletonOfThoughtMiddleware(type(server.model()))])  # type: ignore[arg-type]
    assert server.requests == []
