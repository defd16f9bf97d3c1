"""Marks and keys for the providers' prefix caches: where they go, and where they do not."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_aws import ChatBedrockConverse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_deepseek import ChatDeepSeek
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from sot_graph import DemoChatModel, prefix
from sot_graph._engine import openai_request
from sot_graph.messages import GAP
from sot_graph.models import prepare_model, structured
from sot_graph.outline_reply import Outline
from sot_graph.prefix import CHARACTERS, KEY, LEAST, LONG, MOST_MARKS, cache_of, warms
from sot_graph.prompts import messages_of

KEY_OF_TEST: Any = SecretStr("sk-test-key")
TURNS = ["Light; Noise.", "Tell me more about Light."]
EPHEMERAL = {"type": "ephemeral"}


def anthropic(**options: Any) -> ChatAnthropic:
    return ChatAnthropic(model_name="claude-sonnet-5", api_key=KEY_OF_TEST, **options)


def openai(name: str = "gpt-5.6", **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=name, api_key=KEY_OF_TEST, **options)


def bedrock(model: str = "anthropic.claude-sonnet-5") -> ChatBedrockConverse:
    keys = {"aws_access_key_id": KEY_OF_TEST, "aws_secret_access_key": KEY_OF_TEST, "region_name": "us-east-1"}
    return ChatBedrockConverse(model_id=model, **keys)


def conversation(tokens: int = LEAST) -> list[BaseMessage]:
    return [HumanMessage("word " * tokens), AIMessage("I see."), HumanMessage("How can I sleep better?")]


def call(said: list[BaseMessage]) -> tuple[list[BaseMessage], int]:
    """The messages of a point's call, and how many of them all calls share."""
    messages = messages_of(None, said, TURNS)
    return messages, len(messages) - len(TURNS)


def with_mark(model: Any, messages: list[BaseMessage], shared: int) -> list[BaseMessage]:
    return prefix.with_mark(cache_of(model), model, messages, shared)


def with_key(model: Any, shared: list[BaseMessage]) -> Any:
    return prefix.with_key(cache_of(model), model, shared)


def payload(model: Any, messages: list[BaseMessage]) -> dict[str, Any]:
    return openai_request(model, messages, {})  # Anthropic's class has the same method


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (anthropic, "cache_control"),
        (lambda: anthropic().bind(stop=["x"]), "cache_control"),
        (lambda: anthropic().with_fallbacks([anthropic()]), "cache_control"),
        (lambda: anthropic().with_fallbacks([openai()]), None),
        (bedrock, "cachePoint"),
        (lambda: bedrock("us.amazon.nova-pro-v1:0"), "cachePoint"),
        (lambda: bedrock("us.anthropic.claude-3-7-sonnet-20250219-v1:0"), "cachePoint"),
        (lambda: bedrock("anthropic.claude-3-5-sonnet-20241022-v2:0"), "cachePoint"),
        (lambda: bedrock("anthropic.claude-3-5-sonnet-20240620-v1:0"), None),
        (lambda: bedrock("anthropic.claude-3-haiku-20240307-v1:0"), None),
        (lambda: bedrock("anthropic.claude-v2:1"), None),
        (lambda: bedrock("amazon.nova-sonic-v1:0"), None),
        (lambda: bedrock("meta.llama3-70b-instruct-v1:0"), None),
        (lambda: openai("gpt-5.6-sol"), "prompt_cache_breakpoint"),
        (lambda: openai("gpt-6-astra"), "prompt_cache_breakpoint"),
        (lambda: openai("gpt-5.5"), KEY),
        (lambda: openai("gpt-5"), KEY),
        (lambda: openai("gpt-4.1-mini"), KEY),
        (lambda: openai("o3"), KEY),
        (lambda: openai(base_url="https://eu.api.openai.com/v1"), "prompt_cache_breakpoint"),
        (lambda: openai(base_url="http://localhost:8000/v1"), None),
        (lambda: openai(base_url="https://api.openai.com.example.org/v1"), None),
        (
            lambda: AzureChatOpenAI(
                azure_deployment="gpt-5.6", azure_endpoint="https://x.org", api_key=KEY_OF_TEST, api_version="1"
            ),
            None,
        ),
        (lambda: ChatDeepSeek(model_name="deepseek-flash", api_key=KEY_OF_TEST), None),
        (lambda: ChatGoogleGenerativeAI(model="gemini-2.5-pro", google_api_key=KEY_OF_TEST), None),
        (DemoChatModel, None),
    ],
)
def test_a_provider_is_known_by_the_models_class(make: Callable[[], Any], kind: str | None) -> None:
    model = make()
    assert cache_of(model) == kind
    assert cache_of(prepare_model(model)) == kind


def test_the_mark_is_at_the_end_of_the_question() -> None:
    messages, shared = call(conversation())
    request = payload(anthropic(), with_mark(anthropic(), messages, shared))
    plain = payload(anthropic(), messages)
    marked = {"type": "text", "text": "How can I sleep better?", "cache_control": EPHEMERAL}
    assert request["messages"][-3] == {"role": "user", "content": [marked]}
    assert str(request).count("cache_control") == 1
    assert request["system"] == plain["system"]
    assert request["messages"][-2:] == plain["messages"][-2:]


def test_openai_gets_a_breakpoint_in_both_of_its_interfaces() -> None:
    messages, shared = call(conversation())
    for model in (openai(), openai(use_responses_api=True)):
        request = payload(model, with_mark(model, messages, shared))
        marked = (request.get("messages") or request["input"])[-3]["content"]
        assert [block["prompt_cache_breakpoint"] for block in marked] == [{"mode": "explicit"}]


