"""What the documentation shows is true: its examples run and print what it shows, its tables are complete."""

import inspect
import re
import runpy
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner

import sot_graph
from sot_graph import DemoChatModel, create_sot_graph, prompts
from sot_graph.cli.entry import app
from tests.documentation import PAGES, ROOT, Block, blocks, commands, compare, run_python

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.stem: path.read_text(encoding="utf-8") for path in PAGES}
SERVERS = ("test_", "fastapi_sse", "durable_fastapi")  # the last two have tests of their own
SCRIPTS = [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith(SERVERS)]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
FIRST_COMMAND = "pip install uv && uv run --no-dev --extra cli --extra local sot-graph ask --model local --outline "

IN_PAGES = [block for block in blocks("python") if not block.needs_the_local_model]
"""The others run in tests/integration/test_docs.py."""
IN_DOCSTRINGS = [
    pytest.param(code, id=name)
    for name in sot_graph.__all__
    if name != "local_chat_model"  # its example runs in tests/integration/test_local.py, with its model
    for code in PYTHON.findall(inspect.getdoc(getattr(sot_graph, name)) or "")
]
IN_CODE = [
    Block(code, "sh", code, None) for text in DOCS.values() for code in re.findall(r"`(sot-graph [a-z][^`\n]*)`", text)
]
COMMANDS = [(block, arguments) for block in [*blocks("sh"), *IN_CODE] for arguments in commands(block)]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model takes a model's time, for people to see it; here nobody looks."""
    paced = DemoChatModel._paced  # noqa: SLF001 - only its pauses go

    def at_once(self: DemoChatModel, *arguments: Any) -> Any:
        return ((0, chunk) for _seconds, chunk in paced(self, *arguments))

    monkeypatch.setattr(DemoChatModel, "_paced", at_once)
    monkeypatch.delenv("SOT_MODEL", raising=False)


