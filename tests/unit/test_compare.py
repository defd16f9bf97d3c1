"""The comparison with the demo model: its input, its calls, its files and its figures."""

import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from sot_graph import DemoChatModel, create_sot_graph
from sot_graph.cli import app, comparison, model, tables
from sot_graph.demo import demo_titles
from sot_graph.evaluation.answers import answers_html
from sot_graph.evaluation.compare import (
    Answer,
    Comparison,
    Question,
    append_result,
    compact_results,
    compare,
    is_complete,
    plain_graph,
    read_questions,
    read_results,
    timed_answer,
)
from sot_graph.evaluation.judge import ASPECTS, OUTCOMES, Verdict
from sot_graph.evaluation.plot import BAR, summary_svg
from sot_graph.evaluation.summary import (
    Prices,
    fit_tables,
    markdown,
    notes,
    problems,
    spread,
    summarize_comparisons,
    time_rows,
    verdict_rows,
)
from sot_graph.prompts import LEAD, TELL_BRIEFLY

QUICK = DemoChatModel(first_token=0, tokens_per_second=0)
PACED = DemoChatModel._paced  # noqa: SLF001 - the way in for a fault
QUESTIONS = ["How do bees find their way home?", "What should a small town do against floods?", "What is 17 * 23?"]


@pytest.fixture(autouse=True)
def _quick_demo_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOT_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(model, "DemoChatModel", lambda: QUICK)


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
        error=None,
    )
    return {**usual, **more}  # type: ignore[typeddict-item]


def result(
    plain: Answer, sot: Answer, category: str | None = None, outcome: str | None = None, judge: str = "j"
) -> Comparison:
    verdicts = {judge: verdict_of(judge, outcome)} if outcome else {}
    return Comparison(question="?", category=category, settings={}, plain=plain, sot=sot, verdicts=verdicts)


def verdict_of(judge: str, outcome: str, error: str | None = None, turned: tuple[str, ...] = ()) -> Verdict:
    outcomes = dict.fromkeys(ASPECTS, outcome)
    return Verdict(judge=judge, outcomes=outcomes, turned=[*turned], reasons=["Because.", "So."], error=error)


def summary_in(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("sot_first", [False, True])
async def test_both_graphs_answer_the_same_question(*, at_once: bool, sot_first: bool) -> None:
    graph = create_sot_graph(QUICK)
    question = Question(question=QUESTIONS[0], category="insects")
    found = await compare(question, plain_graph(QUICK), graph, settings={"a": 1}, at_once=at_once, sot_first=sot_first)
    assert is_complete(found)
    assert found["plain"]["text"] == QUICK.invoke(QUESTIONS[0]).text
    assert found["sot"]["text"] == graph.invoke({"question": QUESTIONS[0]})["answer"]
    assert (found["plain"]["calls"], found["sot"]["calls"]) == (1, found["sot"]["points"] + 1)
    assert found["plain"]["text"].count("\n\n") == found["sot"]["text"].count("\n\n"), "answers of the same length"
    for each in (found["plain"], found["sot"]):
        assert each["usage"]
        assert each["first_text_seconds"] is not None
        assert each["first_text_seconds"] <= each["seconds"]
    assert (found["question"], found["category"], found["settings"]) == (QUESTIONS[0], "insects", {"a": 1})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it contains no question"),
        ('{"question": "a"}\nnonsense', "line 2 is not JSON"),
        ('{"question": " "}', 'line 1 must be an object with a text as "question"'),
        ('["a"]', "line 1 must be"),
        ('\n{"text": "a"}', "line 2 must be"),
        ("[" * 200_000, "line 1 is not JSON"),
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
    """With a byte order mark, Windows line ends, and line separators within a text."""
    path = tmp_path / "questions.jsonl"
    path.write_bytes('\ufeff{"question": "What is a\u2028line?", "category": "all"}\r\n'.encode())
    done = run("--file", path, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["all"]["questions"], list(summary["categories"])) == (1, ["all"])
    path.write_text('{"question": "What is a\u2028line?", "category": "new"}', encoding="utf-8")
    run("--file", path, "--output", tmp_path / "out")
    assert list(json.loads((tmp_path / "out" / "summary.json").read_text())["categories"]) == ["new"]


def test_a_repeated_question_counts_once_and_keeps_its_category() -> None:
    lines = ['{"question": "a", "category": 1}', "", '{"question": "a"}', '{"question": "b", "id": 3}']
    assert read_questions(lines) == [{"question": "a", "category": "1"}, {"question": "b", "category": None}]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "there is no question"),
        (["Why?", "--file", "f"], "there is a question and --file. Give one of them, not both."),
        ([" "], "the question is empty"),
        (["--file", "nowhere.jsonl"], "--file nowhere.jsonl cannot be read"),
        (["Why?", "--price-in", "1"], "both prices"),
        (["Why?", "--price-cached", "1"], "both prices"),
        (["Why?", "--price-in", "-1", "--price-out", "1"], "price-in"),
        (["Why?", "--model", "nobody:knows"], "nobody"),
        (["Why?", "--judge", "nobody:knows"], "nobody"),
        (["Why?", "--judge-url", "http://localhost"], "--judge-url needs --judge"),
        (["Why?", "--output", __file__], "cannot be used"),
    ],
)
def test_a_usage_error_is_one_line_and_makes_no_call(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.setattr(DemoChatModel, "_astream", None)
    done = run(*arguments)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())


