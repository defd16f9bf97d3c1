"""The graph as a subagent of a real deep agent."""

from typing import Any

import pytest
from deepagents import CompiledSubAgent, create_deep_agent
from langchain_core.messages import AIMessageChunk, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from sot_graph import astream_answer, create_sot_graph, stream_answer
from tests.agents import ANSWER, QUESTION, Tree, assert_accepted, assert_valid, calling, kinds, playing
from tests.fake_openai import TITLES, FakeOpenAI, Reply, usual
from tests.integration.conftest import THREAD, Run

OURS = "essayist"
DONE = Reply("There you are.")


def task(question: str) -> tuple[str, dict[str, Any]]:
    return "task", {"description": question, "subagent_type": OURS}


def deep_agent(server: FakeOpenAI, **options: Any) -> Any:
    ours = CompiledSubAgent(
        name=OURS,
        description="Writes a long, structured answer to one question.",
        runnable=create_sot_graph(server.model()),
    )
    return create_deep_agent(server.model(), subagents=[ours], **options)


async def test_its_answer_comes_back_as_one_message(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling(task("Why sleep?")), DONE)
    result = await run(deep_agent(server), QUESTION)
    assert kinds(result["messages"]) == ["human", "ai", "tool", "ai"]
    assert result["messages"][2].text == ANSWER
    assert not {"points", "answer", "question", "outline", "attempts"} & set(result)
    assert all("Why sleep?" in request.prompt for request in server.of_stage("expand"))
    assert not any("How can I sleep better?" in request.prompt for request in server.of_stage("expand"))
    assert_accepted(server.requests)


async def test_two_tasks_in_one_message_and_a_second_turn_do_not_mix(server: FakeOpenAI, run: Run) -> None:
    def echoing(request: Any) -> Reply:
        word = "owls" if "owls" in request.prompt else "bees"
        return Reply(f"On {word}.") if request.stage == "expand" else usual(request)

    agent = deep_agent(server, checkpointer=InMemorySaver())
    for turn in (1, 2):
        playing(server, calling(task("Why owls?"), task("Why bees?")), DONE, others=echoing)
        messages = (await run(agent, QUESTION, THREAD))["messages"]
        assert kinds(messages) == ["human", "ai", "tool", "tool", "ai"] * turn
        tools = [message.text for message in messages if isinstance(message, ToolMessage)]
        assert tools[-2:] == ["\n\n".join([f"On {word}."] * 4) for word in ("owls", "bees")]
        assert_valid(messages)
    assert len(server.of_stage("expand")) == 16


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_its_words_are_visible_in_the_agents_stream(server: FakeOpenAI, form: str) -> None:
    playing(server, *[calling(task("Why sleep?")), DONE] * 2)
    agent = deep_agent(server)
    options: dict[str, Any] = {"stream_mode": ["messages", "custom"], "subgraphs": True}
    if form == "sync":
        parts = list(agent.stream(QUESTION, **options))
        read = list(stream_answer(agent, QUESTION))
    else:
        parts = [part async for part in agent.astream(QUESTION, **options)]
        read = [chunk async for chunk in astream_answer(agent, QUESTION)]
    shown = [(namespace, data[0]) for namespace, mode, data in parts if mode == "messages"]
    chunks = [(namespace, message) for namespace, message in shown if isinstance(message, AIMessageChunk)]
    below = [message for namespace, message in chunks if namespace]
    assert "".join(message.text for message in below) == ANSWER
    assert len({message.id for message in below}) == 1
    assert "".join(message.text for namespace, message in chunks if not namespace) == "There you are."
    assert {"type": "outline", "titles": TITLES} in [data for _, mode, data in parts if mode == "custom"]
    assert len(read) > len(TITLES)
    assert "".join(read) == ANSWER


async def test_it_bears_its_own_name_in_the_agents_trace(server: FakeOpenAI, run: Run) -> None:
    playing(server, calling(task("Why sleep?")), DONE)
    tree = Tree()
    await run(deep_agent(server, name="clerk"), QUESTION, {"callbacks": [tree]})
    assert tree.above(f"expand 1: {TITLES[0]}") == ["expand", OURS, "task", "tools", "clerk"]
