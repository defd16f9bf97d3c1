"""Comparing: what is read, what is asked, what it comes to; with the demo model."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from rich.console import Console
from typer.testing import CliRunner

from sot_graph import DemoChatModel, cli_compare, create_sot_graph, terminal
from sot_graph.cli import app
from sot_graph.compare import (
    Answer,
    Comparison,
    Question,
    compare,
    is_answered,
    plain_graph,
    read_questions,
    read_results,
)
from sot_graph.judge import ASPECTS, Verdict
from sot_graph.plot import summary_svg
from sot_graph.summary import Prices, markdown, spread, summarize_comparisons, time_rows, verdict_rows

QUICK = DemoChatModel(first_token=0, tokens_per_second=0)
QUESTIONS = ["How do bees find their way home?", "What should a small town do against floods?", "What is 17 * 23?"]


@pytest.fixture(autouse=True)
def _no_model_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOT_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(terminal, "DemoChatModel", lambda: QUICK)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    lines = [{"question": question, "category": f"kind {i % 2}"} for i, question in enumerate(QUESTIONS)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def answer(seconds: float, **more: Any) -> Answer:
    usual = Answer(
        text="text",
        seconds=seconds,
        first_text_seconds=0.5,
        usage={"input_tokens": 100, "output_tokens": 200, "total_tokens": 300},
        calls=1,
        points=5,
        failed=0,
        error=None,
    )
    return {**usual, **more}  # type: ignore[typeddict-item]


def result(
    plain: Answer, sot: Answer, category: str | None = None, outcome: str | None = None, judge: str = "j"
) -> Comparison:
    verdicts = {judge: said(judge, outcome)} if outcome else {}
    return Comparison(question="?", category=category, settings={}, plain=plain, sot=sot, verdicts=verdicts)


def said(judge: str, outcome: str, error: str | None = None) -> Verdict:
    return Verdict(judge=judge, outcomes=dict.fromkeys(ASPECTS, outcome), turned=[], reasons=[], error=error)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("sot_first", [False, True])
async def test_both_ways_answer_the_same_question(*, at_once: bool, sot_first: bool) -> None:
    graph = create_sot_graph(QUICK)
    question = Question(question=QUESTIONS[0], category="insects")
    told = await compare(question, plain_graph(QUICK), graph, settings={"a": 1}, at_once=at_once, sot_first=sot_first)
    assert is_answered(told)
    assert told["plain"]["text"] == QUICK.invoke(QUESTIONS[0]).text
    assert told["sot"]["text"] == graph.invoke({"question": QUESTIONS[0]})["answer"]
    assert (told["plain"]["calls"], told["sot"]["calls"]) == (1, told["sot"]["points"] + 1)
    assert told["plain"]["text"].count("\n\n") == told["sot"]["text"].count("\n\n"), "answers of the same length"
    for way in (told["plain"], told["sot"]):
        assert way["usage"]
        assert way["first_text_seconds"] is not None
        assert way["first_text_seconds"] <= way["seconds"]
    assert (told["question"], told["category"], told["settings"]) == (QUESTIONS[0], "insects", {"a": 1})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no question in it"),
        ('{"question": "a"}\nnonsense', "line 2 is no JSON"),
        ('{"question": " "}', 'line 1 must be an object with a text as "question"'),
        ('["a"]', "line 1 must be"),
        ('\n{"text": "a"}', "line 2 must be"),
        ("[" * 200_000, "line 1 is no JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(text, encoding="utf-8")
    done = run("--file", path)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())
    assert not list(tmp_path.glob("*comparison"))


def test_any_file_of_json_lines_can_be_read(tmp_path: Path) -> None:
    """With a mark at its beginning, ends of lines as on Windows, and line separators within a text."""
    path = tmp_path / "questions.jsonl"
    path.write_bytes('\ufeff{"question": "What is a\u2028line?", "category": "all"}\r\n'.encode())
    done = run("--file", path, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["all"]["questions"], list(summary["categories"])) == (1, ["all"])
    path.write_text('{"question": "What is a\u2028line?", "category": "new"}', encoding="utf-8")
    run("--file", path, "--output", tmp_path / "out")
    assert list(json.loads((tmp_path / "out" / "summary.json").read_text())["categories"]) == ["new"]


def test_a_question_that_comes_twice_is_asked_once() -> None:
    lines = ['{"question": "a", "category": 1}', "", '{"question": "a"}', '{"question": "b", "id": 3}']
    assert read_questions(lines) == [{"question": "a", "category": None}, {"question": "b", "category": None}]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "what is the question?"),
        (["Why?", "--file", "f"], "what is the question?"),
        ([" "], "the question is blank"),
        (["--file", "nowhere.jsonl"], "--file nowhere.jsonl cannot be read"),
        (["Why?", "--price-in", "1"], "both prices"),
        (["Why?", "--price-in", "-1", "--price-out", "1"], "price-in"),
        (["Why?", "--model", "nobody:knows"], "nobody"),
        (["Why?", "--judge", "nobody:knows"], "nobody"),
        (["Why?", "--judge-url", "http://localhost"], "--judge-url needs --judge"),
        (["Why?", "--output", __file__], "cannot be used"),
    ],
)
def test_wrong_use_is_one_line_and_asks_no_model(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.setattr(DemoChatModel, "_astream", None)
    done = run(*arguments)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())


def test_one_question_shows_both_answers_and_the_figures() -> None:
    done = run(QUESTIONS[0], "--price-in", 1, "--price-out", 10, "--judge", "demo")
    assert done.exit_code == 0, done.stderr
    assert "one plain call" in done.stdout
    assert "by an outline" in done.stdout
    assert "speed-up" in done.stdout
    assert "cost" in done.stdout
    assert "judge, SoT first: This is the demo model" in done.stdout
    assert "judge, plain first: This is the demo model" in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    assert words.count("“The idea behind bees”") == 2


def test_a_file_makes_results_and_a_summary_by_category(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = run("--file", file, "--judge", "demo", "--output", folder, "--concurrency", 2)
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        *("results.jsonl", "summary.json", "summary.md", "summary.svg")
    ]
    assert set(read_results(folder / "results.jsonl")) == set(QUESTIONS)
    summary = json.loads((folder / "summary.json").read_text())
    questions = {name: group["questions"] for name, group in summary["categories"].items()}
    assert (summary["all"]["questions"], questions) == (3, {"kind 0": 2, "kind 1": 1})
    assert summary["all"]["direct"] == 1
    assert list(summary["verdicts"]) == list(ASPECTS)
    assert sum(each["count"] for each in summary["verdicts"]["overall"].values()) == 3
    assert "| kind 1 | 1 |" in (folder / "summary.md").read_text()
    assert "kind 0" in done.stdout
    assert "1 of 3 answers of the graph are direct" in " ".join(done.stdout.split())


def test_what_is_there_is_not_asked_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers, when a judge comes later; the verdicts, when nothing is new."""
    monkeypatch.chdir(tmp_path)
    assert run("--file", file).exit_code == 0
    path = tmp_path / "questions-comparison" / "results.jsonl"
    answers = path.read_text()
    path.write_text(answers + '{"question": "half a li')
    asked = Listening.asked = []
    monkeypatch.setattr(terminal, "DemoChatModel", lambda: Listening(first_token=0, tokens_per_second=0))

    assert run("--file", file).exit_code == 0
    assert (asked, path.read_text()) == ([], answers)

    done = run("--file", file, "--judge", "demo")
    assert done.exit_code == 0, done.stderr
    assert len(asked) == 6, "each question in both orders, and no answer"
    assert len(path.read_text().splitlines()) == 6
    assert len(read_results(path)) == 3

    assert run("--file", file, "--judge", "demo").exit_code == 0
    assert len(asked) == 6