def test_one_question_shows_both_answers_and_the_figures() -> None:
    done = run(QUESTIONS[0], "--price-in", 1, "--price-out", 10, "--judge", "demo")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(QUESTIONS[0])
    assert "one plain call" in done.stdout
    assert "Skeleton-of-Thought" in done.stdout
    assert "speed-up" in done.stdout
    assert "cost" in done.stdout
    assert "judge, SoT first: This is the demo model" in done.stdout
    assert "judge, plain first: This is the demo model" in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())
    assert words.count("“First aspect”") == 2


def test_a_file_of_questions_gives_results_and_a_summary_by_category(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = run("--file", file, "--judge", "demo", "--output", folder, "--concurrency", 2)
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [
        *("answers.html", "results.jsonl", "summary.json", "summary.md", "summary.svg")
    ]
    assert list(read_results(folder / "results.jsonl")) == QUESTIONS
    assert len((folder / "results.jsonl").read_text().splitlines()) == 3, "a line for each, whatever a judge added"
    summary = summary_in(folder)
    questions = {name: group["questions"] for name, group in summary["categories"].items()}
    assert (summary["all"]["questions"], questions) == (3, {"kind 0": 2, "kind 1": 1})
    assert summary["all"]["direct"] == 1
    assert list(summary["verdicts"]) == list(ASPECTS)
    assert sum(each["count"] for each in summary["verdicts"]["overall"].values()) == 3
    assert "| kind 1 | 1 |" in (folder / "summary.md").read_text()
    assert "kind 0" in done.stdout
    words = " ".join(done.stdout.split())
    assert "1 of 3 SoT answers are direct" in words
    for text in (words, (folder / "summary.md").read_text()):
        assert "Settings: model demo, max_points 10, at_once False, lead False." in text
        assert "Judge: demo, with verdicts on 3 of 3 questions." in text
    settings = {"model": "demo", "base_url": None, "max_points": 10, "at_once": False, "lead": False}
    assert summary["settings"] == settings
    assert (summary["judge"], summary["judged"], list(summary["turned"])) == ("demo", 3, list(ASPECTS))


def test_one_more_question_keeps_the_others_in_the_summary(file: Path, tmp_path: Path) -> None:
    run("--file", file, "--output", tmp_path)
    done = run(QUESTIONS[0], "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    summary = summary_in(tmp_path)
    assert summary["all"]["questions"] == 3
    assert summary["categories"]["kind 0"]["questions"] == 2, "also if it is repeated without its category"
    assert (tmp_path / "answers.html").read_text().count("<article>") == 3
    assert "one plain call" in done.stdout
    assert "kind 1" not in done.stdout


def test_answers_with_a_lead_can_be_compared(tmp_path: Path) -> None:
    done = run(QUESTIONS[0], "--lead", "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    (found,) = read_results(tmp_path / "results.jsonl").values()
    assert (found["sot"]["calls"], found["settings"]["lead"]) == (found["sot"]["points"] + 2, True)
    assert "lead True" in done.stdout


class Talkative(DemoChatModel):
    """Its opening never ends."""

    def _paced(self, messages: Any, *args: Any) -> Any:
        if not messages[-1].text.startswith(LEAD):
            return PACED(self, messages, *args)
        words = "This is a sentence of the opening. " * 1_000
        chunks = (AIMessageChunk(content=f"{word} ") for word in words.split())
        return ((1 / self.tokens_per_second, ChatGenerationChunk(message=chunk)) for chunk in chunks)


@pytest.mark.parametrize("kind", [DemoChatModel, Talkative])
def test_points_do_not_wait_for_a_long_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[DemoChatModel]
) -> None:
    speed_ups, texts = [], []
    for options in ([], ["--lead"]):
        monkeypatch.setattr(model, "DemoChatModel", lambda: kind(first_token=0.2, tokens_per_second=150))
        folder = tmp_path / str(len(options))
        assert run(QUESTIONS[0], *options, "--output", folder).exit_code == 0
        (found,) = read_results(folder / "results.jsonl").values()
        speed_ups.append(found["plain"]["seconds"] / found["sot"]["seconds"])
        texts.append(found["sot"]["text"])
    assert speed_ups[1] > 0.7 * speed_ups[0]
    opening = texts[1].removesuffix(texts[0])
    assert 0 < opening.count(".") <= 2
    assert len(opening) < 200


def test_existing_results_are_not_computed_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the answers when a judge is added, nor the verdicts when nothing is new."""
    monkeypatch.chdir(tmp_path)
    assert run("--file", file).exit_code == 0
    path = tmp_path / "questions-comparison" / "results.jsonl"
    answers = path.read_text()
    path.write_text(answers + '{"question": "half a li')
    prompts = Recording.prompts = []
    monkeypatch.setattr(model, "DemoChatModel", lambda: Recording(first_token=0, tokens_per_second=0))

    assert run("--file", file).exit_code == 0
    assert (prompts, path.read_text()) == ([], answers), "and the incomplete line is removed"

    done = run("--file", file, "--judge", "demo")
    assert done.exit_code == 0, done.stderr
    assert len(prompts) == 6, "each question in both orders, and no answer"
    assert len(path.read_text().splitlines()) == len(read_results(path)) == 3

    assert run("--file", file, "--judge", "demo").exit_code == 0
    assert len(prompts) == 6


class Recording(DemoChatModel):
    """Records its prompts."""

    prompts: ClassVar[list[str]] = []

    def _paced(self, messages: Any, *args: Any) -> Any:
        self.prompts.append(messages[-1].text)
        return super()._paced(messages, *args)


def test_results_with_other_settings_are_not_mixed(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run("--file", file, "--output", folder)
    done = run("--file", file, "--output", folder, "--max-points", 3)
    assert done.exit_code == 2
    assert "max_points 10" in " ".join(done.stderr.split())


def full(*_: Any) -> None:
    msg = "full"
    raise OSError(msg)


def test_reading_keeps_the_file_and_appending_starts_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process may write to the file."""
    path = tmp_path / "results.jsonl"
    older, newer = result(answer(2.0), answer(1.0), "a"), result(answer(4.0), answer(1.0))
    append_result(older, path)
    with path.open("a") as file:
        file.write('{"question": "half a li')
    before = path.read_text()
    assert read_results(path) == {"?": older}
    assert path.read_text() == before
    append_result(newer, path)
    assert path.read_text() == f"{before}\n{json.dumps(newer)}\n"
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="full"):
            compact_results(path, [])
    assert path.read_text() == f"{before}\n{json.dumps(newer)}\n", "until the last step nothing is lost"
    (left,) = compact_results(path, [])
    assert left == {**newer, "category": "a"}, "a category is kept"
    assert path.read_text() == json.dumps(left) + "\n"
    assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]


