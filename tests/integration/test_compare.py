"""`sot-graph compare` with real clients: failures, a killed process, Ctrl-C, a judge on a server."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from sot_graph.evaluation.judge import ASPECTS
from tests.fake_openai import TITLES, FakeOpenAI, Reply, Request, usual
from tests.integration.test_cli import command
from tests.processes import LEFT, CommandLine, environment, run, wait_until

QUESTIONS = [f"Why is number {number} as it is?" for number in range(6)]


def arguments(server: FakeOpenAI, file: Path) -> list[str]:
    file.write_text("\n".join(json.dumps({"question": question}) for question in QUESTIONS), encoding="utf-8")
    out = str(file.with_name("out"))
    return ["compare", "--file", str(file), "--model", "m", "--base-url", server.url, "--output", out]


def results(file: Path) -> list[dict[str, dict[str, object]]]:
    path = file.with_name("out") / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_real_client_reports_the_usage_of_both_answers(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    done = run(*arguments(server, file))
    assert done.returncode == 0, done.stderr
    assert len(server.of_stage("direct")) == len(server.of_stage("skeleton")) == 6
    assert {request.prompt for request in server.of_stage("direct")} == set(QUESTIONS), "only the question"
    for each in results(file):
        assert each["plain"]["usage"]
        assert (each["sot"]["calls"], each["sot"]["points"]) == (5, 4)


def test_a_killed_process_loses_no_result(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: (
        Reply("Slow.", first_token=30)
        if QUESTIONS[3] in request.prompt and request.stage == "direct"
        else usual(request)
    )
    with CommandLine(*arguments(server, file)) as process:
        wait_until(lambda: len(results(file)) == 3)
        process.send(signal.SIGKILL)
        process.wait()
    assert len(results(file)) == 3
    server.script = usual
    del server.requests[:]
    assert run(*arguments(server, file)).returncode == 0
    assert {request.prompt for request in server.of_stage("direct")} == set(QUESTIONS[3:])
    assert len(results(file)) == 6


@pytest.mark.parametrize("slow", ["direct", "expand", "judge"])
def test_ctrl_c_stops_all_calls_at_once_and_the_same_command_resumes(
    server: FakeOpenAI, tmp_path: Path, slow: str
) -> None:
    file = tmp_path / "questions.jsonl"

    def script(request: Request) -> Reply:
        stage = "judge" if "<first>" in request.prompt else request.stage
        return Reply("Late.", first_token=30) if stage == slow else usual(request)

    server.script = script
    judge = ["--judge", "j", "--judge-url", server.url] if slow == "judge" else []
    answered = 1 if slow == "judge" else 0
    with CommandLine(*arguments(server, file), *judge, "--at-once") as process:
        wait_until(lambda: server.in_flight == {"direct": 1, "expand": 4, "judge": 2}[slow])
        wait_until(lambda: len(results(file)) == answered)
        process.interrupt()
        done = process.wait(10)
    assert (done.returncode, done.stdout) == (130, "")
    path = tmp_path / "out" / "results.jsonl"
    assert (
        done.stderr.splitlines()[-1]
        == f"sot-graph: stopped. Finished answers are in {path}. Run the same command to resume."
    )
    assert len(results(file)) == answered
    wait_until(lambda: server.in_flight == 0, seconds=5)
    server.script = usual
    assert run(*arguments(server, file), "--at-once").returncode == 0
    assert len(results(file)) == 6


def test_answers_are_kept_before_the_judge_has_replied(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: Reply("Slow.", first_token=30) if "<first>" in request.prompt else usual(request)
    judge = ["--judge", "j", "--judge-url", server.url]
    with CommandLine(*arguments(server, file), *judge, "--concurrency", "6"):
        wait_until(lambda: len(results(file)) == 6)


def test_the_plain_call_is_retried(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: (
        Reply("Half an answer", drop_after=2) if request.stage == "direct" and request.attempt == 1 else usual(request)
    )
    assert run(*arguments(server, file)).returncode == 0
    assert all(str(each["plain"]["text"]).endswith("A direct answer.") for each in results(file))
    assert sum(int(str(each["plain"]["calls"])) for each in results(file)) == 7


def test_a_failed_question_is_reported_and_runs_again(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: (
        Reply(status=401, message="Wrong key: none") if QUESTIONS[0] in request.prompt else usual(request)
    )
    done = run(*arguments(server, file))
    assert done.returncode == 1
    assert "one plain call: OpenAIAuthenticationError" in " ".join(done.stderr.split())
    assert "1 of 6 questions failed" in " ".join(done.stdout.split())
    server.script = usual
    del server.requests[:]
    assert run(*arguments(server, file)).returncode == 0
    assert len(server.of_stage("direct")) == 1


def test_an_answer_that_lacks_points_is_a_failure(server: FakeOpenAI, tmp_path: Path) -> None:
    """It is reported, left out of the figures, not judged, and runs again."""
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: (
        Reply(status=400, message="No rooms")
        if QUESTIONS[0] in request.prompt and request.title == TITLES[1]
        else usual(request)
    )
    judge = ["--judge", "demo"]
    done = run(*arguments(server, file), *judge)
    assert done.returncode == 1
    words = " ".join(done.stderr.split())
    assert "Skeleton-of-Thought: 1 of 4 points could not be written: OpenAI" in words
    assert "1 of 6 questions failed" in done.stdout
    failed = results(file)[0]
    assert "regular sleep hours" in str(failed["sot"]["text"])
    assert failed["verdicts"] == {}
    server.script = usual
    del server.requests[:]
    done = run(*arguments(server, file), *judge)
    assert done.returncode == 0, done.stderr
    assert [request.prompt for request in server.of_stage("direct")] == [QUESTIONS[0]]
    assert all(each["verdicts"] for each in results(file))


def test_a_server_that_refuses_every_call_stops_the_run(tmp_path: Path, server: FakeOpenAI) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda _: Reply(status=401, message="Wrong key")
    done = run(*arguments(server, file))
    assert done.returncode == 1
    assert "stopped: 3 questions in a row got no answer" in done.stderr.splitlines()[-1]
    assert len(server.requests) == 6, "two calls for each of three questions"


@pytest.mark.parametrize("place", [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_the_figures_are_printed_with_any_locale(server: FakeOpenAI, tmp_path: Path, place: dict[str, str]) -> None:
    line = command(*arguments(server, tmp_path / "questions.jsonl"))
    done = subprocess.run(line, capture_output=True, timeout=60, check=False, env=environment(**place))
    assert done.returncode == 0, done.stderr
    assert " → " in done.stdout.decode("utf-8")


@pytest.mark.parametrize("closed", [False, True])
def test_a_full_disk_or_a_closed_pipe_does_not_lose_the_summary(
    server: FakeOpenAI, tmp_path: Path, *, closed: bool
) -> None:
    done = run(*arguments(server, tmp_path / "questions.jsonl"), stdout=LEFT if closed else "/dev/full")
    *_, last = done.stderr.splitlines()
    if closed:
        assert done.returncode == 141
        assert last.startswith("Results, summary and answers are in ")
    else:
        assert done.returncode == 1
        assert last.startswith("sot-graph: standard output could not be written: OSError")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["questions"] == 6


def test_a_judge_on_a_server_gets_both_orders(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"

    def script(request: Request) -> Reply:
        if "<first>" not in request.prompt:
            return usual(request)
        first = request.prompt.partition("<first>")[2].partition("</first>")[0]
        better = "second" if "A direct answer." in first else "first"
        return Reply(json.dumps(dict.fromkeys(ASPECTS, better) | {"reason": "It says more."}))

    server.script = script
    judge = ["--judge", "j", "--judge-url", server.url]
    done = run(*arguments(server, file), *judge)
    assert done.returncode == 0, done.stderr
    request = [each for each in server.requests if each.body["model"] == "j"]
    assert len(request) == 12
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {aspect: each["win"]["count"] for aspect, each in summary["verdicts"].items()} == dict.fromkeys(ASPECTS, 6)


AGAINST = ["--against", 'max_points=2, system_prompt="Be short, please."']


def is_changed(request: Request) -> bool:
    return "Be short, please." in request.prompt


def test_against_asks_both_graphs_with_their_options(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    done = run(*arguments(server, file), *AGAINST)
    assert done.returncode == 0, done.stderr
    assert server.of_stage("direct") == [], "no plain call"
    for changed, points in ((True, 2), (False, 4)):
        asked = [each for each in server.requests if is_changed(each) == changed]
        assert [each.stage for each in asked].count("skeleton") == 6
        assert [each.stage for each in asked].count("expand") == 6 * points
    for each in results(file):
        assert (each["plain"]["points"], each["sot"]["points"]) == (4, 2)
        assert each["plain"]["usage"]
        assert each["sot"]["usage"]
        assert each["settings"]["against"] == 'max_points=2,system_prompt="Be short, please."'
    firsts = [is_changed(each) for each in server.of_stage("skeleton")][::2]
    assert firsts == [False, True] * 3, "in turn"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["all"]["plain_direct"], summary["all"]["direct"]) == (0, 0)
    assert summary["all"]["plain"]["tokens"]["median"] > summary["all"]["sot"]["tokens"]["median"]


def test_against_resumes_a_killed_run(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: (
        Reply("Slow.", first_token=30) if QUESTIONS[3] in request.prompt and is_changed(request) else usual(request)
    )
    with CommandLine(*arguments(server, file), *AGAINST) as process:
        wait_until(lambda: len(results(file)) == 3)
        process.send(signal.SIGKILL)
        process.wait()
    server.script = usual
    wait_until(lambda: server.in_flight == 0, seconds=5)
    del server.requests[:]
    for more in ([], ["--against", "max_points=2"]):
        done = run(*arguments(server, file), *more)
        assert done.returncode == 2
        assert 'against max_points=2,system_prompt="Be short, please.")' in done.stderr
    assert server.requests == []
    assert run(*arguments(server, file), *AGAINST).returncode == 0
    assert len(server.of_stage("skeleton")) == 6, "three questions, twice"
    assert len(results(file)) == 6


def test_against_is_judged_in_both_orders(server: FakeOpenAI, tmp_path: Path) -> None:
    """The judge prefers the shorter answer, that of the change: it wins in whatever order."""
    file = tmp_path / "questions.jsonl"

    def script(request: Request) -> Reply:
        if "<first>" not in request.prompt:
            return usual(request)
        first = request.prompt.partition("<first>")[2].partition("</first>")[0]
        better = "second" if TITLES[3].lower() in first else "first"
        preferences = dict.fromkeys(ASPECTS, better) | {"depth": "first", "reason": "It is shorter."}
        return Reply(json.dumps(preferences))

    server.script = script
    done = run(*arguments(server, file), *AGAINST, "--judge", "j", "--judge-url", server.url)
    assert done.returncode == 0, done.stderr
    assert len([each for each in server.requests if each.body["model"] == "j"]) == 12
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    counts = {aspect: {name: each["count"] for name, each in by.items()} for aspect, by in summary["verdicts"].items()}
    won, tied = {"win": 6, "tie": 0, "lose": 0}, {"win": 0, "tie": 6, "lose": 0}
    assert counts == dict.fromkeys(ASPECTS, won) | {"depth": tied}
    assert summary["turned"]["depth"] == 6
    assert "max_points=2,system_prompt=" in done.stdout


def test_against_sends_another_model_the_outline_only(server: FakeOpenAI, tmp_path: Path) -> None:
    """On the same server."""
    file = tmp_path / "questions.jsonl"
    done = run(*arguments(server, file), "--against", "skeleton_model=small")
    assert done.returncode == 0, done.stderr
    assert [each.stage for each in server.requests if each.body["model"] == "small"] == ["skeleton"] * 6
    assert len(server.of_stage("skeleton")) == 12


def test_against_names_the_side_that_failed(server: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    server.script = lambda request: (
        Reply(status=401, message="Wrong key: none")
        if QUESTIONS[0] in request.prompt and is_changed(request)
        else usual(request)
    )
    done = run(*arguments(server, file), *AGAINST)
    assert done.returncode == 1
    assert 'max_points=2,system_prompt="Be short, please.": OpenAIAuthenticationError' in " ".join(done.stderr.split())
    server.script = usual
    del server.requests[:]
    assert run(*arguments(server, file), *AGAINST).returncode == 0
    assert len(server.of_stage("skeleton")) == 2, "both graphs answer that question again"


@pytest.mark.parametrize("change", ["lead=maybe", "review=true", "max_points=10", "hedge=soon", "lead"])
def test_against_is_refused_before_a_call(server: FakeOpenAI, tmp_path: Path, change: str) -> None:
    done = run(*arguments(server, tmp_path / "questions.jsonl"), "--against", change)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("sot-graph: ")
    assert server.requests == []
    assert not (tmp_path / "out").exists()
