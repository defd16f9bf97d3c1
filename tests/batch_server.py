"""A server on the loopback that has the Batch APIs of OpenAI and of Anthropic."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.clients import anthropic_body, completion
from tests.fake_openai import TITLES, outline_json, stage_and_title, title_told


@dataclass
class Asked:
    """One request of a batch."""

    id: str
    body: dict[str, Any]
    stage: str
    title: str
    attempt: int
    """The how-manieth time that the same custom id is asked, from 1."""


Outcome = str | int | None
"""The text of a reply; an HTTP status that it fails with; None if the batch ends without it."""


def usual(asked: Asked) -> Outcome:
    """What a model that does what it should replies."""
    if asked.stage == "skeleton":
        return outline_json(TITLES)
    return f"About {asked.title.lower()} there is this to say." if asked.title else "A direct answer."


@dataclass
class Batch:
    """A batch, with its results."""

    id: str
    results: list[tuple[Asked, Outcome]]
    metadata: dict[str, str]
    looks: int = 0
    """How often it is in progress before it ends."""
    status: str = "completed"
    errors: list[str] = field(default_factory=list)


class BatchServer:
    """The state of the server, and what a test wants of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: Callable[[Asked], Outcome] = usual
        self.looks = 1
        self.status = "completed"
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}
        self.refuses: int | None = None
        """The status of every answer, instead of what was asked."""
        self.errors: list[str] = []
        """Why each batch fails as a whole."""
        self.loses = 0
        """So many batches are taken although the response is lost: a fault of a proxy's."""
        self._seen: Counter[str] = Counter()

    @property
    def asked(self) -> list[Asked]:
        """All requests of all batches."""
        return [asked for batch in self.batches.values() for asked, _outcome in batch.results]

    def stages(self) -> list[Counter[str]]:
        """How many requests of which stage each batch had."""
        return [Counter(asked.stage for asked, _outcome in batch.results) for batch in self.batches.values()]

    def add(self, requests: list[tuple[str, dict[str, Any]]], metadata: dict[str, str]) -> Batch:
        results = []
        for ident, body in requests:
            self._seen[ident] += 1
            stage, title = stage_of(body)
            asked = Asked(ident, body, stage, title, self._seen[ident])
            results.append((asked, self.script(asked)))
        status = "failed" if self.errors else self.status
        batch = Batch(f"batch_{len(self.batches) + 1}", results, metadata, self.looks, status, self.errors)
        self.batches[batch.id] = batch
        return batch


