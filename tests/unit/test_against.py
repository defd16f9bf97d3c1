"""`sot-graph compare --against`: how a change of options is read, refused, named and compared."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from sot_graph import DemoChatModel
from sot_graph.cli import against, app, model, tables
from sot_graph.cli.against import plain_options, read_change, write_change
from sot_graph.evaluation.answers import answers_html
from sot_graph.evaluation.compare import Answer, Comparison, read_results
from sot_graph.evaluation.judge import ASPECTS, Verdict
from sot_graph.evaluation.plot import summary_svg
from sot_graph.evaluation.sides import sides
from sot_graph.evaluation.summary import Prices, markdown, notes, problems, summarize_comparisons, time_rows
from tests.unit.test_compare import answer, result, summary_in, verdict_of

QUICK = DemoChatModel(first_token=0, tokens_per_second=0)
QUESTION = "How do bees find their way home?"


@pytest.fixture(autouse=True)
def _quick_demo_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOT_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(model, "DemoChatModel", lambda: QUICK)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("lead=true", {"lead": True}),
        ("  lead = TRUE ,headings=True,  ", {"headings": True, "lead": True}),
        ("min_points = 3,max_points=4", {"max_points": 4, "min_points": 3}),
        ("max-points=4", {"max_points": 4}),
        ("max_tokens=none", {"max_tokens": None}),
        ("max_tokens=None, lead=true", {"lead": True, "max_tokens": None}),
        ("max_tokens=512", {"max_tokens": 512}),
        ("hedge=3x", {"hedge": "3x"}),
        ("hedge=2.5", {"hedge": 2.5}),
        ('hedge="2.5"', {"hedge": 2.5}),
        ("route=always", {"route": "always"}),
        ("route='Always'", {"route": "always"}),
        ("skeleton_model=openai:small", {"skeleton_model": "openai:small"}),
        ("system_prompt=Be short.", {"system_prompt": "Be short."}),
        ('system_prompt=Don\'t "shout", lead=true', {"lead": True, "system_prompt": 'Don\'t "shout"'}),
        ('system_prompt="Be short, please." ,lead=true', {"lead": True, "system_prompt": "Be short, please."}),
        ("system_prompt='Say \"a, b\".'", {"system_prompt": 'Say "a, b".'}),
        (r'system_prompt="Say \"a\".\nThen b."', {"system_prompt": 'Say "a".\nThen b.'}),
        ('system_prompt="One\ntwo, three"', {"system_prompt": "One\ntwo, three"}),
        ("system_prompt=a=b", {"system_prompt": "a=b"}),
        ('system_prompt=""', {"system_prompt": ""}),
        ("system_prompt=' '", {"system_prompt": " "}),
        ('system_prompt="none"', {"system_prompt": "none"}),
        ("system_prompt=\udc80", {"system_prompt": "\ufffd"}),
    ],
)
def test_options_are_read_in_any_order_and_long_texts_come_last(text: str, change: dict[str, Any]) -> None:
    found = read_change(text, {"max_points": 10})
    assert list(found.items()) == list(change.items())
    assert read_change(write_change(found), {}) == found, "it can be written and read again"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no option is named. These options can change: "),
        (" ", "no option is named"),
        ("lead", "'lead' is not name=value"),
        ("lead=", "'lead=' is not name=value"),
        ("=true", "'=true' is not name=value"),
        ("lead=true,,headings=true", "',headings=true' is not name=value"),
        ("system_prompt=Be short, be kind", "' be kind' is not name=value"),
        ('system_prompt="Be short', "is not name=value"),
        ('system_prompt="Be" short', "is not name=value"),
        (r'system_prompt="C:\q"', 'system_prompt must be text or none, not "C:\\q".'),
        ("lead=maybe", "lead must be true or false, not maybe."),
        ("lead=1", "lead must be true or false, not 1."),
        ("lead=none", "lead must be true or false, not none."),
        ("max_points=many", "max_points must be a whole number, not many."),
        ("max_points=1.5", "max_points must be a whole number, not 1.5."),
        ("max_points=none", "max_points must be a whole number, not none."),
        (f"max_points={'9' * 9_999}", "max_points must be a whole number, not 999"),
        ("max_tokens=some", "max_tokens must be a whole number or none, not some."),
        ("route=never", "route must be auto or always, not never."),
        ("lead=true,lead=false", "lead stands there twice."),
        ("max_points=4,max-points=5", "max_points stands there twice."),
        ("lead=false", "nothing changes: the graph has lead=false already."),
        ("max_points=7, lead=false", "nothing changes: the graph has max_points=7,lead=false already."),
        ("max_tokens=4096", "nothing changes"),
        *(
            (f"{name}=true", f"'{name}' cannot change. These options can change: ")
            for name in ("leed", "model", "review", "name", "checkpointer", "store", "cache", "cache_policy", "merge")
        ),
        *((f"{name}=none", f"'{name}' cannot change.") for name in ("expander", "retry_policy", "on_error")),
    ],
)
def test_what_is_no_change_is_refused_with_what_is_valid(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        read_change(text, {"max_points": 7})
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_only_options_with_plain_values_can_change() -> None:
    kinds = {name: str(kind) for name, kind in plain_options().items()}
    assert {
        "skeleton_model": "text or none",
        "route": "auto or always",
        "system_prompt": "text or none",
        "min_points": "a whole number",
        "max_points": "a whole number",
        "max_tokens": "a whole number or none",
        "headings": "true or false",
        "lead": "true or false",
        "hedge": "a number, text or none",
    }.items() <= kinds.items()
    assert not {"model", "checkpointer", "store", "cache", "review", "name", "merge", "on_error"} & set(kinds)


def test_options_are_those_of_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new option needs no change here."""

    def create(*, detail: Literal["free", "scoped"] = "free", closing: bool = False, pace: float = 1.0) -> None: ...

    monkeypatch.setattr(against, "create_sot_graph", create)
    assert {name: str(kind) for name, kind in plain_options().items()} == {
        "detail": "free or scoped",
        "closing": "true or false",
        "pace": "a number",
    }
    assert read_change("closing=true, detail=scoped", {}) == {"detail": "scoped", "closing": True}
    assert write_change(read_change("pace=2", {})) == "pace=2"


