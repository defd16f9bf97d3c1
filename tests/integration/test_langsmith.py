"""The examples for LangSmith, against a loopback server in LangSmith's place, and without any."""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableLambda

from sot_graph import DemoChatModel
from sot_graph.evaluation.judge import ASPECTS, Judge
from tests.langsmith_api import Api, langsmith_api

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = DemoChatModel(first_token=0, tokens_per_second=0)
NAME = "questions"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with langsmith_api() as api:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", api.sink.client.api_url)
        yield api


@pytest.fixture
def experiment() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "langsmith_experiment.py"))


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-test-key")


class Judging(DemoChatModel):
    """Finds the first answer better, or the longer one."""

    likes: str

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Runnable[LanguageModelInput, Any]:  # noqa: ARG002
        def prefer(messages: Any) -> Any:
            text = messages[0]["content"]
            first, second = (text.partition(f"<{each}>")[2].partition(f"</{each}>")[0] for each in ("first", "second"))
            assert first
            assert second
            better = "first" if self.likes == "first" or len(first) > len(second) else "second"
            return schema.model_validate(dict.fromkeys(ASPECTS, better) | {"reason": "Because."})

        return RunnableLambda(prefer)


def judge(likes: str) -> Judge:
    return Judge("judging", Judging(likes=likes))


def test_without_a_key_nothing_is_sent(
    api: Api, experiment: dict[str, Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    experiment["compare"](QUICK, None, NAME)
    shown = capsys.readouterr().out
    assert [shown.count(question[:48]) for question in experiment["QUESTIONS"]] == [1, 1, 1]
    assert "sooner?" in shown
    assert (api.requests, api.sink.runs) == ([], {})
    assert not caplog.records


@pytest.mark.parametrize("likes", ["first", "longer"])
def test_a_verdict_that_turns_with_the_order_is_a_tie(
    experiment: dict[str, Any], capsys: pytest.CaptureFixture[str], likes: str
) -> None:
    experiment["compare"](QUICK, judge(likes), NAME)
    shown = capsys.readouterr().out
    assert all(f"{aspect}?" in shown for aspect in ASPECTS)
    scores = {
        score
        for question in experiment["QUESTIONS"]
        for line in shown.splitlines()
        if line.startswith(question[:48])
        for score in line.split()[-len(ASPECTS) :]
    }
    assert scores == {"0.50"} if likes == "first" else scores & {"0.00", "1.00"}


def test_the_demo_judges_too(
    experiment: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sot_graph.demo.time.sleep", lambda _seconds: None)
    monkeypatch.setattr(sys, "argv", ["langsmith_experiment.py", "--judge", "demo"])
    experiment["main"]()
    assert "overall?" in capsys.readouterr().out


@pytest.mark.parametrize("online", [False, True])
def test_a_question_that_fails_is_left_out(
    api: Api,
    experiment: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    online: bool,
) -> None:
    if online:
        monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-test-key")

    def paced(model: DemoChatModel, messages: Any, *args: Any) -> Any:
        if "bees" in messages[-1].text:
            msg = "no bees"
            raise ValueError(msg)
        return given(model, messages, *args)

    given = DemoChatModel._paced  # noqa: SLF001 - the way in for a fault
    monkeypatch.setattr(DemoChatModel, "_paced", paced)
    experiment["compare"](QUICK, judge("longer"), NAME)
    shown = capsys.readouterr().out
    assert "1 of 3 questions failed" in shown
    assert "floods" in shown
    assert len(api.scores("overall")) == 4 * online


def test_a_judge_that_fails_is_shown(experiment: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    broken = judge("longer")
    broken._judge = None  # noqa: SLF001 - calling it fails
    experiment["compare"](QUICK, broken, NAME)
    shown = capsys.readouterr().out
    assert shown.count("no verdict (TypeError") == 3
    assert shown.splitlines()[-3].startswith("median")


@pytest.mark.usefixtures("with_key")
def test_with_a_key_there_are_a_dataset_two_experiments_and_verdicts(api: Api, experiment: dict[str, Any]) -> None:
    experiment["compare"](QUICK, judge("longer"), NAME)
    (dataset,) = api.made["datasets"]
    assert dataset["name"] == NAME
    assert [each["inputs"]["question"] for each in api.made["examples"]] == list(experiment["QUESTIONS"])

    plain, outline = api.made["sessions"]
    assert (plain["name"][:6], outline["name"][:8]) == ("plain-", "outline-")
    (compared,) = api.made["comparative"]
    assert compared["experiment_ids"] == [outline["id"], plain["id"]]

    assert len(api.scores("seconds")) == 6
    assert len(api.scores("points")) == len(api.scores("parallel_gain")) == 3
    assert api.scores("failed_points") == [0, 0, 0]
    for aspect in ASPECTS:
        assert len(api.scores(aspect)) == 6
        assert sum(api.scores(aspect)) == 3, "of each pair, what one has the other has not"
        assert set(api.scores(aspect)) >= {0, 1}
    assert len(api.scores("sooner")) == 6

    models = [run for run in api.sink.of_type("llm") if run["session_name"] == outline["name"]]
    paths = [api.sink.path(run) for run in models]
    assert {tuple(path[:2]) for path in paths} == {("Target", "skeleton_of_thought")}, (
        "one tree; LangSmith names its root"
    )


@pytest.mark.usefixtures("with_key")
def test_the_dataset_is_made_once(api: Api, experiment: dict[str, Any]) -> None:
    for _ in range(2):
        experiment["compare"](QUICK, None, NAME)
    assert len(api.made["datasets"]) == 1
    assert len(api.made["examples"]) == 3
    assert len(api.made["sessions"]) == 4


def run_pytest(**environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*line, str(EXAMPLES / "test_with_langsmith.py")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_pytest_example_passes_without_langsmith(api: Api) -> None:
    done = run_pytest(LANGSMITH_TEST_TRACKING="false")
    assert done.stdout.strip().splitlines()[-1].startswith("2 passed"), done.stdout + done.stderr
    assert (api.requests, api.sink.runs) == ([], {})


@pytest.mark.usefixtures("with_key")
def test_the_pytest_example_is_an_experiment_in_langsmith(api: Api) -> None:
    done = run_pytest(LANGSMITH_TRACING="true", LANGSMITH_TEST_SUITE=NAME)
    assert done.stdout.strip().splitlines()[-1].startswith("2 passed"), done.stdout + done.stderr
    assert [each["name"] for each in api.made["datasets"]] == [NAME]
    assert len(api.made["sessions"]) == 1
    assert {each["inputs"]["question"] for each in api.made["examples"]} == {"How do bees find their way home?"}
    assert api.scores("pass") == [1, 1]
    assert [points >= 3 for points in api.scores("points")] == [True, True]
    roots = {path[0] for path in map(api.sink.path, api.sink.of_type("llm"))}
    assert roots == {"test_the_answer_has_several_points", "test_the_answer_has_several_points_async"}
