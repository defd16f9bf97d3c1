"""Batch APIs: two batches for a file, left and found again, with what expired sent once more."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sot_graph.batches import providers
from sot_graph.batches.ledger import Ledger, Limits, OpenBatch, Reply, Stored
from sot_graph.cli import backend
from sot_graph.cli.entry import app
from tests.batch_server import Asked, BatchServer, Outcome, batch_server, usual

COUNT = 6
POINTS = 4


@pytest.fixture(scope="module")
def host() -> Iterator[BatchServer]:
    with batch_server() as server:
        yield server


@pytest.fixture
def server(host: BatchServer, monkeypatch: pytest.MonkeyPatch) -> BatchServer:
    """A server without batches."""
    monkeypatch.setattr(backend, "FIRST_POLL", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-key")
    vars(host).update(vars(BatchServer(host.url)))
    return host


@pytest.fixture(params=["openai-batch", "anthropic-batch"])
def name(request: pytest.FixtureRequest) -> str:
    provider: str = request.param
    return provider


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{number}", "question": f"How do bees of kind {number} fly?"} for number in range(COUNT)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def batch(server: BatchServer, name: str, questions: Path, *more: str) -> Result:
    url = server.url + ("/v1" if name == "openai-batch" else "")
    output = str(questions.with_name("answers.jsonl"))
    return CliRunner().invoke(
        app, ["batch", str(questions), "-o", output, "-m", "m", "-u", url, "--backend", name, *more]
    )


def answers(questions: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in questions.with_name("answers.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_whole(questions: Path) -> None:
    rows = answers(questions)
    assert sorted(row["id"] for row in rows) == [f"q{number}" for number in range(COUNT)]
    assert {row["error"] for row in rows} == {None}
    assert {len(row["points"]) for row in rows} == {POINTS}
    assert sorted(path.name for path in questions.parent.iterdir()) == ["answers.jsonl", "questions.jsonl"]


def test_a_file_takes_two_batches(server: BatchServer, name: str, questions: Path) -> None:
    done = batch(server, name, questions, "--price-in", "1000", "--price-out", "2000")
    assert done.exit_code == 0, done.output
    assert server.stages() == [Counter(skeleton=COUNT), Counter(expand=COUNT * POINTS)]
    assert_whole(questions)
    assert all(not asked.body.get("stream") for asked in server.asked)
    assert "Submitted batch_1: 6 requests." in done.output
    assert "batch_2 has ended: 24 replies." in done.output
    assert "· cost 0.105 by batch, 0.21 online" in done.output, "30 calls of 3 and 2 tokens"
    again = batch(server, name, questions)
    assert (again.exit_code, len(server.batches)) == (0, 2)


def test_openings_and_endings_are_in_batches_of_their_own(server: BatchServer, name: str, questions: Path) -> None:
    done = batch(server, name, questions, "--lead", "--closing")
    assert done.exit_code == 0, done.output
    assert [sum(stages.values()) for stages in server.stages()] == [2 * COUNT, COUNT * POINTS, COUNT]
    assert "failed" not in done.output, "what waits is no failure"
    assert all(row["answer"].startswith("A direct answer.\n\n") for row in answers(questions))


def test_direct_answers_are_in_the_second_batch(server: BatchServer, name: str, questions: Path) -> None:
    def script(asked: Asked) -> Outcome:
        is_direct = "kind 3" in json.dumps(asked.body) and asked.stage == "skeleton"
        return '{"points": ["DIRECT"]}' if is_direct else usual(asked)

    server.script = script
    assert batch(server, name, questions).exit_code == 0
    assert server.stages()[1] == Counter(expand=(COUNT - 1) * POINTS, direct=1)


def test_what_a_batch_left_out_is_sent_again_and_nothing_else(server: BatchServer, name: str, questions: Path) -> None:
    """Expired or cancelled requests have no result; a limit of the rate and a fault of the server may pass."""
    left_out: dict[str, Outcome] = {"kind 1": None, "kind 2": 429, "kind 3": 500}

    def script(asked: Asked) -> Outcome:
        text = json.dumps(asked.body)
        hit = next((outcome for kind, outcome in left_out.items() if kind in text), "")
        return usual(asked) if hit == "" or asked.attempt > 1 or "dark room" in asked.title else hit

    server.script, server.status = script, "expired"
    done = batch(server, name, questions)
    assert done.exit_code == 0, done.output
    assert_whole(questions)
    assert [sum(stages.values()) for stages in server.stages()] == [6, 3 + 3 * POINTS, 3 * POINTS, 3 * 3]
    again = Counter(asked.id for asked in server.asked)
    assert max(again.values()) == 2
    assert sum(count - 1 for count in again.values()) == 3 + 3 * 3, "each that had no result, once"


def test_a_request_that_no_batch_answers_fails_in_the_end(server: BatchServer, name: str, questions: Path) -> None:
    server.script = lambda asked: None if "kind 4" in json.dumps(asked.body) else usual(asked)
    done = batch(server, name, questions)
    assert done.exit_code == 1
    assert len(answers(questions)) == COUNT
    assert "q4: " in done.output
    assert "no batch has answered this request" in done.output


def test_a_bad_request_is_a_failure_of_its_question(server: BatchServer, name: str, questions: Path) -> None:
    server.script = lambda asked: 400 if "kind 4" in json.dumps(asked.body) else usual(asked)
    done = batch(server, name, questions)
    assert done.exit_code == 1
    failed = [row for row in answers(questions) if row["error"]]
    assert [row["id"] for row in failed] == ["q4"]


def test_leave_and_come_back(server: BatchServer, name: str, questions: Path) -> None:
    server.looks = 10_000
    left = batch(server, name, questions, "--no-wait")
    assert left.exit_code == 0, left.output
    assert "the same command with --resume fetches it" in left.output
    forgotten = batch(server, name, questions)
    assert forgotten.exit_code == 2
    assert f"names 1 batches that are with the provider. Add --backend {name} --resume" in forgotten.output
    online = CliRunner().invoke(
        app, ["batch", str(questions), "-o", str(questions.with_name("answers.jsonl")), "-m", "demo"]
    )
    assert (online.exit_code, "names 1 batches" in online.output) == (2, True), "online would pay for them again"
    for change in (["-m", "other"], ["--max-points", "3"], ["--lead"], ["--detail", "scoped"]):
        other = batch(server, name, questions, "--resume", *change)
        assert (other.exit_code, "was begun with other options" in other.output) == (2, True), other.output
    assert len(server.batches) == 1
    for each in server.batches.values():
        each.looks = 0
    server.looks = 1
    done = batch(server, name, questions, "--resume")
    assert done.exit_code == 0, done.output
    assert server.stages() == [Counter(skeleton=COUNT), Counter(expand=COUNT * POINTS)]
    assert_whole(questions)


def test_only_what_is_asked_now_is_submitted(server: BatchServer, name: str, questions: Path) -> None:
    """Requests of an earlier run that no question asks any more are not paid for."""
    server.script = lambda asked: None if asked.stage == "skeleton" else usual(asked)
    server.looks = 10_000
    assert batch(server, name, questions, "--no-wait").exit_code == 0
    for each in server.batches.values():
        each.looks = 0
    questions.write_text(questions.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    server.script, server.looks = usual, 1
    assert batch(server, name, questions, "--resume").exit_code == 0
    assert server.stages()[1:] == [Counter(skeleton=1), Counter(expand=POINTS)]


def test_a_wrong_model_can_be_mended(server: BatchServer, questions: Path) -> None:
    server.errors = ["no such model"]
    assert batch(server, "openai-batch", questions, "-m", "typo").exit_code == 1
    server.errors = []
    assert batch(server, "openai-batch", questions, "-m", "right").exit_code == 0
    assert [{asked.body["model"] for asked, _ in each.results} for each in server.batches.values()][1:] == [
        {"right"},
        {"right"},
    ]
    assert_whole(questions)


def test_a_lost_response_makes_no_second_batch(server: BatchServer, name: str, questions: Path) -> None:
    server.loses = 1
    done = batch(server, name, questions)
    if name == "openai-batch":  # it is found by its metadata
        assert done.exit_code == 0, done.output
        assert len(server.batches) == 2
        assert_whole(questions)
    else:
        assert done.exit_code == 1
        assert "Anthropic may have taken it: look at its list of batches" in done.output
        assert len(server.batches) == 1


def test_errors_of_an_earlier_run_are_asked_again(server: BatchServer, name: str, questions: Path) -> None:
    rows = [{"id": f"q{number}", "question": f"How do bees of kind {number} fly?"} for number in range(30)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    server.script = lambda _: 401
    done = batch(server, name, questions)
    assert done.exit_code == 1
    assert "stopped: 20 questions in a row" in done.output
    server.script = usual
    done = batch(server, name, questions)
    assert done.exit_code == 0, done.output
    assert {row["error"] for row in answers(questions)} == {None}


def test_answers_do_not_wait_for_other_batches(
    server: BatchServer, name: str, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = {"openai-batch": providers.OpenAIBatches, "anthropic-batch": providers.AnthropicBatches}[name]
    monkeypatch.setattr(provider, "limits", Limits(requests=3, size=10_000_000))
    server.looks = 10_000
    assert batch(server, name, questions, "--no-wait").exit_code == 0
    assert len(server.batches) == 2
    next(iter(server.batches.values())).looks = 0
    server.looks = 0
    assert batch(server, name, questions, "--resume", "--no-wait").exit_code == 0
    assert len(answers(questions)) == 3, "the points of the first three questions, although three outlines are open"


def test_a_batch_that_is_gone(server: BatchServer, name: str, questions: Path) -> None:
    server.looks = 10_000
    batch(server, name, questions, "--no-wait")
    server.refuses = 404
    done = batch(server, name, questions, "--resume")
    assert done.exit_code == 1
    assert "Is it another key, or another URL" in done.output


def test_a_ledger_that_cannot_be_read(server: BatchServer, name: str, questions: Path) -> None:
    questions.with_name("answers.jsonl.batches").write_bytes(b"no database" * 1_000)
    done = batch(server, name, questions)
    assert (done.exit_code, "cannot be read" in done.output) == (2, True), done.output
    assert server.batches == {}


def test_what_is_uploaded_is_what_was_counted(server: BatchServer, questions: Path) -> None:
    row = {"id": "1", "question": "蜜蜂怎么飞回家呢" * 500}
    questions.write_text(json.dumps(row), encoding="utf-8")
    assert batch(server, "openai-batch", questions).exit_code == 0
    sizes = [len(content) for content in server.files.values()]
    assert sizes[0] < 3 * 8 * 500 + 3_000, "3 bytes a character"


def test_ctrl_c_while_it_waits(
    server: BatchServer, name: str, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.looks = 10_000

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sot_graph.cli.backend.time.sleep", interrupt)
        stopped = batch(server, name, questions)
    assert stopped.exit_code == 130
    assert "stays with the provider; the same command with --resume fetches it" in stopped.output
    server.looks = 0
    for each in server.batches.values():
        each.looks = 0
    assert batch(server, name, questions, "--resume").exit_code == 0
    assert len(server.batches) == 2


def test_trouble_with_the_network_is_waited_out(
    server: BatchServer, name: str, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.looks = 3
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        server.refuses = 503 if len(pauses) == 1 else None

    monkeypatch.setattr("sot_graph.cli.backend.time.sleep", sleep)
    monkeypatch.setattr(providers, "CLIENT_RETRIES", 0)
    done = batch(server, name, questions)
    assert done.exit_code == 0, done.output
    assert pauses[1] > pauses[0], "looks become rarer"


def test_a_refused_key_is_said_at_once(server: BatchServer, name: str, questions: Path) -> None:
    server.refuses = 401
    done = batch(server, name, questions)
    assert done.exit_code == 1
    assert "refused by the test" in done.output
    assert "AuthenticationError" in done.output


def test_a_batch_that_fails_as_a_whole(server: BatchServer, questions: Path) -> None:
    server.errors = ["Enqueued token limit reached"]
    done = batch(server, "openai-batch", questions)
    assert done.exit_code == 1
    assert "the provider refused a batch: Enqueued token limit reached" in done.output
    server.errors = []
    assert batch(server, "openai-batch", questions, "--resume").exit_code == 0
    assert_whole(questions)


def test_large_files_are_split(
    server: BatchServer, name: str, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = {"openai-batch": providers.OpenAIBatches, "anthropic-batch": providers.AnthropicBatches}[name]
    monkeypatch.setattr(provider, "limits", Limits(requests=10, size=10_000_000))
    assert batch(server, name, questions).exit_code == 0
    assert [sum(stages.values()) for stages in server.stages()] == [6, 10, 10, 4]
    assert_whole(questions)


def test_a_batch_that_was_submitted_by_a_killed_process_is_found(server: BatchServer, questions: Path) -> None:
    """The process died after the provider had taken the batch, and before its id was stored."""
    server.looks = 0
    batch(server, "openai-batch", questions, "--no-wait")
    path = questions.with_name("answers.jsonl.batches")
    ledger = Ledger(path)
    tag = ledger.open_batches()[0].tag if ledger.open_batches() else None
    ledger.close()
    assert tag is None, "it had ended at once, so the file is whole"
    server.looks = 10_000
    questions.with_name("answers.jsonl").unlink()
    batch(server, "openai-batch", questions, "--no-wait")
    ledger = Ledger(path)
    (left,) = ledger.open_batches()
    ledger.note_id(left.tag, None)
    ledger.close()
    count = len(server.batches)
    for each in server.batches.values():
        each.looks = 0
    server.looks = 0
    assert batch(server, "openai-batch", questions, "--resume").exit_code == 0
    assert len(server.batches) == count + 1, "the points; the outlines were found"


def test_the_ledger_splits_by_size_and_by_endpoint(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    requests = [Stored(str(number), f"/v1/{number % 2}", b"x" * 1_000) for number in range(6)]
    assert [ledger.find(each) for each in requests] == [None] * 6
    taken = [ledger.next_batch(Limits(100, 2_500), "p")[1] for _ in range(5)]
    assert [[each.id for each in part] for part in taken] == [["0", "2"], ["4"], ["1", "3"], ["5"], []]
    batches = ledger.open_batches()
    assert batches[0] == OpenBatch(batches[0].tag, None, "p")
    assert ledger.settle(batches[0].tag, [Reply("0", 200, b"a"), Reply("2", None), Reply("strange", 200, b"")]) == 1
    assert ledger.find(requests[0]) == Reply("0", 200, b"a")
    assert [each.id for each in ledger.next_batch(Limits(100, 2_500), "p")[1]] == ["2"]
    ledger.close(is_done=True)
    assert list(tmp_path.iterdir()) == []


def test_other_use_is_refused(server: BatchServer, name: str, questions: Path) -> None:
    for change, message in (
        (["--hedge", "2"], "--hedge is for calls that are made at once"),
        (["--requests-per-minute", "9"], "limits of a minute are for calls that are made at once"),
        (["--backend", "online", "--resume"], "--resume and --no-wait are for batches"),
    ):
        done = batch(server, name, questions, *change)
        assert (done.exit_code, message in done.output) == (2, True), done.output
    assert server.batches == {}
