"""The question of the command line: its words, and standard input beside it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from sot_graph.cli import question
from sot_graph.cli.question import read_question

QUESTION = "How do bees find their way home?"
NOTES = "One.\n\n  Two."
WITH_NOTES = f"{QUESTION}\n\n<input>\n{NOTES}\n</input>"


@pytest.fixture
def stdin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input of a kind: "pipe" or "file", with a text after it, or "null", or "closed"."""
    kind, _, text = request.param.partition(" ")
    (tmp_path / "notes.txt").write_text(text, encoding="utf-8")
    if kind == "closed":
        monkeypatch.setattr("sys.stdin", None)
        yield
        return
    if kind == "pipe":
        read, write = os.pipe()
        os.write(write, text.encode())
        os.close(write)
    else:
        read = os.open("/dev/null" if kind == "null" else tmp_path / "notes.txt", os.O_RDONLY)
    with os.fdopen(read, encoding="utf-8") as opened:
        monkeypatch.setattr("sys.stdin", opened)
        yield


@pytest.mark.parametrize(
    ("words", "stdin", "found"),
    [
        ([QUESTION], f"pipe {NOTES}\n", WITH_NOTES),
        (QUESTION.split(), f"pipe \n{NOTES}", WITH_NOTES),
        ([QUESTION], "pipe", QUESTION),
        ([QUESTION], "pipe  \n\n", QUESTION),
        ([QUESTION], "null", QUESTION),
        ([QUESTION], "closed", QUESTION),
        ([QUESTION], f"file {NOTES}", QUESTION),
        ([QUESTION, "-"], f"file {NOTES}", WITH_NOTES),
        (["What", "is", "3", "-", "2?"], "null", "What is 3 - 2?"),
        ([], f"pipe  {QUESTION}\n", QUESTION),
        ([], f"file {QUESTION}", QUESTION),
        (["-"], f"file {QUESTION}", QUESTION),
    ],
    indirect=["stdin"],
    ids=str,
)
@pytest.mark.usefixtures("stdin")
def test_standard_input_is_the_question_or_its_context(words: list[str], found: str) -> None:
    """As context it is read from a pipe only, unless it is asked for: a script around may have lent its own input."""
    assert read_question(words) == found


@pytest.mark.parametrize(
    ("words", "stdin"), [([], "null"), (["-"], "closed"), ([" "], f"pipe {NOTES}")], indirect=["stdin"], ids=str
)
@pytest.mark.usefixtures("stdin")
def test_no_question_is_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as end:
        read_question(words)
    assert end.value.exit_code == 2
    assert "the question is empty" in capsys.readouterr().err


def test_who_has_to_wait_for_a_pipe_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(question, "PATIENCE", 0.01)
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as pipe, os.fdopen(write, "w", encoding="utf-8") as writer:
        monkeypatch.setattr("sys.stdin", pipe)

        def send() -> None:
            writer.write(NOTES)
            writer.close()

        threading.Timer(0.2, send).start()
        assert read_question([QUESTION]) == WITH_NOTES
    assert "Waiting for the end of standard input" in capsys.readouterr().err
