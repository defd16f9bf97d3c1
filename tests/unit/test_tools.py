"""The tool passes LangChain's own standard tests for tools."""

from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from pydantic import ValidationError

from sot_graph import DemoChatModel, create_sot_graph, create_sot_tool

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


@pytest.mark.parametrize("graph", [QUICK, None, "openai:gpt-5.5"], ids=str)
def test_what_is_no_graph_is_refused(graph: Any) -> None:
    with pytest.raises(TypeError, match="graph must be a graph from create_sot_graph, not "):
        create_sot_tool(graph)
