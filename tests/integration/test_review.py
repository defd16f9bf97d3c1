"""`review=True`: a person sees the outline before anything of it is written."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import ValidationError

from sot_graph import create_sot_graph, stream_answer
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import THREAD, Run

QUESTION = "How can I sleep better?"


def reviewed(server: FakeOpenAI, **options: Any) -> Any:
    return create_sot_graph(server.model(), review=True, checkpointer=InMemorySaver(), **options)


def shown(result: dict[str, Any]) -> Any:
    (interrupt,) = result["__interrupt__"]
    return interrupt.value


async def test_it_shows_question_and_titles_and_writes_nothing(server: FakeOpenAI, run: Run) -> None:
    result = await run(reviewed(server), {"question": QUESTION}, THREAD)
    assert shown(result) == {"question": QUESTION, "titles": TITLES}
    assert [request.stage for request in server.requests] == ["skeleton"]


@pytest.mark.parametrize("given", [{"messages": [("user", QUESTION)]}, {"question": QUESTION, "outline": TITLES[:2]}])
async def test_it_shows_a_conversations_question_and_a_callers_outline(
    server: FakeOpenAI, run: Run, given: dict[str, Any]
) -> None:
    result = await run(reviewed(server), given, THREAD)
    assert shown(result) == {"question": QUESTION, "titles": given.get("outline", TITLES)}


async def test_true_accepts(server: FakeOpenAI, run: Run) -> None:
    graph = reviewed(server)
    await run(graph, {"question": QUESTION}, THREAD)
    result = await run(graph, Command(resume=True), THREAD)
    undisturbed = await run(create_sot_graph(server.model()), {"question": QUESTION})
    assert result["answer"] == undisturbed["answer"]
    assert result["points"] == undisturbed["points"]
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert result["messages"][-1].response_metadata["sot"]["calls"] == 5


async def test_a_list_replaces(server: FakeOpenAI, run: Run) -> None:
    graph = reviewed(server)
    await run(graph, {"question": QUESTION}, THREAD)
    edited = [TITLES[2], "1. A **new** one", TITLES[0]]
    result = await run(graph, Command(resume=edited), THREAD)
    assert [point["title"] for point in result["points"]] == [TITLES[2], "A new one", TITLES[0]]
    assert len(server.of_stage("skeleton")) == 1
    assert "\nLess evening caffeine; A new one; Regular sleep hours.\n" in server.of_stage("expand")[0].prompt


async def test_a_person_may_keep_one_point_only(server: FakeOpenAI, run: Run) -> None:
    graph = reviewed(server, min_points=3)
    await run(graph, {"question": QUESTION}, THREAD)
    result = await run(graph, Command(resume=TITLES[:1]), THREAD)
    assert [point["title"] for point in result["points"]] == TITLES[:1]


async def test_a_remark_is_followed_and_the_new_outline_is_shown(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        if request.stage != "skeleton":
            return usual(request)
        return Reply(outline_json([*TITLES, "Naps"] if "more on naps" in request.prompt else TITLES))

    server.script = script
    graph = reviewed(server)
    first = await run(graph, {"question": QUESTION}, THREAD)
    second = await run(graph, Command(resume="more on naps {x}, please"), THREAD)
    assert (shown(first)["titles"], shown(second)["titles"]) == (TITLES, [*TITLES, "Naps"])
    assert first["__interrupt__"][0].id != second["__interrupt__"][0].id
    before, again = (request.messages for request in server.of_stage("skeleton"))
    assert again[:3] == before[:3], "what is shared stays in front"
    outline, remark = again[4:]
    assert outline == {"role": "assistant", "content": f"{'; '.join(TITLES)}."}
    assert remark["content"].startswith("more on naps {x}, please\n\n")
    assert server.of_stage("expand") == []
    result = await run(graph, Command(resume=True), THREAD)
    assert [point["title"] for point in result["points"]] == [*TITLES, "Naps"]
    sot = result["messages"][-1].response_metadata["sot"]
    assert (sot["calls"], sot["stages"]["skeleton"]["calls"]) == (7, 2), "both outlines were paid for"


@pytest.mark.parametrize("text", ["", "NONE", '{"points": []}', "I cannot do that."])
async def test_without_a_new_outline_the_old_one_stands(server: FakeOpenAI, run: Run, text: str) -> None:
    server.script = lambda request: Reply(text) if request.attempt > 1 else usual(request)
    graph = reviewed(server)
    await run(graph, {"question": QUESTION}, THREAD)
    result = await run(graph, Command(resume="shorter"), THREAD)
    assert shown(result)["titles"] == TITLES


async def test_a_failed_new_outline_can_be_requested_again(server: FakeOpenAI, run: Run) -> None:
    graph = reviewed(server)
    await run(graph, {"question": QUESTION}, THREAD)
    server.script = lambda _: Reply(status=401)
    with pytest.raises(Exception, match="401"):
        await run(graph, Command(resume="shorter"), THREAD)
    server.script = lambda request: Reply(outline_json(TITLES[:2])) if request.stage == "skeleton" else usual(request)
    result = await run(graph, None, THREAD)
    assert shown(result)["titles"] == TITLES[:2]
    assert "shorter" in server.requests[-1].prompt


WRONG = [False, 3, "", " \n", [], [""], ["- ", "**"], ["One", 2], {"titles": TITLES}, [f"Title {i}" for i in range(11)]]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_anything_else_is_refused_and_the_interrupt_stays(server: FakeOpenAI, run: Run, wrong: Any) -> None:
    graph = reviewed(server)
    await run(graph, {"question": QUESTION}, THREAD)
    for _ in range(2):
        with pytest.raises(
            ValidationError, match=r"True .* list of 1 to 10 titles .* remark as text .* interrupt stays"
        ):
            await run(graph, Command(resume=wrong), THREAD)
        state = graph.get_state(THREAD)
        assert state.next == ("review",)
        assert state.interrupts[0].value == {"question": QUESTION, "titles": TITLES}
    assert len(server.requests) == 1
    result = await run(graph, Command(resume=True), THREAD)
    assert [point["title"] for point in result["points"]] == TITLES


async def test_a_question_that_suits_no_outline_is_not_reviewed(server: FakeOpenAI, run: Run) -> None:
    server.script = lambda request: Reply(outline_json([])) if request.stage == "skeleton" else usual(request)
    result = await run(reviewed(server), {"question": "What is 2 + 2?"}, THREAD)
    assert result["answer"] == "A direct answer."


async def test_without_a_checkpointer_it_is_refused_before_a_call(server: FakeOpenAI, run: Run) -> None:
    with pytest.raises(ValueError, match="needs a checkpointer"):
        await run(create_sot_graph(server.model(), review=True), {"question": QUESTION})
    assert server.requests == []


@pytest.mark.parametrize("resumed", [True, ["One", "Two"]], ids=str)
async def test_in_a_parent_the_interrupt_comes_through(server: FakeOpenAI, run: Run, resumed: Any) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", create_sot_graph(server.model(), review=True))
    builder.add_edge(START, "answer")
    parent = builder.compile(checkpointer=InMemorySaver())
    first = await run(parent, {"messages": [("user", QUESTION)]}, THREAD)
    assert shown(first) == {"question": QUESTION, "titles": TITLES}
    with pytest.raises(ValidationError):
        await run(parent, Command(resume=7), THREAD)
    result = await run(parent, Command(resume=resumed), THREAD)
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert sorted(server.titles()) == sorted(TITLES if resumed is True else resumed)
    assert len(server.of_stage("skeleton")) == 1


def test_a_reviewed_answer_is_read_in_order(server: FakeOpenAI) -> None:
    graph = reviewed(server)
    assert list(stream_answer(graph, {"question": QUESTION}, THREAD)) == []
    chunks = list(stream_answer(graph, Command(resume=TITLES[:2]), THREAD))
    assert "".join(chunks) == graph.get_state(THREAD).values["answer"]
    assert len(chunks) > 2


def test_the_titles_that_are_written_are_sent_as_an_event(server: FakeOpenAI) -> None:
    graph = reviewed(server)
    first = list(graph.stream({"question": QUESTION}, THREAD, stream_mode="custom"))
    assert first == [{"type": "outline", "titles": TITLES}]
    then = list(graph.stream(Command(resume=["One", "Two"]), THREAD, stream_mode="custom"))
    assert then[0] == {"type": "outline", "titles": ["One", "Two"]}


async def test_the_next_turn_of_a_thread_is_reviewed_anew(server: FakeOpenAI, run: Run) -> None:
    graph = reviewed(server)
    await run(graph, {"question": QUESTION}, THREAD)
    await run(graph, Command(resume=True), THREAD)
    result = await run(graph, {"question": "And in summer?"}, THREAD)
    assert shown(result) == {"question": "And in summer?", "titles": TITLES}
    assert len(server.of_stage("expand")) == 4
