"""How many threads one server answers at once: `langgraph dev`, and FastAPI's workers with Postgres.

Run it by hand: `python -m tests.benchmarks.serving`. The model is a server in a process of its own, which waits before
each reply and then writes at a known pace; what it writes names the question, so that each thread's answer is known. An
answer that is not the one of its question, to the last character, ends this with an error. Model, server and readers
share this machine's cores.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from langgraph_sdk import get_client

from tests.benchmarks.figures import Table
from tests.benchmarks.server import serving
from tests.fake_openai import Reply, Request, outline_json
from tests.servers import EXAMPLES, Served, fake_model, langgraph_dev, postgres, uvicorn_workers

NAME = "skeleton_of_thought"
TITLES = ["Light", "Noise", "Warmth", "Habits"]
TOKENS, FIRST_TOKEN, PER_TOKEN = 20, 0.5, 0.02
THREADS = (1, 50, 200)
FEWEST = 10
"""Answers of the smallest step, one after the other."""
PER_CLIENT = 50
"""Streams of a client: httpx has a hundred connections, and whoever waits for one gives up after five seconds."""


def script(request: Request) -> Reply:
    """Say which question is answered in each text."""
    if not request.title:
        return Reply(outline_json(TITLES), first_token=FIRST_TOKEN, per_token=PER_TOKEN)
    (number,) = set(re.findall(r"question (\d+)", request.prompt))
    return Reply(text_of(request.title, int(number)), first_token=FIRST_TOKEN, per_token=PER_TOKEN)


def text_of(title: str, number: int) -> str:
    return " ".join([f"{title} of {number}:", *(f"word{token}" for token in range(TOKENS - 3))])


def answer_of(number: int) -> str:
    return "\n\n".join(text_of(title, number) for title in TITLES)


class Seconds(NamedTuple):
    """How long one reader waited."""

    first: float
    """For the first text."""
    whole: float


Chunks = AsyncIterator[str]
Ask = Callable[[int], Chunks]
"""Asks the question of a number in a thread of its own; the answer's text, as it comes."""


@asynccontextmanager
async def of_langgraph(url: str, threads: int) -> AsyncIterator[Ask]:
    """Readers of a LangGraph server."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(get_client(url=url)) for _ in range(0, threads, PER_CLIENT)]

        async def ask(number: int) -> Chunks:
            client = clients[number % len(clients)]
            thread = (await client.threads.create())["thread_id"]
            given = {"question": f"What about question {number}?"}
            async for part in client.runs.stream(thread, NAME, input=given, stream_mode="custom"):
                if part.event == "error":
                    raise RuntimeError(part.data)
                if part.data.get("type") == "answer":
                    yield part.data["text"]

        yield ask


@asynccontextmanager
async def of_fastapi(url: str, threads: int) -> AsyncIterator[Ask]:
    """Readers of the example with FastAPI."""
    # No connection is used twice: uvicorn closes one after five idle seconds, while a busy client is about to send.
    limits = httpx.Limits(max_connections=2 * threads, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=300) as client:

        async def ask(number: int) -> Chunks:
            thread = f"/threads/{uuid4()}"
            asked = await client.post(thread, params={"question": f"What about question {number}?"})
            asked.raise_for_status()
            async with client.stream("GET", thread) as reply:
                name = ""
                async for line in reply.aiter_lines():
                    key, _, value = line.partition(": ")
                    name = value if key == "event" else name
                    if key == "data" and name == "failed":
                        raise RuntimeError(value)
                    if key == "data" and name == "chunk":
                        yield json.loads(value)["text"]

        yield ask


async def read(ask: Ask, number: int) -> Seconds:
    """Read an answer, and check that it is this question's."""
    began = time.perf_counter()
    first, text = 0.0, ""
    async for chunk in ask(number):
        first = first or time.perf_counter() - began
        text += chunk
    if text != answer_of(number):
        msg = f"question {number} was answered with {text!r}"
        raise RuntimeError(msg)
    return Seconds(first, time.perf_counter() - began)


