"""The compiled graph as a part of other people's graphs and chains."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from sot_graph import DemoChatModel, ExpansionError, astream_answer, create_sot_graph, stream_answer
from tests.agents import ANSWER, QUESTION, assert_accepted, calling, kinds, lookup, playing
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, usual
from tests.integration.conftest import THREAD, Run

SUBJECTS = ["bees", "owls", "eels"]


def on_subjects(request: Request) -> Reply:
    """Texts that say which question they belong to: the last one of the prompt's subjects."""
    if request.stage != "expand":
        return usual(request)
    subject = max(SUBJECTS, key=lambda each: request.prompt.rfind(f"Why {each}?"))
    return Reply(f"On {subject} and {request.title.lower()}.", per_token=0.002)


def answer_on(subject: str) -> str:
    return "\n\n".join(f"On {subject} and {title.lower()}." for title in TITLES)


# --- parents with messages ----------------------------------------------------------------------------


class Notes(MessagesState):
    notes: list[str]


async def test_a_parents_other_keys_stay_its_own(server: FakeOpenAI, run: Run) -> None:
    builder = StateGraph(Notes)
    builder.add_node("look_up", lambda _: {"notes": ["bees see polarised light"]})
    builder.add_node("write", create_sot_graph(server.model()))
    builder.add_edge(START, "look_up")
    builder.add_edge("look_up", "write")
    parent = builder.compile(checkpointer=InMemorySaver())
    result = await run(parent, QUESTION, THREAD)
    assert set(result) == set(parent.get_state(THREAD).values) == {"messages", "notes"}
    assert result["notes"] == ["bees see polarised light"]
    assert kinds(result["messages"]) == ["human", "ai"]


def asking_again(server: FakeOpenAI, **options: Any) -> Any:
    graph = create_sot_graph(server.model())
    builder = StateGraph(MessagesState)
    builder.add_node("first", graph)
    builder.add_node("ask", lambda _: {"messages": [HumanMessage("Why owls?")]})
    builder.add_node("second", graph)
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", "second")
    return builder.compile(**options)


@pytest.mark.parametrize("options", [{}, {"checkpointer": InMemorySaver()}], ids=["no thread", "thread"])
async def test_twice_in_one_parent_the_second_has_the_first_as_context(
    server: FakeOpenAI, run: Run, options: dict[str, Any]
) -> None:
    server.script = on_subjects
    config: RunnableConfig = {"configurable": {"thread_id": f"{id(server)}"}}
    result = await run(asking_again(server, **options), {"messages": [("user", "Why bees?")]}, config)
    assert set(result) == {"messages"}
    assert [m.text for m in result["messages"]] == ["Why bees?", answer_on("bees"), "Why owls?", answer_on("owls")]
    assert len({message.id for message in result["messages"]}) == 4
    first, second = server.of_stage("skeleton")
    assert answer_on("bees") not in first.prompt
    assert answer_on("bees") in second.prompt


def in_parallel(server: FakeOpenAI, **options: Any) -> Any:
    """Two ways to answer the same question, at once."""
    builder = StateGraph(MessagesState)
    for name in ("plain", "titled"):
        builder.add_node(name, create_sot_graph(server.model(), headings=name == "titled"))
        builder.add_edge(START, name)
    return builder.compile(**options)


