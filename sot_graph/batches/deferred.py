"""A graph whose requests are answered from the ledger: a client's transport, and a wrapper around the graph."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from sot_graph.batches.ledger import Ledger, Stored
from sot_graph.errors import SotError

UNANSWERED = 424
"""HTTP's "failed dependency", which no retry mends."""
WAITS = "This request waits for a batch."
_BODY = json.dumps({"error": {"message": WAITS}}).encode()


class WaitsForBatchError(SotError):
    """An answer needs replies that are not there yet."""


@dataclass
class _Asking:
    """One run of the graph."""

    ident: str
    sent: Counter[bytes] = field(default_factory=Counter)
    waiting: int = 0

    def check(self, error: Exception | None) -> None:
        """Refuse an end of the run that came of missing replies."""
        if self.waiting:
            msg = f"{self.waiting} requests wait for a batch."
            raise WaitsForBatchError(msg) from error


_ASKING: ContextVar[_Asking] = ContextVar("sot_asking")


class Desk:
    """Answers a client's requests from the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of a response.

        A request is known by its question and its bytes. A retry has the same bytes, so the how-manieth it is counts,
        too.
        """
        asking = _ASKING.get()
        asking.sent[body] += 1
        whole = b"\0".join((asking.ident.encode("utf-8", "replace"), path.encode(), body, b"%d" % asking.sent[body]))
        ident = hashlib.blake2b(whole, digest_size=16).hexdigest()
        reply = self.ledger.find(Stored(ident, path, body))
        if reply is None or reply.status is None:
            asking.waiting += 1
            return UNANSWERED, _BODY
        return reply.status, reply.body

    def clients(self, sdk: ModuleType) -> tuple[Any, Any]:
        """The HTTP clients, sync and async, for a provider's package."""
        return _http_clients(sdk, lambda path, body: self.answer("/v1/" + path.rpartition("/v1/")[2], body))


def _http_clients(sdk: ModuleType, answer: Callable[[str, bytes], tuple[int, bytes]]) -> tuple[Any, Any]:
    """The clients of a provider's package, sync and async, whose requests a function answers (path and body in)."""
    http: Any = import_module(sdk.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])  # httpx, or httpx2

    def respond(request: Any, body: bytes) -> Any:
        status, reply = answer(request.url.path, body)
        return http.Response(status, content=reply, headers={"content-type": "application/json"}, request=request)

    class Transport(http.BaseTransport, http.AsyncBaseTransport):  # type: ignore[misc]  # known only here
        def handle_request(self, request: Any) -> Any:
            return respond(request, request.read())

        async def handle_async_request(self, request: Any) -> Any:
            return respond(request, await request.aread())

    return sdk.DefaultHttpxClient(transport=Transport()), sdk.DefaultAsyncHttpxClient(transport=Transport())


class Deferred(Runnable[Any, Any]):
    """A graph that raises `WaitsForBatchError` as long as a request of its run is not answered.

    Its own error would not do: an opening that fails is left out, and with `on_error="keep"` so is a point.
    """

    def __init__(self, graph: Runnable[Any, Any]) -> None:
        self.graph = graph
        self.builder = getattr(graph, "builder", None)  # it knows the secrets

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - Runnable's name
        """Run the graph."""
        with _asking(config):
            return self.graph.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - Runnable's name
        """Run the graph."""
        with _asking(config):
            return await self.graph.ainvoke(input, config, **kwargs)


@contextmanager
def _asking(config: RunnableConfig | None) -> Iterator[None]:
    asking = _Asking(str(ensure_config(config)["metadata"].get("question_id")))
    token = _ASKING.set(asking)
    try:
        yield
    except Exception as error:
        asking.check(error)
        raise
    else:
        asking.check(None)
    finally:
        _ASKING.reset(token)
