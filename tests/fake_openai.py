"""A server on the loopback that speaks OpenAI's chat completions, paced and faulted as a test wants it."""

import asyncio
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self
from uuid import uuid4

import uvicorn
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sot_graph.outline_reply import Outline
from sot_graph.prompts import CLOSE, GO_ON, PLAIN_FORM

TITLES = ["Regular sleep hours", "A dark room", "Less evening caffeine", "Daily exercise"]


@dataclass
class Request:
    """One request that the server got."""

    body: dict[str, Any]
    headers: dict[str, str]
    stage: str
    title: str
    attempt: int
    """The how-manieth request for the same stage and title, from 1."""
    began: float
    ended: float = 0.0

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    @property
    def last(self) -> str:
        """The text of the last message."""
        return _text(self.messages[-1])

    @property
    def prompt(self) -> str:
        """All of the prompt's text, in order."""
        return "\n".join(str(message["content"]) for message in self.messages)


@dataclass
class Reply:
    """What the server answers with, and how."""

    text: str | None = ""
    finish: str | None = "stop"
    status: int = 200
    message: str = "a fault of the test's"
    code: str | None = None
    refusal: str | None = None
    calls: Sequence[tuple[str, dict[str, Any]]] = ()
    """The tools that the model calls, each with its arguments."""
    headers: dict[str, str] = field(default_factory=dict)
    first_token: float = 0.0
    per_token: float = 0.0
    words: int = 1
    """How many words a token has."""
    drop_after: int | None = None
    """Close the connection after so many tokens; after a part of the body, where it is not streamed."""
    hang_up: bool = False
    """Close the connection without an answer."""
    corrupt_after: int | None = None
    """Send a broken piece of JSON after so many tokens."""

    @property
    def tokens(self) -> list[str]:
        words = (self.text or "").split(" ")
        tokens = [" ".join(words[i : i + self.words]) for i in range(0, len(words), self.words)]
        return [token if i == 0 else f" {token}" for i, token in enumerate(tokens)]

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in self.calls]
        return [
            {"index": i, "id": f"call-{uuid4()}", "type": "function", "function": function}
            for i, function in enumerate(functions)
        ]

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": 10,
            "completion_tokens": len(self.tokens),
            "total_tokens": 10 + len(self.tokens),
        }


Script = Callable[[Request], Reply]


def outline_json(titles: Sequence[str]) -> str:
    return json.dumps({"points": list(titles)})


def usual(request: Request) -> Reply:
    """The script of a model that does what it should."""
    if request.stage == "skeleton":
        return Reply(outline_json(TITLES))
    if request.stage == "expand":
        return Reply(f"About {request.title.lower()} there is this to say.")
    return Reply("That is what helps." if request.stage == "closing" else "A direct answer.")


def strict(script: Script = usual) -> Script:
    """The script of a server whose chat template knows a system message in front and turns, and nothing else."""

    def checked(request: Request) -> Reply:
        error = template_error(request.messages, tools=request.stage == "agent")
        return Reply(status=400, message=error) if error else script(request)

    return checked


def template_error(messages: Sequence[dict[str, Any]], *, tools: bool = False) -> str | None:
    """What the templates of Gemma, Mistral and Qwen say of messages; None if they take them."""
    if tools:  # of an agent's own call, tool calls and their results are a part
        messages = [message for message in messages if message["role"] != "tool" and not message.get("tool_calls")]
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in turns:
        return "System message must be at the beginning."
    if turns != (["user", "assistant"] * len(turns))[: len(turns)] or turns[-1:] != ["user"]:
        return f"Conversation roles must alternate user/assistant/user/assistant/... and end with user, not {turns}"
    for message in messages:
        if {"tool_calls", "function_call", "tool_call_id"} & message.keys():
            return f"Tool calls are not supported: {message}"
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks or not all(map(_is_accepted, blocks)):
            return f"Content must be text or pictures, and not empty: {message}"
    return None


def _is_accepted(block: dict[str, Any]) -> bool:
    return block["type"] == "image_url" or (block["type"] == "text" and bool(block["text"].strip()))


