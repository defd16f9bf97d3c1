"""Points written by something else than the model: the same rules hold for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import RetryPolicy
from typing_extensions import TypedDict

from sot_graph import ExpansionError, SotInput, create_sot_graph, stream_answer
from tests.agents import Tree, lookup
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, title_told, usual
from tests.integration.conftest import THREAD, Run

QUESTION: SotInput = {"question": "How can I sleep better?"}
FAST = RetryPolicy(initial_interval=0.01, jitter=False)


def title_in(messages: list[BaseMessage]) -> str:
    return title_told(messages[-1].text)


def written(messages: list[BaseMessage]) -> str:
    return f"On {title_in(messages).lower()}."


def as_message(messages: list[BaseMessage]) -> AIMessage:
    usage = UsageMetadata(input_tokens=1, output_tokens=2, total_tokens=3)
    return AIMessage(written(messages), usage_metadata=usage)


def as_messages_state(messages: list[BaseMessage]) -> dict[str, Any]:
    return {"messages": [*messages, as_message(messages)]}


def as_answer_state(messages: list[BaseMessage]) -> dict[str, Any]:
    return {"answer": written(messages), "other": 3}


async def as_text_async(messages: list[BaseMessage]) -> str:
    return written(messages)


def a_graph() -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("write", lambda state: {"messages": [as_message(state["messages"])]})
    builder.add_edge(START, "write")
    return builder.compile()


@pytest.mark.parametrize(
    "expander",
    [
        pytest.param(written, id="function"),
        pytest.param(RunnableLambda(written, as_text_async), id="text"),
        pytest.param(RunnableLambda(as_message), id="message"),
        pytest.param(RunnableLambda(as_messages_state), id="state with messages"),
        pytest.param(RunnableLambda(as_answer_state), id="state with answer"),
        pytest.param(a_graph(), id="graph"),
        pytest.param(a_graph().with_config(tags=["mine"]), id="bound graph"),
        pytest.param(RunnableLambda(as_message) | StrOutputParser(), id="chain"),
    ],
)
async def test_any_runnable_writes_the_points(server: FakeOpenAI, run: Run, expander: Any) -> None:
    result = await run(create_sot_graph(server.model(), expander=expander), QUESTION)
    assert [point["text"] for point in result["points"]] == [f"On {title.lower()}." for title in TITLES]
    assert [request.stage for request in server.requests] == ["skeleton"]
    sot = result["messages"][-1].response_metadata["sot"]
    assert (sot["calls"], sot["stages"]["expand"]["calls"]) == (5, 4)


async def test_it_gets_the_points_messages(server: FakeOpenAI, run: Run) -> None:
    got: list[list[BaseMessage]] = []

    def note(messages: list[BaseMessage]) -> str:
        got.append(messages)
        return written(messages)

    graph = create_sot_graph(server.model(), expander=note, system_prompt="Be kind.")
    await run(graph, {"messages": [("user", "Hello"), ("ai", "Hi"), ("user", "What now?")]})
    assert [[message.type for message in messages] for messages in got] == [
        ["system", *["human", "ai"] * 2, "human"]
    ] * 4
    assert all(messages[3].text == "What now?" for messages in got)
    assert {messages[-1].text for messages in got} == {f"Tell me more about {title}." for title in TITLES}


async def test_it_gets_no_system_message_of_ours(server: FakeOpenAI, run: Run) -> None:
    result = await run(create_sot_graph(server.model(), expander=lambda messages: messages[0].type), QUESTION)
    assert {point["text"] for point in result["points"]} == {"human"}, "an agent may have a system prompt of its own"


async def test_its_usage_is_counted(server: FakeOpenAI, run: Run) -> None:
    result = await run(create_sot_graph(server.model(), expander=a_graph()), QUESTION)
    stages = result["messages"][-1].response_metadata["sot"]["stages"]
    assert stages["expand"]["usage"]["total_tokens"] == 12


async def test_another_chat_model_is_called_as_the_model_is(server: FakeOpenAI, run: Run) -> None:
    graph = create_sot_graph(server.model(), expander=server.model(max_retries=5), retry_policy=FAST)
    server.script = lambda request: Reply(status=500) if request.title == TITLES[0] else usual(request)
    with pytest.raises(ExpansionError):
        await run(graph, QUESTION)
    assert server.titles().count(TITLES[0]) == 3


# --- failures ----------------------------------------------------------------------------------------


async def test_its_transient_errors_are_retried_and_the_others_kept(server: FakeOpenAI, run: Run) -> None:
    tried: list[str] = []

    def fail(messages: list[BaseMessage]) -> str:
        title = title_in(messages)
        tried.append(title)
        if title == TITLES[0] and tried.count(title) < 3:
            raise ConnectionError
        if title == TITLES[1]:
            message = "no such document"
            raise KeyError(message)
        return "" if title == TITLES[2] else "A text."

    graph = create_sot_graph(server.model(), expander=fail, on_error="keep", retry_policy=FAST)
    result = await run(graph, QUESTION)
    assert [point["status"] for point in result["points"]] == ["written", "failed", "failed", "written"]
    assert "no such document" in result["points"][1]["error"]
    assert [tried.count(title) for title in TITLES] == [3, 1, 3, 1]


@pytest.mark.parametrize("wrong", [3, None, {"documents": []}, {"messages": []}, [1]], ids=str)
async def test_what_is_no_text_is_refused_by_name(server: FakeOpenAI, run: Run, wrong: Any) -> None:
    graph = create_sot_graph(server.model(), expander=lambda _: wrong, retry_policy=FAST)
    with pytest.raises(ExpansionError, match="TypeError: expander must return a message, a text, or a state"):
        await run(graph, QUESTION)


async def test_a_text_cut_off_by_length_is_kept(server: FakeOpenAI, run: Run) -> None:
    cut = AIMessage("It was going", response_metadata={"finish_reason": "length"})
    result = await run(create_sot_graph(server.model(), expander=lambda _: cut), QUESTION)
    assert {point["status"] for point in result["points"]} == {"truncated"}


def test_what_cannot_be_an_expander_is_refused_at_construction(server: FakeOpenAI) -> None:
    class Other(TypedDict):
        question: str

    builder = StateGraph(Other)
    builder.add_node("write", lambda state: state)
    builder.add_edge(START, "write")
    with pytest.raises(ValueError, match="no `messages` key"):
        create_sot_graph(server.model(), expander=builder.compile())
    wrong: Any = "openai:gpt-5.5"
    with pytest.raises(TypeError, match="expander must be a function or a Runnable, not 'openai"):
        create_sot_graph(server.model(), expander=wrong)


# --- streaming ---------------------------------------------------------------------------------------


async def test_what_it_streams_is_read_as_it_comes(server: FakeOpenAI) -> None:
    """The second half of point 1 is written only when the reader has got the first."""
    read, aread = threading.Event(), asyncio.Event()

    def chunks(given: Iterator[list[BaseMessage]]) -> Iterator[str]:
        for messages in given:
            yield f"On {title_in(messages)}"
            if title_in(messages) == TITLES[0]:
                assert read.wait(20)
            yield " there is more."

    async def apieces(given: AsyncIterator[list[BaseMessage]]) -> AsyncIterator[str]:
        async for messages in given:
            yield f"On {title_in(messages)}"
            if title_in(messages) == TITLES[0]:
                async with asyncio.timeout(20):
                    await aread.wait()
            yield " there is more."

    graph = create_sot_graph(server.model(), expander=RunnableGenerator(chunks, apieces))
    got: list[str] = []
    for chunk in stream_answer(graph, QUESTION):
        got.append(chunk)
        read.set()
    agot: list[Any] = []
    async for event in graph.astream(QUESTION, stream_mode="custom"):
        agot.append(event)
        if event["type"] == "answer":
            aread.set()
    answer = "\n\n".join(f"On {title} there is more." for title in TITLES)
    assert "".join(got) == answer
    assert "".join(event["text"] for event in agot if event["type"] == "answer") == answer
    assert [event["index"] for event in agot if event["type"] == "token"].count(1) == 2


def inner_titles(request: Request) -> Reply:
    """Four points, each an answer of its own of two points."""
    if request.stage != "skeleton":
        return Reply(f"It is {request.title}.")
    title = title_told(request.messages[-3]["content"])  # of the outer graph's point
    if not title:
        return Reply(outline_json(TITLES))
    return Reply(outline_json([f"{title}, first", f"{title}, then"]))


def nested(server: FakeOpenAI, **options: Any) -> Any:
    return create_sot_graph(server.model(), expander=create_sot_graph(server.model()), **options)


async def test_a_graph_of_ours_writes_long_points(server: FakeOpenAI, run: Run) -> None:
    server.script = inner_titles
    result = await run(nested(server, headings=True), QUESTION)
    texts = [f"It is {title}, first.\n\nIt is {title}, then." for title in TITLES]
    assert [point["text"] for point in result["points"]] == texts
    assert len(server.requests) == 1 + 4 * 3
    message = result["messages"][-1]
    assert message.response_metadata["sot"]["calls"] == 13
    assert message.usage_metadata["input_tokens"] == 130
    assert [message.type for message in result["messages"]] == ["human", "ai"]


def test_a_nested_answer_is_read_in_order_as_one_message(server: FakeOpenAI) -> None:
    server.script = inner_titles
    graph = nested(server)
    answer = graph.invoke(QUESTION)["answer"]
    chunks = list(stream_answer(graph, QUESTION))
    assert "".join(chunks) == answer
    assert len(chunks) > 8
    builder = StateGraph(MessagesState)
    builder.add_node("answer", graph)
    builder.add_edge(START, "answer")
    parent = builder.compile()
    request = {"messages": [("user", QUESTION["question"])]}
    assert "".join(stream_answer(parent, request)) == answer
    stream: Any = parent.stream(request, stream_mode="messages", subgraphs=True)  # type: ignore[call-overload]
    messages = [message for _, (message, _) in stream]
    assert "".join(message.text for message in messages) == answer
    assert len({message.id for message in messages}) == 1


@pytest.mark.parametrize("limit", [1, 3])
async def test_max_concurrency_holds_for_all_depths_together(server: FakeOpenAI, run: Run, limit: int) -> None:
    server.script = lambda request: Reply(inner_titles(request).text, first_token=0.02)
    result = await run(nested(server), QUESTION, {"max_concurrency": limit})
    assert len(result["points"]) == 4
    assert server.most_in_flight == limit


async def test_without_a_limit_all_depths_are_in_flight_at_once(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply(inner_titles(request).text, first_token=0.5)
    await run(nested(server), QUESTION)
    assert server.most_in_flight == 8


async def test_a_nested_answer_resumes_without_paying_again(server: FakeOpenAI, run: Run) -> None:
    lost = f"{TITLES[1]}, then"
    server.script = lambda request: Reply(status=401) if request.title == lost else inner_titles(request)
    graph = nested(server, checkpointer=InMemorySaver())
    with pytest.raises(ExpansionError, match=lost):
        await run(graph, QUESTION, THREAD)
    server.script = inner_titles
    before = len(server.requests)
    result = await run(graph, None, THREAD)
    assert [point["status"] for point in result["points"]] == ["written"] * 4
    assert len(server.requests) - before <= 3, "one point of four, and of it at best what was missing"


async def test_it_is_named_in_a_trace(server: FakeOpenAI, run: Run) -> None:
    shown: list[Any] = []

    def note(messages: list[BaseMessage], config: RunnableConfig) -> str:
        shown.append((config.get("run_name"), sorted(config["tags"]), config["metadata"]["sot_title"]))
        return written(messages)

    await run(create_sot_graph(server.model(), expander=RunnableLambda(note)), QUESTION)
    assert sorted(title for _, _, title in shown) == sorted(TITLES)
    assert all("sot:expand" in tags for _, tags, _ in shown)


# --- agents ------------------------------------------------------------------------------------------


def researched(request: Request) -> Reply:
    """An agent's model: it looks its point up, with some words beside the call, and then writes."""
    if request.stage != "agent":
        return usual(request)
    last = request.messages[-1]
    if last["role"] == "tool":
        return Reply(f"It is known: {last['content']}")
    title = title_told(str(last["content"]))
    return Reply("Let me see.", finish="tool_calls", calls=[("lookup", {"topic": title})])


