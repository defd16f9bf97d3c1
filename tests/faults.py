"""Every way in which a call can fail, and clients whose requests fail in these ways as a test plans it."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Self

from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

from tests.fake_openai import FakeOpenAI, Reply, Request, Script, stage_and_title, usual

REFUSED = "refused connection"
LATE = "never answers"
FOR_EVER = 4.0
"""In seconds; the clients of the tests wait less."""


class Fault(NamedTuple):
    """A fault, by what it makes of a good reply."""

    spoil: Callable[[Reply], Reply]
    says: str
    """What its error speaks of, as a regular expression."""


def status(code: int) -> Fault:
    return Fault(lambda _: Reply(status=code), str(code))


DROPPED = r"(?i)connection|peer closed"
TRANSIENT = {
    "408": status(408),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    REFUSED: Fault(lambda good: good, "Connection error"),  # the request gets no further than the client
    "dropped before": Fault(lambda good: replace(good, hang_up=True), DROPPED),
    "dropped at once": Fault(lambda good: replace(good, drop_after=0), DROPPED),
    "dropped in mid-stream": Fault(lambda good: replace(good, drop_after=1), DROPPED),
    "corrupt piece": Fault(lambda good: replace(good, corrupt_after=1), "Expecting value"),
    LATE: Fault(lambda good: replace(good, first_token=FOR_EVER), "timed out"),
}
BROKEN_TEXT = {
    "aborted": Fault(lambda good: replace(good, text=half(good), finish="abort"), "abort|Invalid JSON"),
    "empty": Fault(lambda _: Reply(""), "no text"),
    "blank": Fault(lambda _: Reply(" \n "), "no text"),
}
"""Transient too, in a text; an outline that is empty is none."""
PERMANENT = {str(code): status(code) for code in (400, 401, 403, 404, 422)}
REFUSALS = {
    "content filter": Fault(lambda good: replace(good, text=half(good), finish="content_filter"), "refused"),
    # ChatOpenAI leaves the field out of what it streams: there nobody can tell it from an empty reply.
    "refusal": Fault(lambda _: Reply("", refusal="I would rather not."), "refused"),
    "no token left for text": Fault(lambda _: Reply("", finish="length"), "token limit"),
}
"""Permanent, in a text; an outline is read as far as it goes."""
ASKED_PLAINLY = {"400", "404", "422"}
"""An outline's request that is refused so is sent once more, without a schema."""
CUT_OFF = {"cut off": Fault(lambda good: replace(good, text=half(good), finish="length"), "")}
"""No error at all: it is kept."""
FAULTS = {**TRANSIENT, **BROKEN_TEXT, **PERMANENT, **REFUSALS, **CUT_OFF}
MAY_PASS = TRANSIENT.keys() | BROKEN_TEXT.keys()


def half(good: Reply) -> str:
    return (good.text or "")[: len(good.text or "") // 2]


class Call(NamedTuple):
    """What the requests for one thing have in common, retries included."""

    question: str
    stage: str
    title: str


Plan = Callable[[Call, int], str | None]
"""The fault of a call's n-th request, from 1; None for a good reply."""


def no_faults(_call: Call, _attempt: int) -> None:
    return None


class Faults:
    """The clients of a test, which see each request before it is sent: those too that reach no server.

    A header tells the server which reply it is to spoil; a connection that is to be refused goes to a port where nobody
    listens. What is sent is the real client's own.
    """

    HEADER = "x-fault"

    def __init__(self) -> None:
        self.plan: Plan = no_faults
        self.sent: Counter[Call] = Counter()
        self._lock = threading.Lock()
        self._deaf = socket.socket()  # bound, so that nobody else gets the port, and not listening
        self._deaf.bind(("127.0.0.1", 0))
        self.sync_client = DefaultHttpxClient(event_hooks={"request": [self._send]})
        self.async_client = DefaultAsyncHttpxClient(event_hooks={"request": [self._asend]})

    def begin(self, server: FakeOpenAI, plan: Plan, script: Script = usual) -> Self:
        """Begin a test."""
        self.plan = plan
        self.sent.clear()
        server.script = lambda request: self._spoilt(request, script(request))
        return self

    def model(self, server: FakeOpenAI, **options: Any) -> ChatOpenAI:
        """A model with a token limit of its own, which no call leaves out."""
        clients = {"http_client": self.sync_client, "http_async_client": self.async_client}
        return server.model(max_tokens=1_000, **clients, **options)

    def requests(self, stage: str, title: str = "") -> int:
        return sum(count for call, count in self.sent.items() if (call.stage, call.title) == (stage, title))

    async def close(self) -> None:
        self.sync_client.close()
        await self.async_client.aclose()
        self._deaf.close()

    def _send(self, request: Any) -> None:
        body = json.loads(request.content)
        question = next(message["content"] for message in body["messages"] if message["role"] == "user")
        call = Call(question, *stage_and_title(body))
        with self._lock:
            self.sent[call] += 1
            fault = self.plan(call, self.sent[call])
        if fault == REFUSED:
            request.url = request.url.copy_with(port=self._deaf.getsockname()[1])
        elif fault:
            request.headers[self.HEADER] = fault

    async def _asend(self, request: Any) -> None:
        self._send(request)

    def _spoilt(self, request: Request, good: Reply) -> Reply:
        fault = request.headers.get(self.HEADER)
        return FAULTS[fault].spoil(good) if fault else good
