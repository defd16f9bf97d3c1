"""The Batch APIs of OpenAI and Anthropic, by their own clients."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from langchain_core.language_models import BaseChatModel

from sot_graph import _engine
from sot_graph.batches.deferred import Desk
from sot_graph.batches.ledger import Limits, Reply, Stored
from sot_graph.errors import SotError

WHOLE = {"disable_streaming": True}
"""Batches have no streams; openings and endings are streamed otherwise."""
CLIENT_RETRIES = 2
"""Of the providers' clients, but not when they submit a batch, which may be there although the response was lost."""
ENDED = frozenset({"completed", "expired", "cancelled"})


class BatchRefusedError(SotError):
    """The provider did not take a batch, or none of its requests."""


class Progress(NamedTuple):
    """How far a batch is."""

    is_ended: bool
    done: int
    total: int


class Provider(Protocol):
    """What the providers have in common."""

    name: str
    limits: Limits
    doubt: str
    """What to tell if nobody knows whether a batch was taken."""

    def model(self, name: str, desk: Desk) -> BaseChatModel:
        """The chat model, whose requests the desk answers."""
        ...

    def submit(self, tag: str, requests: Sequence[Stored]) -> str:
        """Submit a batch; returns its id."""
        ...

    def find(self, tag: str) -> str | None:
        """The id of a batch that was submitted with a tag, if the provider can tell."""
        ...

    def progress(self, ident: str) -> Progress:
        """How far a batch is."""
        ...

    def replies(self, ident: str) -> Iterator[Reply]:
        """The replies of a batch that has ended."""
        ...


class OpenAIBatches:
    """OpenAI's Batch API: a file of requests in, files of replies and of errors out, within a day."""

    name = "openai-batch"
    limits = Limits(requests=50_000, size=190_000_000)
    doubt = "OpenAI does not list it; --resume submits it again."

    def __init__(self, base_url: str | None = None, api_key: str | None = None) -> None:
        import openai  # noqa: PLC0415 - slow to import

        self._sdk, self._settings = openai, {"base_url": base_url, "api_key": api_key}
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=CLIENT_RETRIES)

    def model(self, name: str, desk: Desk) -> BaseChatModel:
        """The chat model, whose requests the desk answers."""
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - slow to import

        client, aclient = desk.clients(self._sdk)
        settings: Any = {key: value for key, value in self._settings.items() if value} | WHOLE
        return ChatOpenAI(model=name.removeprefix("openai:"), http_client=client, http_async_client=aclient, **settings)

    def submit(self, tag: str, requests: Sequence[Stored]) -> str:
        """Submit a batch; returns its id."""
        with tempfile.TemporaryFile(suffix=".jsonl") as file:
            for each in requests:
                head = json.dumps({"custom_id": each.id, "method": "POST", "url": each.path}).encode()
                file.write(head[:-1] + b', "body": ' + each.body + b"}\n")
            file.seek(0)
            uploaded = self._client.files.create(file=(f"sot-graph-{tag}.jsonl", file), purpose="batch")
        path: Any = requests[0].path
        batch = self._client.with_options(max_retries=0).batches.create(
            input_file_id=uploaded.id, endpoint=path, completion_window="24h", metadata={"sot_graph": tag}
        )
        return batch.id

    def find(self, tag: str) -> str | None:
        """The id of a batch that was submitted with a tag: among the newest hundred."""
        batches = self._client.batches.list(limit=100).data
        return next((each.id for each in batches if (each.metadata or {}).get("sot_graph") == tag), None)

    def progress(self, ident: str) -> Progress:
        """How far a batch is."""
        batch = self._client.batches.retrieve(ident)
        if batch.status == "failed":
            errors = (batch.errors and batch.errors.data) or []
            raise BatchRefusedError("; ".join(str(each.message) for each in errors) or "the batch failed")
        counts = batch.request_counts
        return Progress(batch.status in ENDED, counts.completed if counts else 0, counts.total if counts else 0)

    def replies(self, ident: str) -> Iterator[Reply]:
        """The replies of a batch that has ended."""
        batch = self._client.batches.retrieve(ident)
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            with self._client.files.with_streaming_response.content(file) as lines:
                for line in filter(str.strip, lines.iter_lines()):
                    result = json.loads(line)
                    response = result.get("response") or {}
                    body = json.dumps(response.get("body")).encode()
                    yield Reply(result["custom_id"], response.get("status_code"), body)


class AnthropicBatches:
    """Anthropic's Message Batches: a list of requests in, a stream of results out, within a day."""

    name = "anthropic-batch"
    limits = Limits(requests=100_000, size=100_000_000)  # they are in memory at once; Anthropic takes 256 MB
    doubt = "Anthropic may have taken it: look at its list of batches, and cancel it there before --resume."

    def __init__(self, base_url: str | None = None, api_key: str | None = None) -> None:
        import anthropic  # noqa: PLC0415 - an extra package, and slow to import

        self._sdk, self._settings = anthropic, {"base_url": base_url, "api_key": api_key}
        self._client = anthropic.Anthropic(base_url=base_url, api_key=api_key, max_retries=CLIENT_RETRIES)

    def model(self, name: str, desk: Desk) -> BaseChatModel:
        """The chat model, whose requests the desk answers."""
        settings: Any = {key: value for key, value in self._settings.items() if value} | WHOLE
        return _engine.anthropic_model(name.removeprefix("anthropic:"), desk.clients(self._sdk), settings)

    def submit(self, tag: str, requests: Sequence[Stored]) -> str:  # noqa: ARG002 - Anthropic's batches have no metadata
        """Submit a batch; returns its id."""
        entries: Any = [{"custom_id": each.id, "params": json.loads(each.body)} for each in requests]
        return self._client.with_options(max_retries=0).messages.batches.create(requests=entries).id

    def find(self, tag: str) -> str | None:  # noqa: ARG002 - the same
        """None: nothing tells one batch from another."""
        return None

    def progress(self, ident: str) -> Progress:
        """How far a batch is."""
        batch = self._client.messages.batches.retrieve(ident)
        counts = batch.request_counts
        done = counts.succeeded + counts.errored + counts.canceled + counts.expired
        return Progress(batch.processing_status == "ended", done, done + counts.processing)

    def replies(self, ident: str) -> Iterator[Reply]:
        """The replies of a batch that has ended."""
        for each in self._client.messages.batches.results(ident):
            result = each.result
            if result.type == "succeeded":
                yield Reply(each.custom_id, 200, result.message.model_dump_json().encode())
            elif result.type == "errored":
                status = STATUSES.get(result.error.error.type, 500)
                yield Reply(each.custom_id, status, result.error.model_dump_json().encode())
            else:
                yield Reply(each.custom_id, None)


STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
}
"""The HTTP status of Anthropic's kinds of errors; that of all others is one that may pass."""
PROVIDERS: dict[str, Callable[[str | None, str | None], Provider]] = {
    OpenAIBatches.name: OpenAIBatches,
    AnthropicBatches.name: AnthropicBatches,
}
