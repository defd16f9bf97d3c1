"""The command line as a process of its own, with a real client."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fake_openai import TITLES, FakeOpenAI, Reply, usual

QUESTION = "How can I sleep better?"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from sot_graph.cli import main; main()", *arguments]


def environment(**more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in {"SOT_MODEL", "OPENAI_API_KEY"}}
    return {**env, **more}


def ask(*arguments: str, given: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("ask", *arguments),
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(**more),
    )


def test_a_local_server_needs_no_key(server: FakeOpenAI) -> None:
    done = ask(QUESTION, "--model", "llama3.2:3b", "--base-url", server.url, "--json")
    assert done.returncode == 0, done.stderr
    assert [point["title"] for point in json.loads(done.stdout)["points"]] == TITLES
    assert server.asked[0].body["model"] == "llama3.2:3b"
    assert done.stderr.startswith("4 points · 5 calls · ")
    assert len(done.stderr.splitlines()) == 1


def test_the_model_may_come_from_the_environment(server: FakeOpenAI) -> None:
    more = {"SOT_MODEL": "openai:mine", "OPENAI_API_KEY": "sk-test-key", "OPENAI_BASE_URL": server.url}
    done = ask(given=QUESTION, **more)
    assert done.returncode == 0, done.stderr
    assert {asked.body["model"] for asked in server.asked} == {"mine"}


def test_a_failed_run_is_one_readable_line(server: FakeOpenAI) -> None:
    server.script = lambda _: Reply(status=401, message="no such key")
    done = ask(QUESTION, "--model", "m", "--base-url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no such key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_point_is_told_and_the_others_are_printed(server: FakeOpenAI) -> None:
    server.script = lambda asked: Reply(status=401) if asked.title == TITLES[0] else usual(asked)
    done = ask(QUESTION, "--model", "m", "--base-url", server.url)
    assert done.returncode == 1
    assert f"point 1 ({TITLES[0]}) could not be written" in done.stderr
    assert "4 points, 1 failed" in done.stderr
    assert done.stdout.count("there is this to say") == 3


def test_a_failed_point_is_seen_in_the_timeline(server: FakeOpenAI, tmp_path: Path) -> None:
    server.script = lambda asked: Reply(status=401) if asked.title == TITLES[0] else usual(asked)
    path = tmp_path / "run.svg"
    done = ask(QUESTION, "--model", "m", "--base-url", server.url, "--timeline", str(path))
    assert done.returncode == 1
    drawn = path.read_text(encoding="utf-8")
    assert drawn.count("row row-failed") == 1
    assert drawn.count("row row-written") == 4
    assert "✗ failed" in drawn


@pytest.mark.parametrize("where", ["run.svg", "-"])
def test_a_run_of_which_every_point_failed_is_drawn(server: FakeOpenAI, tmp_path: Path, where: str) -> None:
    server.script = lambda asked: usual(asked) if asked.stage == "skeleton" else Reply(status=401)
    path = tmp_path / where
    timeline = where if where == "-" else str(path)
    done = ask(QUESTION, "--model", "m", "--base-url", server.url, "--timeline", timeline)
    assert (done.returncode, done.stdout) == (1, "")
    *above, line = done.stderr.splitlines()
    assert line.startswith("sot-graph: ExpansionError: 4 of 4 points could not be written: ")
    assert "no timeline" not in line
    if where == "-":
        assert sum("✗ failed" in each for each in above[:-1]) == 4
    else:
        assert above == []
        assert path.read_text(encoding="utf-8").count("row row-failed") == 4


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_timeline_can_be_drawn_in_any_encoding(server: FakeOpenAI, encoding: str) -> None:
    more = ("--base-url", server.url, "--timeline", "-")
    done = ask(QUESTION, "--model", "m", *more, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "skeleton" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_text_can_be_printed(server: FakeOpenAI, encoding: str) -> None:
    server.script = lambda asked: usual(asked) if asked.stage == "skeleton" else Reply("Schlaf → 睡眠 \x1b[2J“gut”")
    done = subprocess.run(
        command("ask", QUESTION, "--model", "m", "--base-url", server.url),
        capture_output=True,
        check=True,
        timeout=60,
        env=environment(PYTHONIOENCODING=encoding),
    )
    assert "Schlaf → 睡眠 [2J“gut”" in done.stdout.decode()


def test_a_question_in_no_known_encoding_is_asked_all_the_same(server: FakeOpenAI) -> None:
    done = subprocess.run(
        command("ask", "--model", "m", "--base-url", server.url),
        input=b"caf\xff bees?",
        capture_output=True,
        check=True,
        timeout=60,
        env=environment(PYTHONIOENCODING="utf-8"),
    )
    assert b"there is this to say" in done.stdout
    assert server.asked[0].prompt.startswith("caf\ufffd bees?")


def test_a_full_disk_is_one_readable_line(server: FakeOpenAI) -> None:
    line = command("ask", QUESTION, "--model", "m", "--base-url", server.url)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            line, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60, env=environment()
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("line", [["ask", QUESTION], ["compare", QUESTION], ["draw"]], ids=" ".join)
def test_closed_output_is_one_readable_line(line: list[str]) -> None:
    more = [] if line == ["draw"] else ["--model", "demo"]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command(*line, *more)]
    done = subprocess.run(closed, stderr=subprocess.PIPE, text=True, check=False, timeout=60, env=environment())
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert "standard output is closed" in told


def test_ctrl_c_ends_at_once_and_ends_the_calls(server: FakeOpenAI) -> None:
    server.script = lambda asked: usual(asked) if asked.stage == "skeleton" else Reply("Late.", first_token=30)
    process = subprocess.Popen(
        command("ask", QUESTION, "--model", "m", "--base-url", server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 30
    while server.in_flight < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "sot-graph: stopped.\n")
    deadline = time.monotonic() + 5
    while server.in_flight and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.in_flight == 0