def researcher(server: FakeOpenAI) -> Any:
    return create_agent(server.model(max_retries=0), [lookup])


async def test_an_agent_researches_each_point(server: FakeOpenAI, run: Run) -> None:
    server.script = researched
    result = await run(create_sot_graph(server.model(), expander=researcher(server)), QUESTION)
    assert [point["text"] for point in result["points"]] == [f"It is known: Facts on {title}." for title in TITLES]
    message = result["messages"][-1]
    assert message.response_metadata["sot"]["calls"] == 1 + 4 * 2
    assert message.usage_metadata["input_tokens"] == 10 * 9
    assert [message.type for message in result["messages"]] == ["human", "ai"]


async def test_an_agents_transient_error_is_retried(server: FakeOpenAI, run: Run) -> None:
    failed: list[str] = []

    def script(request: Request) -> Reply:
        if request.stage == "agent" and request.messages[-1]["role"] == "tool" and len(failed) < 2:
            failed.append(request.prompt)
            return Reply(status=500)
        return researched(request)

    server.script = script
    graph = create_sot_graph(server.model(), expander=researcher(server), retry_policy=FAST)
    result = await run(graph, QUESTION)
    assert [point["status"] for point in result["points"]] == ["written"] * 4


def test_of_an_agent_the_answer_alone_is_read(server: FakeOpenAI) -> None:
    server.script = researched
    graph = create_sot_graph(server.model(), expander=researcher(server))
    answer = graph.invoke(QUESTION)["answer"]
    assert "".join(stream_answer(graph, QUESTION)) == answer
    for subgraphs in (False, True):
        stream: Any = graph.stream(QUESTION, stream_mode="messages", subgraphs=subgraphs)
        messages = [part[1][0] if subgraphs else part[0] for part in stream]
        assert "".join(message.text for message in messages) == answer
        assert len({message.id for message in messages}) == 1


