"""Test a graph that has ours inside, with LangSmith's plugin for pytest.

`LANGSMITH_TEST_TRACKING=false pytest examples/test_with_langsmith.py`, with no key. With LANGSMITH_API_KEY and
LANGSMITH_TRACING=true, each test is an example of a dataset in LangSmith, and each pytest run an experiment on it.
"""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable
from langgraph.graph import START, MessagesState, StateGraph
from langsmith import testing as t

from sot_graph import DemoChatModel, create_sot_graph

QUESTION = "How do bees find their way home?"


@pytest.fixture
def graph() -> Runnable[Any, Any]:
    """The graph under test: it looks something up, and writes with that in view. Put yours here."""

    def look_up(state: MessagesState) -> dict[str, list[AIMessage]]:  # noqa: ARG001 - a node is given the state
        return {"messages": [AIMessage("From our notes: bees steer by the sun.")]}

    builder = StateGraph(MessagesState)
    builder.add_node("look_up", look_up)
    builder.add_node("write", create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0), headings=True))
    builder.add_edge(START, "look_up")
    builder.add_edge("look_up", "write")
    return builder.compile()


@pytest.mark.langsmith
def test_the_answer_has_several_points(graph: Runnable[Any, Any]) -> None:
    t.log_inputs({"question": QUESTION})
    check(graph.invoke({"messages": [HumanMessage(QUESTION)]})["messages"])


@pytest.mark.langsmith
@pytest.mark.asyncio
async def test_the_answer_has_several_points_async(graph: Runnable[Any, Any]) -> None:
    t.log_inputs({"question": QUESTION})
    check((await graph.ainvoke({"messages": [HumanMessage(QUESTION)]}))["messages"])


def check(messages: list[Any]) -> None:
    """What is asked of every answer; what is logged is seen in LangSmith, and told as a score."""
    answer = messages[-1]
    sot = answer.response_metadata["sot"]
    t.log_outputs({"answer": answer.text})
    t.log_feedback(key="calls", score=sot["calls"])
    headings = answer.text.count("## ")
    t.log_feedback(key="points", score=headings)
    assert headings >= 3
    assert len(messages) == 3, "the parent gets one message more"
