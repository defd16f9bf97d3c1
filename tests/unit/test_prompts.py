"""How the messages of a call are laid out: as the strictest chat template wants them, and with nothing lost."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
    convert_to_openai_messages,
)

from sot_graph.caching import digest
from sot_graph.messages import THOUGHTS
from sot_graph.nodes.base import read_turn
from sot_graph.prompts import LANGUAGE_BY_DEFAULT, messages_of
from tests.fake_openai import template_error

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TURNS = ["Let me see.", "Write."]


def call(args: Any, **more: Any) -> Any:
    return {"name": "look", "args": args, "id": "1", **more}


def invalid(args: str, error: str | None = None) -> Any:
    return call(args, error=error, type="invalid_tool_call")


def text_block(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def assert_strict(messages: Sequence[BaseMessage]) -> None:
    """What a server gets of them; thoughts are left out by the clients of servers that do not know them."""
    sent: Any = convert_to_openai_messages(messages)
    for message in sent:
        if isinstance(message["content"], list):
            message["content"] = [block for block in message["content"] if block["type"] not in THOUGHTS]
    error = template_error(sent)
    assert not error, error


def laid_out(*conversation: BaseMessage, system: str = "", turns: Sequence[str] = TURNS) -> list[tuple[str, Any]]:
    """The messages of a call, without a rule of ours in the system message and without the call's own turns."""
    messages = messages_of(SystemMessage(system), conversation, turns)
    assert_strict(messages)
    laid = [(message.type, message.content) for message in messages]
    assert laid[len(laid) - len(turns) :] == [*zip(("ai", "human"), turns, strict=False)]
    return laid[: len(laid) - len(turns)]


def asked(text: str) -> tuple[str, str]:
    return ("human", text)


def told(*conversation: BaseMessage) -> str:
    """What the assistant is told to have said in a conversation that goes on."""
    first, (kind, content), last = laid_out(HumanMessage("Why?"), *conversation, HumanMessage("And?"))
    assert (first, kind, last) == (("human", "Why?"), "ai", asked("And?"))
    return str(content)


# --- one system message ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conversation",
    [
        [SystemMessage("Rhyme."), HumanMessage("Why?")],
        [HumanMessage("Why?"), SystemMessage("Rhyme.")],
        [ChatMessage(content="Rhyme.", role="developer"), HumanMessage("Why?")],
        [ChatMessageChunk(content="Rhyme.", role="System"), HumanMessage("Why?")],
        [SystemMessage(""), SystemMessageChunk(content="Rhyme."), SystemMessage(" "), HumanMessage("Why?")],
    ],
    ids=["in front", "behind", "developer", "chunk of a chat message", "with empty ones"],
)
def test_all_system_messages_are_one_in_front(conversation: list[BaseMessage]) -> None:
    assert laid_out(*conversation, system="Be brief.") == [
        ("system", f"Be brief.\n\nRhyme.\n\n{LANGUAGE_BY_DEFAULT}"),
        asked("Why?"),
    ]
    assert laid_out(*conversation) == [("system", "Rhyme."), asked("Why?")]


def test_a_cached_block_of_the_system_prompt_stays_as_it_is() -> None:
    cached = text_block("Be brief.", cache_control={"type": "ephemeral"})
    system, _ = messages_of(SystemMessage([cached]), [SystemMessage("Rhyme."), HumanMessage("Why?")])
    assert system.content == [cached, text_block("\n\nRhyme."), text_block(f"\n\n{LANGUAGE_BY_DEFAULT}")]


# --- turns -------------------------------------------------------------------------------------------


def test_neighbours_of_one_role_are_joined() -> None:
    assert laid_out(HumanMessage("Why?"), HumanMessage("How?")) == [asked("Why?\n\nHow?")]
    assert laid_out(HumanMessage("Why?"), AIMessage(""), HumanMessage("How?")) == [asked("Why?\n\nHow?")]
    assert laid_out(HumanMessage("Why?"), HumanMessage([]), ChatMessage(content="How?", role="user")) == [
        asked("Why?\n\nHow?")
    ]
    assert laid_out(HumanMessage("Why?"), ChatMessage(content="How?", role="critic")) == [asked("Why?\n\nHow?")]
    assert laid_out(HumanMessageChunk(content="Why?"), HumanMessage("How?")) == [asked("Why?\n\nHow?")]
    answers = [AIMessage("So."), ChatMessage(content="And so.", role="assistant"), AIMessageChunk(content="Hence.")]
    assert told(*answers) == "So.\n\nAnd so.\n\nHence."