@given(st.dictionaries(st.sampled_from(["system_prompt", "skeleton_model"]), st.text() | st.none(), min_size=1))
def test_any_text_can_be_written_and_read_again(change: dict[str, str | None]) -> None:
    base = {"system_prompt": "other", "skeleton_model": "other"}
    found = read_change(write_change(change), base)
    assert write_change(found) == write_change(read_change(write_change(found), base))
    clean = {name: value for name, value in change.items() if value is None or "\0" not in value}
    assert clean.items() <= found.items()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["lead=maybe"], "--against: lead must be true or false, not maybe."),
        (["review=true"], "--against: 'review' cannot change. These options can change: "),
        (["lead=true", "--lead"], "--against: nothing changes: the graph has lead=true already."),
        (["max_points=3", "-n", "3"], "nothing changes"),
        (["hedge=3x", "--hedge", "3x"], "nothing changes"),
        (["hedge=2", "--hedge", "2.0"], "nothing changes"),
        (["max_points=0"], "max_points at least min_points"),
        (["min_points=11"], "max_points at least min_points"),
        (["hedge=soon"], "hedge must be a number of seconds"),
        (["hedge=nan"], "hedge must be a number of seconds"),
        (["max_tokens=0"], "max_tokens must be at least 1"),
        (["skeleton_model=nobody:knows"], "nobody"),
        (["skeleton_model=missing.gguf"], "There is no model file"),
    ],
)
def test_a_usage_error_is_one_line_and_makes_no_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    monkeypatch.setattr(DemoChatModel, "_astream", None)
    done = run(QUESTION, "--against", *arguments, "--output", tmp_path / "out")
    assert done.exit_code == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("sot-graph: ")
    assert problem in line
    assert not (tmp_path / "out").exists()


def both(folder: Path, *arguments: str) -> Comparison:
    done = run(QUESTION, "--output", folder, *arguments)
    assert done.exit_code == 0, done.stderr
    (found,) = read_results(folder / "results.jsonl").values()
    return found


def test_both_graphs_have_their_options(tmp_path: Path) -> None:
    found = both(tmp_path, "--max-points", "3", "--against", "lead=true, max_points=2")
    assert (found["plain"]["points"], found["plain"]["calls"]) == (3, 4)
    assert (found["sot"]["points"], found["sot"]["calls"]) == (2, 4), "with an opening"
    assert found["settings"]["against"] == "max_points=2,lead=true"
    assert (found["settings"]["max_points"], found["settings"]["lead"]) == (3, False), "of the command line"


def test_fewer_points_than_the_usual_minimum_are_written(tmp_path: Path) -> None:
    assert both(tmp_path, "--against", "max_points=1")["sot"]["points"] == 1
    assert both(tmp_path / "other", "-n", "1", "--against", "max_points=3,route=always")["sot"]["points"] == 3


