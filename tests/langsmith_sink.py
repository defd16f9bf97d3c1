"""A server on the loopback that takes traces as LangSmith's ingest does, so that the real client can be tested."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard
from langchain_core.tracers import LangChainTracer
from langsmith import Client


class Sink:
    """The runs that arrived, each as one dict, and every byte of it."""

    def __init__(self, url: str) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.received = b""
        self.sent = 0
        """How many bytes that was, compressed as the client sends it."""
        self.encodings: set[str | None] = set()
        self.api: Callable[[str, str, bytes], Any] | None = None
        """Answers what is asked besides; None for what it does not know."""
        self.open = threading.Event()
        """Whether it answers; while it does not, whoever sends something waits."""
        self.open.set()
        self.client = Client(url, api_key="lsv2-test-key")
        self.client.info  # noqa: B018 - asked for now, or the first runs come as they would without it
        while self.client.compressed_traces is None:  # its thread has not taken that in yet
            time.sleep(0.01)

    def tracer(self) -> LangChainTracer:
        return LangChainTracer(client=self.client)

    def take(self, body: bytes, encoding: str | None, content_type: str) -> None:
        self.encodings.add(encoding)
        self.sent += len(body)
        if encoding == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        self.received += body
        whole = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
        for part in whole.walk():
            if part.is_multipart():
                continue
            name = part.get_param("name", header="Content-Disposition")
            _event, run_id, *field = str(name).split(".")
            value = json.loads(_content(part))
            run = self.runs.setdefault(run_id, {})
            if field:
                run[field[0]] = value
            else:
                run.update({key: each for key, each in value.items() if each is not None})

    def all_runs(self) -> list[dict[str, Any]]:
        """Every run, in the order in which they began."""
        self.client.flush()
        return sorted(self.runs.values(), key=lambda run: str(run["dotted_order"]))

    def tree(self, *keys: str) -> str:
        """The runs below one another: names, types, tags, and those keys of the metadata that begin with one of these.

        Runs side by side stand in the order of steps, points and attempts; the engine's own tags are left out.
        """
        runs = self.all_runs()
        lines = []

        def order(run: dict[str, Any]) -> tuple[Any, ...]:
            shown = run["extra"]["metadata"]
            place = shown.get("langgraph_step", 0), (run.get("inputs") or {}).get("index", 0), run["dotted_order"]
            return (*place[:1], run["name"].startswith("__"), *place[1:])

        def add(parent: str | None, depth: int) -> None:
            for run in sorted((run for run in runs if run.get("parent_run_id") == parent), key=order):
                tags = [tag for tag in sorted(run["tags"]) if ":step:" not in tag and tag != "nostream"]
                shown = [key for key in sorted(run["extra"]["metadata"]) if key.startswith(keys)]
                failed = " FAILED" if run.get("error") else ""
                lines.append(f"{'  ' * depth}{run['name']} ({run['run_type']}) {tags} {{{', '.join(shown)}}}{failed}")
                add(run["id"], depth + 1)

        add(None, 0)
        return "\n".join(lines).replace("'", "")

    def of_type(self, run_type: str) -> list[dict[str, Any]]:
        return [run for run in self.all_runs() if run["run_type"] == run_type]

    def path(self, run: dict[str, Any]) -> list[str]:
        """The names of the runs from the root to this one."""
        above = self.runs.get(str(run.get("parent_run_id")))
        return [*(self.path(above) if above else []), str(run["name"])]


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers["Content-Length"]:
        return request.rfile.read(int(request.headers["Content-Length"]))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


@contextmanager
def langsmith_sink() -> Iterator[Sink]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/info" and sink.api:  # the client asks for /info before there is a sink
                self._answer(sink.api("GET", self.path, b""))
                return
            batch = {"use_multipart_endpoint": True, "size_limit_bytes": 20_000_000, "size_limit": 100}
            self._answer(
                {"version": "test", "instance_flags": {"zstd_compression_enabled": True}}
                | {
                    "batch_ingest_config": {
                        **batch,
                        "scale_up_qsize_trigger": 1000,
                        "scale_up_nthreads_limit": 4,
                        "scale_down_nempty_trigger": 4,
                    }
                }
            )

        def do_POST(self) -> None:
            if self.path != "/runs/multipart" and sink.api:
                self._answer(sink.api(self.command, self.path, _body(self)))
                return
            body = _body(self)
            sink.open.wait(30)
            sink.take(body, self.headers["Content-Encoding"], self.headers["Content-Type"])
            self._answer({})

        def do_PATCH(self) -> None:
            self.do_POST()

        def _answer(self, shown: Any) -> None:
            body = json.dumps(shown).encode()
            with suppress(ConnectionError):  # who asked may be gone
                self.send_response(404 if shown is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink = Sink(f"http://127.0.0.1:{server.server_port}")
    try:
        yield sink
    finally:
        sink.client.close()
        server.shutdown()
        server.server_close()
