"""The tool passes LangChain's own standard tests for tools."""

from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from pydantic import ValidationError

from sot_graph import DemoChatModel, create_sot_graph, create_sot_tool
from sot_graph.middleware import OutlineRequest
from sot_graph.tools import LongAnswerRequest

QUICK = DemoChatModel(first_token=0, tokens_per_second=0)


class Standard:
    @property
    def tool_constructor(self) -> BaseTool:
        return create_sot_tool(create_sot_graph(QUICK))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "How do bees find their way home?", "outline": ["The sun", "Landmarks"]}


class TestUnit(Standard, ToolsUnitTests):
    pass


class TestIntegration(Standard, ToolsIntegrationTests):
    pass


class TestIntegrationOfADirectAnswer(Standard, ToolsIntegrationTests):
    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "What is 2 + 2?"}


def test_by_itself_it_raises_at_bad_arguments() -> None:
    with pytest.raises(ValidationError, match="it must not be blank"):
        create_sot_tool(create_sot_graph(QUICK)).invoke({"question": " "})


TWO = ["The sun", "Landmarks"]
FORMS: list[Any] = [
    '["The sun", "Landmarks"]',
    '{"outline": ["The sun", "Landmarks"]}',
    "1. The sun\n2. Landmarks",
    "- The sun\n- Landmarks",
    "一、The sun\n二、Landmarks",
    [{"title": "The sun"}, {"title": "Landmarks"}],
    [{"index": 1, "heading": "The sun"}, {"index": 2, "heading": "Landmarks"}],
    ["The sun", {"title": "Landmarks"}],
    ["1. The sun\n2. Landmarks"],
    {"points": ["The sun", "Landmarks"]},
]


@pytest.mark.parametrize("outline", FORMS, ids=ascii)
async def test_an_outline_in_any_form_is_a_list_of_titles(outline: Any) -> None:
    tool = create_sot_tool(create_sot_graph(QUICK))
    call = {"name": tool.name, "args": {"question": "Why?", "outline": outline}, "id": "1", "type": "tool_call"}
    for message in (tool.invoke(call), await tool.ainvoke(call)):
        assert [point["title"] for point in message.artifact] == TWO
    assert OutlineRequest(outline=outline).outline == TWO


@pytest.mark.parametrize("outline", ["", " \n", "NONE", "Some text.", [1, 2], [{}], {"points": []}, {"a": 1}], ids=str)
def test_an_outline_without_titles_is_refused_with_what_is_valid(outline: Any) -> None:
    for request in (LongAnswerRequest, OutlineRequest):
        with pytest.raises(ValidationError, match=r'it must be a list of titles, such as \["One", "Two"\]'):
            request.model_validate({"question": "Why?", "outline": outline})


def test_models_see_a_plain_list_of_titles() -> None:
    schema = OutlineRequest.model_json_schema()["properties"]["outline"]
    assert (schema["type"], schema["items"]) == ("array", {"type": "string"})


@pytest.mark.parametrize("graph", [QUICK, QUICK.bind(stop=["x"]), DemoChatModel, None, "openai:gpt-5.5"], ids=str)
def test_what_is_no_graph_is_refused(graph: Any) -> None:
    with pytest.raises(TypeError, match=r"graph must be a graph from create_sot_graph, not .*: create_sot_graph"):
        create_sot_tool(graph)
