"""What a type checker knows of an answer: mypy reads this file, too."""

from typing import assert_type

from langchain_core.messages import AIMessage
from langgraph.types import GraphOutput

from sot_graph import DemoChatModel, Point, SotInput, SotMetadata, SotOutput, create_sot_graph

GRAPH = create_sot_graph(DemoChatModel(first_token=0, tokens_per_second=0))
QUESTION: SotInput = {"question": "How can I sleep better?"}


def check(output: GraphOutput[SotOutput]) -> None:
    assert output.interrupts == ()
    assert assert_type(output.value["answer"], str)
    points = assert_type(output.value["points"], list[Point])
    assert_type(points[0]["status"] == "written", bool)
    message = output.value["messages"][-1]
    assert isinstance(message, AIMessage)
    sot: SotMetadata = message.response_metadata["sot"]
    assert assert_type(sot["calls"], int) == len(points) + 1
    assert assert_type(sot["seconds"], float) >= 0


async def test_version_2_of_the_output_is_typed() -> None:
    check(assert_type(GRAPH.invoke(QUESTION, version="v2"), GraphOutput[SotOutput]))
    check(assert_type(await GRAPH.ainvoke(QUESTION, version="v2"), GraphOutput[SotOutput]))