def test_a_model_of_the_outline_is_named_as_the_model_is(tmp_path: Path) -> None:
    done = run(QUESTION, "--against", "skeleton_model=demo", "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "Model of the outline: demo" in done.stderr.splitlines()


def test_the_output_names_both_sides(tmp_path: Path) -> None:
    done = run(QUESTION, "--against", "lead=true", "--judge", "demo", "--output", tmp_path)
    assert done.exit_code == 0, done.stderr
    words = " ".join(done.stdout.split())
    for text in (
        *("─ outline ─", "─ lead=true ─", "outline s lead=true s", "lead=true against outline"),
        *("judge, lead=true first: ", "judge, outline first: ", "an arrow means outline → lead=true."),
        "Settings: model demo, max_points 10, at_once False, lead False, against lead=true.",
        "speed-up: the time of outline divided by that of lead=true. Above 1, lead=true is faster; below 1, it is",
        "win: the judge prefers lead=true to outline in both orders.",
        "Direct answers, without an outline: 0 → 0 of 1.",
    ):
        assert text in words
    assert summary_in(tmp_path)["settings"]["against"] == "lead=true"
    page = (tmp_path / "answers.html").read_text()
    files = [done.stdout, page, *((tmp_path / f"summary.{kind}").read_text() for kind in ("md", "svg"))]
    for text in files:
        assert not [name for name in ("plain", "SoT ", "one plain call") if name in text.replace("ui-monospace", "")]
        assert "lead=true" in text
    assert "<h3>lead=true, judged by demo</h3>" in page
    assert ["<h3>outline</h3>" in page, "<h3>lead=true</h3>" in page] == [True, True]


def compared(plain: Answer, sot: Answer, change: str, outcome: str | None = None) -> Comparison:
    return {**result(plain, sot, None, outcome), "settings": {"model": "m", "against": change}}


def test_more_than_1_means_that_the_change_is_faster() -> None:
    results = [
        compared(answer(3.0, points=0), answer(1.0), "route=always", "win"),
        compared(answer(3.0), answer(1.0, usage={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}), "route=x"),
    ]
    summary = summarize_comparisons(results, Prices(1, 10))
    assert summary["all"]["speed_up"]["median"] == 3
    assert (summary["all"]["plain_direct"], summary["all"]["direct"]) == (1, 0)
    assert summary["verdicts"]["overall"]["win"]["count"] == 1
    assert time_rows(summary)[0][2:4] == ["outline s", "route=always s"]
    assert {"tokens", "cost"} <= set(time_rows(summary)[0])
    assert "Direct answers, without an outline: 1 → 0 of 2." in notes(summary)


def test_without_a_change_there_is_no_new_key() -> None:
    summary = summarize_comparisons([result(answer(2.0, points=0), answer(1.0, points=0))])
    assert list(summary["all"]) == ["questions", "direct", "speed_up", "plain", "sot"]
    assert "1 of 1 SoT answers are direct, without an outline." in notes(summary)


def test_a_problem_names_its_side() -> None:
    each = compared(answer(1.0, error="lost"), answer(1.0, error="gone"), "lead=true")
    assert problems([each], None) == ["'?', outline: lost", "'?', lead=true: gone"]


ODD = [
    'system_prompt="' + "Write short, <b>plain</b> | points. " * 40 + '"',
    'system_prompt="' + "睡眠" * 99 + '"',
    r'system_prompt="[red]\n\u001b[2J' + "\u202e\x1b[2J\x07 & more" + '"',
]


@pytest.mark.parametrize("change", ODD)
def test_a_long_or_odd_change_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(tables, "Console", lambda **_: console)
    each = compared(answer(2.0), answer(1.0), change, "win")
    summary = summarize_comparisons([each], Prices(1, 10))
    tables.print_comparison([each], summary)
    printed = capsys.readouterr().out
    assert max(map(cell_len, printed.splitlines())) <= 80
    assert "\x1b[2J" not in printed
    assert "system_prompt=" in printed
    page, text = answers_html([each], "j"), markdown(summary)
    assert "<b>plain" not in page + text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| overall")}) == 1
    root = ET.fromstring(summary_svg(summary))
    heads = [each.text or "" for each in root.findall(".//{*}text") if each.get("class") == "head"]
    assert max(map(cell_len, heads)) * 9.1 < float(root.attrib["width"]) - 16, "within the frame"


def test_names_are_as_short_as_a_table_needs() -> None:
    names = sides({"against": "detail=scoped,closing=true"})
    assert (names.plain, names.sot) == ("outline", "detail=scoped,closing=true"), "not cut"
    assert max(cell_len(sides({"against": each}).sot) for each in ODD) <= 32


def test_results_resume_with_the_same_change_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both(tmp_path, "--against", "lead=true,max_points=3")
    with monkeypatch.context() as offline:
        offline.setattr(DemoChatModel, "_astream", None)
        both(tmp_path, "--against", " max-points = 3 ,lead=TRUE")
        for arguments in ([], ["--against", "lead=true"], ["--against", "lead=true,max_points=4"]):
            done = run(QUESTION, "--output", tmp_path, *arguments)
            assert done.exit_code == 2
            assert "other settings (model demo" in done.stderr
            assert "against max_points=3,lead=true)" in done.stderr


def test_older_results_resume_without_a_change_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"model": "demo", "base_url": None, "max_points": 10, "at_once": False, "lead": False}
    older = {**result(answer(2.0), answer(1.0)), "question": QUESTION, "settings": settings}
    (tmp_path / "results.jsonl").write_text(json.dumps(older) + "\n")
    monkeypatch.setattr(DemoChatModel, "_astream", None)
    both(tmp_path)
    assert run(QUESTION, "--output", tmp_path, "--against", "lead=true").exit_code == 2


def test_the_first_of_the_judges_reasons_is_for_the_change_in_front() -> None:
    verdict: Verdict = {**verdict_of("j", "win"), "reasons": ["One.", "Two."]}
    each = compared(answer(2.0), answer(1.0), "lead=true")
    each["verdicts"]["j"] = verdict
    page = answers_html([each], "j")
    assert page.index("lead=true first: One.") < page.index("outline first: Two.")
    assert all(f"<li>{aspect} <b>win</b></li>" in page for aspect in ASPECTS)
