"""`sot-graph batch` as a process: resumed after kill -9, after Ctrl-C, after failures."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fake_openai import FakeOpenAI, Reply, Request, usual
from tests.processes import CommandLine, environment, run, wait_until

COUNT = 60


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [
        {"id": f"q{number}", "question": f"How does bee {number} fly?", "outline": ["Wings", "Scents"], "kind": "bees"}
        for number in range(COUNT)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def arguments(questions: Path, server: FakeOpenAI, *more: str) -> list[str]:
    output = str(questions.with_name("answers.jsonl"))
    return ["batch", str(questions), "--output", output, "--model", "m", "--base-url", server.url, *more]


def answers(questions: Path) -> list[dict[str, Any]]:
    path = questions.with_name("answers.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(server: FakeOpenAI) -> Counter[str]:
    """How often each point of each question was asked for."""
    return Counter(f"{request.prompt}" for request in server.of_stage("expand"))


def lines(questions: Path) -> int:
    path = questions.with_name("answers.jsonl")
    return path.read_bytes().count(b"\n") if path.exists() else 0


def slow(request: Request) -> Reply:
    return Reply(usual(request).text, first_token=0.05)


def test_a_file_in_a_file_out(server: FakeOpenAI, questions: Path) -> None:
    done = run(*arguments(questions, server, "--price-in", "1", "--price-out", "2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    rows = answers(questions)
    assert sorted(row["id"] for row in rows) == sorted(f"q{number}" for number in range(COUNT))
    assert {tuple(row) for row in rows} == {
        ("id", "question", "outline", "kind", "answer", "points", "usage", "seconds", "error")
    }
    first, last, where = done.stderr.splitlines()
    assert first == f"Model: m at {server.url}"
    assert last.startswith("60 answers · ")
    assert " tokens · " in last
    assert " · cost 0.00" in last
    assert where == f"The answers are in {questions.with_name('answers.jsonl')}."
    again = run(*arguments(questions, server))
    assert again.returncode == 0
    assert len(server.requests) == 2 * COUNT, "nothing is asked again"
    assert "60 of 60 questions are answered" in again.stderr


def test_killed_three_times_each_is_answered_once(server: FakeOpenAI, questions: Path) -> None:
    server.script = slow
    for number in range(1, 4):
        with CommandLine(*arguments(questions, server, "--concurrency", "8"), env=environment()) as process:
            wait_until(lambda enough=number * 12: lines(questions) >= enough)  # type: ignore[misc]
            process.send(signal.SIGKILL)
            process.wait()
    path = questions.with_name("answers.jsonl")
    path.write_bytes(path.read_bytes()[:-40])  # as a kill in the middle of a write leaves it
    whole = lines(questions)
    before = len(server.requests)
    done = run(*arguments(questions, server))
    assert done.returncode == 0, done.stderr
    assert f"{whole} of 60 questions are answered" in done.stderr
    rows = answers(questions)
    assert sorted(row["id"] for row in rows) == sorted(f"q{number}" for number in range(COUNT))
    assert len(server.requests) - before == 2 * (COUNT - whole), "only what was missing was asked"


def test_ctrl_c_finishes_what_is_begun(server: FakeOpenAI, questions: Path) -> None:
    server.script = slow
    with CommandLine(*arguments(questions, server, "--concurrency", "4"), env=environment()) as process:
        wait_until(lambda: lines(questions) >= 3)
        process.interrupt()
        done = process.wait()
    assert done.returncode == 130
    assert "Finishing the questions that are begun" in done.stderr
    assert "the same command resumes" in done.stderr
    rows = answers(questions)
    assert 3 <= len(rows) < COUNT
    assert {row["error"] for row in rows} == {None}
    assert len(server.requests) == 2 * len(rows), "what was paid for is in the file"


def test_a_second_ctrl_c_stops_at_once(server: FakeOpenAI, questions: Path) -> None:
    server.script = lambda request: Reply("x", first_token=60) if "bee 9 " in request.prompt else usual(request)
    with CommandLine(*arguments(questions, server, "--concurrency", "4"), env=environment()) as process:
        wait_until(lambda: lines(questions) >= COUNT - 1)
        process.interrupt()
        wait_until(lambda: "Finishing" in process.stderr())
        process.interrupt()
        done = process.wait(30)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert len(answers(questions)) == COUNT - 1


def test_what_failed_is_named_and_asked_again(server: FakeOpenAI, questions: Path) -> None:
    server.script = lambda request: Reply(status=400) if "bee 7 " in request.prompt else usual(request)
    done = run(*arguments(questions, server))
    assert done.returncode == 1
    assert "1 question failed. The same command asks again." in done.stderr
    assert "q7: ExpansionError: 2 of 2 points could not be written" in done.stderr
    assert len(answers(questions)) == COUNT
    server.script = usual
    server.requests.clear()
    assert run(*arguments(questions, server)).returncode == 0
    assert len(server.requests) == 2
    rows = answers(questions)
    assert (len(rows), {row["error"] for row in rows}) == (COUNT, {None})


def test_a_cause_that_all_share_ends_the_run(server: FakeOpenAI, questions: Path) -> None:
    server.script = lambda _: Reply(status=401, message="no such key")
    done = run(*arguments(questions, server, "--concurrency", "2"))
    assert done.returncode == 1
    assert "stopped: 20 questions in a row got no answer" in done.stderr
    assert "no such key" in done.stderr
    assert len(server.requests) < 2 * COUNT


def test_bad_questions_do_not_end_the_run(server: FakeOpenAI, questions: Path) -> None:
    """Only a cause that all share does."""
    bad = {f"bee {number} " for number in range(30)}
    server.script = lambda request: Reply(status=400) if any(each in request.prompt for each in bad) else usual(request)
    done = run(*arguments(questions, server, "--concurrency", "2"))
    assert done.returncode == 1
    assert "30 questions failed. The same command asks again." in done.stderr
    assert sum(row["error"] is None for row in answers(questions)) == COUNT - 30


def test_a_hold_is_told(server: FakeOpenAI, questions: Path) -> None:
    refused: list[Request] = []

    def script(request: Request) -> Reply:
        if "bee 7 " in request.prompt and not refused:
            refused.append(request)
            return Reply(status=429, message="too many", headers={"retry-after": "1"})
        return usual(request)

    server.script = script
    done = run(*arguments(questions, server))
    assert done.returncode == 0, done.stderr
    assert "The server refuses calls: all wait 1 s, then 25 run at once." in done.stderr


def test_wrong_use_is_refused_before_a_model_is_called(server: FakeOpenAI, questions: Path) -> None:
    bad = questions.with_name("bad.jsonl")
    bad.write_text('{"question": "A"}\n{"text": "B"}\n', encoding="utf-8")
    for change, message in (
        ([str(bad)], "bad.jsonl cannot be read: row 2: it has no question"),
        ([str(questions.with_name("none.csv"))], "none.csv cannot be read"),
        ([str(questions), "--output", str(questions)], "--output is the file of the questions"),
        ([str(questions), "--output", str(bad)], "is no answer. Move the file away"),
        ([str(questions), "--output", "a.xlsx"], "must end in one of .jsonl"),
        ([str(questions), "--on-error", "never"], "on_error must be one of 'raise', 'keep'"),
        ([str(questions), "--price-in", "1"], "costs need both prices"),
        ([str(questions), "--backend", "later"], "--backend must be online or one of openai-batch, anthropic-batch"),
        ([str(questions), "--backend", "anthropic-batch"], "needs a model of that provider: --model anthropic:"),
    ):
        output = [] if "--output" in change else ["--output", str(questions.with_name("a.jsonl"))]
        where = [] if "--backend" in change else ["--base-url", server.url]
        done = run("batch", *change, *output, "--model", "m", *where, OPENAI_API_KEY="sk-test")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert server.requests == []


def test_csv_in_and_out(server: FakeOpenAI, tmp_path: Path) -> None:
    source, target = tmp_path / "q.csv", tmp_path / "out" / "a.csv"
    source.write_text('question,lang\n"How, pray?",en\nWas?,de\n', encoding="utf-8")
    done = run("batch", str(source), "-o", str(target), "-m", "m", "-u", server.url)
    assert done.returncode == 0, done.stderr
    assert target.read_text(encoding="utf-8").startswith("id,question,lang,answer,points,usage,seconds,error\n")


def test_half_an_answer_stays_if_the_next_run_gets_none(server: FakeOpenAI, questions: Path) -> None:
    """As with a key that has expired meanwhile."""
    server.script = lambda request: (
        Reply(status=400)
        if "bee 7 " in request.prompt and "Scents" in request.prompt.splitlines()[-1]
        else usual(request)
    )
    assert run(*arguments(questions, server)).returncode == 1
    half = next(row for row in answers(questions) if row["error"])
    server.script = lambda _: Reply(status=401)
    assert run(*arguments(questions, server)).returncode == 1
    assert next(row for row in answers(questions) if row["error"]) == half
    assert half["answer"]
    assert [point["status"] for point in half["points"]] == ["written", "failed"]
    assert len(answers(questions)) == COUNT
