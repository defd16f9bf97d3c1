"""A server on the loopback that applies a provider's rule for its prefix cache, and counts tokens as it bills them.

It speaks OpenAI's chat completions and Anthropic's messages. Four characters are a token. An entry of the cache can be
read once the first token of the request that writes it is sent: Anthropic says so, of OpenAI it is assumed.
"""

import asyncio
import json
import multiprocessing
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sot_graph.prompts import PLAIN_FORM
from tests.clients import anthropic_body, chunk, completion, event
from tests.fake_openai import outline_json, title_told

CHARACTERS = 4
"""Of a token."""
FIRST_TOKEN, PER_TOKEN, PREFILL = 0.3, 0.01, 1 / 20_000
"""Seconds to the first token, between two tokens, and for each token that is not read from the cache."""
TITLES = [f"A point about subject {letter}" for letter in "abcdefgh"]
TEXT = " ".join(f"w{number:02}" for number in range(60))
OPENING = "A first sentence leads into the subject. A second one of them follows it at once."
MARKS = ("cache_control", "prompt_cache_breakpoint")


@dataclass
class Prompt:
    """A request's prompt in the order in which the provider renders it."""

    text: str = ""
    ends: list[int] = field(default_factory=list)  # of its blocks
    users: list[int] = field(default_factory=list)  # of the user's messages
    marks: list[int] = field(default_factory=list)

    def add(self, role: str, content: Any) -> None:
        """Add a message."""
        for block in [{"text": content}] if isinstance(content, str) else content:
            self.text += f"<{role}>{block['text']}"
            self.ends.append(len(self.text))
            if any(mark in block for mark in MARKS):
                self.marks.append(len(self.text))
        if role == "user":
            self.users.append(len(self.text))


class Bill(NamedTuple):
    """A request's tokens of input, by what they cost."""

    read: int
    written: int
    plain: int


@dataclass
class Steps:
    """OpenAI before GPT-5.6: any prefix is read, in steps; writing costs nothing."""

    step: int
    least: int = 1_024
    _texts: list[str] = field(default_factory=list)

    def bill(self, prompt: Prompt) -> Bill:
        """Read what an earlier request had in common, up to the last whole step."""
        common = max((_common(prompt.text, text) for text in self._texts), default=0) // CHARACTERS
        read = common // self.step * self.step if common >= self.least else 0
        return Bill(read, 0, tokens(prompt.text) - read)

    def write(self, prompt: Prompt) -> None:
        """Keep a prompt whose first token is sent."""
        self._texts.append(prompt.text)


@dataclass
class Marked:
    """Anthropic, and OpenAI from GPT-5.6 on: a prefix is written up to a mark, and read only where one was written."""

    has_own: bool  # whether the provider sets a mark of its own at the end of the last message of the user's
    least: int = 1_024
    lookback: int = 20
    _entries: set[str] = field(default_factory=set)

    def bill(self, prompt: Prompt) -> Bill:
        """Read the longest entry; what is between it and the last mark is written."""
        read = max((end for end in self._looked_up(prompt) if prompt.text[:end] in self._entries), default=0)
        end = max([read, *self._marks(prompt)])
        counts = [tokens(prompt.text[:each]) for each in (read, end, len(prompt.text))]
        return Bill(counts[0], counts[1] - counts[0], counts[2] - counts[1])

    def write(self, prompt: Prompt) -> None:
        """Keep the prefixes of a prompt whose first token is sent."""
        self._entries.update(prompt.text[:end] for end in self._marks(prompt))

    def _marks(self, prompt: Prompt) -> list[int]:
        ends = [*prompt.marks, *(prompt.users[-1:] if self.has_own else [])]
        return [end for end in ends if tokens(prompt.text[:end]) >= self.least]

    def _looked_up(self, prompt: Prompt) -> list[int]:
        if self.has_own:
            return [*prompt.marks, *prompt.users[-self.lookback - 1 :]]
        places = [prompt.ends.index(mark) for mark in prompt.marks]
        return [end for place in places for end in prompt.ends[max(0, place + 1 - self.lookback) : place + 1]]


class Provider(NamedTuple):
    """A provider: how its cache works, and what it takes for a token that it reads or writes."""

    name: str
    model: str
    rule: Steps | Marked
    read: float
    write: float = 1.0

    def cost(self, bill: Bill) -> float:
        """The price of a request's input, in tokens at the plain price."""
        return self.read * bill.read + self.write * bill.written + bill.plain