async def read_all(ask: Ask, threads: int) -> tuple[list[Seconds], float]:
    """Have so many threads answered at once; returns what each took, and all together."""
    turn = asyncio.Semaphore(threads)

    async def in_turn(number: int) -> Seconds:
        async with turn:
            return await read(ask, number)

    began = time.perf_counter()
    found = await asyncio.gather(*map(in_turn, range(max(threads, FEWEST))))
    return found, time.perf_counter() - began


def memory(pid: int) -> float:
    """The memory of a process and all that it has started, at its most, in MB; each for itself."""
    total = 0.0
    for process in [pid, *_children(pid)]:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        total += int(found[1]) / 1e3 if found else 0
    return total


def cpu_seconds(pid: int) -> float:
    """The processor time of a process and all that it has started, so far."""
    total = 0
    for process in [pid, *_children(pid)]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _children(child)


@contextmanager
def langgraph_server(folder: Path, model: str, jobs: int) -> Iterator[Served]:
    example = folder / "example"
    shutil.copytree(EXAMPLES / "server", example, ignore=shutil.ignore_patterns(".langgraph_api", "__pycache__"))
    options = ("--n-jobs-per-worker", str(jobs))
    with langgraph_dev(example, *options, environment=fake_model(model)) as served:
        yield served


@contextmanager
def fastapi_server(folder: Path, model: str, workers: int) -> Iterator[Served]:
    data = folder / "postgres"
    data.mkdir()
    with postgres(data) as uri:
        environment = {"DATABASE": uri, **fake_model(model)}
        with uvicorn_workers("durable_fastapi:app", folder, workers, environment=environment) as served:
            yield served


WAYS: dict[str, tuple[Callable[[Path, str], Any], Any]] = {
    "langgraph dev, 10 jobs": (lambda folder, model: langgraph_server(folder, model, 10), of_langgraph),
    "langgraph dev, 200 jobs": (lambda folder, model: langgraph_server(folder, model, 200), of_langgraph),
    "FastAPI, 2 workers, Postgres": (lambda folder, model: fastapi_server(folder, model, 2), of_fastapi),
}


async def measure(served: Served, readers: Any, steps: list[int]) -> AsyncIterator[list[str]]:
    """A row of the table for each step."""
    async with readers(served.url, 1) as ask:
        await read(ask, 0)  # imports what a first answer needs
    for threads in steps:
        spent = cpu_seconds(served.pid)
        async with readers(served.url, threads) as ask:
            found, seconds = await read_all(ask, threads)
        spent = (cpu_seconds(served.pid) - spent) / len(found)
        cells = [f"{threads}", f"{len(found)}", f"{statistics.median(each.first for each in found):.1f}"]
        cuts = statistics.quantiles([each.whole for each in found], n=20, method="inclusive")
        cells += [
            f"{cuts[9]:.1f}",
            f"{cuts[18]:.1f}",
            f"{len(found) / seconds:.1f}",
            f"{spent * 1e3:.0f}",
            f"{memory(served.pid):.0f}",
        ]
        yield cells


async def compare(names: list[str], steps: list[int]) -> None:
    columns = ("", "threads", "answers", "first text s", "p50 s", "p95 s", "answers/s", "CPU ms/answer", "memory MB")
    table = Table("Threads at once: seconds of a reader, and the most memory of the server so far", columns)
    with serving(script) as model, ExitStack() as stack:
        for name in names:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server, readers = WAYS[name]
            with server(folder, model.url) as served:
                async for cells in measure(served, readers, steps):
                    table.rows.append([name, *cells])
                    print("  ".join(table.rows[-1]), flush=True)
            model.report()  # which empties what it keeps
    outline = len(outline_json(TITLES).split(" "))
    alone = 2 * FIRST_TOKEN + (outline + TOKENS) * PER_TOKEN
    print(f"\n{table.text()}\nEvery answer was whole, and its question's. The model alone takes {alone:.1f} s for one.")
    print(f"{os.cpu_count()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[*THREADS], help="How many are answered at once.")
    parser.add_argument("--only", nargs="+", choices=[*WAYS], default=[*WAYS], help="These servers.")
    chosen = parser.parse_args()
    os.environ["LANGSMITH_TRACING"] = "false"
    asyncio.run(compare(chosen.only, sorted(chosen.threads)))


if __name__ == "__main__":
    main()
