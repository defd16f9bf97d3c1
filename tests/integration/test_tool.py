"""The graph as a tool of an agent."""

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from sot_graph import create_sot_graph, create_sot_tool, stream_answer
from tests.agents import ANSWER, QUESTION, Tree, assert_accepted, assert_valid, calling, kinds, playing
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, outline_json, usual
from tests.integration.conftest import THREAD, Run

NAME = "write_long_answer"
DONE = Reply("There you are.")
SAVERS = {"no thread": None, "thread": InMemorySaver()}


def asking(*questions: str) -> Reply:
    return calling(*((NAME, {"question": question}) for question in questions))


def agent_of(server: FakeOpenAI, saver: Any = None, **options: Any) -> Any:
    tool = create_sot_tool(create_sot_graph(server.model(), **options))
    return create_agent(server.model(), [tool], checkpointer=saver, name="clerk")


async def test_the_content_is_the_answer_and_the_artifact_the_points(server: FakeOpenAI, run: Run) -> None:
    playing(server, asking("Why sleep?"), DONE)
    messages = (await run(agent_of(server), QUESTION))["messages"]
    assert kinds(messages) == ["human", "ai", "tool", "ai"]
    assert messages[2].text == ANSWER
    assert [(p["index"], p["title"], p["status"]) for p in messages[2].artifact] == [
        (i, title, "written") for i, title in enumerate(TITLES, start=1)
    ]
    assert all("Why sleep?" in request.prompt for request in server.of_stage("expand"))
    assert not any("How can I sleep better?" in request.prompt for request in server.of_stage("expand"))


async def test_an_agents_own_outline_saves_the_skeleton_call(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling((NAME, {"question": "Why sleep?", "outline": TITLES[:2]})), DONE)
    await run(agent_of(server), QUESTION)
    assert sorted(server.titles()) == sorted(TITLES[:2])
    assert not server.of_stage("skeleton")


async def test_a_question_that_does_not_suit_is_answered_directly(server: FakeOpenAI, run: Run) -> None:
    direct = {"skeleton": Reply(outline_json([]))}
    playing(server, asking("What is 2 + 2?"), DONE, others=lambda request: direct.get(request.stage) or usual(request))
    messages = (await run(agent_of(server), QUESTION))["messages"]
    assert (messages[2].text, messages[2].artifact) == ("A direct answer.", [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "question: Field required"),
        ({"question": " \n"}, "question: Value error, it must not be blank"),
        ({"question": None}, "question: Input should be a valid string"),
        ({"question": "Why?", "outline": ["One", " "]}, "outline.1: Value error, it must not be blank"),
        ({"question": "Why?", "outline": "No idea."}, "outline: Value error, it must be a list of titles"),
        ({"question": "Why?", "outline": [{"title": 1}]}, "outline: Value error, it must be a list of titles"),
    ],
    ids=str,
)
async def test_a_bad_call_comes_back_as_an_error_that_the_agent_can_mend(
    server: FakeOpenAI, run: Run, arguments: dict[str, Any], says: str
) -> None:
    playing(server, calling((NAME, arguments)), asking("Why sleep?"), DONE)
    messages = (await run(agent_of(server), QUESTION))["messages"]
    assert messages[2].status == "error"
    assert says in messages[2].text
    assert messages[4].text == ANSWER
    assert len(server.of_stage("skeleton")) == 1, "no model is asked for a bad call"


async def test_points_that_failed_come_back_with_those_that_were_written(server: FakeOpenAI, run: Run) -> None:
    def failing(request: Request) -> Reply:
        return Reply(status=401, message="no such key") if request.title == TITLES[1] else usual(request)

    playing(server, asking("Why sleep?"), DONE, others=failing)
    messages = (await run(agent_of(server), QUESTION))["messages"]
    assert messages[2].status == "error"
    assert messages[2].text.startswith(f"1 of 4 points could not be written: 2 ({TITLES[1]!r}): ")
    assert "no such key" in messages[2].text
    assert f"## {TITLES[3]}\n\nAbout {TITLES[3].lower()} there is" in messages[2].text
    assert messages[-1].text == "There you are."

    tool = create_sot_tool(create_sot_graph(server.model()))
    tool.handle_tool_error = False
    with pytest.raises(ToolException, match="1 of 4 points"):
        await run(tool, {"question": "Why sleep?"})


async def test_an_agent_can_end_with_the_answer(server: FakeOpenAI, run: Run) -> None:
    tool = create_sot_tool(create_sot_graph(server.model()))
    tool.return_direct = True
    playing(server, asking("Why sleep?"))
    messages = (await run(create_agent(server.model(), [tool]), QUESTION))["messages"]
    assert messages[-1].text == ANSWER


async def test_with_keep_the_answer_is_made_of_the_others(server: FakeOpenAI, run: Run) -> None:
    playing(
        server,
        asking("Why sleep?"),
        DONE,
        others=lambda request: Reply(status=401) if request.title == TITLES[1] else usual(request),
    )
    messages = (await run(agent_of(server, on_error="keep"), QUESTION))["messages"]
    assert [p["status"] for p in messages[2].artifact] == ["written", "failed", "written", "written"]


@pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize("own", SAVERS.values(), ids=SAVERS)
async def test_two_calls_in_one_message_do_not_mix(server: FakeOpenAI, run: Run, saver: Any, own: Any) -> None:
    def echoing(request: Request) -> Reply:
        word = "owls" if "owls" in request.prompt else "bees"
        return Reply(f"On {word}.") if request.stage == "expand" else usual(request)

    agent = agent_of(server, saver, checkpointer=own)
    for _ in range(2):
        playing(server, asking("Why owls?", "Why bees?"), DONE, others=echoing)
        messages = (await run(agent, QUESTION, THREAD))["messages"]
        tools = [message for message in messages if isinstance(message, ToolMessage)][-2:]
        assert [message.text for message in tools] == ["\n\n".join([f"On {word}."] * 4) for word in ("owls", "bees")]
        assert_valid(messages)
    assert_accepted(server.requests)


async def test_two_calls_that_are_cancelled_resume_each_with_its_own(server: FakeOpenAI, run: Run) -> None:
    def script(request: Request) -> Reply:
        word = "owls" if "owls" in request.prompt else "bees"
        if request.stage != "expand":
            return usual(request)
        return Reply(f"On {word}: {request.title}.")

    tool = create_sot_tool(create_sot_graph(server.model(), review=True))
    agent: Any = create_agent(server.model(), [tool], checkpointer=InMemorySaver())
    playing(server, asking("Why owls?", "Why bees?"), DONE, others=script)
    stopped = await run(agent, QUESTION, THREAD)
    rounds = 0
    while interrupts := stopped.get("__interrupt__"):
        rounds += 1
        assert rounds < 5
        stopped = await run(agent, Command(resume={each.id: True for each in interrupts}), THREAD)
    tools = [message for message in stopped["messages"] if isinstance(message, ToolMessage)]
    assert len(tools) == 2
    for message, word in zip(tools, ("owls", "bees"), strict=True):
        assert message.text == "\n\n".join(f"On {word}: {title}." for title in TITLES)


async def test_a_graph_with_a_checkpointer_works_as_a_tool_by_itself(server: FakeOpenAI, run: Run) -> None:
    saver = InMemorySaver()
    tool = create_sot_tool(create_sot_graph(server.model(), checkpointer=saver))
    for _ in range(2):
        assert str(await run(tool, {"question": "Why sleep?"})) == ANSWER
    assert server.of_stage("expand")[-1].prompt.count("Why sleep?") == 1, "calls know nothing of each other"
    assert str(await run(tool, {"question": "Why sleep?"}, THREAD)) == ANSWER
    assert saver.get_tuple(THREAD), "the caller's own thread is used"


async def test_many_calls_run_at_once(server: FakeOpenAI) -> None:
    tool = create_sot_tool(create_sot_graph(server.model()))
    answers = await asyncio.gather(*(tool.ainvoke({"question": f"Why {i}?"}) for i in range(8)))
    assert answers == [ANSWER] * 8
    assert tool.batch([{"question": "Why?"}] * 2) == [ANSWER] * 2


async def test_it_is_nested_in_the_agents_trace(server: FakeOpenAI, run: Run) -> None:
    playing(server, asking("Why sleep?"), DONE)
    tree = Tree()
    await run(agent_of(server), QUESTION, {"callbacks": [tree]})
    assert tree.above(f"expand 1: {TITLES[0]}") == ["expand", "skeleton_of_thought", NAME, "tools", "clerk"]


async def test_its_progress_is_visible_in_the_agents_stream(server: FakeOpenAI) -> None:
    playing(server, *[asking("Why sleep?"), DONE] * 3)
    agent = agent_of(server)
    options: dict[str, Any] = {"stream_mode": ["messages", "custom"], "subgraphs": True}
    for form in ("sync", "async"):
        if form == "sync":
            parts = list(agent.stream(QUESTION, **options))
        else:
            parts = [part async for part in agent.astream(QUESTION, **options)]
        events = [data for _, mode, data in parts if mode == "custom"]
        assert events[0] == {"type": "outline", "titles": TITLES}
        assert [e["index"] for e in events if e["type"] == "point"]
        streamed = [(ns, data[0]) for ns, mode, data in parts if mode == "messages"]
        shown = [(ns, m.text) for ns, m in streamed if isinstance(m, AIMessageChunk)]
        assert "".join(text for ns, text in shown if ns) == ANSWER, "below the agent"
        assert "".join(text for ns, text in shown if not ns) == "There you are."
    assert "".join(stream_answer(agent, QUESTION)) == ANSWER


async def test_without_subgraphs_the_agents_stream_has_only_its_own_words(server: FakeOpenAI) -> None:
    playing(server, asking("Why sleep?"), DONE)
    parts = list(agent_of(server).stream(QUESTION, stream_mode="messages"))
    assert "".join(m.text for m, _ in parts if isinstance(m, AIMessageChunk)) == "There you are."
    assert [m.text for m, _ in parts if isinstance(m, ToolMessage)] == [ANSWER]


async def test_it_works_with_a_bound_model_and_no_agent(server: FakeOpenAI, run: Run) -> None:
    tool = create_sot_tool(create_sot_graph(server.model()), name="essay", description="Writes an essay.")
    playing(server, calling(("essay", {"question": "Why sleep?"})))
    message = await server.model().bind_tools([tool]).ainvoke([HumanMessage("Hi")])
    assert isinstance(message, AIMessage)
    result: Any = await run(tool, {**message.tool_calls[0]})
    assert isinstance(result, ToolMessage)
    assert result.text == ANSWER
    offered = server.requests[0].body["tools"][0]["function"]
    assert (offered["name"], offered["description"]) == ("essay", "Writes an essay.")
    assert set(offered["parameters"]["properties"]) == {"question", "outline"}
    assert offered["parameters"]["required"] == ["question"]