PROVIDERS = (
    Provider("OpenAI to GPT-5.4", "gpt-5.4", Steps(128), 0.1),
    Provider("GPT-5.5", "gpt-5.5", Steps(2_048), 0.1),
    Provider("GPT-5.6 and later", "gpt-5.6", Marked(has_own=True), 0.1, 1.25),
    Provider("Anthropic", "claude-sonnet-5", Marked(has_own=False), 0.1, 1.25),
)


def tokens(text: str) -> int:
    """How many tokens a text has."""
    return len(text) // CHARACTERS


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def rendered(body: dict[str, Any]) -> Prompt:
    """The prompt of a request: tools and a schema stand in front of the system message."""
    prompt = Prompt()
    for front in ("tools", "response_format", "output_config"):
        if front in body:
            prompt.add(front, json.dumps(body[front]))
    if "system" in body:
        prompt.add("system", body["system"])
    for message in body["messages"]:
        prompt.add(message["role"], message["content"])
    return prompt


def written(body: dict[str, Any]) -> str:
    """What the model writes: an outline in the form that is asked for, a point, or the opening."""
    content = body["messages"][-1]["content"]
    last = content if isinstance(content, str) else content[-1]["text"]
    if "tools" in body or "response_format" in body:
        return outline_json(TITLES)
    if PLAIN_FORM in last:
        return "\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, start=1))
    return TEXT if title_told(last) else OPENING


async def _answer(http: HttpRequest) -> Response:
    body = await http.json()
    provider = next(each for each in PROVIDERS if each.model == body["model"])
    prompt, text = rendered(body), written(body)
    bill = provider.rule.bill(prompt)
    await asyncio.sleep(FIRST_TOKEN + PREFILL * (bill.plain + bill.written))
    provider.rule.write(prompt)
    parts = [text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS)]
    speaks: Any = _Anthropic if http.url.path == "/v1/messages" else _OpenAI
    if body.get("stream"):
        return StreamingResponse(speaks.stream(parts, bill), media_type="text/event-stream")
    await asyncio.sleep(PER_TOKEN * len(parts))
    return JSONResponse(speaks.whole(body, text, bill))


class _OpenAI:
    @staticmethod
    def usage(bill: Bill) -> dict[str, Any]:
        details = {"cached_tokens": bill.read, "cache_write_tokens": bill.written}
        return {"prompt_tokens": sum(bill), "completion_tokens": 1, "total_tokens": sum(bill) + 1} | {
            "prompt_tokens_details": details
        }

    @classmethod
    def whole(cls, _body: dict[str, Any], text: str, bill: Bill) -> dict[str, Any]:
        return completion(text, "stop") | {"usage": cls.usage(bill)}

    @classmethod
    async def stream(cls, parts: list[str], bill: Bill) -> AsyncIterator[str]:
        for part in parts:
            yield f"data: {json.dumps(chunk(part, None) | {'usage': None})}\n\n"
            await asyncio.sleep(PER_TOKEN)
        yield f"data: {json.dumps(chunk('', 'stop') | {'usage': cls.usage(bill)})}\n\ndata: [DONE]\n\n"


class _Anthropic:
    @staticmethod
    def usage(bill: Bill) -> dict[str, int]:
        counts = {"cache_read_input_tokens": bill.read, "cache_creation_input_tokens": bill.written}
        return counts | {"input_tokens": bill.plain, "output_tokens": 1}

    @classmethod
    def whole(cls, body: dict[str, Any], text: str, bill: Bill) -> dict[str, Any]:
        message = anthropic_body(text, "end_turn") | {"usage": cls.usage(bill)}
        if "tools" in body:
            call = {"type": "tool_use", "id": "t", "name": body["tools"][0]["name"], "input": json.loads(text)}
            message |= {"content": [call], "stop_reason": "tool_use"}
        return message

    @classmethod
    async def stream(cls, parts: list[str], bill: Bill) -> AsyncIterator[str]:
        yield event("message_start", message=anthropic_body("", None) | {"content": [], "usage": cls.usage(bill)})
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for part in parts:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": part})
            await asyncio.sleep(PER_TOKEN)
        yield event("content_block_stop", index=0)
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        yield event("message_delta", delta=end, usage=cls.usage(bill))
        yield event("message_stop")


def _serve(pipe: Connection) -> None:
    with socket.socket(proto=socket.IPPROTO_TCP) as here:
        here.bind(("127.0.0.1", 0))
        pipe.send(f"http://127.0.0.1:{here.getsockname()[1]}")
        routes = [Route(path, _answer, methods=["POST"]) for path in ("/v1/chat/completions", "/v1/messages")]
        config = uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off", ws="none")
        uvicorn.Server(config).run(sockets=[here])


@contextmanager
def serving() -> Iterator[str]:
    """Run the server in a process of its own until the block ends; its URL."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()
