"""`stream_events(version="v3")`: the answer and its points as projections of the run, and one streamed message."""

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy

from sot_graph import ExpansionError, SotTransformer, create_sot_graph, stream_answer
from tests.fake_openai import TITLES, FakeOpenAI, Reply, usual
from tests.integration.conftest import THREAD, parent_of
from tests.processes import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
QUESTION: Any = {"question": "How can I sleep better?"}
OTHERS = [
    *("text", ["list"], {"type": None}, {"type": ["outline"]}, {"type": "token", "text": "not ours"}),
    *({"type": "answer", "value": 1}, {"type": "outline"}, {"type": "point", "index": "1"}),
]
"""What other nodes may send."""
FORMS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


async def read(graph: Any, given: Any, name: str, *, is_async: bool, **options: Any) -> tuple[list[Any], Any]:
    """What a projection of a run yields, and the run's output."""
    if not is_async:
        run = graph.stream_events(given, version="v3", **options)
        return [*getattr(run, name)], run.output
    run = await graph.astream_events(given, version="v3", **options)
    return [each async for each in getattr(run, name)], await run.output()


@FORMS
@pytest.mark.parametrize("lead", [False, True])
async def test_the_answer_is_a_projection_in_reading_order(server: FakeOpenAI, *, is_async: bool, lead: bool) -> None:
    graph = create_sot_graph(server.model(), lead=lead)
    chunks, output = await read(graph, QUESTION, "answer", is_async=is_async)
    assert "".join(chunks) == output["answer"]
    assert len(chunks) > len(TITLES)


@FORMS
async def test_the_answer_begins_before_the_last_point_is_written(server: FakeOpenAI, *, is_async: bool) -> None:
    server.script = lambda request: Reply("Late.", first_token=600) if request.title == TITLES[-1] else usual(request)
    graph = create_sot_graph(server.model(timeout=3), retry_policy=RetryPolicy(max_attempts=1))
    if is_async:
        arun = await graph.astream_events(QUESTION, version="v3")
        assert await anext(aiter(arun.answer))
        await asyncio.to_thread(wait_until, lambda: server.in_flight == 1)
        await arun.abort()
    else:
        run = graph.stream_events(QUESTION, version="v3")
        assert next(iter(run.answer))
        wait_until(lambda: server.in_flight == 1)
        run.abort()


@FORMS
async def test_the_other_events_are_a_projection(server: FakeOpenAI, *, is_async: bool) -> None:
    events, output = await read(create_sot_graph(server.model()), QUESTION, "points", is_async=is_async)
    assert events[0] == {"type": "outline", "titles": TITLES}
    ends = [event for event in events if event["type"] == "point"]
    assert sorted(event["index"] for event in ends) == [1, 2, 3, 4]
    texts = ["".join(each["text"] for each in events if each["type"] == "token" and each["index"] == i) for i in (1, 4)]
    assert texts == [output["points"][0]["text"], output["points"][3]["text"]]


@FORMS
@pytest.mark.parametrize("lead", [False, True])
async def test_the_answer_is_one_streamed_message(server: FakeOpenAI, *, is_async: bool, lead: bool) -> None:
    graph = create_sot_graph(server.model(), lead=lead)
    if is_async:
        run: Any = await graph.astream_events(QUESTION, version="v3")
        found = [(message, [text async for text in message.text]) async for message in run.messages]
        output, made = await run.output(), await found[0][0].output
    else:
        run = graph.stream_events(QUESTION, version="v3")
        found = [(message, [*message.text]) for message in run.messages]
        output, made = run.output, found[0][0].output
    assert len(found) == 1
    assert "".join(found[0][1]) == output["answer"]
    assert len(found[0][1]) > len(TITLES)
    last = output["messages"][-1]
    assert (made.id, made.usage_metadata) == (last.id, last.usage_metadata)
    assert made.response_metadata["sot"] == last.response_metadata["sot"]


@FORMS
async def test_under_a_parent_the_transformer_is_given_to_the_call(server: FakeOpenAI, *, is_async: bool) -> None:
    parent = parent_of(create_sot_graph(server.model()))
    given = {"messages": [("user", "How can I sleep better?")]}
    chunks, output = await read(parent, given, "answer", is_async=is_async, transformers=[SotTransformer])
    assert "".join(chunks) == output["messages"][-1].text
    assert len(chunks) > len(TITLES)


