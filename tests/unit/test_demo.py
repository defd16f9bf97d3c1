"""The offline model: deterministic, honest, and as quick as it is told to be."""

import time

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from sot_graph import DemoChatModel, SkeletonOfThoughtMiddleware, create_sot_graph, create_sot_tool
from sot_graph.demo import demo_titles
from sot_graph.outline_reply import Outline

QUICK = DemoChatModel(first_token=0, tokens_per_second=0)
QUESTION = "How can I improve my time management skills?"


async def test_the_same_question_gives_the_same_answer() -> None:
    graph = create_sot_graph(QUICK)
    answers = [graph.invoke({"question": QUESTION})["answer"], (await graph.ainvoke({"question": QUESTION}))["answer"]]
    answers.append(create_sot_graph(QUICK).invoke({"question": QUESTION})["answer"])
    assert len(set(answers)) == 1


def test_each_text_is_short_and_says_that_it_is_a_demo() -> None:
    result = create_sot_graph(QUICK).invoke({"question": QUESTION})
    assert 5 <= len(result["points"]) <= 8
    for point in result["points"]:
        assert point["title"] in point["text"]
        assert len(point["text"]) <= 100
        assert "demo" in point["text"].lower()
    assert len({point["text"].replace(point["title"], "") for point in result["points"]}) > 3, "texts differ"


@pytest.mark.parametrize("question", ["What is 17 * 23?", "Implement quicksort in C.", "Write a poem on autumn."])
def test_it_declines_an_outline_where_a_model_would(question: str) -> None:
    result = create_sot_graph(QUICK).invoke({"question": question})
    assert result["points"] == []
    assert "demo" in result["answer"]
    assert create_sot_graph(QUICK, route="always").invoke({"question": question})["points"]


@pytest.mark.parametrize("question", ["?", "你好吗", "{topic} {title}", "a\n\n---\nb", "\x00", "the " * 5000])
async def test_no_question_is_too_odd(question: str) -> None:
    graph = create_sot_graph(QUICK, route="always")
    assert graph.invoke({"question": question})["answer"]
    assert (await graph.ainvoke({"question": question}))["points"]


async def test_it_streams_and_takes_its_time() -> None:
    model = DemoChatModel(first_token=0.1, tokens_per_second=200)
    began = time.monotonic()
    chunks = [chunk.text async for chunk in model.astream("Hello")]
    assert time.monotonic() - began >= 0.1 + (len(chunks) - 2) / 200
    assert "".join(chunks) == "".join(chunk.text for chunk in QUICK.stream("Hello")) == QUICK.invoke("Hello").text
    assert len(chunks) > 10


@tool
def search(query: str) -> str:
    """Search."""
    return f"Facts on {query}."


@tool
def book(city: str, day: str) -> str:
    """Book."""
    return f"{city}, {day}"


def test_it_plays_an_agent_each_tool_that_it_understands_once_a_turn() -> None:
    essay = create_sot_tool(create_sot_graph(QUICK))
    agent = create_agent(QUICK, [book, essay, search])
    messages = agent.invoke({"messages": [HumanMessage(QUESTION)]})["messages"]
    calls = [(call["name"], call["args"]) for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    assert calls == [("search", {"query": QUESTION}), ("write_long_answer", {"question": QUESTION})]
    assert "Facts on How can I improve my time management skills?." in messages[-1].text
    assert messages[4].text[:60] in messages[-1].text, "the long answer"
    again = agent.invoke({"messages": [*messages, HumanMessage("What is 17 * 23?")]})["messages"][len(messages) :]
    assert [message.type for message in again] == ["human", "ai", "tool", "ai"], "a sum suits no outline"


def test_after_an_agents_tools_the_points_are_still_about_the_question() -> None:
    agent = create_agent(QUICK, [search], middleware=[SkeletonOfThoughtMiddleware(QUICK)])
    messages = agent.invoke({"messages": [HumanMessage(QUESTION)]})["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    titles = demo_titles(QUESTION)
    assert len(messages[-1].text.split("\n\n")) == len(titles)
    assert all(title in messages[-1].text for title in titles)


def test_it_gives_structured_output_and_usage() -> None:
    result = QUICK.with_structured_output(Outline, include_raw=True).invoke([HumanMessage(QUESTION)])
    assert isinstance(result, dict)
    assert len(result["parsed"].points) >= 5
    usage = result["raw"].usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