async def test_an_agents_runs_are_below_its_point(server: FakeOpenAI, run: Run) -> None:
    server.script = researched
    tree = Tree()
    await run(create_sot_graph(server.model(), expander=researcher(server)), QUESTION, {"callbacks": [tree]})
    above = tree.above("lookup")
    point = next(name for name in above if name.startswith("expand "))
    assert above[above.index(point) :] == [point, "expand", "skeleton_of_thought"]


async def test_a_limit_of_the_inner_graph_holds_for_each_of_its_runs(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: replace(inner_titles(request), first_token=0.05)
    inner = create_sot_graph(server.model()).with_config(max_concurrency=1)
    graph = create_sot_graph(server.model(), expander=inner)
    await run(graph, {**QUESTION, "outline": ["Light", "Noise"]})
    assert server.most_in_flight == 2, "two inner runs, each with one call at a time"


@pytest.mark.parametrize("limit", [None, 2, 8])
async def test_a_function_sees_the_callers_own_limit(server: FakeOpenAI, run: Run, limit: int | None) -> None:
    seen: list[Any] = []

    def note(messages: list[BaseMessage], config: RunnableConfig) -> str:
        seen.append(config.get("max_concurrency"))
        return written(messages)

    config: RunnableConfig = {"max_concurrency": limit} if limit else {}
    await run(create_sot_graph(server.model(), expander=note), QUESTION, config)
    assert seen == [limit] * 4
