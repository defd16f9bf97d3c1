"""`sot-graph compare` with real clients: failures, a kill half-way, a judge on a server."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sot_graph.evaluation.judge import ASPECTS
from tests.fake_openai import TITLES, Asked, FakeOpenAI, Reply, usual
from tests.integration.test_cli import command, environment

QUESTIONS = [f"Why is number {number} as it is?" for number in range(6)]


def arguments(server: FakeOpenAI, file: Path) -> list[str]:
    file.write_text("\n".join(json.dumps({"question": question}) for question in QUESTIONS), encoding="utf-8")
    out = str(file.with_name("out"))
    return ["compare", "--file", str(file), "--model", "m", "--base-url", server.url, "--output", out]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=60, check=False, env=environment()
    )


def results(file: Path) -> list[dict[str, dict[str, object]]]:
    path = file.with_name("out") / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_real_client_tells_times_and_tokens_of_both(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    done = run(*arguments(server, file))
    assert done.returncode == 0, done.stderr
    assert len(server.of_stage("direct")) == len(server.of_stage("skeleton")) == 6
    assert {asked.prompt for asked in server.of_stage("direct")} == set(QUESTIONS), "the question, and nothing else"
    for each in results(file):
        assert each["plain"]["usage"]
        assert (each["sot"]["calls"], each["sot"]["points"]) == (5, 4)


def test_a_kill_half_way_loses_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda asked: (
        Reply("Slow.", first_token=30) if QUESTIONS[3] in asked.prompt and asked.stage == "direct" else usual(asked)
    )
    line = command(*arguments(server, file))
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while len(results(file)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(results(file)) == 3
    server.script = usual
    del server.asked[:]
    assert run(*arguments(server, file)).returncode == 0
    assert {asked.prompt for asked in server.of_stage("direct")} == set(QUESTIONS[3:])
    assert len(results(file)) == 6


def test_answers_are_kept_while_a_judge_is_at_work(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda asked: Reply("Slow.", first_token=30) if "<first>" in asked.prompt else usual(asked)
    line = command(*arguments(server, file), "--judge", "j", "--judge-url", server.url, "--concurrency", "6")
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while len(results(file)) < 6 and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(results(file)) == 6


def test_the_plain_call_is_tried_again_as_a_points_is(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda asked: (
        Reply("Half an answer", drop_after=2) if asked.stage == "direct" and asked.attempt == 1 else usual(asked)
    )
    assert run(*arguments(server, file)).returncode == 0
    assert all(str(each["plain"]["text"]).endswith("A direct answer.") for each in results(file))
    assert sum(int(str(each["plain"]["calls"])) for each in results(file)) == 7


def test_what_failed_is_told_and_asked_again(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda asked: (
        Reply(status=401, message="Wrong key: none") if QUESTIONS[0] in asked.prompt else usual(asked)
    )
    done = run(*arguments(server, file))
    assert done.returncode == 1
    assert "one plain call: OpenAIAuthenticationError" in " ".join(done.stderr.split())
    assert "1 of 6 questions failed" in " ".join(done.stdout.split())
    server.script = usual
    del server.asked[:]
    assert run(*arguments(server, file)).returncode == 0
    assert len(server.of_stage("direct")) == 1


def test_an_answer_that_lacks_points_is_a_failure(server: FakeOpenAI, tmp_path: Path) -> None:
    """It is told, left out of the figures, not judged, and asked again."""
    file = tmp_path / "questions.jsonl"
    server.script = lambda asked: (
        Reply(status=400, message="No rooms")
        if QUESTIONS[0] in asked.prompt and asked.title == TITLES[1]
        else usual(asked)
    )
    judge = ["--judge", "demo"]
    done = run(*arguments(server, file), *judge)
    assert done.returncode == 1
    words = " ".join(done.stderr.split())
    assert "by an outline: 1 of 4 points could not be written: OpenAI" in words
    assert "1 of 6 questions failed" in done.stdout
    failed = results(file)[0]
    assert "regular sleep hours" in str(failed["sot"]["text"])
    assert failed["verdicts"] == {}
    server.script = usual
    del server.asked[:]
    done = run(*arguments(server, file), *judge)
    assert done.returncode == 0, done.stderr
    assert [asked.prompt for asked in server.of_stage("direct")] == [QUESTIONS[0]]
    assert all(each["verdicts"] for each in results(file))


def test_a_server_that_is_not_there_ends_the_run(tmp_path: Path, server: FakeOpenAI) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda _: Reply(status=401, message="Wrong key")
    done = run(*arguments(server, file))
    assert done.returncode == 1
    assert "stopped, because 3 questions in a row got no answer" in done.stderr.splitlines()[-1]
    assert len(server.asked) == 6, "two ways of three questions"


@pytest.mark.parametrize("place", [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_the_figures_are_printed_in_any_encoding(server: FakeOpenAI, tmp_path: Path, place: dict[str, str]) -> None:
    line = command(*arguments(server, tmp_path / "questions.jsonl"))
    done = subprocess.run(line, capture_output=True, timeout=60, check=False, env=environment(**place))
    assert done.returncode == 0, done.stderr
    assert " → " in done.stdout.decode("utf-8")


@pytest.mark.parametrize("closed", [False, True])
def test_a_full_disk_or_a_closed_pipe_costs_no_summary(server: FakeOpenAI, tmp_path: Path, *, closed: bool) -> None:
    line = command(*arguments(server, tmp_path / "questions.jsonl"))
    read, output = os.pipe()
    os.close(read)
    with os.fdopen(output, "wb") as pipe, Path("/dev/full").open("wb") as full:
        place: Any = {"stdout": pipe if closed else full, "stderr": subprocess.PIPE, "env": environment()}
        done = subprocess.run(line, **place, text=True, timeout=60, check=False)
    assert done.returncode == 1
    error = "BrokenPipeError" if closed else "OSError"
    assert done.stderr.splitlines()[-1].startswith(f"sot-graph: standard output could not be written: {error}")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["questions"] == 6


def test_a_judge_on_a_server_is_asked_in_both_orders(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"

    def script(asked: Asked) -> Reply:
        if "<first>" not in asked.prompt:
            return usual(asked)
        first = asked.prompt.partition("<first>")[2].partition("</first>")[0]
        better = "second" if "A direct answer." in first else "first"
        return Reply(json.dumps(dict.fromkeys(ASPECTS, better) | {"reason": "It says more."}))

    server.script = script
    judge = ["--judge", "j", "--judge-url", server.url]
    done = run(*arguments(server, file), *judge)
    assert done.returncode == 0, done.stderr
    asked = [each for each in server.asked if each.body["model"] == "j"]
    assert len(asked) == 12
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {aspect: each["win"]["count"] for aspect, each in summary["verdicts"].items()} == dict.fromkeys(ASPECTS, 6)
