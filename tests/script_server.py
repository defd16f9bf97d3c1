"""A server on the loopback that sends raw bytes, as a test writes them."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Part = bytes | float
"""Bytes to send, or seconds to wait before the next ones."""


@dataclass
class HttpRequest:
    """One request that the server received."""

    path: str
    headers: dict[str, str]
    body: Any
    """Parsed JSON; the bytes if they are none."""


Script = Callable[[HttpRequest], Sequence[Part]]


def response(body: bytes | str | dict[str, Any] | list[Any], status: int = 200, **headers: str) -> list[Part]:
    """A whole HTTP response; its headers with underscores for dashes."""
    content = json.dumps(body) if isinstance(body, dict | list) else body
    sent = content.encode() if isinstance(content, str) else content
    lines = {"content-type": "application/json", "content-length": str(len(sent))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    return [_head(status, lines), sent]


def event_stream(*events: dict[str, Any] | str, done: bool = True) -> list[Part]:
    """Server-sent events, one a chunk; the server closes the connection politely after them."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events]
    parts = [line.encode() for line in [*lines, *(["data: [DONE]\n\n"] if done else [])]]
    return [_head(200, {"content-type": "text/event-stream"}), *parts]


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode()


class ScriptServer:
    """Answers each request with what `script` makes of it; `requests` has them in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: Script = lambda _request: response({}, 500)
        self.requests: list[HttpRequest] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: ClassVar[ScriptServer]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(content)
        except ValueError:
            body = content
        request = HttpRequest(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.scripted.requests.append(request)
        for part in self.scripted.script(request):
            if isinstance(part, float):
                time.sleep(part)
            else:
                self.wfile.write(part)
                self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def script_server() -> Iterator[ScriptServer]:
    """Run a server until the block ends."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        handler.scripted = server = ScriptServer(f"http://127.0.0.1:{http.server_address[1]}")  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
