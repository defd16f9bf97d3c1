"""What is retried, and which replies are refused."""

import json
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.exceptions import ContextOverflowError, ModelRateLimitError
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableLambda
from langgraph.types import RetryPolicy

from sot_graph import ReplyError, create_sot_graph
from sot_graph.replies import ModelReply, end_of
from sot_graph.retry import DEFAULT_RETRY, has_no_reply, http_status, is_transient, retry_after, retry_policies


class TransportError(Exception):
    """Named as httpx names the base of its errors."""


class ReadError(TransportError):
    pass


def error_with(error: Exception | None = None, **attributes: Any) -> Exception:
    error = error or Exception("from the server")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def with_status(status: int) -> Exception:
    return error_with(response=SimpleNamespace(status_code=status))


class GrpcCode(Enum):
    UNAVAILABLE = (14, "unavailable")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    INVALID_ARGUMENT = (3, "invalid argument")


def from_botocore(code: str, status: int = 400, headers: Any = None) -> Exception:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers, "RetryAttempts": 0}
    return error_with(response={"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": metadata})


def from_grpc(code: GrpcCode) -> Exception:
    return error_with(code=lambda: code, details=lambda: "details")


def caused_by(cause: Exception) -> Exception:
    error = OddError()
    error.__cause__ = cause
    return error


class OddError(Exception):
    """As a client wraps the errors of another one."""


class ServerDisconnectedError(Exception):
    pass


class APIError(Exception):
    """Named as OpenAI-like clients name the error of an event in a stream."""


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ModelRateLimitError(), True),
        (ContextOverflowError(), False),
        (ReplyError("empty", is_retryable=True), True),
        (ReplyError("refused", is_retryable=False), False),
        *((with_status(status), True) for status in (408, 429, 500, 502, 503, 529)),
        *((with_status(status), False) for status in (400, 401, 403, 404, 409, 422)),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (json.JSONDecodeError("corrupt", "", 0), True),
        (ReadError(), True),
        (from_botocore("ThrottlingException"), True),
        (from_botocore("ModelTimeoutException", 408), True),
        (from_botocore("throttlingException", 200), True),  # in an event stream
        (from_botocore("ValidationException"), False),
        (from_botocore("AccessDeniedException", 403), False),
        (from_grpc(GrpcCode.UNAVAILABLE), True),
        (from_grpc(GrpcCode.RESOURCE_EXHAUSTED), True),
        (from_grpc(GrpcCode.INVALID_ARGUMENT), False),
        (error_with(code=503, status="UNAVAILABLE"), True),  # google.genai
        (error_with(code=400, status="INVALID_ARGUMENT"), False),
        (error_with(status=502), True),  # aiohttp
        (error_with(status=404), False),
        (error_with(http_status="429"), True),
        (ServerDisconnectedError(), True),
        (caused_by(with_status(503)), True),
        (caused_by(with_status(404)), False),
        (caused_by(ReadError()), True),
        (ValueError({"message": "overloaded", "code": 502}), True),
        (ValueError({"message": "no such key", "code": 401}), False),
        (error_with(APIError(), code="server_error"), True),
        (error_with(APIError(), code=None), True),
        (error_with(APIError(), code="invalid_api_key"), False),
        (error_with(APIError(), body={"error": {"code": 400}}), False),
        (error_with(APIError(), code="insufficient_quota"), False),
        (ValueError("a mistake"), False),
        (RuntimeError("a mistake"), False),
        (KeyError("a mistake"), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_transient(error: Exception, transient: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_transient(error) is transient


@pytest.mark.parametrize(
    "error",
    [
        error_with(response=SimpleNamespace(headers={"retry-after": "7"})),
        error_with(response=SimpleNamespace(headers={"retry-after-ms": "7000"})),
        error_with(headers={"Retry-After": "7"}),  # aiohttp
        from_botocore("ThrottlingException", headers={"retry-after": "7"}),
        caused_by(error_with(response=SimpleNamespace(headers={"retry-after": "7"}))),
    ],
)
def test_retry_after_is_found_wherever_a_client_puts_it(error: Exception) -> None:
    assert retry_after(error) == 7
    assert http_status(error) in {None, 400}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (IndexError("list index out of range"), True),
        (TypeError("'NoneType' object is not iterable"), True),
        (KeyError("choices"), True),
        (ValueError({"message": "overloaded", "code": "server_error"}), True),
        (ValueError("server_error: boom"), True),
        (ValueError({"message": "no such key", "code": 401}), False),
        (ValueError("invalid_prompt: your request was flagged"), False),
        (TypeError("create() got an unexpected keyword argument 'stopp'"), False),
        (RuntimeError("a mistake"), False),
        (ValueError("a mistake of the caller's"), False),
        (ValueError("No generation chunks were returned"), True),
        (with_status(400), False),
    ],
    ids=str,
)
def test_a_reply_without_an_answer_is_known_by_the_clients_failure(error: Exception, *, expected: bool) -> None:
    assert has_no_reply(error) is expected


