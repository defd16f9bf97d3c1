"""What LangSmith's API answers about data sets, experiments and feedback, as far as the examples ask for it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from tests.langsmith_sink import Sink, langsmith_sink

NOW = "2026-01-01T00:00:00+00:00"
TENANT = str(uuid4())


class Api:
    """The things that were made, each by its kind, in their order."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.requests: list[str] = []
        self.made: dict[str, list[dict[str, Any]]] = {
            kind: [] for kind in ("datasets", "examples", "sessions", "comparative", "feedback")
        }

    def __call__(self, method: str, target: str, body: bytes) -> Any:
        url = urlsplit(target)
        self.requests.append(f"{method} {url.path}")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match method, url.path.strip("/").split("/"):
            case "POST", ["runs", "query"]:
                shown: Any = {"runs": self._runs(json.loads(body)), "cursors": {}}
            case "POST", ["examples", "bulk"]:
                shown = [self._make("examples", each) for each in json.loads(body)]
            case "POST", [*_, kind]:
                shown = self._make(kind, json.loads(body))
            case "PATCH", [kind, made_id]:
                shown = self._one(kind, made_id)
                shown.update({key: value for key, value in json.loads(body).items() if value is not None})
            case "GET", [kind]:
                found = [each for each in self.made[kind] if query.get("name", each.get("name")) == each.get("name")]
                shown = [self._told(each) for each in found]
            case "GET", [kind, made_id]:
                shown = self._one(kind, made_id)
            case _:
                shown = None
        return shown

    def scores(self, key: str) -> list[float]:
        return [each["score"] for each in self.made["feedback"] if each["key"] == key]

    def _make(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        times = {"created_at": NOW, "modified_at": NOW, "start_time": NOW} if kind != "feedback" else {}
        made = {"id": str(uuid4()), "tenant_id": TENANT, "reference_dataset_id": None, **times, **given}
        self.made[kind].append(made)
        return self._told(made)

    def _one(self, kind: str, made_id: str) -> dict[str, Any] | None:
        return next((each for each in self.made[kind] if each["id"] == made_id), None)

    def _told(self, made: dict[str, Any]) -> dict[str, Any]:
        runs = [run for run in list(self.sink.runs.values()) if run.get("session_name") == made.get("name")]
        return {**made, "run_count": sum(not run.get("parent_run_id") for run in runs)}

    def _runs(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The runs at the root of an experiment."""
        names = {each["name"]: each["id"] for each in self.made["sessions"] if each["id"] in request["session"]}
        return [
            {"app_path": "", "session_id": names[run["session_name"]], **run}
            for run in self.sink.all_runs()
            if run["session_name"] in names and not run.get("parent_run_id")
        ]


@contextmanager
def langsmith_api() -> Iterator[Api]:
    with langsmith_sink() as sink:
        api = Api(sink)
        sink.api = api
        yield api
