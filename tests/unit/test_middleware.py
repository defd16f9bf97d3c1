"""What the middleware does to messages, in the forms of several providers; and how it is imported."""

import subprocess
import sys
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

import sot_graph
from sot_graph.messages import without_tool_calls
from sot_graph.middleware import without_calls

CALLS: list[Any] = [
    {"name": name, "args": {"topic": "sleep"}, "id": name, "type": "tool_call"} for name in ("one", "two")
]
CONTENTS: dict[str, list[dict[str, Any]]] = {
    "Anthropic": [
        {"type": "thinking", "thinking": "Well.", "signature": "x"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "one", "name": "one", "input": {"topic": "sleep"}},
        {"type": "tool_use", "id": "two", "name": "two", "input": {"topic": "sleep"}},
    ],
    "OpenAI's responses": [
        {"type": "text", "text": "Let me see."},
        {"type": "function_call", "id": "fc_1", "call_id": "one", "name": "one", "arguments": "{}"},
        {"type": "function_call", "id": "fc_2", "call_id": "two", "name": "two", "arguments": "{}"},
    ],
}


@pytest.mark.parametrize("content", [*CONTENTS.values(), "Let me see."], ids=[*CONTENTS, "text"])
def test_a_call_is_taken_out_wherever_a_provider_keeps_it(content: Any) -> None:
    extra = {"tool_calls": [{"id": "one"}, {"id": "two"}], "refusal": None}
    invalid: list[Any] = [{"name": "three", "args": "{", "id": "three", "error": None, "type": "invalid_tool_call"}]
    message = AIMessage(content, tool_calls=CALLS, invalid_tool_calls=invalid, additional_kwargs=extra, id="m")
    left = without_calls(message, ["one", "three"])
    assert [call["id"] for call in left.tool_calls] == ["two"]
    assert left.invalid_tool_calls == []
    assert left.additional_kwargs == {"tool_calls": [{"id": "two"}], "refusal": None}
    assert "one" not in str(left.content)
    assert left.text == "Let me see."
    if isinstance(content, list):
        assert len(left.content) == len(content) - 1
    assert len(message.tool_calls) == 2, "the message itself stays as it was"
    assert without_calls(message, []) is message


def shown(messages: list[Any]) -> list[tuple[str, str]]:
    return [(message.type, message.text) for message in without_tool_calls(messages)]


def test_tool_calls_and_results_become_one_text_of_the_assistant() -> None:
    messages: list[Any] = [
        SystemMessage("Be brief."),
        HumanMessage("Why?"),
        AIMessage("Let me see.", tool_calls=CALLS),
        ToolMessage("Because.", tool_call_id="one", name="one"),
        ToolMessage([{"type": "text", "text": "No idea."}], tool_call_id="two", name="two", status="error"),
    ]
    text = (
        "Let me see.\n\n"
        '[The tool one({"topic": "sleep"}) gave:]\nBecause.\n\n'
        '[The tool two({"topic": "sleep"}) failed with:]\nNo idea.'
    )
    assert shown(messages) == [("system", "Be brief."), ("human", "Why?"), ("ai", text)]
    after = shown([*messages, AIMessage("So."), HumanMessage("And?")])
    assert after == [("system", "Be brief."), ("human", "Why?"), ("ai", f"{text}\n\nSo."), ("human", "And?")]


def test_a_conversation_without_tools_stays_as_it_is() -> None:
    messages: list[Any] = [
        HumanMessage("Why?"),
        AIMessage([{"type": "text", "text": "Because."}]),
        HumanMessage("And?"),
    ]
    assert all(a is b for a, b in zip(without_tool_calls(messages), messages, strict=True))
    assert without_tool_calls([]) == []


def test_results_whose_call_is_gone_become_text_too() -> None:
    assert shown([ToolMessage("Because.", tool_call_id="x")]) == [("ai", "[The tool call() gave:]\nBecause.")]


def test_the_middleware_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys, sot_graph; print('langchain' in sys.modules); "
        "from sot_graph import SkeletonOfThoughtMiddleware; print('langchain.agents' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_missing_name_raises_as_in_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'sot_graph' has no attribute 'nothing'"):
        _ = sot_graph.nothing  # type: ignore[attr-defined]
