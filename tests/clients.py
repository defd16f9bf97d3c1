"""The chat clients that people have, and replies in the form that each of them reads."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_aws import ChatBedrockConverse
from langchain_core.language_models import BaseChatModel
from langchain_deepseek import ChatDeepSeek
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_groq import ChatGroq
from langchain_mistralai import ChatMistralAI
from langchain_ollama import ChatOllama
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from tests.script_server import HttpRequest, Part, event_stream, response

KEY: Any = SecretStr("sk-test-key")
Replies = Callable[[str, str | None], Sequence[Part]]
"""A reply of this text that ended for this reason."""


@dataclass
class Client:
    """A client, and the replies of its servers."""

    make: Callable[..., BaseChatModel]
    whole: Replies
    streamed: Replies
    good: str = "stop"
    length: str = "length"
    filtered: str = "content_filter"
    broken: str = "error"
    can_stream: bool = True

    def reply(self, request: HttpRequest, text: str, end: str | None = None) -> Sequence[Part]:
        """A reply in the form that the request asks for."""
        body: Any = request.body
        is_streamed = "stream" in request.path.lower() or bool(body.get("stream"))
        return (self.streamed if is_streamed else self.whole)(text, end or self.good)


def event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def completion(text: str, end: str | None, *, kind: str = "chat.completion", field: str = "message") -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, field: {"role": "assistant", "content": text}, "finish_reason": end}
    return {"id": "c", "object": kind, "created": 1, "model": "m", "choices": [choice], "usage": usage}


def chunk(text: str, end: str | None) -> dict[str, Any]:
    return completion(text, end, kind="chat.completion.chunk", field="delta")


def chat_stream(text: str, end: str | None) -> Sequence[Part]:
    middle = len(text) // 2
    first, second, last = chunk(text[:middle], None), chunk(text[middle:], None), chunk("", end)
    last |= {"x_groq": {"id": "c", "usage": last["usage"]}}
    return event_stream({**first, "usage": None}, {**second, "usage": None}, last)


def responses_body(text: str, end: str | None) -> dict[str, Any]:
    status = end if end in {"completed", "in_progress", "failed"} else "incomplete"
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
        "incomplete_details": {"reason": end} if status == "incomplete" else None,
        "error": {"code": "server_error", "message": "overloaded"} if status == "failed" else None,
    }


def responses_stream(text: str, end: str | None) -> Sequence[Part]:
    body = responses_body(text, end)
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}
    last = {"completed": "completed", "failed": "failed"}.get(body["status"], "incomplete")
    events = [
        event("response.created", sequence_number=0, response={**body, "status": "in_progress", "output": []}),
        event("response.output_item.added", sequence_number=1, output_index=0, item=item),
        event("response.output_text.delta", sequence_number=2, **place, delta=text, logprobs=[]),
        event(f"response.{last}", sequence_number=3, response=body),
    ]
    return event_stream(*events, done=False)


def anthropic_body(text: str, end: str | None) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    return {**message, "content": [{"type": "text", "text": text}], "stop_reason": end, "usage": usage}


def anthropic_stream(text: str, end: str | None) -> Sequence[Part]:
    return event_stream(
        event("message_start", message={**anthropic_body(text, None), "content": []}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": end, "stop_sequence": None}, usage={"output_tokens": 2}),
        event("message_stop"),
        done=False,
    )


def ollama_stream(text: str, end: str | None) -> Sequence[Part]:
    common = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    counts = {"prompt_eval_count": 3, "eval_count": 2}
    lines = [
        {**common, "message": {"role": "assistant", "content": text}, "done": False},
        {**common, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": end, **counts},
    ]
    return response("".join(f"{json.dumps(line)}\n" for line in lines), content_type="application/x-ndjson")


def gemini_body(text: str, end: str | None) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": end, "index": 0}
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    return {"candidates": [candidate], "usageMetadata": usage}


def bedrock_body(text: str, end: str | None) -> dict[str, Any]:
    usage = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    message = {"role": "assistant", "content": [{"text": text}]}
    return {"output": {"message": message}, "stopReason": end, "usage": usage, "metrics": {"latencyMs": 1}}


def whole(body: Callable[[str, str | None], dict[str, Any]]) -> Replies:
    return lambda text, end: response(body(text, end))


def chat_client(make: Callable[..., BaseChatModel], **options: Any) -> Client:
    return Client(make, whole(completion), chat_stream, **options)


def bedrock(url: str, **options: Any) -> BaseChatModel:
    keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY, "region_name": "us-east-1"}
    # Its stream is binary, and not written by hand here.
    return ChatBedrockConverse(model_id="amazon.m", endpoint_url=url, disable_streaming=True, **keys, **options)


CLIENTS = {
    "openai": chat_client(lambda url, **o: ChatOpenAI(model="m", base_url=f"{url}/v1", api_key=KEY, **o)),
    "responses": Client(
        lambda url, **o: ChatOpenAI(model="m", base_url=f"{url}/v1", api_key=KEY, use_responses_api=True, **o),
        whole(responses_body),
        responses_stream,
        good="completed",
        length="max_output_tokens",
        broken="failed",
    ),
    "azure": chat_client(
        lambda url, **o: AzureChatOpenAI(
            azure_deployment="m", azure_endpoint=url, api_key=KEY, api_version="2024-10-21", **o
        )
    ),
    "deepseek": chat_client(
        lambda url, **o: ChatDeepSeek(model="m", api_base=f"{url}/v1", api_key=KEY, **o),
        broken="insufficient_system_resource",
    ),
    "groq": chat_client(lambda url, **o: ChatGroq(model="m", base_url=url, api_key=KEY, **o), broken="abort"),
    "mistral": chat_client(
        lambda url, **o: ChatMistralAI(model_name="m", endpoint=f"{url}/v1", api_key=KEY, **o), length="model_length"
    ),
    "anthropic": Client(
        lambda url, **o: ChatAnthropic(model_name="m", base_url=url, api_key=KEY, **o),
        whole(anthropic_body),
        anthropic_stream,
        good="end_turn",
        length="model_context_window_exceeded",
        filtered="refusal",
        broken="overloaded",
    ),
    "ollama": Client(
        lambda url, **o: ChatOllama(model="m", base_url=url, **o), ollama_stream, ollama_stream, broken="unload"
    ),
    "gemini": Client(
        lambda url, **o: ChatGoogleGenerativeAI(model="m", base_url=url, google_api_key=KEY, **o),
        whole(gemini_body),
        lambda text, end: event_stream(gemini_body(text, end), done=False),
        good="STOP",
        length="MAX_TOKENS",
        filtered="PROHIBITED_CONTENT",
        broken="OTHER",
    ),
    "bedrock": Client(
        bedrock,
        whole(bedrock_body),
        whole(bedrock_body),
        good="end_turn",
        length="max_tokens",
        filtered="content_filtered",
        broken="malformed_model_output",
        can_stream=False,
    ),
}
