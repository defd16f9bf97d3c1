"""The command line with the demo model: what goes where, and how it ends."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from sot_graph import DemoChatModel, cli
from sot_graph.cli import app
from sot_graph.display import harmless

QUESTION = "How do bees find their way home?"


@pytest.fixture(autouse=True)
def _no_model_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOT_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "DemoChatModel", lambda: DemoChatModel(first_token=0, tokens_per_second=0))


def run(*arguments: str, given: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=given)


def test_the_answer_goes_to_stdout_and_the_rest_to_stderr() -> None:
    done = run("ask", QUESTION)
    assert done.exit_code == 0
    assert done.stdout.count("\n\n") >= 4
    assert "points ·" not in done.stdout
    notice, closing = done.stderr.splitlines()
    assert "No model is configured" in notice
    assert "offline demo" in notice
    assert closing.split(" · ")[0].endswith("points")
    assert [part.split(" ")[-1] for part in closing.split(" · ")[1:]] == ["calls", "tokens", "s", "s"]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_the_question_may_come_from_standard_input(arguments: list[str]) -> None:
    assert run("ask", *arguments, given=f"{QUESTION}\n").stdout == run("ask", QUESTION).stdout


def test_json_holds_all_there_is_to_know() -> None:
    done = run("ask", QUESTION, "--json")
    told = json.loads(done.stdout)
    assert set(told) == {"question", "answer", "points", "usage", "sot"}
    assert told["answer"] == "\n\n".join(point["text"] for point in told["points"])
    assert told["sot"]["calls"] == len(told["points"]) + 1
    assert told["usage"]["total_tokens"] > 0


def test_options_reach_the_graph() -> None:
    done = run("ask", QUESTION, "--max-points", "2", "--headings", "--model", "demo")
    assert done.stdout.count("## ") == 2
    assert "No model is configured" not in done.stderr
    assert run("ask", QUESTION, "--max-points", "1").stdout.count("\n\n") == 0


def test_a_question_that_suits_no_outline_says_so() -> None:
    assert "direct answer · 2 calls" in run("ask", "What is 2 + 2?").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask", "  "], "the question is blank"),
        (["ask", QUESTION, "--max-points", "0"], "--max-points"),
        (["ask", QUESTION, "--max-points", "many"], "--max-points"),
        (["ask", QUESTION, "--base-url", "http://127.0.0.1:9/v1"], "--base-url needs --model"),
        (["ask", QUESTION, "--model", "nobody:knows"], "Unable to infer model provider"),
        (["ask", QUESTION, "--what"], "--what"),
        (["what"], "what"),
    ],
    ids=str,
)
def test_wrong_use_ends_with_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_a_failed_run_ends_with_1_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(*_: Any, **__: Any) -> Any:
        message = "The first line.\nAnd a second\x1b[31m."
        raise RuntimeError(message)

    monkeypatch.setattr(cli, "_answer", answer)
    done = run("ask", QUESTION, "--model", "demo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "sot-graph: RuntimeError: The first line.\n"


def test_ctrl_c_ends_with_130_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_answer", answer)
    done = run("ask", QUESTION, "--model", "demo")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "sot-graph: stopped.\n")


def test_models_are_found_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(cli._model(None, None), DemoChatModel)  # noqa: SLF001 - what the options lead to
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-key")
    assert cli._model(None, None) == cli.DEFAULT_MODEL  # noqa: SLF001
    assert cli._model("anthropic:some", None) == "anthropic:some"  # noqa: SLF001
    monkeypatch.setenv("SOT_MODEL", "nobody:knows")
    assert "model='nobody:knows'" in run("ask", QUESTION).stderr


def test_watch_prints_the_answer_after_the_board() -> None:
    assert run("ask", QUESTION, "--watch").stdout == run("ask", QUESTION).stdout


def test_a_lead_comes_first() -> None:
    plain, led = run("ask", QUESTION).stdout, run("ask", QUESTION, "--lead").stdout
    assert led.endswith(plain)
    assert len(led) > len(plain)


def test_draw_prints_mermaid() -> None:
    done = run("draw")
    assert done.exit_code == 0
    assert "skeleton -.-> expand" in done.stdout


def test_without_arguments_it_helps() -> None:
    assert "ask" in run().output


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    assert harmless("\x1b[31mred\x1b[0m\a\tone\ntwo\x9b2J\x00\ud800") == "[31mred[0m\tone\ntwo2J"