class FakeOpenAI:
    """What the server does: `script` decides each reply, `requests` holds each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: Script = usual
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._seen: Counter[tuple[str, str]] = Counter()

    def model(self, **options: Any) -> ChatOpenAI:
        """The real client, pointed here."""
        return ChatOpenAI(model="fake", base_url=self.url, api_key=SecretStr("sk-test-key"), **options)

    def of_stage(self, stage: str) -> list[Request]:
        return [request for request in self.requests if request.stage == stage]

    def titles(self, stage: str = "expand") -> list[str]:
        """The titles of the requests, in their order."""
        return [request.title for request in self.of_stage(stage)]

    async def answer(self, http: HttpRequest) -> Response:
        request = self._note(await http.json(), dict(http.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        reply = self.script(request)
        if reply.hang_up:
            self._done(request)
            http.receive.__self__.transport.abort()  # type: ignore[attr-defined]  # ASGI itself has no way to
            return Response()
        if reply.status != HTTPStatus.OK:
            try:
                await _pause(reply.first_token, http)
            finally:
                self._done(request)
            error = {"message": reply.message, "type": "test", "code": reply.code}
            return JSONResponse({"error": error}, reply.status, reply.headers)
        if request.body.get("stream"):
            return StreamingResponse(self._chunks(request, reply), media_type="text/event-stream")
        try:
            await _pause(reply.first_token + reply.per_token * len(reply.tokens), http)
        finally:
            self._done(request)
        if reply.drop_after is not None:
            return StreamingResponse(_broken_body(), media_type="application/json")
        if reply.corrupt_after is not None:
            return Response(b'{"id": ', media_type="application/json")
        # Not as JSONResponse, which refuses lone surrogates; a server may send them.
        return Response(json.dumps(_completion(reply)), media_type="application/json")

    def _note(self, body: dict[str, Any], headers: dict[str, str]) -> Request:
        stage, title = stage_and_title(body)
        self._seen[stage, title] += 1
        request = Request(body, headers, stage, title, self._seen[stage, title], time.monotonic())
        self.requests.append(request)
        return request

    def _done(self, request: Request) -> None:
        self.in_flight -= 1
        request.ended = time.monotonic()

    async def _chunks(self, request: Request, reply: Reply) -> AsyncIterator[str]:
        try:
            await asyncio.sleep(reply.first_token)
            for number, token in enumerate(reply.tokens):
                if number == reply.drop_after:
                    raise ConnectionDropped
                if number == reply.corrupt_after:
                    yield 'data: {"id": \n\n'
                await asyncio.sleep(reply.per_token)
                yield _event(delta={"role": "assistant", "content": token})
            if reply.calls:
                yield _event(delta={"role": "assistant", "tool_calls": reply.tool_calls})
            if reply.refusal:
                yield _event(delta={"refusal": reply.refusal})
            if reply.finish is None:
                return
            yield _event(delta={}, finish=reply.finish)
            if (request.body.get("stream_options") or {}).get("include_usage"):
                yield _event(usage=reply.usage)
            yield "data: [DONE]\n\n"
        finally:
            self._done(request)


async def _pause(seconds: float, http: HttpRequest) -> None:
    """Wait, but not for a client that has gone."""
    gone = asyncio.ensure_future(http.receive())
    await asyncio.wait([gone], timeout=seconds)
    if gone.done():
        raise ConnectionDropped
    gone.cancel()


class ConnectionDropped(Exception):  # noqa: N818 - an event of the test's, not an error of the server's
    """Makes the server close the connection in the middle of a reply."""


async def _broken_body() -> AsyncIterator[str]:
    yield '{"id": '
    raise ConnectionDropped


def stage_and_title(body: dict[str, Any]) -> tuple[str, str]:
    texts = [_text(message) for message in body["messages"]]
    prompt = texts[-3] if texts[-1] == GO_ON else texts[-1]
    tools = {tool["function"]["name"] for tool in body.get("tools", [])}
    if tools - {Outline.__name__}:
        return "agent", ""
    if "response_format" in body or tools or PLAIN_FORM in prompt:
        return "skeleton", ""
    if prompt == CLOSE:
        return "closing", ""
    title = title_told(prompt)
    return ("expand", title) if title else ("direct", "")


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else str((content or [{}])[-1].get("text", ""))


def title_told(prompt: str) -> str:
    """The title of the point that a call's last turn asks for; "" in any other."""
    told = re.fullmatch(r"(?:T|In one or two sentences(?: by default)?, t)ell me more about (.*)\.", prompt, re.DOTALL)
    return told[1] if told else ""


def _completion(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    if reply.calls:
        message["tool_calls"] = reply.tool_calls
    choice = {"index": 0, "message": message, "finish_reason": reply.finish}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [choice],
        "usage": reply.usage,
    }


def _event(
    delta: dict[str, Any] | None = None,
    finish: str | None = None,
    usage: dict[str, int] | None = None,
) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(event)}\n\n"


class Host:
    """The HTTP server itself, for many tests one after the other."""

    def __init__(self) -> None:
        # With the protocol named, asyncio turns Nagle's delay off, which would add 40 ms to a reply.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self.fake = FakeOpenAI(self.url)

    async def _answer(self, http: HttpRequest) -> Response:
        return await self.fake.answer(http)

    def fresh(self) -> FakeOpenAI:
        self.fake = FakeOpenAI(self.url)
        return self.fake

    @contextmanager
    def running(self) -> Iterator[Self]:
        routes = [Route("/v1/chat/completions", self._answer, methods=["POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_level="critical",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [self._socket]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield self
        finally:
            server.should_exit = True
            thread.join()
            self._socket.close()