def test_results_are_in_the_order_of_the_questions(tmp_path: Path) -> None:
    """In whatever order they were answered; after the results of another file."""
    path = tmp_path / "results.jsonl"
    for question in ("c", "b", "other", "a"):
        append_result({**result(answer(2.0), answer(1.0)), "question": question}, path)
    results = compact_results(path, [Question(question=each, category=None) for each in "abc"])
    assert [each["question"] for each in results] == list(read_results(path)) == ["other", "a", "b", "c"]


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"question": "in another format"}'])
def test_a_file_that_has_no_results_is_not_changed(file: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "out" / "results.jsonl"
    path.parent.mkdir()
    path.write_text(f"{line}\n")
    done = run("--file", file, "--output", path.parent)
    assert done.exit_code == 2
    assert f"line 1 of {path} is not a comparison result" in " ".join(done.stderr.split())
    assert path.read_text() == f"{line}\n"


def test_texts_with_lone_surrogates_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DemoChatModel, "_paced", odd_chunks)
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "What is \\ud800?", "category": "\\udfff"}')
    for arguments in (["--file", path], ["What is \udc80?"]):
        for _ in range(2):
            done = run(*arguments, "--output", tmp_path / "out")
            assert done.exit_code == 0, done.stderr
    (found,) = read_results(tmp_path / "out" / "results.jsonl").values()
    assert found["plain"]["text"] == "odd \ufffd text"
    assert found["question"] == "What is \ufffd?"