def test_a_policy_without_retry_on_gets_ours() -> None:
    assert retry_policies(None) == [DEFAULT_RETRY]
    [policy] = retry_policies(RetryPolicy(max_attempts=7))
    assert (policy.max_attempts, policy.retry_on) == (7, is_transient)
    own = RetryPolicy(retry_on=KeyError)
    assert retry_policies([own]) == [own]


def read(*chunks: Any) -> AIMessage:
    reader = ModelReply()
    for chunk in chunks:
        reader.add(chunk)
    return reader.reply()


def reply(text: str = "Text.", **metadata: Any) -> AIMessage:
    return AIMessage(text, response_metadata=metadata)


@pytest.mark.parametrize(
    "message",
    [
        reply(),  # a chat model of the caller's own need not say how it ended
        reply(model_provider="openai", finish_reason="stop"),
        reply(model_provider="anthropic", stop_reason="end_turn"),
        reply(model_provider="bedrock_converse", stopReason="end_turn"),
        reply(model_provider="ollama", done_reason="stop"),
        reply(model_provider="openai", status="completed"),
        AIMessage([{"type": "text", "text": "In blocks."}]),
    ],
    ids=lambda message: str(message.response_metadata),
)
def test_a_whole_reply_is_taken(message: AIMessage) -> None:
    assert read(message).text == message.text


@pytest.mark.parametrize(
    ("message", "says", "retryable"),
    [
        (reply(""), "no text", True),
        (reply(" \n"), "no text", True),
        (reply("", finish_reason="length"), "raise the limit", False),
        (reply("Some", finish_reason="content_filter"), "refused", False),
        (reply("Some", stop_reason="refusal"), "refused", False),
        (AIMessage("", additional_kwargs={"refusal": "Not that."}), "Not that", False),
        (AIMessage([{"type": "refusal", "refusal": "Not that."}]), "Not that", False),
    ],
    ids=str,
)
def test_a_reply_that_cannot_be_used_is_refused(message: AIMessage, says: str, retryable: bool) -> None:  # noqa: FBT001
    with pytest.raises(ReplyError, match=says) as caught:
        read(message)
    assert caught.value.is_retryable is retryable


def test_chunks_are_merged() -> None:
    chunks = [
        AIMessageChunk(content="One "),
        AIMessageChunk(content="two.", response_metadata={"finish_reason": "stop"}),
    ]
    message = read(*chunks)
    assert type(message) is AIMessage
    assert message.text == "One two."


WHOLE = [
    "stop",
    "STOP",
    "end_turn",
    "eos",
    "eos_token",
    "stop_sequence",
    "tool_calls",
    "COMPLETE",
    "FINISH",
    "endoftext",
]
TRUNCATED = ["length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded", "max_output_tokens"]
REFUSED = ["content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "content_filtered"]
REFUSED += ["guardrail_intervened", "sensitive", "IMAGE_SAFETY", "ERROR_TOXIC"]
BROKEN = [
    "error",
    "abort",
    "unload",
    "load",
    "insufficient_system_resource",
    "OTHER",
    "MALFORMED_FUNCTION_CALL",
    "cancelled",
]
ENDS = {"whole": WHOLE, "truncated": TRUNCATED, "refused": REFUSED, "broken": BROKEN}
EACH_END = [(reason, kind) for kind, reasons in ENDS.items() for reason in reasons]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(("reason", "kind"), EACH_END)
def test_an_end_is_good_only_if_it_is_known_to_be(reason: str, kind: str, *, twice: bool) -> None:
    assert end_of(reply(finish_reason=reason * (1 + twice))) == kind


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({"stop_reason": "end_turn"}, "whole"),
        ({"stopReason": "content_filtered"}, "refused"),
        ({"done_reason": "load"}, "broken"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refused"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "truncated"),
        ({"status": "completed", "incomplete_details": None}, "whole"),
        ({"status": "in_progress"}, "broken"),
        ({"status": 200}, "whole"),  # of the HTTP response
        ({"prompt_feedback": {"block_reason": "SAFETY"}}, "refused"),
        ({}, "whole"),
    ],
    ids=str,
)
def test_an_end_is_found_wherever_a_provider_puts_it(metadata: dict[str, Any], kind: str) -> None:
    assert end_of(reply(**metadata)) == kind