@pytest.mark.parametrize("block", IN_PAGES, ids=lambda block: block.name)
def test_blocks_run_and_print_what_the_page_shows(block: Block) -> None:
    run_python(block)


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")  # version 3 of the event stream
@pytest.mark.parametrize("code", IN_DOCSTRINGS)
def test_examples_of_docstrings_run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(textwrap.dedent(code), "example", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_example_files_run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_no_output_is_left_unchecked() -> None:
    shown = sum(text.count("```text") for text in DOCS.values())
    assert shown == sum(block.output is not None for block in blocks("python", "sh"))


@pytest.mark.parametrize(("block", "arguments"), COMMANDS, ids=range(len(COMMANDS)))
def test_commands_are_such_as_the_command_line_takes(
    block: Block, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group: Any = typer.main.get_command(app)
    monkeypatch.chdir(tmp_path)
    with group.make_context("sot-graph", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        while rest and isinstance(command, type(group)):  # `route train`
            name, command, rest = command.resolve_command(context, rest)
        command.make_context(name, rest, parent=context).close()  # an option that is none raises
    if "demo" in arguments or name == "draw":
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        if block.output is not None:
            compare(block, done.output)


def test_files_that_the_pages_name_exist() -> None:
    text = "\n".join([*DOCS.values(), (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")])
    named = set(re.findall(r"\b(?:examples|tests|sot_graph)/[\w/]+\.\w+", text))
    for module in re.findall(r"-m (tests\.[\w.]+\w)", text):
        path = module.replace(".", "/")
        named.add(f"{path}/__main__.py" if (ROOT / path).is_dir() else f"{path}.py")
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_links_of_the_readme_lead_somewhere() -> None:
    """Those between the pages are checked by `mkdocs build --strict`."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]+)(?:#([\w-]+))?\)", README):
        assert (ROOT / target).is_file()
        headings = re.findall(r"^#+ (.+)$", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
        slugs = [re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in slugs


def test_python_stands_in_the_first_30_lines() -> None:
    assert "```python" in README.splitlines()[:30]


def test_the_first_command_names_its_model_and_brings_its_titles() -> None:
    (line,) = [line for line in README.splitlines() if line.startswith("pip install uv && uv run --no-dev")]
    assert line.startswith(FIRST_COMMAND)
    assert README.splitlines().index(line) < README.splitlines().index("```python")


def test_nobody_is_told_to_install_a_package_of_that_name_from_an_index() -> None:
    assert [name for name, text in DOCS.items() if re.search(r"""(?:install|add)\s+['"]?sot[-_]graph\b""", text)] == []


def test_the_options_table_is_complete_and_right() -> None:
    table = DOCS["options"].split("## Options")[1].split("##")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE))
    options = list(inspect.signature(create_sot_graph).parameters.values())[1:]
    assert shown == {option.name: repr(option.default).replace("'", '"') for option in options}


def test_the_readme_names_options_that_exist() -> None:
    table = README.split("## Options of every day")[1].split("##")[0]
    shown = re.findall(r"^\| `(\w+)=", table, re.MULTILINE)
    assert shown
    assert set(shown) <= set(inspect.signature(create_sot_graph).parameters)


def test_every_option_is_in_the_docstring() -> None:
    docstring = inspect.getdoc(create_sot_graph) or ""
    for option in inspect.signature(create_sot_graph).parameters:
        assert f"\n    {option}: " in docstring


def test_the_reference_has_every_public_name() -> None:
    shown = re.findall(r"^::: sot_graph\.(\w+)$", DOCS["reference"], re.MULTILINE)
    assert sorted(shown) == sorted(set(sot_graph.__all__) - {"__version__"})


def test_the_table_of_examples_is_complete() -> None:
    shown = re.findall(r"^\| `examples/(\S+?)/?` \|", DOCS["examples"], re.MULTILINE)
    there = [path.name for path in (ROOT / "examples").iterdir() if not path.name.startswith(("_", "."))]
    assert sorted(shown) == sorted(there)


def test_the_page_on_prompts_has_every_sentence() -> None:
    shown = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", DOCS["prompts"], re.MULTILINE))
    others = {"DECLINED", "GAP"}  # a word of MAY_DECLINE; what stands between paragraphs
    sentences = {name: value for name, value in vars(prompts).items() if name.isupper() and isinstance(value, str)}
    assert shown == {name: value.strip() for name, value in sentences.items() if name not in others}


def test_the_picture_of_the_graph_is_what_the_command_draws(tmp_path: Path) -> None:
    (command,) = {tuple(arguments) for _block, arguments in COMMANDS if arguments[:2] == ["draw", "--lead"]}
    picture = tmp_path / "graph.svg"
    assert command[-1] == "graph.svg"
    assert CliRunner().invoke(app, [*command[:-1], str(picture)]).exit_code == 0
    assert picture.read_text(encoding="utf-8") == (ROOT / "docs" / "graph.svg").read_text(encoding="utf-8")


def test_the_recorded_run_is_that_of_its_picture() -> None:
    page = DOCS["recorded"]
    picture = ET.fromstring((ROOT / "docs" / "recorded.svg").read_text(encoding="utf-8"))
    words = [text.text or "" for text in picture.findall(".//{*}text")]
    assert "docs/recorded.svg" in README
    assert words[0] in page
    calls, tokens = re.findall(r"(\d+ calls) · (\d+ tokens)", words[1])[0]
    assert f"{calls}, first text after" in page
    assert tokens in page
    rows = re.findall(r"^\| \d+\. (.+?) \| \S+ s \| (\S+ s) \| (\d+) \| (\d+) \| written \|$", page, re.MULTILINE)
    assert len(rows) == int(calls.split()[0])
    for title, seconds, given, written in rows:
        assert {title, seconds, f"{given} → {written}"} <= set(words)
        assert title in README, "the first command of the README has these titles"
    assert sum(int(given) + int(written) for _title, _seconds, given, written in rows) == int(tokens.split()[0])