def test_bedrock_gets_a_block_of_its_own() -> None:
    messages, shared = call(conversation())
    marked = with_mark(bedrock(), messages, shared)
    assert marked[shared - 1].content == [
        {"type": "text", "text": "How can I sleep better?"},
        {"cachePoint": {"type": "default"}},
    ]


def test_the_callers_messages_stay_as_they_are() -> None:
    question = HumanMessage([{"type": "text", "text": "What is this?"}])
    messages, shared = call([*conversation()[:-1], question])
    before = [message.model_copy(deep=True) for message in messages]
    assert with_mark(anthropic(), messages, shared) != messages
    assert messages == before
    assert question.content == [{"type": "text", "text": "What is this?"}]


def test_the_mark_is_on_text_in_front_of_a_picture() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/bee.png"}}
    messages, shared = call([*conversation()[:-1], HumanMessage(["What is this?", picture])])
    marked = with_mark(anthropic(), messages, shared)[shared - 1]
    assert marked.content == [{"type": "text", "text": "What is this?", "cache_control": EPHEMERAL}, picture]
    messages, shared = call([*conversation()[:-1], HumanMessage([picture])])
    assert with_mark(anthropic(), messages, shared) == messages


def test_a_mark_of_the_callers_stays_the_only_one_of_its_message() -> None:
    own = {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages, shared = call([*conversation()[:-1], HumanMessage([own])])
    assert with_mark(anthropic(), messages, shared) == messages


@pytest.mark.parametrize("marks", [MOST_MARKS - 1, MOST_MARKS])
def test_there_are_never_too_many_marks(marks: int) -> None:
    own: list[Any] = [{"type": "text", "text": f"Part {number}", "cache_control": EPHEMERAL} for number in range(marks)]
    messages, shared = call([HumanMessage(own), *conversation()[1:]])
    messages[1] = HumanMessage([*own, "word " * LEAST])
    request = payload(anthropic(), with_mark(anthropic(), messages, shared))
    assert str(request).count("cache_control") == MOST_MARKS


def test_a_caller_who_uses_automatic_caching_gets_no_mark() -> None:
    messages, shared = call(conversation())
    for model in (anthropic().bind(cache_control=EPHEMERAL), anthropic(model_kwargs={"cache_control": EPHEMERAL})):
        assert with_mark(model, messages, shared) == messages


@pytest.mark.parametrize("model", [anthropic(), bedrock(), openai()])
def test_a_short_prefix_gets_no_mark(model: Any) -> None:
    messages, shared = call([HumanMessage("w" * CHARACTERS * (LEAST - 30))])
    assert with_mark(model, messages, shared) == messages


@pytest.mark.parametrize("model", [DemoChatModel(), openai("gpt-5.5"), openai(base_url="http://localhost:1/v1")])
def test_a_provider_without_marks_gets_none(model: Any) -> None:
    messages, shared = call(conversation())
    assert with_mark(model, messages, shared) == messages


def test_no_prefix_gets_no_mark() -> None:
    messages, shared = call(conversation())
    assert with_mark(anthropic(), messages, 0) == messages
    assert with_mark(anthropic(), messages, shared + 1) == messages  # ends with a turn of the assistant's


def test_all_calls_of_a_conversation_have_one_key() -> None:
    model, said = openai("gpt-5.5"), conversation()
    first: Any = with_key(model, messages_of(None, said))
    later: Any = with_key(model, messages_of(None, [*said, AIMessage("So."), HumanMessage("And then?")]))
    other: Any = with_key(model, messages_of(SystemMessage("Be kind."), said))
    assert first.kwargs == later.kwargs != other.kwargs
    assert first.kwargs[KEY].startswith("sot-")
    assert first.bound is model


def test_a_key_reaches_the_model_with_a_schema_and_in_fallbacks() -> None:
    model = openai("gpt-5.5")
    bound: Any = with_key(structured(model, Outline) or model, conversation())
    assert {KEY, "response_format"} <= {*bound.kwargs}
    fallbacks: Any = with_key(model.with_fallbacks([openai("gpt-4.1")]), conversation())
    assert KEY in fallbacks.kwargs


@pytest.mark.parametrize(
    "model",
    [
        openai("gpt-5.5", model_kwargs={KEY: "mine"}),
        openai("gpt-5.5", extra_body={KEY: "mine"}),
        openai("gpt-5.5").bind(**{KEY: "mine"}),
        openai("gpt-5.6"),  # there, keys only keep caches apart
        openai("gpt-5.5", base_url="http://localhost:8000/v1"),
        anthropic(),
    ],
)
def test_a_key_is_bound_only_where_it_helps(model: Any) -> None:
    assert with_key(model, conversation()) is model


def test_a_short_prefix_gets_no_key() -> None:
    model = openai("gpt-5.5")
    assert with_key(model, [HumanMessage("Why?")]) is model


def test_a_plain_outline_pays_for_a_long_prefix_of_a_known_provider() -> None:
    long = [HumanMessage("w" * CHARACTERS * LONG)]
    assert all(warms(model, long) for model in (anthropic(), bedrock(), openai(), openai("gpt-5.5")))
    assert not warms(anthropic(), [HumanMessage("w" * (CHARACTERS * LONG - 1))])
    assert not warms(openai(base_url="http://localhost:8000/v1"), long)
    assert not warms(DemoChatModel(), long)


def test_joined_texts_keep_their_mark() -> None:
    """Two neighbours of one role are one message: the mark is at its end."""
    messages, shared = call([*conversation(), HumanMessage("And why?")])
    marked = with_mark(anthropic(), messages, shared)[shared - 1]
    assert marked.text == f"How can I sleep better?{GAP}And why?"
    assert "cache_control" in marked.content[-1]
