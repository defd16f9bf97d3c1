"""Many questions on a real Ray: an actor and the driver are killed in the middle, and each question is answered once.

With the local model, Ray takes long to start for one question: `pytest tests/integration/local_ray.py` tries it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.server import Server, serving
from tests.fake_openai import TITLES, Reply, Request, usual
from tests.processes import environment, wait_until

pytestmark = pytest.mark.ray
SCRIPT = Path(__file__).parents[2] / "examples" / "bulk_ray" / "answer.py"
ACTOR = "ray::MapWorker(MapBatches(Answerer))"
ACTORS, BATCH = 2, 50
POISON = "Poison?"


def script(request: Request) -> Reply:
    """A model that takes a moment, and refuses a question."""
    if POISON in request.prompt:
        return Reply(status=400, message="this question is refused")
    reply = usual(request)
    reply.first_token = 0.2
    return reply


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server in a process of its own."""
    with serving(script) as server:
        yield server


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    """An environment in which Ray reports nothing, takes little memory and leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # the path of a socket is short; that of tmp_path is not
        own = {"RAY_TMPDIR": folder, "HOME": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        # Below `uv run`, each of Ray's workers would run uv, too, which installs the package anew under other tests.
        own |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        memory = {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(100 * 2**20)}
        yield environment(**own, **memory) | {"OPENAI_API_KEY": "none"}


class Job:
    """The example, in a session of its own with all processes of Ray's."""

    def __init__(self, questions: Path, output: Path, env: dict[str, str], *options: str) -> None:
        line = [sys.executable, str(SCRIPT), str(questions), str(output), *options]
        self.log = output.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log, env=env, start_new_session=True)

    def wait(self) -> None:
        """Wait for its end."""
        self.process.wait(180)
        assert self.process.returncode == 0, self.told()[-5_000:]

    def told(self) -> str:
        """What it and Ray have printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def processes(self, title: str = "") -> list[int]:
        """The processes of its session whose title begins so."""
        numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
        return [number for number in numbers if self._is_own(number, title)]

    def _is_own(self, number: int, title: str) -> bool:
        folder = Path(f"/proc/{number}")
        try:
            is_own = os.getsid(number) == self.process.pid
            return (
                is_own
                and (folder / "cmdline").read_text().startswith(title)
                and "(zombie)" not in (folder / "status").read_text()
            )
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            return False

    def end(self) -> None:
        """End what is left of it."""
        for number in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not self.processes())


@contextmanager
def job(*arguments: Any) -> Iterator[Job]:
    """Run the example; nothing of it is left afterwards."""
    running = Job(*arguments)
    try:
        yield running
    finally:
        running.end()


def on(server: Server) -> list[str]:
    """The options that have the questions answered by a server."""
    model = ["--model", "fake", "--base-url", server.url]
    return [*model, "--actors", str(ACTORS), "--batch-size", str(BATCH)]


def write_questions(path: Path, number: int) -> list[dict[str, Any]]:
    """Questions with an outline of one title, every hundredth without; two of them cannot be answered."""
    rows: list[dict[str, Any]] = []
    for index in range(number):
        outline = [f"Light of star {index}"] if index % 100 else None
        rows.append({"id": f"{index:04}", "question": f"What of star {index}?", "outline": outline, "kind": "star"})
    rows[number // 2 + 1]["question"], rows[number // 3 + 1]["question"] = POISON, None
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return rows


def stored(output: Path) -> list[str]:
    """The batches that are stored, and known to be."""
    return [file.stem for file in output.glob("checkpoints/*.parquet") if not file.stem.endswith(".pending")]


def results(output: Path) -> dict[str, dict[str, Any]]:
    """The rows of the output by their ids; none is there twice."""
    files = sorted((output / "results").glob("*"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def calls_for(rows: Iterable[dict[str, Any]]) -> int:
    """The model calls that questions take: one for each title of theirs, or an outline and its points."""
    asked = [row for row in rows if row["question"]]
    return sum(len(row["outline"]) if row["outline"] else 1 + len(TITLES) for row in asked)


def check_answers(rows: list[dict[str, Any]], found: dict[str, dict[str, Any]]) -> None:
    """Each question has its own answer, except those that cannot have one."""
    assert sorted(found) == [row["id"] for row in rows]
    for row in rows:
        result = found[row["id"]]
        titles = row["outline"] or TITLES
        texts = [f"About {title.lower()} there is this to say." for title in titles]
        assert result.items() >= row.items()
        if row["question"] in {None, POISON}:
            assert result["answer"] is None
            assert ("refused" if row["question"] else "no question") in result["error"]
        else:
            assert (result["answer"], result["error"]) == ("\n\n".join(texts), None)
            assert result["usage"]["output_tokens"] > 0


def has_asked(server: Server, titles: list[str]) -> bool:
    """Whether there were calls since the last time; their titles are added."""
    calls, _most = server.report()
    titles += [title for _stage, title, *_times in calls]
    return bool(calls)


def test_an_actor_and_then_the_driver_are_killed_and_each_question_is_answered_once(
    server: Server, tmp_path: Path, env: dict[str, str]
) -> None:
    """An actor's end costs a batch of calls at most; the resumed job asks only what is not stored."""
    rows = write_questions(tmp_path / "questions.jsonl", 2_000)
    output = tmp_path / "answers"
    with job(tmp_path / "questions.jsonl", output, env, *on(server)) as running:
        wait_until(lambda: len(stored(output)) >= 4 and len(running.processes(ACTOR)) == ACTORS, 120)
        killed = running.processes(ACTOR)[0]
        os.kill(killed, signal.SIGKILL)
        # Another actor takes its place, and the batch that it had is answered before later ones.
        wait_until(lambda: len(set(running.processes(ACTOR)) - {killed}) == ACTORS, 120)
        enough = len(stored(output)) + 8
        wait_until(lambda: len(stored(output)) >= enough, 120)
        assert running.process.poll() is None
        running.process.kill()
    there = stored(output)
    assert len(there) < len(rows) / BATCH
    titles: list[str] = []
    wait_until(lambda: not has_asked(server, titles))  # what was on its way is counted
    asked = Counter(title for title in titles if title.startswith("Light of star"))
    assert set(asked.values()) <= {1, 2}
    assert sum(count == 2 for count in asked.values()) <= BATCH, "the killed actor's batch at most"
    with job(tmp_path / "questions.jsonl", output, env, *on(server)) as running:
        running.wait()
    assert f"{len(rows)} of {len(rows)} questions are in {output}/results" in running.told()
    assert set(there) <= set(stored(output))
    check_answers(rows, results(output))
    files = [file for file in (output / "results").glob("*") if file.stem not in there]
    new = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    calls, _most = server.report()
    assert 0 < len(new) < len(rows)
    assert len(calls) == calls_for(new)