def odd_chunks(*_: Any) -> Any:
    yield 0.0, ChatGenerationChunk(message=AIMessageChunk(content="odd \ud800 text"))


def test_speed_up_is_computed_per_question_without_failures() -> None:
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
    assert verdict_rows(summary)[1] == ["overall", "50% (24% to 76%)", "30% (11% to 60%)", "20% (6% to 51%)", "0"]


def test_the_summary_says_how_many_questions_were_judged() -> None:
    results = [result(answer(2.0), answer(1.0)) for _ in range(4)]
    verdicts = [
        verdict_of("j", "tie", turned=("overall", "depth")),
        verdict_of("j", "tie"),
        verdict_of("j", "", "lost"),
    ]
    for each, verdict in zip(results, verdicts, strict=False):
        each["verdicts"]["j"] = verdict
    summary = summarize_comparisons(results)
    assert (summary["judge"], summary["judged"]) == ("j", 2)
    assert summary["turned"] == {**dict.fromkeys(ASPECTS, 0), "overall": 1, "depth": 1}
    assert "Judge: j, with verdicts on 2 of 4 questions." in notes(summary)
    assert [row[-1] for row in verdict_rows(summary)] == ["turned", "1", "0", "0", "0", "0", "1"]


def test_cached_tokens_have_their_own_price() -> None:
    read = {**usage(), "input_token_details": {"cache_read": 60}}
    costs = [
        Prices(10.0, 100.0, cached).cost(each)  # type: ignore[arg-type]
        for each in (usage(), read)
        for cached in (None, 1.0)
    ]
    assert costs == [0.021, 0.021, 0.021, (40 * 10 + 60 * 1 + 200 * 100) / 1e6]
    assert comparison.prices_or_exit(10.0, 100.0, 1.0) == Prices(10.0, 100.0, 1.0)


async def test_an_answer_with_missing_points_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, *(TELL_BRIEFLY.format(title=title) for title in demo_titles(QUESTIONS[0])[1:3]))
    found = await timed_answer(create_sot_graph(QUICK, on_error="keep"), QUESTIONS[0])
    assert found["error"] == f"2 of {found['points']} points could not be written: ValueError: wrong key\nat all"
    assert found["text"]
    assert not is_complete(result(answer(1.0), found))
    assert problems([result(answer(1.0), found)], None)[0].startswith(
        f"'?', Skeleton-of-Thought: 2 of {found['points']} points"
    )


