"""What the documentation shows is true: its examples run, its tables are complete."""

import inspect
import re
import runpy
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import sot_graph
from sot_graph import create_sot_graph

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = [path for path in sorted((ROOT / "examples").glob("*.py")) if not path.name.startswith(("test_", "fastapi_"))]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


IN_README = [pytest.param(code, id=f"README {i}") for i, code in enumerate(PYTHON.findall(README), start=1)]
IN_DOCSTRINGS = [
    pytest.param(code, id=name)
    for name in sot_graph.__all__
    if name != "local_chat_model"  # its example runs in tests/integration/test_local.py, with its model
    for code in PYTHON.findall(inspect.getdoc(getattr(sot_graph, name)) or "")
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model takes a model's time, for people to see it; here nobody looks."""
    monkeypatch.setattr("sot_graph.demo.time.sleep", lambda _seconds: None)


@pytest.mark.parametrize("code", IN_README + IN_DOCSTRINGS)
def test_examples_in_the_documentation_run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(textwrap.dedent(code), "example", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_example_files_run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_python_stands_in_the_first_30_lines() -> None:
    assert "```python" in README.splitlines()[:30]


def test_the_options_table_is_complete_and_right() -> None:
    table = README.split("## Options")[1].split("##")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE))
    options = list(inspect.signature(create_sot_graph).parameters.values())[1:]
    assert shown == {option.name: repr(option.default).replace("'", '"') for option in options}


def test_every_option_is_in_the_docstring() -> None:
    docstring = inspect.getdoc(create_sot_graph) or ""
    for option in inspect.signature(create_sot_graph).parameters:
        assert f"\n    {option}: " in docstring


def test_the_readmes_picture_is_there() -> None:
    (name,) = re.findall(r"!\[.+\]\((.+)\)", README)
    assert f"--timeline {Path(name).name}" in README, "and the README says how it is made, without overwriting it"
    picture = ET.fromstring((ROOT / name).read_text(encoding="utf-8"))
    words = [text.text for text in picture.findall(".//{*}text")]
    assert "skeleton" in words
    assert "How do bees find their way home?" in words
