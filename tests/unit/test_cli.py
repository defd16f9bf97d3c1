"""The command line with the demo model: output, errors and exit codes."""

import importlib
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from sot_graph import DemoChatModel, __version__, create_sot_graph
from sot_graph.cli import answer, app, ask, model
from sot_graph.cli.editor import edit_outline
from sot_graph.cli.langsmith_log import ClientLog
from sot_graph.cli.options import DEFAULT_MODEL, ModelChoice
from sot_graph.evaluation.text import escape_controls, strip_controls
from sot_graph.nodes.direct import Direct
from sot_graph.nodes.merge import Merge
from sot_graph.nodes.skeleton import Skeleton
from sot_graph.outline import clean_titles

QUESTION = "How do bees find their way home?"


@pytest.fixture(autouse=True)
def _quick_demo_model_and_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOT_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(model, "DemoChatModel", lambda: DemoChatModel(first_token=0, tokens_per_second=0))
    monkeypatch.setattr(ask, "has_terminal", lambda: True)


def run(*arguments: str, given: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=given)


def test_the_answer_goes_to_standard_output_and_the_rest_to_standard_error() -> None:
    done = run("ask", QUESTION)
    assert done.exit_code == 0
    assert done.stdout.count("\n\n") >= 4
    assert "points ·" not in done.stdout
    name, notice, closing = done.stderr.splitlines()
    assert name == "Model: demo"
    assert "No model is configured" in notice
    assert "offline demo" in notice
    assert closing.split(" · ")[0].endswith("points")
    assert [part.split(" ")[-1] for part in closing.split(" · ")[1:]] == ["calls", "tokens", "s", "s", "demo"]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_the_question_can_be_read_from_standard_input(arguments: list[str]) -> None:
    assert run("ask", *arguments, given=f"{QUESTION}\n").stdout == run("ask", QUESTION).stdout


def test_json_has_the_answer_its_points_and_its_usage() -> None:
    done = run("ask", QUESTION, "--json")
    output = json.loads(done.stdout)
    assert set(output) == {"question", "answer", "points", "usage", "sot"}
    assert output["answer"] == "\n\n".join(point["text"] for point in output["points"])
    assert output["sot"]["calls"] == len(output["points"]) + 1
    assert output["usage"]["total_tokens"] > 0


def test_options_reach_the_graph() -> None:
    done = run("ask", QUESTION, "--max-points", "2", "--headings", "--model", "demo")
    assert done.stdout.count("## ") == 2
    assert "No model is configured" not in done.stderr
    assert run("ask", QUESTION, "--max-points", "1").stdout.count("\n\n") == 0


@pytest.mark.parametrize("form", ["semicolons", "lines", "file"])
def test_the_outline_can_be_given(tmp_path: Path, form: str) -> None:
    titles = "1. The sun\n\n2. Landmarks"
    outline = {"semicolons": "The sun; Landmarks;", "lines": titles, "file": str(tmp_path / "outline.txt")}[form]
    (tmp_path / "outline.txt").write_text(titles, encoding="utf-8")
    output = json.loads(run("ask", QUESTION, "--model", "demo", "--json", "--outline", outline).stdout)
    assert [point["title"] for point in output["points"]] == ["The sun", "Landmarks"]
    assert output["sot"]["calls"] == 2


@pytest.mark.parametrize("command", ["ask", "compare"])
@pytest.mark.parametrize(("name", "path"), [("local", ()), ("models/small.GGUF", ("models/small.GGUF",))])
def test_a_local_model_can_be_named(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str, path: tuple[str, ...]
) -> None:
    loaded: list[tuple[str, ...]] = []

    def load(*path: str) -> DemoChatModel:
        loaded.append(path)
        return DemoChatModel(first_token=0, tokens_per_second=0)

    monkeypatch.setattr("sot_graph.local.local_chat_model", load)
    done = run(command, QUESTION, "--model", name)
    assert done.exit_code == 0, done.stderr
    assert loaded == [path]
    notices = [line for line in done.stderr.splitlines() if "plans badly" in line]
    assert len(notices) == (name == "local")
    assert all("--outline" in line and "--model path/to/model.gguf" in line for line in notices)