def test_a_problem_is_one_line_for_any_error() -> None:
    each = result(answer(1.0, error="ValidationError: 2 errors\n  depth\n\x1b[2J" + "more " * 999), answer(1.0))
    each["question"] = "Why\nis it so? " * 20
    (line,) = problems([each], None)
    assert "one plain call: ValidationError: 2 errors depth [2Jmore" in line
    assert "\n" not in line
    assert len(line) < 300


def test_markup_in_a_category_is_escaped_in_the_summary() -> None:
    names = ["<img src=x onerror=alert(1)>", "a|b\nc", "\u202eturned"]
    results = [result(answer(2.0), answer(1.0), name, "win", "<i>j</i>") for name in names]
    text = markdown(summarize_comparisons(results))
    assert "Judge: &lt;i&gt;j&lt;/i&gt;, with" in text
    assert "| &lt;img src=x onerror=alert(1)&gt; | 1 |" in text
    assert "| a\\|b c | 1 |" in text
    assert "| turned | 1 |" in text


class Page(HTMLParser):
    """The tags and texts of an HTML page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_answers_are_a_readable_page() -> None:
    odd = "  1. <script>alert(1)</script>\n\n\tit & </div> \x1b\ud800 睡眠"
    verdict = verdict_of("j at <b>", "tie", turned=("depth",))
    one, other = result(answer(2.0, text=odd), answer(1.0), "<i>kind</i>"), result(answer(1.0, error="lost"), answer(1))
    one["question"] = "Why <a>\nthen?"
    one["verdicts"] = {"j": verdict, "k": verdict_of("k", "win")}
    page = answers_html([one, other], "j")
    page.encode("utf-8")
    parsed = Page(page)
    assert not {"script", "i", "a"} & set(parsed.tags)
    assert (parsed.tags.count("article"), parsed.tags.count("li")) == (2, len(ASPECTS))
    for text in (odd.replace("\x1b\ud800", ""), "Why <a>\nthen?", "<i>kind</i>", "lost", "SoT first: Because."):
        assert text in parsed.texts
    assert "2.0 s · first text after 0.5 s" in page
    words = " ".join("".join(parsed.texts).split())
    assert "depth tie (turned with the order)" in words
    assert "overall win" not in words, "the verdict of another judge"
    assert all(
        each in page
        for each in ("prefers-color-scheme: dark", "pre-wrap", "max-width: 45rem", "viewport", 'dir="auto"')
    )
    assert "<article>" not in answers_html([])


def test_files_are_written_before_the_figures_are_printed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner(charset="cp1252").invoke(app, ["compare", "--file", str(file), "--output", str(tmp_path)])
    assert done.exit_code == 0, done.stderr
    assert " → " in done.stdout_bytes.decode("utf-8")

    def broken(_: str) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(tables, "write", broken)
    done = run("--file", file, "--output", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("sot-graph: standard output could not be written: OSError")
    assert summary_in(tmp_path / "out")["all"]["questions"] == 3


def test_judges_with_the_same_name_on_two_servers_are_distinct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_openai.ChatOpenAI", lambda **_: QUICK)
    for host in ("a", "b"):
        done = run(QUESTIONS[0], "--judge", "j", "--judge-url", f"http://me:top-secret-1@{host}", "--output", tmp_path)
        assert done.exit_code == 0, done.stderr
    (found,) = read_results(tmp_path / "results.jsonl").values()
    assert list(found["verdicts"]) == ["j at http://***@a", "j at http://***@b"]
    assert summary_in(tmp_path)["judge"] == "j at http://***@b"


def nine_questions(folder: Path) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"Why {i}?"}) for i in range(9)))
    return path


def refuse(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Let the demo fail if a message contains one of these parts."""

    def paced(model: DemoChatModel, messages: Any, *args: Any) -> Any:
        if any(part in message.text for message in messages for part in parts):
            msg = "wrong key\nat all"
            raise ValueError(msg)
        return PACED(model, messages, *args)

    monkeypatch.setattr(DemoChatModel, "_paced", paced)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_the_run_stops_after_three_questions_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    refuse(monkeypatch, "Why")
    arguments = ("--file", nine_questions(tmp_path), "--output", tmp_path, "--concurrency", concurrency)
    done = run(*arguments)
    assert done.exit_code == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("sot-graph: stopped: 3 questions in a row got no answer ('Why ")
    assert "ValueError: wrong key at all). Fix the cause, then run the same command to resume." in line
    left = 9 - summary_in(tmp_path)["questions"]
    assert 9 - 3 - (concurrency - 1) <= left <= 6
    assert line.endswith(f"Questions left: {left}.")
    refuse(monkeypatch)
    assert run(*arguments).exit_code == 0
    assert summary_in(tmp_path)["all"]["questions"] == 9


