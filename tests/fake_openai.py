"""A server on the loopback that speaks OpenAI's chat completions, paced and faulted as a test wants it."""

import asyncio
import json
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

from sot_graph.expand import YOUR_POINT
from sot_graph.skeleton import PLAIN_FORM, Outline

TITLES = ["Regular sleep hours", "A dark room", "Less evening caffeine", "Daily exercise"]


@dataclass
class Asked:
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
    """Close the connection without a word of an answer."""
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


Script = Callable[[Asked], Reply]


def outline_json(titles: Sequence[str]) -> str:
    return json.dumps({"points": list(titles)})


def usual(asked: Asked) -> Reply:
    """The script of a model that does what it should."""
    if asked.stage == "skeleton":
        return Reply(outline_json(TITLES))
    if asked.stage == "expand":
        return Reply(f"About {asked.title.lower()} there is this to say.")
    return Reply("A direct answer.")


class FakeOpenAI:
    """The server's mind: `script` decides each reply, `asked` holds each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: Script = usual
        self.asked: list[Asked] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._seen: Counter[tuple[str, str]] = Counter()

    def model(self, **options: Any) -> ChatOpenAI:
        """The real client, pointed here."""
        return ChatOpenAI(model="fake", base_url=self.url, api_key=SecretStr("sk-test-key"), **options)

    def of_stage(self, stage: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.stage == stage]

    def titles(self, stage: str = "expand") -> list[str]:
        """The titles asked for, in the order in which the requests came."""
        return [asked.title for asked in self.of_stage(stage)]

    async def answer(self, request: HttpRequest) -> Response:
        asked = self._note(await request.json(), dict(request.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        reply = self.script(asked)
        if reply.hang_up:
            self._done(asked)
            request.receive.__self__.transport.abort()  # type: ignore[attr-defined]  # ASGI itself has no way to
            return Response()
        if reply.status != HTTPStatus.OK:
            try:
                await _pause(reply.first_token, request)
            finally:
                self._done(asked)
            error = {"message": reply.message, "type": "test", "code": reply.code}
            return JSONResponse({"error": error}, reply.status, reply.headers)
        if asked.body.get("stream"):
            return StreamingResponse(self._pieces(asked, reply), media_type="text/event-stream")
        try:
            await _pause(reply.first_token + reply.per_token * len(reply.tokens), request)
        finally:
            self._done(asked)
        if reply.drop_after is not None:
            return StreamingResponse(_broken_off(), media_type="application/json")
        if reply.corrupt_after is not None:
            return Response(b'{"id": ', media_type="application/json")
        return JSONResponse(_completion(reply))

    def _note(self, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        stage, title = stage_and_title(body)
        self._seen[stage, title] += 1
        asked = Asked(body, headers, stage, title, self._seen[stage, title], time.monotonic())
        self.asked.append(asked)
        return asked

    def _done(self, asked: Asked) -> None:
        self.in_flight -= 1
        asked.ended = time.monotonic()

    async def _pieces(self, asked: Asked, reply: Reply) -> AsyncIterator[str]:
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
            if (asked.body.get("stream_options") or {}).get("include_usage"):
                yield _event(usage=reply.usage)
            yield "data: [DONE]\n\n"
        finally:
            self._done(asked)


async def _pause(seconds: float, request: HttpRequest) -> None:
    """Take one's time, but not when the client has gone."""
    gone = asyncio.ensure_future(request.receive())
    await asyncio.wait([gone], timeout=seconds)
    if gone.done():
        raise ConnectionDropped
    gone.cancel()


class ConnectionDropped(Exception):  # noqa: N818 - an event of the test's, not an error of the server's
    """Makes the server close the connection in the middle of a reply."""


async def _broken_off() -> AsyncIterator[str]:
    yield '{"id": '
    raise ConnectionDropped


def stage_and_title(body: dict[str, Any]) -> tuple[str, str]:
    prompt = str(body["messages"][-1]["content"])
    tools = {tool["function"]["name"] for tool in body.get("tools", [])}
    if tools - {Outline.__name__}:
        return "agent", ""
    if "response_format" in body or tools or PLAIN_FORM in prompt:
        return "skeleton", ""
    _, order, point = prompt.rpartition(YOUR_POINT)
    return ("expand", point.partition(": ")[2].removesuffix("'}]")) if order else ("direct", "")


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
        self.mind = FakeOpenAI(self.url)

    async def _answer(self, request: HttpRequest) -> Response:
        return await self.mind.answer(request)

    def fresh_mind(self) -> FakeOpenAI:
        self.mind = FakeOpenAI(self.url)
        return self.mind

    @contextmanager
    def running(self) -> Iterator[Self]:
        routes = [Route("/v1/chat/completions", self._answer, methods=["POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_level="critical",
            lifespan="off",
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