def test_the_last_chunks_own_reason_counts() -> None:
    ends = [{"finish_reason": "length"}, {"finish_reason": "length"}, {}, {"finish_reason": "stop"}, {}]
    chunks = [AIMessageChunk(content="A", response_metadata=end) for end in ends]
    message = read(*chunks)
    assert (message.text, end_of(message)) == ("AAAAA", "whole")
    assert end_of(read(*chunks[:3])) == "truncated"


async def test_a_model_without_structured_output_is_read_as_text() -> None:
    def graph() -> Any:
        replies = iter([AIMessage("1. One thing\n2. Another thing"), AIMessage("Some text."), AIMessage("Some text.")])
        return create_sot_graph(GenericFakeChatModel(messages=replies))

    for result in (graph().invoke({"question": "What?"}), await graph().ainvoke({"question": "What?"})):
        assert [point["title"] for point in result["points"]] == ["One thing", "Another thing"]
        assert result["answer"] == "Some text.\n\nSome text."
        assert result["messages"][-1].usage_metadata is None


class Odd(GenericFakeChatModel):
    """A chat model of the caller's own, whose structured output is not LangChain's."""

    structured: Any = None
    calls: int = 0

    def with_structured_output(self, schema: Any, **_kwargs: Any) -> Any:
        if isinstance(self.structured, Exception):
            raise self.structured
        return RunnableLambda(lambda _: self.structured(schema))

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super()._generate(*args, **kwargs)


def fails(_schema: Any) -> Any:
    message = "structured output unsupported"
    raise RuntimeError(message)


@pytest.mark.parametrize(
    "structured",
    [
        lambda schema: schema(points=["One", "Two"]),
        lambda schema: {"raw": None, "parsed": schema(points=["One", "Two"]), "parsing_error": None},
        lambda schema: schema(points=["1. One\n2. Two"]),
        lambda _: {"points": ["One", "Two"]},
        lambda _: ["One", "Two"],
        lambda _: "1. One\n2. Two",
        lambda _: {"raw": "1. One\n2. Two", "parsed": None},
        lambda _: AIMessage("- One\n- Two"),
    ],
)
async def test_whatever_structured_output_gives_is_read(structured: Any) -> None:
    def model() -> Odd:
        return Odd(messages=iter([AIMessage("A text."), AIMessage("A text.")]), structured=structured)

    for result in (
        create_sot_graph(model()).invoke({"question": "What?"}),
        await create_sot_graph(model()).ainvoke({"question": "What?"}),
    ):
        assert [point["title"] for point in result["points"]] == ["One", "Two"]
        assert result["answer"] == "A text.\n\nA text."


@pytest.mark.parametrize("structured", [NotImplementedError(), ValueError("no tools"), TypeError("include_raw"), fails])
def test_a_model_without_structured_output_writes_a_list_and_is_not_copied(structured: Any) -> None:
    replies = [AIMessage("1. One\n2. Two"), AIMessage("A text."), AIMessage("A text.")]
    model = Odd(messages=iter(replies), structured=structured)
    result = create_sot_graph(model).invoke({"question": "What?"})
    assert [point["title"] for point in result["points"]] == ["One", "Two"]
    assert model.calls == 3


def test_a_model_that_counts_its_calls_does_not_begin_anew() -> None:
    model = FakeListChatModel(responses=["1. One\n2. Two", "First.", "Second."])
    result = create_sot_graph(model).invoke({"question": "What?"}, {"max_concurrency": 1})
    assert {point["text"] for point in result["points"]} == {"First.", "Second."}