def test_questions_that_always_fail_run_after_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "Why 0", "Why 1", "Why 2", "Why 4")
    for answered in (None, 5):
        done = run("--file", nine_questions(tmp_path), "--output", tmp_path)
        assert done.exit_code == 1
        group = summary_in(tmp_path)["all"]
        assert (group and group["questions"]) == answered


def test_failures_between_answers_do_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "Why 1", "Why 2", "Why 4", "Why 5", "Why 8")
    done = run("--file", nine_questions(tmp_path), "--output", tmp_path)
    assert done.exit_code == 1
    *_, third, more = done.stderr.splitlines()
    assert third == "'Why 2?', one plain call: ValueError: wrong key at all"
    assert more == "and 7 more; see the results."
    assert summary_in(tmp_path)["all"]["questions"] == 4


def test_verdicts_of_two_judges_are_not_mixed() -> None:
    both = result(answer(2.0), answer(1.0), None, "win", "a")
    both["verdicts"]["b"] = verdict_of("b", "lose")
    failed = result(answer(2.0), answer(1.0), None, "win", "a")
    failed["verdicts"]["a"] = verdict_of("a", "win", error="lost")
    wins = [
        summarize_comparisons([both, failed], judge=judge)["verdicts"]["overall"]["win"]["count"]
        for judge in ("a", "b")
    ]
    assert wins == [1, 0]
    assert summarize_comparisons([both])["verdicts"] == {}, "no judge is chosen"
    assert summarize_comparisons([failed])["verdicts"] == {}


def test_answers_that_cannot_be_written_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"")
    done = run(QUESTIONS[0], "--output", tmp_path)
    assert done.exit_code == 1
    assert "the results could not be written" in done.stderr
    assert "Skeleton-of-Thought" in done.stdout


def test_no_key_is_in_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_openai.ChatOpenAI", lambda **_: QUICK)
    done = run(QUESTIONS[0], "--model", "m", "--base-url", "http://me:top-secret-1@localhost", "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "top-secret-1" not in (tmp_path / "results.jsonl").read_text() + done.stdout + done.stderr


NAMES = ["counterfactual", "a\nname " * 10, "睡眠" * 40, "<b>|</b>\u202e", None]


def many() -> dict[str, Any]:
    """A summary with the figures of real models."""
    usages = [{"input_tokens": i * 1000, "output_tokens": 140, "total_tokens": i * 1000 + 140} for i in (1, 10)]
    results = [
        result(
            answer(120.9 + i, text="a" * 1140, usage=usages[0]), answer(10.3 + i, usage=usages[1]), NAMES[i % 5], "win"
        )
        for i in range(40)
    ]
    return summarize_comparisons(results, Prices(1, 10))


@pytest.mark.parametrize(("columns", "quartiles"), [(60, False), (80, False), (200, True)])
def test_figures_are_never_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, *, quartiles: bool
) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(tables, "Console", lambda **_: console)
    summary = many()
    tables.print_comparison([], summary)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    printed = "\n".join(lines)
    rows = [*time_rows(summary, quartiles=quartiles)[1:], *verdict_rows(summary, intervals=quartiles)]
    for cell in (cell for row in rows for cell in row[1:]):
        assert cell in printed
    assert "1,140 → 10,140" in printed
    assert bool(re.search(r"\d \(\d+\.\d-\d+\.\d\)", printed)) == quartiles
    assert len([line for line in lines if line.startswith("counterfa")]) == (1 if quartiles else 2)