def stage_of(body: dict[str, Any]) -> tuple[str, str]:
    """The stage and the title of a request, of OpenAI's form or of Anthropic's."""
    if "max_tokens" not in body or "response_format" in body:  # Anthropic's requests have a limit
        return stage_and_title(body)
    if "tools" in body or "output_config" in body or "output_format" in body:
        return "skeleton", ""
    content = body["messages"][-1]["content"]
    title = title_told(content if isinstance(content, str) else content[-1]["text"])
    return ("expand", title) if title else ("direct", "")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[BatchServer]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.state.refuses:
            self._send({"error": {"message": "refused by the test"}}, self.state.refuses)
        elif self.path == "/v1/files":
            name = f"file-{len(self.state.files) + 1}"
            self.state.files[name] = content
            self._send({"id": name, "object": "file", "bytes": len(content), "created_at": 1, "filename": "f"})
        elif self.path == "/v1/batches":
            wanted = json.loads(content)
            lines = re.findall(rb'^\{"custom_id".*\}$', self.state.files[wanted["input_file_id"]], re.MULTILINE)
            rows = [json.loads(line) for line in lines]
            assert {row["url"] for row in rows} == {wanted["endpoint"]}
            batch = self.state.add([(row["custom_id"], row["body"]) for row in rows], wanted["metadata"])
            self._send_taken(_openai(batch))
        else:
            rows = json.loads(content)["requests"]
            batch = self.state.add([(row["custom_id"], row["params"]) for row in rows], {})
            self._send_taken(self._anthropic(batch))

    def do_GET(self) -> None:
        path, _, _query = self.path.partition("?")
        parts = path.strip("/").split("/")
        if self.state.refuses:
            self._send({"error": {"message": "refused by the test"}}, self.state.refuses)
        elif path == "/v1/batches":
            batches = [_openai(batch) for batch in self.state.batches.values()]
            self._send({"object": "list", "data": batches, "has_more": False})
        elif parts[1] == "files":
            self._send_lines(map(_openai_line, self._kind(parts[2])))
        elif parts[-1] == "results":
            self._send_lines(_anthropic_line(*each) for each in self.state.batches[parts[3]].results)
        else:
            batch = self.state.batches[parts[-1]]
            self._send(self._anthropic(batch) if "messages" in parts else _openai(batch))
            batch.looks -= 1

    def _kind(self, name: str) -> list[tuple[Asked, Outcome]]:
        kind, _, ident = name.partition("-")
        results = self.state.batches[ident].results
        return [each for each in results if isinstance(each[1], str) == (kind == "output")]

    def _anthropic(self, batch: Batch) -> dict[str, Any]:
        ended, count = batch.looks <= 0, len(batch.results)
        done = {"processing": 0 if ended else count, "succeeded": count if ended else 0}
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**done, "errored": 0, "canceled": 0, "expired": 0},
            "results_url": f"{self.state.url}/v1/messages/batches/{batch.id}/results",
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z",
        }

    def _send(self, body: dict[str, Any], status: int = 200) -> None:
        self._send_bytes(json.dumps(body).encode(), status)

    def _send_taken(self, body: dict[str, Any]) -> None:
        if self.state.loses:
            self.state.loses -= 1
            self._send({"error": {"message": "bad gateway"}}, 502)
        else:
            self._send(body)

    def _send_lines(self, rows: Iterator[dict[str, Any]]) -> None:
        self._send_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def _send_bytes(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def _openai(batch: Batch) -> dict[str, Any]:
    ended = batch.looks <= 0
    files = {"output_file_id": f"output-{batch.id}", "error_file_id": f"error-{batch.id}"} if ended else {}
    errors = {"object": "list", "data": [{"code": "e", "message": message} for message in batch.errors]}
    count = len(batch.results)
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "f",
        "completion_window": "24h",
        "created_at": 1,
        "status": batch.status if ended else "in_progress",
        "metadata": batch.metadata,
        "request_counts": {"total": count, "completed": count if ended else 0, "failed": 0},
        "errors": errors if batch.errors else None,
        **files,
    }


def _openai_line(result: tuple[Asked, Outcome]) -> dict[str, Any]:
    asked, outcome = result
    line = {"id": "r", "custom_id": asked.id, "response": None, "error": None}
    if outcome is None:
        return {**line, "error": {"code": "batch_expired", "message": "This request could not be executed in time."}}
    if isinstance(outcome, int):
        return {**line, "response": {"status_code": outcome, "body": {"error": {"message": "failed"}}}}
    return {**line, "response": {"status_code": 200, "body": completion(outcome, "stop")}}


KINDS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}


def _anthropic_line(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "expired"}
    if isinstance(outcome, int):
        kind = KINDS.get(outcome, "api_error")
        error = {"type": "error", "error": {"type": kind, "message": "failed"}, "request_id": "r"}
        result = {"type": "errored", "error": error}
    elif outcome is not None:
        message = anthropic_body(outcome, "end_turn")
        if asked.body.get("tools") and asked.stage == "skeleton":
            name = asked.body["tools"][0]["name"]
            block = {"type": "tool_use", "id": "t", "name": name, "input": json.loads(outcome)}
            message |= {"content": [block], "stop_reason": "tool_use"}
        result = {"type": "succeeded", "message": message}
    return {"custom_id": asked.id, "result": result}


@contextmanager
def batch_server() -> Iterator[BatchServer]:
    """Run the server."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.state = BatchServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Handler.state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