@pytest.mark.parametrize(
    ("first", "second", "content"),
    [
        ([text_block("Why?"), PICTURE], "How?", [text_block("Why?"), PICTURE, text_block("\n\nHow?")]),
        ("Why?", [text_block("How?"), PICTURE], [text_block("Why?"), text_block("\n\nHow?"), PICTURE]),
        ("Why?", [PICTURE, text_block("How?")], [text_block("Why?"), PICTURE, text_block("How?")]),
        (["Why?"], ["How?", " ", text_block("")], [text_block("Why?"), text_block("\n\nHow?")]),
        ([PICTURE], [PICTURE], [PICTURE, PICTURE]),
        ("Why?", [text_block("How?", cache_control=1)], [text_block("Why?"), text_block("\n\nHow?", cache_control=1)]),
    ],
)
def test_texts_and_blocks_are_joined(first: Any, second: Any, content: list[Any]) -> None:
    conversation = [HumanMessage(first), HumanMessage(second)]
    assert laid_out(*conversation) == [("human", content)]
    assert [message.content for message in conversation] == [first, second], "the conversation stays as it was"


def test_empty_messages_are_dropped_and_pictures_are_not_empty() -> None:
    thoughts: list[Any] = [{"type": "thinking", "thinking": "Well.", "signature": "x"}, text_block(" ")]
    empty = [AIMessage(" \n"), AIMessage([]), AIMessage([text_block("")]), AIMessage(thoughts), RemoveMessage(id="1")]
    assert laid_out(*empty, HumanMessage("Why?"), *empty) == [asked("Why?")]
    (_, content), *_ = laid_out(HumanMessage([PICTURE]), AIMessage("A dog."), HumanMessage("Why?"))
    assert content == [PICTURE]


def test_what_the_assistant_wrote_before_the_user_is_told() -> None:
    greeting, question = AIMessage("Hello! How can I help?"), HumanMessage("Why?")
    written = "[The assistant had written:]\n"
    assert laid_out(greeting, question) == [asked(f"{written}Hello! How can I help?\n\nWhy?")]
    assert laid_out(greeting, AIMessage([text_block("Well?")]), question) == [
        asked(f"{written}Hello! How can I help?\n\nWell?\n\nWhy?")
    ]
    result = ToolMessage("Facts.", tool_call_id="1", name="look")
    assert laid_out(result, question) == [asked(f"{written}[The tool look() gave:]\nFacts.\n\nWhy?")]
    assert laid_out(greeting) == [asked(f"{written}Hello! How can I help?")]
    assert laid_out(AIMessage([PICTURE]), question) == [asked("Why?")]


def test_a_message_that_fits_is_sent_as_it_is() -> None:
    reasoning = {"type": "reasoning", "reasoning": "Well."}
    conversation = [
        HumanMessage([PICTURE, text_block("Why?", cache_control={"type": "ephemeral"})], id="1", name="ann"),
        AIMessage([reasoning, text_block("So.")], id="2", response_metadata={"model_provider": "openai"}),
        HumanMessage("And?", id="3"),
    ]
    laid = messages_of(SystemMessage(""), conversation)
    assert all(one is other for one, other in zip(laid, conversation, strict=True))
    *_, last = messages_of(None, [HumanMessage("Why?", name="ann")])
    assert last.name == "ann"
    *_, last = messages_of(None, [HumanMessage("Why?", name="ann"), HumanMessage("How?", name="ben")])
    assert last.name is None, "two have asked"


@pytest.mark.parametrize("turns", [[], TURNS])
def test_the_question_comes_last_before_the_calls_own_turns(turns: list[str]) -> None:
    question, result = ChatMessage(content="Why?", role="user"), ToolMessage("Facts.", tool_call_id="1", name="look")
    told_result = ("ai", "[The tool look() gave:]\nFacts.")
    assert laid_out(question, result, turns=turns) == [("human", "Why?"), told_result, ("human", "Why?")]
    assert laid_out(question, AIMessage(""), turns=turns) == [("human", "Why?")]