def test_split_tables_show_each_figure_once() -> None:
    rows = time_rows(many(), quartiles=False)
    for width in range(40, 200):
        tables = fit_tables([rows], width)
        assert [cell for table in tables for cell in table[1][1:]] == rows[1][1:]
        assert {len(table) for table in tables} == {len(rows)}


def test_the_figures_of_one_question_are_never_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(tables, "Console", lambda **_: console)
    each = result(answer(123.4), answer(10.3, error="lost", usage={**usage(), "total_tokens": 12_190}))
    tables.print_comparison([each], summarize_comparisons([each]))
    printed = capsys.readouterr().out
    assert "lost" in printed
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", printed).split())
    assert all(figure in words for figure in ("123.4 s", "300 tokens", "12,190", "4 characters"))


def usage() -> dict[str, int]:
    return {"input_tokens": 100, "output_tokens": 200, "total_tokens": 300}


def test_unknown_figures_are_not_counted() -> None:
    unknown = answer(1.0, usage=None, first_text_seconds=None)
    summary = summarize_comparisons([result(unknown, unknown)], Prices(1, 1))
    assert summary["all"]["sot"]["tokens"] is None
    assert time_rows(summary)[1][-1] == "? → ?"
    assert summary["all"]["sot"]["characters"]["median"] == 4
    assert spread([]) is None
    assert spread([None, 3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}


@pytest.mark.parametrize("judged", [False, True])
def test_the_plot_is_well_formed_and_within_its_frame(*, judged: bool) -> None:
    names = ["a", "<b>&\x07\ud800" * 9, "睡眠" * 40, None]
    results = [result(answer(i + 1.0), answer(1.0), name, "win" if judged else None) for i, name in enumerate(names)]
    root = ET.fromstring(summary_svg(summarize_comparisons(results)).encode("utf-8"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert "prefers-color-scheme: dark" in "".join(root.itertext())
    assert len(root.findall(".//{*}circle")) == 4, "all of them, and three categories"
    assert len(root.findall(".//{*}path")) == 2 * len(ASPECTS) * judged, "intervals of wins and of losses"
    for each in root.iter():
        for key, most in (("x", width), ("cx", width), ("x2", width), ("y", height), ("cy", height), ("y2", height)):
            assert 0 <= float(each.get(key, 0)) <= most


def test_the_outcomes_of_an_aspect_are_one_bar_and_no_interval_is_on_it() -> None:
    outcomes = ["win"] * 5 + ["tie"] * 3 + ["lose"] * 2
    summary = summarize_comparisons([result(answer(2.0), answer(1.0), None, each) for each in outcomes])
    root = ET.fromstring(summary_svg(summary))
    bars = [each for each in root.findall(".//{*}rect") if each.get("height") == str(BAR)]
    assert [each.get("class") for each in bars] == [*OUTCOMES] * len(ASPECTS)
    (top,) = {each.get("y") for each in bars[:3]}
    left, right = float(bars[0].get("x", 0)), float(bars[2].get("x", 0)) + float(bars[2].get("width", 0))
    assert [float(each.get("width", 0)) / (right - left) for each in bars[:3]] == pytest.approx(
        [0.5, 0.3, 0.2], abs=0.001
    )
    assert float(bars[1].get("x", 0)) == left + float(bars[0].get("width", 0)), "side by side"
    paths = [re.findall(r"[-\d.]+", each.get("d", "")) for each in root.findall(".//{*}path")]
    for path, (low, high) in zip(paths[:2], [(0.2366, 0.7634), (1 - 0.5098, 1 - 0.0567)], strict=True):
        start, end = ((float(x) - left) / (right - left) for x in (path[0], path[5]))
        assert (start, end) == pytest.approx((low, high), abs=0.001)
        assert float(path[1]) > float(str(top)) + BAR, "below the bar"


def test_a_summary_without_answers_is_drawn() -> None:
    summary = summarize_comparisons([result(answer(1.0, error="lost"), answer(1.0))])
    assert "1 of 1 questions failed" in markdown(summary)
    ET.fromstring(summary_svg(summary))
