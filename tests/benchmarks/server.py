"""A fake server in a process of its own, so that its work does not count in what is measured."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.fake_openai import Host, Script


class Server:
    """The measuring side's end of it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url: str = pipe.recv()

    def model(self) -> ChatOpenAI:
        return ChatOpenAI(model="fake", base_url=self.url, api_key=SecretStr("none"))

    def report(self) -> tuple[list[tuple[str, str, float, float]], int]:
        """Stage, title, begin and end of each request since the last report, and the most that were in flight."""
        self._pipe.send("report")
        calls: list[tuple[str, str, float, float]] = self._pipe.recv()
        most: int = self._pipe.recv()
        return calls, most


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


@contextmanager
def serving(script: Script) -> Iterator[Server]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, script), daemon=True)
    process.start()
    try:
        yield Server(here)
    finally:
        here.send("stop")
        process.join()