def test_a_chat_message_of_the_users_is_the_question() -> None:
    turn = read_turn({"messages": [HumanMessage("Why?"), ChatMessage(content="How?", role="user")]})
    assert turn.question == "How?", "the last one, where the model gets both"
    again = read_turn({"question": "How?", "messages": [ChatMessage(content="How?", role="human")]})
    assert again.added == [], "the messages end with it"
    for role in ("assistant", "system", "tool"):
        with pytest.raises(ValueError, match="nothing to answer"):
            read_turn({"messages": [ChatMessage(content="How?", role=role)]})


# --- tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("Let me see.", tool_calls=[call({"at": "ö"})]),
        AIMessage("Let me see.", invalid_tool_calls=[invalid('{"at": "ö"}')]),
        AIMessage([text_block("Let me see."), {"type": "tool_use", "id": "1", "name": "look", "input": {"at": "ö"}}]),
        AIMessage([text_block("Let me see."), call({"at": "ö"}, type="tool_call")]),
        AIMessage(
            [
                text_block("Let me see."),
                {"type": "function_call", "id": "fc", "call_id": "1", "name": "look", "arguments": '{"at": "ö"}'},
            ]
        ),
        AIMessageChunk(
            content="Let me see.",
            tool_call_chunks=[
                {"name": "look", "args": '{"at": "ö"}', "id": "1", "index": 0, "type": "tool_call_chunk"}
            ],
        ),
        ChatMessage(
            content="Let me see.",
            role="assistant",
            additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "look", "arguments": '{"at": "ö"}'}}]},
        ),
    ],
    ids=["valid", "invalid", "tool_use", "tool_call", "function_call", "chunk", "chat message"],
)
def test_a_call_is_told_with_its_result_wherever_it_is_kept(message: BaseMessage) -> None:
    assert told(message, ToolMessage("Facts.", tool_call_id="1")) == (
        'Let me see.\n\n[The tool look({"at": "ö"}) gave:]\nFacts.'
    )
    assert told(message) == 'Let me see.\n\n[The tool look({"at": "ö"}) was called.]'


def test_function_messages_are_told() -> None:
    calls = [
        AIMessage("", additional_kwargs={"function_call": {"name": "look", "arguments": f'{{"at": {i}}}'}})
        for i in range(2)
    ]
    results = [FunctionMessage(content=f"Fact {i}.", name="look") for i in range(2)]
    assert told(calls[0], results[0], calls[1], results[1]) == (
        '[The tool look({"at": 0}) gave:]\nFact 0.\n\n[The tool look({"at": 1}) gave:]\nFact 1.'
    )
    assert told(ChatMessage(content="Fact.", role="function")) == "[The tool call() gave:]\nFact."
    assert told(ChatMessage(content="Fact.", role="tool", name="look")) == "[The tool look() gave:]\nFact."


def test_what_is_wrong_with_an_invalid_call_is_told() -> None:
    message = AIMessage("", tool_calls=[call({}, id="2")], invalid_tool_calls=[invalid('{"at', "No JSON.")])
    result = ToolMessage([text_block("Facts."), PICTURE], tool_call_id="2", status="error")
    assert told(message, result) == (
        '[The tool look({}) failed with:]\nFacts.\n\n[The tool look({"at) failed with:]\nNo JSON.'
    )
    nameless: Any = {"name": None, "args": None, "id": None, "error": None, "type": "invalid_tool_call"}
    assert told(AIMessage("", invalid_tool_calls=[nameless])) == "[The tool call() was called.]"


def test_calls_with_the_same_id_keep_their_arguments() -> None:
    """Some servers count the calls of each message anew."""
    turns: list[BaseMessage] = []
    for i in range(2):
        turns += [AIMessage("", tool_calls=[call({"at": i})]), ToolMessageChunk(content=f"Fact {i}.", tool_call_id="1")]
    assert told(*turns) == '[The tool look({"at": 0}) gave:]\nFact 0.\n\n[The tool look({"at": 1}) gave:]\nFact 1.'


