"""The command line as a separate process, with a real client; also on a terminal."""

import json
import os
import pty
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from tests.fake_openai import TITLES, FakeOpenAI, Reply, usual
from tests.processes import CLOSED, LEFT, CommandLine, environment, run, wait_until

QUESTION = "How can I sleep better?"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from sot_graph.cli import main; main()", *arguments]


def ask(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return run("ask", *arguments, **options)


def test_a_local_server_needs_no_key(server: FakeOpenAI) -> None:
    done = ask(QUESTION, "--model", "llama3.2:3b", "--base-url", server.url, "--json")
    assert done.returncode == 0, done.stderr
    assert [point["title"] for point in json.loads(done.stdout)["points"]] == TITLES
    assert server.requests[0].body["model"] == "llama3.2:3b"
    first, last = done.stderr.splitlines()
    assert first == f"Model: llama3.2:3b at {server.url}"
    assert last.startswith("4 points · 5 calls · ")
    assert last.endswith(f" · llama3.2:3b at {server.url}")


def test_the_model_can_be_set_in_the_environment(server: FakeOpenAI) -> None:
    more = {"SOT_MODEL": "openai:mine", "OPENAI_API_KEY": "sk-test-key", "OPENAI_BASE_URL": server.url}
    done = ask(stdin=QUESTION, **more)
    assert done.returncode == 0, done.stderr
    assert {request.body["model"] for request in server.requests} == {"mine"}


def test_a_failed_run_prints_one_line(server: FakeOpenAI) -> None:
    server.script = lambda _: Reply(status=401, message="no such key")
    done = ask(QUESTION, "--model", "m", "--base-url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 2, "the model, and why it failed"
    assert "no such key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_point_is_named_and_the_others_are_printed(server: FakeOpenAI) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[0] else usual(request)
    done = ask(QUESTION, "--model", "m", "--base-url", server.url)
    assert done.returncode == 1
    assert f"point 1 ({TITLES[0]}) could not be written" in done.stderr
    assert "4 points, 1 failed" in done.stderr
    assert done.stdout.count("there is this to say") == 3


def test_a_failed_point_is_in_the_timeline(server: FakeOpenAI, tmp_path: Path) -> None:
    server.script = lambda request: Reply(status=401) if request.title == TITLES[0] else usual(request)
    path = tmp_path / "run.svg"
    done = ask(QUESTION, "--model", "m", "--base-url", server.url, "--timeline", str(path))
    assert done.returncode == 1
    drawn = path.read_text(encoding="utf-8")
    assert drawn.count("row row-failed") == 1
    assert drawn.count("row row-written") == 4
    assert "✗ failed" in drawn


@pytest.mark.parametrize("target", ["run.svg", "-"])
def test_a_run_in_which_every_point_failed_is_drawn(server: FakeOpenAI, tmp_path: Path, target: str) -> None:
    server.script = lambda request: usual(request) if request.stage == "skeleton" else Reply(status=401)
    path = tmp_path / target
    timeline = target if target == "-" else str(path)
    done = ask(QUESTION, "--model", "m", "--base-url", server.url, "--timeline", timeline)
    assert (done.returncode, done.stdout) == (1, "")
    _, *above, line = done.stderr.splitlines()
    assert line.startswith("sot-graph: ExpansionError: 4 of 4 points could not be written: ")
    assert "no timeline" not in line
    if target == "-":
        assert sum("✗ failed" in each for each in above[:-1]) == 4
    else:
        assert above == []
        assert path.read_text(encoding="utf-8").count("row row-failed") == 4


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_text_and_a_timeline_can_be_printed_in_any_encoding(server: FakeOpenAI, encoding: str) -> None:
    server.script = lambda request: (
        usual(request) if request.stage == "skeleton" else Reply("Schlaf → 睡眠 \x1b[2J“gut”")
    )
    line = [QUESTION, "--model", "m", "--base-url", server.url, "--timeline", "-"]
    done = ask(*line, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "Schlaf → 睡眠 [2J“gut”" in done.stdout
    assert "skeleton" in done.stderr


def test_a_question_in_an_unknown_encoding_is_answered(server: FakeOpenAI) -> None:
    done = subprocess.run(
        command("ask", "--model", "m", "--base-url", server.url),
        input=b"caf\xff bees?",
        capture_output=True,
        check=True,
        timeout=60,
        env=environment(PYTHONIOENCODING="utf-8"),
    )
    assert b"there is this to say" in done.stdout
    assert server.requests[0].messages[1]["content"] == "caf\ufffd bees?"


def test_text_that_is_piped_in_is_context_of_the_question(server: FakeOpenAI) -> None:
    line = [sys.executable, "-m", "sot_graph", "ask", *QUESTION.split(), "--model", "m", "--base-url", server.url]
    done = subprocess.run(
        line, input="My notes.\n", capture_output=True, text=True, check=True, timeout=60, env=environment()
    )
    assert "there is this to say" in done.stdout
    asked = f"{QUESTION}\n\n<input>\nMy notes.\n</input>"
    assert all(any(asked in str(each["content"]) for each in request.body["messages"]) for request in server.requests)


def test_a_full_disk_prints_one_line(server: FakeOpenAI) -> None:
    done = ask(QUESTION, "--model", "m", "--base-url", server.url, stdout="/dev/full")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2, done.stderr


@pytest.mark.parametrize("arguments", [["ask", QUESTION], ["compare", QUESTION], ["draw"]], ids=" ".join)
def test_closed_standard_output_prints_one_line(server: FakeOpenAI, arguments: list[str]) -> None:
    if arguments == ["draw"]:  # by a shell
        closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command(*arguments)]
        done = subprocess.run(closed, stderr=subprocess.PIPE, text=True, check=False, timeout=60, env=environment())
    else:
        done = run(*arguments, "--model", "m", "--base-url", server.url, stdout=CLOSED)
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert len(done.stderr.splitlines()) <= 2
    assert "standard output is closed" in line


@pytest.mark.parametrize(
    "arguments",
    [["ask", QUESTION], ["ask", QUESTION, "--json"], ["ask", QUESTION, "--watch"], ["draw"], ["ask", "--help"]],
    ids=" ".join,
)
def test_a_command_whose_reader_left_ends_without_a_word(server: FakeOpenAI, arguments: list[str]) -> None:
    more = ["--model", "m", "--base-url", server.url] if QUESTION in arguments else []
    done = run(*arguments, *more, stdout=LEFT)
    assert [line for line in done.stderr.splitlines() if not line.startswith("Model: ")] == []
    assert done.returncode == (1 if arguments == ["ask", "--help"] else 141)


def test_the_points_of_an_answer_that_nobody_reads_are_not_paid_for(server: FakeOpenAI) -> None:
    """The first point fails to be printed while the others are still being written."""
    server.script = lambda request: (
        Reply("Late.", first_token=30) if request.title and request.title != TITLES[0] else usual(request)
    )
    line = ["ask", QUESTION, "--model", "m", "--base-url", server.url]
    with CommandLine(*line, stdout=LEFT, env=environment()) as process:
        assert process.wait(20).returncode == 141
    wait_until(lambda: server.in_flight == 0, seconds=5)


@pytest.mark.parametrize(("encoding", "arguments"), [("ascii", []), ("cp1252", ["--watch"])])
def test_a_terminal_without_these_characters_shows_what_is_like_them(
    server: FakeOpenAI, encoding: str, arguments: list[str]
) -> None:
    server.script = lambda request: usual(request) if request.stage == "skeleton" else Reply("Schlaf → 睡眠 “gut” ä")
    line = command("ask", QUESTION, "--model", "m", "--base-url", server.url, "--timeline", "-", *arguments)
    code, shown = on_terminal(line, environment(PYTHONIOENCODING=encoding))
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode(encoding))
    assert code == 0, text
    assert "Schlaf > ????" in text
    assert re.search(r"[-\\|/] outline", text), "the spinner"
    assert "> critical path" in text


@pytest.mark.parametrize("is_pipe", [True, False])
def test_progress_does_not_overwrite_what_the_reader_of_a_pipe_prints(
    server: FakeOpenAI, tmp_path: Path, *, is_pipe: bool
) -> None:
    """The reader may print to the same terminal. A file does not."""
    path = tmp_path / "answer.md"
    if is_pipe:
        os.mkfifo(path)
    line = command("ask", QUESTION, "--model", "m", "--base-url", server.url)
    with ThreadPoolExecutor() as pool:
        text = pool.submit(path.read_text) if is_pipe else None
        with path.open("w") as output:
            code, shown = on_terminal(line, environment(), stdout=output)
        assert "there is this to say" in (text.result() if text else path.read_text())
    assert code == 0
    assert (b"outline" in shown, b"\x1b[2K" in shown) == (not is_pipe, not is_pipe)
    assert b"4 points" in shown


def on_terminal(line: list[str], env: dict[str, str], stdout: TextIO | None = None) -> tuple[int, bytes]:
    """Run a command in a terminal of its own. Returns its exit code and what the terminal showed."""
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        line, stdin=inside, stdout=stdout or inside, stderr=inside, env=env, start_new_session=True
    ) as process:
        os.close(inside)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while chunk := os.read(terminal, 65536):
                shown += chunk
        os.close(terminal)
    return process.returncode, shown


def test_a_review_without_a_terminal_is_refused_before_anything_is_paid_for(server: FakeOpenAI) -> None:
    line = command("ask", QUESTION, "--review", "--model", "m", "--base-url", server.url)
    done = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(EDITOR="touch"),
        start_new_session=True,  # without a terminal
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sot-graph: --review needs a terminal for the editor.")
    assert len(done.stderr.splitlines()) == 1
    assert server.requests == []


def test_ctrl_c_stops_the_process_and_its_calls_at_once(server: FakeOpenAI) -> None:
    server.script = lambda request: usual(request) if request.stage == "skeleton" else Reply("Late.", first_token=30)
    with CommandLine("ask", QUESTION, "--model", "m", "--base-url", server.url) as process:
        wait_until(lambda: server.in_flight == 4)
        process.interrupt()
        done = process.wait(10)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"Model: m at {server.url}\nsot-graph: stopped.\n")
    wait_until(lambda: server.in_flight == 0, seconds=5)
