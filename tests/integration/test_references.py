"""Points of an expander that cites: one list of sources in the answer."""

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda

from sot_graph import create_sot_graph, merge_with_references, stream_answer
from tests.fake_openai import FakeOpenAI
from tests.integration.conftest import Run

GIVEN = {"question": "How do bees find home?", "outline": ["The sun", "Smell", "Landmarks"]}
ANSWER = (
    "They see the sun [1].\n\nThey learn roads[2][3].\n\nSources:\n\n[1] Frisch  \n[2] Menzel  \n[3] https://b.example"
)


def research(messages: Any) -> str:
    title = next(title for title in GIVEN["outline"] if title in messages[-1].text)
    if title == "Smell":
        msg = "Smell [1] cannot be looked up."
        raise ValueError(msg)
    if title == "The sun":
        return "They see the sun [1].\n\nSources:\n[1] Frisch"
    return "They learn roads[^1][^2].\n\n[^1]: Menzel\n[^2]: https://b.example"


async def research_later(messages: Any) -> str:
    return research(messages)


@pytest.mark.parametrize("expander", [research, RunnableLambda(research, research_later)], ids=["function", "runnable"])
async def test_an_expanders_sources_become_one_list(server: FakeOpenAI, run: Run, expander: Any) -> None:
    graph = create_sot_graph(server.model(), expander=expander, merge=merge_with_references, on_error="keep")
    result = await run(graph, GIVEN)
    assert result["answer"] == result["messages"][-1].text == ANSWER
    assert [point["status"] for point in result["points"]] == ["written", "failed", "written"]
    assert result["points"][0]["text"].endswith("[1] Frisch")


async def test_who_reads_a_stream_gets_the_answer_as_a_whole(server: FakeOpenAI) -> None:
    graph = create_sot_graph(server.model(), expander=research, merge=merge_with_references, on_error="keep")
    assert list(stream_answer(graph, GIVEN)) == [ANSWER]
    events = [event async for event in graph.astream(GIVEN, stream_mode="custom")]
    texts = ["".join(e["text"] for e in events if e["type"] == "token" and e["index"] == index) for index in (1, 3)]
    assert texts == [research([HumanMessage(title)]) for title in ("The sun", "Landmarks")]
    assert [event["text"] for event in events if event["type"] == "answer"] == [ANSWER]