class Listening(DemoChatModel):
    """Tells what it is asked."""

    asked: ClassVar[list[str]] = []

    def _paced(self, messages: Any, kwargs: Any) -> Any:
        self.asked.append(messages[-1].text)
        return super()._paced(messages, kwargs)


def test_results_of_other_settings_are_not_mixed(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run("--file", file, "--output", folder)
    done = run("--file", file, "--output", folder, "--max-points", 3)
    assert done.exit_code == 2
    assert "max_points 10" in " ".join(done.stderr.split())


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"question": "of another make"}'])
def test_a_file_of_something_else_is_not_written_to(file: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "out" / "results.jsonl"
    path.parent.mkdir()
    path.write_text(f"{line}\n")
    done = run("--file", file, "--output", path.parent)
    assert done.exit_code == 2
    assert f"line 1 of {path} is no result" in " ".join(done.stderr.split())
    assert path.read_text() == f"{line}\n"


def test_texts_that_nobody_can_store_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DemoChatModel, "_paced", odd_pieces)
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "What is \\ud800?", "category": "\\udfff"}')
    for _ in range(2):
        done = run("--file", path, "--output", tmp_path / "out")
        assert done.exit_code == 0, done.stderr
    (told,) = read_results(tmp_path / "out" / "results.jsonl").values()
    assert told["plain"]["text"] == "odd \ufffd text"
    assert told["question"] == "What is \ufffd?"


def odd_pieces(*_: Any) -> Any:
    yield 0.0, ChatGenerationChunk(message=AIMessageChunk(content="odd \ud800 text"))