def test_a_direct_answer_says_so() -> None:
    assert "direct answer · 2 calls" in run("ask", "What is 2 + 2?").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "  "], "the question is empty"),
        (["ask", QUESTION, "--max-points", "0"], "--max-points"),
        (["ask", QUESTION, "--max-points", "many"], "--max-points"),
        (["ask", QUESTION, "--base-url", "http://127.0.0.1:9/v1"], "--base-url needs --model"),
        (["ask", QUESTION, "--model", "nobody:knows"], "model names no provider that LangChain knows"),
        (["ask", QUESTION, "--model", "missing.gguf"], "There is no model file"),
        (["compare", QUESTION, "--model", "missing.gguf"], "There is no model file"),
        (["ask", QUESTION, "--outline", " ; "], "--outline has no titles"),
        (["ask", QUESTION, "--what"], "--what"),
        (["what"], "what"),
    ],
    ids=str,
)
def test_a_usage_error_exits_with_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_a_failed_run_exits_with_1_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_answer(*_: Any, **__: Any) -> Any:
        message = "The first line.\nAnd a second\x1b[31m."
        raise RuntimeError(message)

    monkeypatch.setattr(answer, "_answer", no_answer)
    done = run("ask", QUESTION, "--model", "demo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Model: demo\nsot-graph: RuntimeError: The first line.\n"


def test_ctrl_c_exits_with_130_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_answer(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(answer, "_answer", no_answer)
    done = run("ask", QUESTION, "--model", "demo")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "Model: demo\nsot-graph: stopped.\n")


def test_the_model_is_chosen_by_option_then_variable_then_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(model.choose_model(ModelChoice(None, None)).model, DemoChatModel)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-key")
    assert model.choose_model(ModelChoice(None, None)).model == DEFAULT_MODEL
    assert model.choose_model(ModelChoice("anthropic:some", None)).model == "anthropic:some"
    monkeypatch.setenv("SOT_MODEL", "nobody:knows")
    assert "model='nobody:knows'" in run("ask", QUESTION).stderr


@pytest.mark.parametrize("command", ["ask", "compare"])
@pytest.mark.parametrize(
    ("arguments", "variables", "first", "label"),
    [
        ([], {}, "Model: demo", "demo"),
        (["--model", "demo"], {"OPENAI_API_KEY": "sk-test-key"}, "Model: demo", "demo"),
        ([], {"SOT_MODEL": "demo"}, "Model: demo (from SOT_MODEL)", "demo"),
        ([], {"SOT_MODEL": "openai:mine"}, "Model: openai:mine (from SOT_MODEL)", "openai:mine"),
        (
            [],
            {"OPENAI_API_KEY": "sk-test-key"},
            f"Model: {DEFAULT_MODEL} (because OPENAI_API_KEY is set)",
            DEFAULT_MODEL,
        ),
        (
            ["--model", "m", "--base-url", "http://me:top-secret-1@host/v1"],
            {},
            "Model: m at http://***@host/v1",
            "m at",
        ),
        (["--model", "local"], {}, "Model: SmolLM2-135M-Instruct, on this machine", "SmolLM2-135M-Instruct, on"),
        (["--model", "models/a.gguf"], {}, "Model: a.gguf, on this machine", "a.gguf, on this machine"),
    ],
    ids=str,
)
def test_the_first_and_the_last_line_name_the_model(
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    arguments: list[str],
    variables: dict[str, str],
    first: str,
    label: str,
) -> None:
    """With any way to choose it; also if a key in the environment is not used."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    quick = DemoChatModel(first_token=0, tokens_per_second=0)
    monkeypatch.setattr("sot_graph.local.local_chat_model", lambda *_: quick)
    monkeypatch.setattr("langchain_openai.ChatOpenAI", lambda **_: quick)
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda *_, **__: quick)
    monkeypatch.setattr(answer, "create_sot_graph", lambda _, **options: create_sot_graph(quick, **options))
    done = run(command, QUESTION, *arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines()[0] == first
    assert "top-secret" not in done.stdout + done.stderr
    if command == "ask":
        assert done.stderr.splitlines()[-1].split(" · ")[-1].startswith(label)


def test_the_judge_is_named() -> None:
    done = run("compare", QUESTION, "--model", "demo", "--judge", "demo")
    assert done.stderr.splitlines()[:2] == ["Model: demo", "Judge: demo"]


def test_watch_prints_the_answer_after_the_board() -> None:
    assert run("ask", QUESTION, "--watch").stdout == run("ask", QUESTION).stdout


def test_a_lead_is_printed_first() -> None:
    plain, led = run("ask", QUESTION).stdout, run("ask", QUESTION, "--lead").stdout
    assert led.endswith(plain)
    assert len(led) > len(plain)


def test_a_closing_is_printed_last() -> None:
    plain, closed = run("ask", QUESTION).stdout, run("ask", QUESTION, "--closing").stdout
    assert closed.startswith(plain.rstrip())
    assert len(closed) > len(plain)


def test_draw_prints_mermaid() -> None:
    done = run("draw")
    assert done.exit_code == 0
    assert "skeleton -.-> expand" in done.stdout


@pytest.mark.parametrize("options", [[], ["--lead"], ["--closing"], ["--review"]], ids=str)
def test_draw_draws_what_the_options_use(tmp_path: Path, options: list[str]) -> None:
    node = "".join(options).strip("-")
    for path in (tmp_path / "graph.svg", tmp_path / "graph.MMD"):
        done = run("draw", *options, "-o", str(path))
        assert (done.exit_code, done.output) == (0, "")
        assert node in path.read_text(encoding="utf-8")
    assert (tmp_path / "graph.MMD").read_text(encoding="utf-8") == run("draw", *options).stdout
    picture = ET.fromstring((tmp_path / "graph.svg").read_text(encoding="utf-8"))
    names = [each.text for each in picture.findall(".//{*}text")]
    assert sorted(map(str, names)) == sorted(
        ["start", "skeleton", "expand", "merge", "direct", "end", node][: 6 + bool(node)]
    )
    page, *nodes = picture.findall(".//{*}rect")
    places = {(float(each.get("x", 0)), float(each.get("y", 0))) for each in nodes}
    assert len(places) == len(names), "none covers another one"
    assert all(
        0 < x < float(page.get("width", 0)) - 96 and 0 < y < float(page.get("height", 0)) - 34 for x, y in places
    )
    edges = [each for each in picture.findall(".//{*}path") if "edge" in each.get("class", "").split()]
    assert len(edges) == len(re.findall("-->|-\\.->", run("draw", *options).stdout))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "graph.png"], 2, "ends in .svg or .mmd. LangGraph draws a PNG only with a web service or Graphviz"),
        (["-o", "graph"], 2, "ends in .svg or .mmd."),
        (["--lead", "--review"], 2, "use review or lead, not both"),
        (["-o", "nowhere/graph.svg"], 1, "--output nowhere/graph.svg could not be written: FileNotFoundError"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("draw", *arguments)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (code, "", 1)
    assert message in done.stderr


@pytest.mark.parametrize("command", [[], ["ask"], ["compare"], ["draw"]], ids=str)
def test_h_is_help_with_examples(command: list[str]) -> None:
    done = run(*command, "-h")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == run(*command, "--help").stdout
    _, examples = done.stdout.split("Examples:")
    assert f"sot-graph {(command or ['ask'])[0]} " in examples
    assert all(option in run().output for option in ("--install-completion", "--show-completion"))


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_printed(option: str) -> None:
    done = run(option)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"sot-graph {__version__}\n", "")


def test_commands_and_options_are_completed() -> None:
    for line, completed in (("sot-graph a", "ask"), ("sot-graph ask --mo", "--model")):
        variables = {
            "_SOT_GRAPH_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        }
        done = CliRunner().invoke(app, [], prog_name="sot-graph", env=variables)
        assert done.stdout.split() == [completed]


def test_common_options_are_short(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    output = json.loads(run("ask", QUESTION, "-m", "demo", "-n", "2", "-j", "-l", "-c", "-w", "-t", str(path)).stdout)
    assert (len(output["points"]), output["sot"]["calls"]) == (2, 5)
    assert path.exists()
    (tmp_path / "q.jsonl").write_text('{"question": "Why?"}', encoding="utf-8")
    done = run("compare", "-f", str(tmp_path / "q.jsonl"), "-m", "demo", "-n", "2", "-lc", "-o", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    assert "max_points 2, at_once False, lead True, closing True" in done.stdout
    assert "--base-url needs --model" in run("ask", QUESTION, "-u", "http://host").stderr


@pytest.mark.parametrize("command", ["ask", "compare"])
def test_a_question_needs_no_quotes(command: str) -> None:
    options = ["--json"] if command == "ask" else []
    done = run(command, *QUESTION.split(), *options, "--model", "demo")
    assert done.exit_code == 0, done.stderr
    assert QUESTION in done.stdout
    assert run("ask", *QUESTION.split()).stdout == run("ask", QUESTION).stdout


def test_without_arguments_it_prints_help() -> None:
    assert "ask" in run().output


def test_control_characters_are_removed() -> None:
    assert strip_controls("\x1b[31mred\x1b[0m\a\tone\ntwo\x9b2J\x00\ud800") == "[31mred[0m\tone\ntwo2J"


# --- --review ----------------------------------------------------------------------------------------


def fake_editor(monkeypatch: pytest.MonkeyPatch, *texts: str) -> list[str]:
    """An editor that saves these texts, one after the other. Returns the texts that it was opened with."""
    opened: list[str] = []

    def edit(text: str, **_: Any) -> str:
        opened.append(text)
        return texts[len(opened) - 1]

    monkeypatch.setattr("click.edit", edit)
    return opened


def test_review_opens_the_outline_and_writes_the_saved_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = fake_editor(monkeypatch, "Second\n# a comment\n\n  1. First \n")
    done = run("ask", QUESTION, "--review", "--headings")
    assert done.exit_code == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("#")] == ["## Second", "## First"]
    titles = [line for line in opened[0].splitlines() if line and not line.startswith("#")]
    assert titles[0] == "1. First aspect"
    assert f"# The outline of the answer to: {QUESTION}" in opened[0]


def test_an_unchanged_outline_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.edit", lambda text, **_: text)
    assert run("ask", QUESTION, "--review").stdout == run("ask", QUESTION).stdout


@pytest.mark.parametrize("title", ["#MeToo origins", "> 90% of cases", "#1 reason: light", "Ends with a stop."])
def test_a_title_is_never_read_as_a_comment_or_a_remark(monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    monkeypatch.setattr("click.edit", lambda text, **_: text)
    titles = clean_titles([title, "Another"])
    command = edit_outline("Why?", titles, 10)
    assert command is not None
    assert command.resume is True


ITEMS: list[Any] = [
    {"title": "The sun", "covers": "the compass"},
    "Landmarks | and maps",
    {"title": "Both", "needs": [1, 2], "words": 40},
]
LINES = ["1. The sun | covers: the compass", "2. Landmarks | and maps", "3. Both | needs: 1, 2 | words: 40"]


def test_an_outline_that_says_more_is_a_line_for_each_point(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = fake_editor(monkeypatch, "\n".join(LINES))
    command = edit_outline("Why?", ["The sun", "Landmarks | and maps", "Both"], 10, ITEMS)
    assert opened[0].splitlines()[:3] == LINES
    assert command is not None
    assert command.resume is True


def test_what_is_said_of_a_point_can_be_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_editor(monkeypatch, "Scent | covers: the hive | needs: 2\n1. The sun | words: thirty\n")
    command = edit_outline("Why?", ["The sun"], 10, [{"title": "The sun", "words": 30}])
    assert command is not None
    assert command.resume == [{"title": "Scent", "covers": "the hive", "needs": [2]}, "The sun"]


def test_a_remark_opens_the_next_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = fake_editor(monkeypatch, "Whatever\n> more about wasps\n", "Only this\n")
    assert run("ask", QUESTION, "--review", "--headings").stdout.count("## ") == 1
    assert len(opened) == 2
    assert "more about wasps" in opened[1]


def test_too_many_titles_open_the_editor_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = fake_editor(monkeypatch, "One\nTwo\nThree\n", "One\nTwo\n")
    assert run("ask", QUESTION, "--review", "--headings", "--max-points", "2").stdout.count("## ") == 2
    assert "# 3 titles are too many: --max-points is 2." in opened[1]
    assert opened[1].startswith("One\nTwo\nThree\n")


@pytest.mark.parametrize("saved", ["", "# nothing but this\n", " \n"])
def test_an_empty_outline_stops_the_run(monkeypatch: pytest.MonkeyPatch, saved: str) -> None:
    fake_editor(monkeypatch, saved)
    done = run("ask", QUESTION, "--review", "--model", "demo")
    assert (done.exit_code, done.stdout, done.stderr) == (
        1,
        "",
        "Model: demo\nsot-graph: stopped: the outline is empty.\n",
    )


@pytest.mark.parametrize("saved", ["**\n- \n", "#\n--\n"])
def test_titles_without_a_word_are_an_empty_outline(monkeypatch: pytest.MonkeyPatch, saved: str) -> None:
    fake_editor(monkeypatch, saved)
    assert "the outline is empty" in run("ask", QUESTION, "--review").stderr


def test_a_failed_editor_is_one_line_of_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.delenv("VISUAL", raising=False)
    done = run("ask", QUESTION, "--review", "--model", "demo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Model: demo\nsot-graph: ClickException: false: Editing failed\n"


def test_a_question_without_an_outline_is_answered_without_an_editor() -> None:
    assert run("ask", "What is 2 + 2?", "--review").exit_code == 0


def test_json_has_control_characters_as_escapes() -> None:
    assert escape_controls('"\x1b[2J\x9b\u202e\ud800 ä 睡"\n') == '"\\u001b[2J\\u009b\\u202e\\ud800 ä 睡"\n'
    assert json.loads(escape_controls(json.dumps("\x9b\u202e", ensure_ascii=False))) == "\x9b\u202e"


def test_direction_marks_are_removed() -> None:
    assert strip_controls("a\u202eb\u202cc \u200f") == "abc \u200f"


@pytest.mark.parametrize(("name", "start"), [("run.svg", "<svg "), ("run.HTML", "<!doctype html>")])
def test_a_timeline_is_drawn_into_a_file(tmp_path: Path, name: str, start: str) -> None:
    done = run("ask", QUESTION, "--model", "demo", "--timeline", str(tmp_path / name))
    assert (done.exit_code, done.stdout) == (0, run("ask", QUESTION).stdout)
    assert len(done.stderr.splitlines()) == 2, "the model, and the closing line"
    drawn = (tmp_path / name).read_text(encoding="utf-8")
    assert drawn.startswith(start)
    assert QUESTION in drawn


@pytest.mark.parametrize("arguments", [["--json"], ["--watch"], ["--review"]])
def test_a_timeline_works_with_the_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("click.edit", lambda text, **_: text)
    path = tmp_path / "run.svg"
    assert run("ask", QUESTION, *arguments, "--timeline", str(path)).exit_code == 0
    assert "First aspect" in path.read_text(encoding="utf-8")


def test_a_timeline_on_standard_error_leaves_standard_output_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    done = run("ask", QUESTION, "--json", "--timeline", "-")
    assert json.loads(done.stdout)["question"] == QUESTION
    assert "▸    skeleton" in done.stderr
    assert "░ waits" in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("run.png", "ends in .svg or .html"),
        ("", "ends in .svg or .html"),
        (".", "ends in .svg or .html"),
        ("folder.svg", "ends in .svg or .html"),
        ("nowhere/run.svg", "the folder nowhere does not exist"),
    ],
)
def test_a_timeline_target_that_cannot_work_is_refused_before_a_model_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    monkeypatch.setattr(answer, "choose_model", lambda *_: pytest.fail("a model was created"))
    done = run("ask", QUESTION, "--timeline", target)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_a_timeline_that_cannot_be_written_does_not_lose_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    path.symlink_to("/dev/full")
    done = run("ask", QUESTION, "--model", "demo", "--timeline", str(path))
    assert (done.exit_code, done.stdout) == (1, run("ask", QUESTION).stdout)
    _, _, problem = done.stderr.splitlines()
    assert problem.startswith("sot-graph: the timeline could not be written: OSError: ")


@pytest.mark.parametrize("failing", ["skeleton", "direct"])
def test_without_timings_the_error_names_the_missing_timeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    stage = {"skeleton": Skeleton, "direct": Direct}[failing]
    monkeypatch.setattr(stage, "steps", failed)
    question = QUESTION if failing == "skeleton" else "What is 2 + 2?"
    done = run("ask", question, "--model", "demo", "--timeline", str(tmp_path / "run.svg"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Model: demo\nsot-graph: OSError: broken (no timeline: the failed run left no timings)\n"
    assert list(tmp_path.iterdir()) == []


def failed(*_: Any) -> Any:
    message = "broken"
    raise OSError(message)


def test_a_failed_run_and_a_failed_timeline_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Merge, "steps", failed)
    path = tmp_path / "run.svg"
    path.symlink_to("/dev/full")
    done = run("ask", QUESTION, "--model", "demo", "--timeline", str(path))
    assert done.exit_code == 1
    _, line = done.stderr.splitlines()
    assert line.startswith("sot-graph: OSError: broken (the timeline could not be written: OSError: ")


def test_svg_is_imported_only_to_draw_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("svg", "sot_graph.cli.picture"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    run("ask", QUESTION, "--timeline", "-")
    assert "svg" not in sys.modules
    run("ask", QUESTION, "--timeline", str(tmp_path / "run.svg"))
    assert "svg" in sys.modules


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["ask", "--help"], ["compare", "--help"], ["draw", "--help"]], ids=" ".join
)
def test_the_help_imports_nothing_slow(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from sot_graph.cli import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\n"
        "slow = {'langchain_core', 'langgraph', 'langsmith', 'openai', 'svg'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("module", ["rich", "typer"])
def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    for name in [name for name in sys.modules if name.startswith("sot_graph.cli")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as end:
        importlib.import_module("sot_graph.cli")
    assert str(end.value).startswith("sot-graph needs the extra `cli` (")
    assert str(end.value).endswith("): pip install '.[cli]' in its checkout")


@pytest.mark.parametrize(
    ("lines", "complaint", "has_lost"),
    [
        (["Run compression is not enabled."], "", False),
        (["Failed to get info from http://x: refused", "Run compression is off."], "Failed to get info from ", False),
        (["Failed to batch ingest runs: no", "Failed to get info from http://x: refused"], "Failed to get info ", True),
        (["Failed to multipart ingest runs: 403"], "Failed to multipart ingest runs: 403", True),
        (["Failed to send compressed multipart ingest: 403"], "Failed to send compressed multipart", True),
        (["Dropped 3 trace data item(s) in the last 60s: full"], "Dropped 3 trace data", True),
        (["LangSmith tracing error: Failed to submit trace data.\nDetails"], "LangSmith tracing error: Failed", True),
    ],
)
def test_complaints_of_langsmiths_client_are_kept(lines: list[str], complaint: str, *, has_lost: bool) -> None:
    log = ClientLog()
    for line in lines:
        log.handle(logging.makeLogRecord({"msg": line}))
    assert log.complaint.startswith(complaint)
    assert (bool(log.complaint), log.has_lost) == (bool(complaint), has_lost)


def test_a_complaint_is_one_line_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_API_KEY", "the-key-for-langsmith")
    log = ClientLog()
    message = "Failed to batch ingest runs: the-key-for-langsmith, sk-123456, http://me:pass@x\nAPI Key: lsv2"
    log.handle(logging.makeLogRecord({"msg": message}))
    assert log.complaint == "Failed to batch ingest runs: ***, ***, http://***@x"