def test_results_among_the_users_blocks_are_text() -> None:
    use: dict[str, Any] = {"type": "tool_use", "id": "1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [text_block("Facts.")], "is_error": True}
    output: dict[str, Any] = {"type": "function_call_output", "call_id": "1", "output": "Facts."}
    odd: dict[str, Any] = {"type": "web_search_tool_result", "content": {"error_code": "unavailable"}}
    for block, words in [(result, "failed with:]\nFacts."), (output, "gave:]\nFacts."), (odd, "gave:]\n{'error_code")]:
        *_, (_, content) = laid_out(HumanMessage("Why?"), AIMessage([use]), HumanMessage([block, text_block("And?")]))
        assert content[0]["text"].startswith(f"[The tool call() {words}")
        assert content[1] == text_block("And?")


def test_who_wrote_a_message_is_part_of_a_caches_key() -> None:
    roles = ("user", "system", "assistant")
    assert len({digest([ChatMessage(content="Why?", role=role)]) for role in roles}) == 3
    results = [ToolMessage("Why?", tool_call_id="1", status=status) for status in ("success", "error")]
    assert digest(results[:1]) != digest(results[1:])


# --- any history -----------------------------------------------------------------------------------------

KINDS: list[Any] = [
    HumanMessage,
    AIMessage,
    SystemMessage,
    HumanMessageChunk,
    AIMessageChunk,
    lambda content: ChatMessage(content=content, role="user"),
    lambda content: ChatMessage(content=content, role="assistant"),
    lambda content: ChatMessage(content=content, role="developer"),
    lambda content: ChatMessage(content=content, role="tool"),
    lambda content: FunctionMessage(content=content, name="look"),
    lambda content: ToolMessage(content=content, tool_call_id="1"),
    lambda content: ToolMessage(content=content, tool_call_id="2", name="look", status="error"),
    lambda content: AIMessage(content=content, tool_calls=[call({"at": "ARGS"})]),
    lambda content: AIMessage(content=content, invalid_tool_calls=[invalid("{ARGS")]),
    lambda content: AIMessage(content=content, additional_kwargs={"function_call": {"name": "f", "arguments": "ARGS"}}),
]
CONTENTS: list[Any] = [
    lambda text: text,
    lambda text: [text],
    lambda text: [text_block(text)],
    lambda text: [text_block(""), text_block(text, cache_control=1), PICTURE],
    lambda text: [{"type": "thinking", "thinking": "Well."}, text_block(text), " "],
]
EMPTY: list[Any] = ["", " \n", [], [""], [text_block("")], [{"type": "thinking", "thinking": "Well."}]]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[BaseMessage], list[str]]:
    """A conversation, and the texts in it."""
    messages: list[BaseMessage] = []
    texts: list[str] = []
    for i in range(draw(st.integers(0, 12))):
        kind, text = draw(st.sampled_from(KINDS)), draw(st.sampled_from([f"text-{i}.", f"text-{i}. \ud800"]))
        is_empty = draw(st.booleans()) and draw(st.booleans())
        content = draw(st.sampled_from(EMPTY)) if is_empty else draw(st.sampled_from(CONTENTS))(text)
        messages.append(kind(content=content))
        texts += [] if is_empty else [f"text-{i}."]
    return [*messages, HumanMessage("The question?")], [*texts, "The question?"]


@settings(deadline=None)  # the machine may be busy
@given(histories(), st.lists(st.sampled_from(KINDS[8:]), max_size=3), st.sampled_from([None, SystemMessage("Brief.")]))
def test_any_history_is_laid_out_strictly_and_keeps_its_texts(
    history: tuple[list[BaseMessage], list[str]], behind: list[Any], system: SystemMessage | None
) -> None:
    conversation, texts = history
    conversation += [kind(content="behind") for kind in behind]
    before = copy.deepcopy(conversation)
    calls = [messages_of(system, conversation, turns) for turns in ([], ["Let me see.", "Plan."], ["A; b.", "Write."])]
    for messages in calls:
        assert_strict(messages)
        sent = str([message.content for message in messages])
        sent.encode()
        assert not [text for text in texts if text not in sent]
        assert ("ARGS" in sent) == ("ARGS" in str(conversation))
        assert not [message for message in messages if getattr(message, "tool_calls", [])]
    assert calls[0] == calls[1][:-2] == calls[2][:-2], "a prefix cache reads them once"
    assert conversation == before
    assert [m.content for m in messages_of(SystemMessage(""), calls[1])] == [m.content for m in calls[1]]