def test_speed_up_is_of_each_question_and_failures_are_left_out() -> None:
    results = [
        result(answer(4.0), answer(2.0), "a"),
        result(answer(9.0), answer(3.0), "a"),
        result(answer(1.0), answer(2.0, points=0), "b"),
        result(answer(100.0, error="lost"), answer(1.0), "b"),
    ]
    summary = summarize_comparisons(results, Prices(1.0, 10.0))
    assert (summary["questions"], summary["failed"], summary["verdicts"]) == (4, 1, {})
    assert summary["all"]["speed_up"] == {"median": 2.0, "low": 1.25, "high": 2.5}
    assert summary["categories"]["b"]["speed_up"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert summary["all"]["direct"] == 1
    assert summary["categories"]["a"]["sot"]["cost"]["median"] == (100 * 1 + 200 * 10) / 1e6
    assert "1 of 4 questions failed" in markdown(summary)
    assert verdict_rows(summary) == []


def test_verdicts_are_counted_with_their_intervals() -> None:
    outcomes = ["win"] * 5 + ["tie"] * 3 + ["lose"] * 2
    summary = summarize_comparisons([result(answer(2.0), answer(1.0), None, each) for each in outcomes])
    overall = summary["verdicts"]["overall"]
    assert {name: each["count"] for name, each in overall.items()} == {"win": 5, "tie": 3, "lose": 2}
    assert overall["win"]["share"] == 0.5
    assert overall["win"]["interval"] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert verdict_rows(summary)[1] == ["overall", "50% (24% to 76%)", "30% (11% to 60%)", "20% (6% to 51%)"]


def test_verdicts_of_two_judges_are_not_mixed() -> None:
    both = result(answer(2.0), answer(1.0), None, "win", "a")
    both["verdicts"]["b"] = said("b", "lose")
    failed = result(answer(2.0), answer(1.0), None, "win", "a")
    failed["verdicts"]["a"] = said("a", "win", error="lost")
    wins = [
        summarize_comparisons([both, failed], judge=judge)["verdicts"]["overall"]["win"]["count"]
        for judge in ("a", "b")
    ]
    assert wins == [1, 0]
    assert summarize_comparisons([both])["verdicts"] == {}, "whose?"
    assert summarize_comparisons([failed])["verdicts"] == {}


def test_what_cannot_be_written_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    done = run(QUESTIONS[0], "--output", tmp_path)
    assert done.exit_code == 1
    assert "the results could not be written" in done.stderr
    assert "by an outline" in done.stdout


def test_no_key_is_in_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_compare, "choose_model", lambda *_: QUICK)
    done = run(QUESTIONS[0], "--model", "m", "--base-url", "http://me:top-secret-1@localhost", "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "top-secret-1" not in (tmp_path / "results.jsonl").read_text() + done.stdout + done.stderr


@pytest.mark.parametrize(("columns", "quartiles"), [(80, False), (120, True)])
def test_figures_are_never_cut_off(monkeypatch: pytest.MonkeyPatch, columns: int, *, quartiles: bool) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(cli_compare, "Console", lambda **_: console)
    results = [result(answer(20.9 + i, points=0), answer(10.3 + i / 2), f"kind {i % 4}", "win") for i in range(40)]
    cli_compare._show(results, Prices(1, 10), "j", None)  # noqa: SLF001 - a terminal of a width that is known
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in told
    assert "0.00210 → 0.00210" in told
    assert bool(re.search(r"\d \(\d+\.\d-\d+\.\d\)", told)) == quartiles


def test_what_nobody_told_is_not_counted() -> None:
    unknown = answer(1.0, usage=None, first_text_seconds=None)
    summary = summarize_comparisons([result(unknown, unknown)], Prices(1, 1))
    assert summary["all"]["sot"]["tokens"] is None
    assert time_rows(summary)[1][-1] == "? → ?"
    assert spread([]) is None
    assert spread([None, 3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}


@pytest.mark.parametrize("judged", [False, True])
def test_the_plot_is_well_formed_and_stays_within_its_frame(*, judged: bool) -> None:
    names = ["a", "<b>&\x07\ud800" * 9, "睡眠" * 40, None]
    results = [result(answer(i + 1.0), answer(1.0), name, "win" if judged else None) for i, name in enumerate(names)]
    root = ET.fromstring(summary_svg(summarize_comparisons(results)).encode("utf-8"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert "prefers-color-scheme: dark" in "".join(root.itertext())
    assert len(root.findall(".//{*}circle")) == 4, "all of them, and three categories"
    lines = [each.get("class") for each in root.findall(".//{*}line")]
    assert "".join(str(each)[0] for each in lines if each in {"edge", "interval"}) == "ei" * 18 * judged, "an edge each"
    for each in root.iter():
        for key, most in (("x", width), ("cx", width), ("x2", width), ("y", height), ("cy", height), ("y2", height)):
            assert 0 <= float(each.get(key, 0)) <= most


def test_nothing_is_drawn_of_nothing() -> None:
    summary = summarize_comparisons([result(answer(1.0, error="lost"), answer(1.0))])
    assert "1 of 1 questions failed" in markdown(summary)
    ET.fromstring(summary_svg(summary))
