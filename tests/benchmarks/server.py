"""A fake server in a process of its own, so that its work does not count in what is measured; one for traces, too."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from langchain_core.tracers import LangChainTracer
from langchain_openai import ChatOpenAI
from langsmith import Client
from pydantic import SecretStr

from tests.fake_openai import Host, Script
from tests.langsmith_sink import langsmith_sink


class Server:
    """The measuring side's end of it."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe, self.pid = pipe, pid
        self.url: str = pipe.recv()

    def model(self, name: str = "fake") -> ChatOpenAI:
        return ChatOpenAI(model=name, base_url=self.url, api_key=SecretStr("none"))

    def report(self) -> tuple[list[tuple[str, str, float, float]], int]:
        """Stage, title, begin and end of each request since the last report, and the most that were in flight."""
        self._pipe.send("report")
        calls: list[tuple[str, str, float, float]] = self._pipe.recv()
        most: int = self._pipe.recv()
        return calls, most


class TraceServer:
    """The measuring side's end of LangSmith's stand-in, with a client that sends there."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.client = Client(pipe.recv(), api_key="lsv2-test-key")
        self.client.info  # noqa: B018 - asked for now, or the first runs come as they would without it
        while self.client.compressed_traces is None:  # its thread has not taken that in yet
            time.sleep(0.01)

    def tracer(self) -> LangChainTracer:
        return LangChainTracer(client=self.client)

    def answers(self, *, from_now_on: bool) -> None:
        """Whether it answers; while it does not, whoever sends something waits."""
        self._pipe.send("open" if from_now_on else "hold")
        self._pipe.recv()

    def report(self) -> tuple[int, int]:
        """The bytes of all runs since the last report, before their compression and after it."""
        self.client.flush()
        self._pipe.send("report")
        sizes: tuple[int, int] = self._pipe.recv()
        return sizes


def _serve(pipe: Connection, script: Script) -> None:
    host = Host()
    host.fake.script = script
    with host.running():
        pipe.send(host.url)
        while pipe.recv() == "report":
            mind = host.fake
            host.fresh().script = script
            pipe.send([(request.stage, request.title, request.began, request.ended) for request in mind.requests])
            pipe.send(mind.most_in_flight)


def _take_traces(pipe: Connection) -> None:
    with langsmith_sink() as sink:
        pipe.send(sink.client.api_url)
        while (asked := pipe.recv()) != "stop":
            if asked == "report":
                pipe.send((len(sink.received), sink.sent))
                sink.received, sink.sent = b"", 0
                sink.runs.clear()
                continue
            (sink.open.set if asked == "open" else sink.open.clear)()
            pipe.send(asked)
        sink.open.set()


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    with _process(_serve, script) as (pipe, pid):
        yield Server(pipe, pid)


@contextmanager
def taking_traces() -> Iterator[TraceServer]:
    with _process(_take_traces) as (pipe, _pid):
        server = TraceServer(pipe)
        try:
            yield server
        finally:
            server.client.close()


@contextmanager
def _process(function: Callable[..., None], *arguments: Any) -> Iterator[tuple[Connection, int]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=function, args=(there, *arguments), daemon=True)
    process.start()
    there.close()  # or who reads would wait for ever for a process that has failed
    try:
        yield here, process.pid or 0
    finally:
        here.send("stop")
        process.join()


@contextmanager
def on_own_cores(server: Server) -> Iterator[bool]:
    """Bind this process to one core and the server to the others; says whether the system can."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        yield False
        return
    _bind(os.getpid(), set(cores[:1]))
    _bind(server.pid, set(cores[1:]))
    try:
        yield True
    finally:
        _bind(os.getpid(), set(cores))
        _bind(server.pid, set(cores))


def _bind(pid: int, cores: set[int]) -> None:
    """Bind each thread of a process: the system's call binds one."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