def test_each_subgraph_has_its_own(server: FakeOpenAI) -> None:
    parent = parent_of(create_sot_graph(server.model()))
    given = {"messages": [("user", "How can I sleep better?")]}
    run = parent.stream_events(given, version="v3", transformers=[SotTransformer])
    texts = [("".join(subgraph.answer), subgraph.path[0].split(":")[0]) for subgraph in run.subgraphs]
    assert texts == [(run.output["messages"][-1].text, "write")]


@FORMS
async def test_a_graph_inside_is_not_read(server: FakeOpenAI, *, is_async: bool) -> None:
    """Of a SoT graph that another one has as its expander, the texts are points of the outer answer."""
    graph = create_sot_graph(server.model(), expander=create_sot_graph(server.model(), route="always", max_points=2))
    chunks, output = await read(graph, QUESTION, "answer", is_async=is_async)
    assert "".join(chunks) == output["answer"]


@FORMS
async def test_other_custom_events_are_left_alone(server: FakeOpenAI, *, is_async: bool) -> None:
    builder = StateGraph(MessagesState)

    def first(_state: Any) -> None:
        for sent in OTHERS:
            get_stream_writer()(sent)

    builder.add_node("first", RunnableLambda(first))
    builder.add_node("write", create_sot_graph(server.model()))
    builder.add_edge(START, "first")
    builder.add_edge("first", "write")
    given = {"messages": [("user", "How can I sleep better?")]}
    events, _ = await read(builder.compile(), given, "points", is_async=is_async, transformers=[SotTransformer])
    assert events[0]["type"] == "outline"
    chunks = list(stream_answer(builder.compile(), given))
    assert chunks, "nor do they disturb the answer"


@FORMS
async def test_a_failed_point_ends_the_projection_with_its_error(server: FakeOpenAI, *, is_async: bool) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    with pytest.raises(ExpansionError, match="1 of 4 points"):
        await read(create_sot_graph(server.model()), QUESTION, "answer", is_async=is_async)


@FORMS
async def test_a_thread_that_resumes_streams_the_answer_from_its_beginning(
    server: FakeOpenAI, *, is_async: bool
) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[3] else usual(request)
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver())
    with pytest.raises(ExpansionError):
        await graph.ainvoke(QUESTION, THREAD)
    server.script = usual
    chunks, output = await read(graph, None, "answer", is_async=is_async, config=THREAD)
    assert "".join(chunks) == output["answer"]
    assert len(server.requests) == 6


@FORMS
@pytest.mark.parametrize("merged", [False, True])
async def test_a_thread_that_resumes_has_all_events_of_its_points(
    server: FakeOpenAI, *, is_async: bool, merged: bool
) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[0] else usual(request)
    merge = (lambda points: "\n".join(point["text"] for point in points)) if merged else None
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), merge=merge)
    with pytest.raises(ExpansionError):
        await graph.ainvoke(QUESTION, THREAD)
    server.script = usual
    events, output = await read(graph, None, "points", is_async=is_async, config=THREAD)
    assert "".join(event["text"] for event in events if event["type"] == "token") == output["points"][0]["text"]
    assert events[-1] == {"type": "point", "index": 1, "status": "written"}


@pytest.mark.parametrize(
    "options", [{}, {"lead": True}, {"merge": lambda points: points[0]["text"]}], ids=["joined", "lead", "merge"]
)
def test_an_answer_whose_failed_point_is_written_later_is_the_same_message(
    server: FakeOpenAI, options: dict[str, Any]
) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request)
    graph = create_sot_graph(server.model(), checkpointer=InMemorySaver(), on_error="keep", **options)
    before = graph.invoke(QUESTION, THREAD)["messages"][-1]
    server.script = usual
    run = graph.stream_events(Command(goto="merge"), THREAD, version="v3")
    found = [(str(message.text), message.output) for message in run.messages]
    output: Any = run.output
    last = output["messages"][-1]
    assert [(text, made.id) for text, made in found] == [(last.text, last.id)]
    assert last.id == before.id
    assert len(output["messages"]) == 2


async def test_messages_and_the_answer_can_be_read_at_once(server: FakeOpenAI) -> None:
    run = await create_sot_graph(server.model()).astream_events(QUESTION, version="v3")

    async def messages() -> str:
        return "".join([text async for message in run.messages async for text in message.text])

    async def answer() -> str:
        return "".join([chunk async for chunk in run.answer])

    texts = await asyncio.gather(messages(), answer())
    assert texts[0] == texts[1] == (await run.output())["answer"]  # type: ignore[index]