async def test_in_parallel_branches_each_adds_its_message(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply(usual(request).text, first_token=0.2)
    result = await run(in_parallel(server), QUESTION)
    titled = "\n\n".join(f"## {title}\n\nAbout {title.lower()} there is this to say." for title in TITLES)
    assert set(result) == {"messages"}
    assert [message.text for message in result["messages"][1:]] == [ANSWER, titled]
    assert server.most_in_flight == 8


@pytest.mark.parametrize("direct", [False, True], ids=["points", "direct"])
@pytest.mark.parametrize("ends_with", ["ai", "tool"])
async def test_behind_an_agent_its_models_get_tool_results_as_text(
    server: FakeOpenAI, run: Run, ends_with: str, *, direct: bool
) -> None:
    # Anthropic refuses a request that has tool calls in it but offers no tools, and one that an assistant ends.
    playing(server, calling(("lookup", {"topic": "sleep"})), Reply("Found."))
    messages = (await run(create_agent(server.model(), [lookup]), QUESTION))["messages"]
    given = {"messages": messages if ends_with == "ai" else messages[:-1]}
    server.requests.clear()
    result = await run(create_sot_graph(server.model(), route=lambda _: not direct), given)
    assert kinds(result["messages"]) == [*kinds(given["messages"]), "ai"], "the thread keeps them as they are"
    assert result["messages"][2].name == "lookup"
    assert_accepted(server.requests)
    for request in server.requests:
        assert [message["role"] for message in request.messages[:4]] == ["system", "user", "assistant", "user"]
        assert request.messages[3]["content"] == request.messages[1]["content"], "asked again"
        assert 'The tool lookup({"topic": "sleep"}) gave:]\nFacts on sleep.' in request.prompt


# --- parents with keys of their own -------------------------------------------------------------------


class Desk(TypedDict, total=False):
    topic: str
    essay: str


def mapped(graph: Any) -> RunnableLambda[Desk, Any]:
    def write(state: Desk) -> Any:
        return {"essay": graph.invoke({"question": state["topic"]})["answer"]}

    async def awrite(state: Desk) -> Any:
        return {"essay": (await graph.ainvoke({"question": state["topic"]}))["answer"]}

    return RunnableLambda(write, awrite)


async def test_a_mapping_node_fits_any_parent(server: FakeOpenAI, run: Run) -> None:
    server.script = on_subjects
    builder = StateGraph(Desk)
    builder.add_node("write", mapped(create_sot_graph(server.model())))
    builder.add_edge(START, "write")
    parent = builder.compile(checkpointer=InMemorySaver())
    for subject in SUBJECTS[:2]:
        result = await run(parent, {"topic": f"Why {subject}?"}, THREAD)
        assert result == {"topic": f"Why {subject}?", "essay": answer_on(subject)}
    assert "bees" not in server.requests[-1].prompt, "the next turn knows nothing of the one before"
    assert "".join(stream_answer(parent, {"topic": "Why eels?"}, THREAD)) == answer_on("eels")


# --- Send ---------------------------------------------------------------------------------------------


class Questions(MessagesState):
    questions: list[str]
    answers: Annotated[list[str], operator.add]


def sending(node: Any, payload: Callable[[str], dict[str, Any]], **options: Any) -> Any:
    """A parent that has all its questions answered at once."""
    builder = StateGraph(Questions)
    builder.add_node("write", node)
    builder.add_conditional_edges(
        START, lambda state: [Send("write", payload(each)) for each in state["questions"]], ["write"]
    )
    return builder.compile(**options)


WHY = {"questions": [f"Why {subject}?" for subject in SUBJECTS]}


async def test_sent_questions_are_answered_at_once_and_in_order(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply(on_subjects(request).text, first_token=1.0)
    parent = sending(create_sot_graph(server.model()), lambda question: {"question": question})
    result = await run(parent, WHY)
    assert not {"points", "answer", "question", "outline", "attempts"} & set(result)
    expected = [text for subject in SUBJECTS for text in (f"Why {subject}?", answer_on(subject))]
    assert [message.text for message in result["messages"]] == expected
    assert server.most_in_flight == 12


async def test_where_a_sent_question_failed_no_written_point_is_requested_again(server: FakeOpenAI, run: Run) -> None:
    def failing(request: Request) -> Reply:
        reply = on_subjects(request)
        if "owls" in request.prompt and request.title == TITLES[1]:
            return Reply(status=401, first_token=1.5)
        if "bees" in request.prompt and request.title == TITLES[3]:
            reply.first_token = 3  # still in flight when the owls fail, upon which an async engine cancels it
        return reply

    server.script = failing
    graph = create_sot_graph(server.model())
    parent = sending(graph, lambda question: {"question": question}, checkpointer=InMemorySaver())
    with pytest.raises(ExpansionError, match=TITLES[1]):
        await run(parent, WHY, THREAD)
    server.script = on_subjects
    before = len(server.requests)
    result = await run(parent, None, THREAD)
    assert [message.text for message in result["messages"][1::2]] == [answer_on(subject) for subject in SUBJECTS]
    again = {(request.messages[1]["content"].split()[1], request.title) for request in server.requests[before:]}
    assert {("owls?", TITLES[1])} <= again <= {("owls?", TITLES[1]), ("bees?", TITLES[3])}


async def test_a_mapping_node_may_be_sent_to(server: FakeOpenAI, run: Run) -> None:
    server.script = on_subjects
    graph = create_sot_graph(server.model())
    node = RunnableLambda[Desk, Any](
        lambda sent: {"answers": [graph.invoke({"question": sent["topic"]})["answer"]]},
        lambda sent: _answers(graph, sent["topic"]),
    )
    result = await run(sending(node, lambda question: {"topic": question}), WHY)
    assert result["answers"] == [answer_on(subject) for subject in SUBJECTS]
    assert result["messages"] == []


async def _answers(graph: Any, question: str) -> dict[str, Any]:
    return {"answers": [(await graph.ainvoke({"question": question}))["answer"]]}


# --- streams through a parent -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("kind", ["one after the other", "sent"])
async def test_each_answer_is_one_message_in_order(server: FakeOpenAI, form: str, kind: str) -> None:
    server.script = on_subjects
    graph = create_sot_graph(server.model())
    parent = sending(graph, lambda question: {"question": question}) if kind == "sent" else asking_again(server)
    given: Any = {**WHY, "messages": [HumanMessage("Why bees?", id="1")]} if kind != "sent" else WHY
    options: Any = {"stream_mode": ["messages", "custom", "values"], "subgraphs": True}
    if form == "sync":
        parts = list(parent.stream(given, **options))
    else:
        parts = [part async for part in parent.astream(given, **options)]
    shown: dict[str, list[Any]] = {}
    texts: dict[Any, str] = {}
    result: Any = {}
    for namespace, mode, data in parts:
        if mode == "messages" and isinstance(data[0], AIMessageChunk):
            shown.setdefault(data[0].id or "", []).append((namespace, data[0].text))
        elif mode == "custom" and data["type"] == "answer":
            texts[namespace] = texts.get(namespace, "") + data["text"]
        elif mode == "values" and not namespace:
            result = data
    answers = {message.id: message.text for message in result["messages"] if message.type == "ai"}
    assert len(answers) == (3 if kind == "sent" else 2)
    assert {each: "".join(text for _, text in chunks) for each, chunks in shown.items()} == answers
    assert all(len(chunks) > len(TITLES) for chunks in shown.values())
    assert all(len({namespace for namespace, _ in chunks}) == 1 for chunks in shown.values())
    assert sorted(texts.values()) == sorted(answers.values())


async def test_of_several_answers_at_once_one_alone_is_read(server: FakeOpenAI) -> None:
    server.script = on_subjects
    parent = sending(create_sot_graph(server.model()), lambda question: {"question": question})
    answers = {answer_on(subject) for subject in SUBJECTS}
    assert "".join(stream_answer(parent, WHY)) in answers
    assert "".join([chunk async for chunk in astream_answer(parent, WHY)]) in answers


# --- chains, models, names ----------------------------------------------------------------------------


async def test_in_a_chain_it_is_a_runnable(server: FakeOpenAI, run: Run) -> None:
    server.script = on_subjects
    graph: Any = create_sot_graph(server.model())
    chain: Any = (
        (lambda subject: {"question": f"Why {subject}?"}) | graph | (lambda result: {"essay": result["answer"]})
    )
    assert await run(chain, "bees") == {"essay": answer_on("bees")}
    expected = [{"essay": answer_on(subject)} for subject in SUBJECTS]
    assert chain.batch(SUBJECTS) == await chain.abatch(SUBJECTS) == expected


async def test_two_providers_models_share_the_work(server: FakeOpenAI, run: Run) -> None:
    small = DemoChatModel(first_token=0, tokens_per_second=0)
    result = await run(create_sot_graph(server.model(), skeleton_model=small, max_points=4), {"question": "Why bees?"})
    assert [request.stage for request in server.requests] == ["expand"] * 4
    assert sorted(server.titles()) == sorted(point["title"] for point in result["points"])
    stages = result["messages"][-1].response_metadata["sot"]["stages"]
    assert {stage: shown["calls"] for stage, shown in stages.items()} == {"skeleton": 1, "expand": 4}


class Runs(BaseCallbackHandler):
    """What each run is called, and which tags and metadata it bears."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[str], dict[str, Any]]] = []

    def on_chain_start(self, *_args: Any, **kwargs: Any) -> None:
        self.seen.append((kwargs["name"], kwargs["tags"], kwargs["metadata"]))

    def on_chat_model_start(self, *_args: Any, **kwargs: Any) -> None:
        self.seen.append((kwargs["name"], kwargs["tags"], kwargs["metadata"]))


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a parent"])
async def test_name_tags_and_metadata_reach_every_run(server: FakeOpenAI, run: Run, *, nested: bool) -> None:
    runs = Runs()
    graph: Any = create_sot_graph(server.model(), lead=True)
    graph = graph.with_config(run_name="essay", tags=["mine"], metadata={"customer": 7})
    if nested:
        builder = StateGraph(MessagesState)
        builder.add_node("write", graph)
        builder.add_edge(START, "write")
        graph = builder.compile()
    await run(graph, QUESTION, {"callbacks": [runs]})
    names = [name for name, _, _ in runs.seen]
    points = [f"expand {index}: {title}" for index, title in enumerate(TITLES, start=1)]
    assert {"skeleton outline", "lead opening", "expand", *points} <= set(names)
    ours = runs.seen[names.index("essay") :]  # above it are the parent's own
    assert len(ours) == len(names) - (2 if nested else 0)
    for name, tags, metadata in ours:
        assert "mine" in tags, name
        assert metadata["customer"] == 7, name
