"""The file of the answers: what is kept, mended, replaced and refused, and the formats that are made of it."""

import csv
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sot_graph.bulk import digest
from sot_graph.cli.results import Answers
from sot_graph.cli.rows import RowError, read_rows

ROWS = [{"id": f"q{number}", "question": f"How do bees {number}?", "kind": "bees"} for number in range(5)]
POINT = {"index": 1, "title": "T", "text": "Ü, \n“x”", "status": "written", "error": None}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def result(row: dict[str, Any], error: str | None = None, answer: str | None = None) -> dict[str, Any]:
    points = [POINT] if answer or not error else [{**POINT, "text": "", "status": "failed", "error": error}]
    found: dict[str, Any] = {"points": points, "usage": None, "seconds": 0.1, "error": error}
    return {**row, "answer": answer or (None if error else "It is so."), **found}


def opened(path: Path) -> Answers:
    answers = Answers(path)
    answers.open()
    return answers


def kept(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def has(answers: Answers, row: dict[str, Any]) -> bool:
    return answers.has(digest(row["id"], row))


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_paid_stays_until_something_better_is_there(tmp_path: Path) -> None:
    rows = [
        result(ROWS[0]),
        result(ROWS[1], "1 of 2 points", "Half."),
        result(ROWS[2], "no"),
        result({**ROWS[3], "id": 7}),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    answers = opened(path)
    assert [has(answers, row) for row in ROWS] == [True, False, False, False, False]
    assert kept(path) == rows, "nothing is dropped when the file is opened"
    answers.add(result(ROWS[2]))
    assert len(kept(path)) == 5
    answers.close()
    assert kept(path) == [rows[0], rows[1], rows[3], result(ROWS[2])], "what was not asked again stays, too"
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_killed_process_leaves_several_lines_of_a_question(tmp_path: Path) -> None:
    lines = [
        result(ROWS[0], "first"),
        result(ROWS[1]),
        result(ROWS[2], "first"),
        result(ROWS[0], "second", "Half."),
        result(ROWS[2]),
        result(ROWS[1], "after the answer"),
        result(ROWS[0], "third"),
        result(ROWS[3], "first"),
        result(ROWS[3], "second"),
    ]
    path = write(tmp_path / "a.jsonl", lines)
    answers = opened(path)
    assert [has(answers, row) for row in ROWS[:3]] == [False, True, True]
    assert kept(path) == lines
    answers.close()
    assert kept(path) == [
        result(ROWS[1]),
        result(ROWS[0], "second", "Half."),  # what was paid for is not lost to a wrong key, say
        result(ROWS[2]),
        result(ROWS[3], "second"),
    ]


def test_what_was_tried_in_this_run_counts_after_refresh(tmp_path: Path) -> None:
    answers = opened(write(tmp_path / "a.jsonl", [result(ROWS[0], "no")]))
    answers.add(result(ROWS[1], "no"))
    answers.add(result(ROWS[2]))
    assert len(answers) == 0
    answers.refresh()
    assert [has(answers, row) for row in ROWS] == [False, True, True, False, False]
    assert len(answers) == 2
    answers.close()


def test_a_changed_question_or_outline_is_another_one(tmp_path: Path) -> None:
    answers = opened(write(tmp_path / "a.jsonl", [result(ROWS[0])]))
    for change in ({"question": "Other?"}, {"outline": ["A"]}, {"id": "q9"}):
        assert not has(answers, {**ROWS[0], **change})
    assert has(answers, {**ROWS[0], "kind": "wasps"}), "other columns do not matter"
    answers.close()


def test_a_question_with_strange_text_is_known_again(tmp_path: Path) -> None:
    source = tmp_path / "q.jsonl"
    source.write_text(
        r'{"id": "\u0000", "messages": [{"role": "user", "content": "A\ud800\u0000"}], "outline": ["\udfff", "B"]}',
        encoding="utf-8",
    )
    (row,) = read_rows(source)
    answers = opened(tmp_path / "a.jsonl")
    answers.add(result(row) | {"score": float("nan"), "input_points": ["\ud800"]})
    answers.close()
    answers = opened(tmp_path / "a.jsonl")
    assert has(answers, row)
    answers.close()
    assert "NaN" not in (tmp_path / "a.jsonl").read_text(encoding="utf-8")


@given(cut=st.integers(min_value=0))
@example(cut=-2)  # just before the end of the last line
def test_a_line_may_be_torn_anywhere(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = write(tmp_path_factory.mktemp("torn") / "a.jsonl", [result(row) for row in ROWS])
    content = path.read_bytes()
    path.write_bytes(content[: cut % (len(content) + 1)])
    answers = opened(path)
    left = [row for row in ROWS if not has(answers, row)]
    for row in left:
        answers.add(result(row))
    answers.close()
    assert [row["id"] for row in kept(path)] == [row["id"] for row in ROWS]


@pytest.mark.parametrize(
    "line", ['{"question": "no answer"}\n', "text\n", '{"a": 1}\n', '[{"id": 1}]\n', "text", '{"a": ']
)
def test_a_file_with_other_lines_is_not_touched(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(RowError, match=r"line 1 of .*a\.jsonl is no answer\. Move the file away"):
        opened(path)
    assert path.read_text(encoding="utf-8") == line


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = opened(tmp_path / "a.jsonl")
    with pytest.raises(RowError, match=r"another process is writing a\.jsonl"):
        opened(tmp_path / "a.jsonl")
    first.close()
    opened(tmp_path / "a.jsonl").close()


def test_no_process_comes_between_while_the_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that locked the old file just then would write into a file that is gone."""
    path, refused = tmp_path / "a.jsonl", []
    answers = opened(write(path, [result(ROWS[0], "no")]))
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        with pytest.raises(RowError, match="another process"):
            opened(path)
        refused.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    answers.add(result(ROWS[0]))
    answers.close()
    assert refused == ["a.jsonl.new"]
    assert kept(path) == [result(ROWS[0])]


def test_a_full_disk_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    answers = opened(path)
    answers.add(result(ROWS[0], "no"))
    answers.add(result(ROWS[0]))
    answers.add(result(ROWS[1]))
    whole = path.read_bytes()
    with small_disk(len(whole) + 50):
        with pytest.raises(OSError, match="File too large"):
            answers.add(result(ROWS[2]))
        assert path.read_bytes() == whole, "no half line stays"
    with small_disk(100):
        answers.close()
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    opened(path).close()
    assert kept(path) == [result(ROWS[0]), result(ROWS[1])]


def test_a_link_stays_one_and_the_mode_too(tmp_path: Path) -> None:
    (real := tmp_path / "data").mkdir()
    target = write(real / "kept.jsonl", [result(ROWS[0], "no")])
    target.chmod(0o600)
    link = tmp_path / "a.jsonl"
    link.symlink_to(target)
    answers = opened(link)
    answers.add(result(ROWS[0]))
    answers.close()
    assert link.is_symlink()
    assert kept(target) == [result(ROWS[0])]
    assert target.stat().st_mode & 0o777 == 0o600


def read_csv(path: Path) -> list[dict[str, Any]]:
    return pl.read_csv(path, infer_schema=False).to_dicts()


MADE: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "a.csv": read_csv,
    "a[1].parquet": lambda path: pl.read_parquet(path, glob=False).to_dicts(),
}


@pytest.mark.parametrize("name", MADE)
def test_other_formats_are_made_of_the_lines(tmp_path: Path, name: str) -> None:
    path, link = tmp_path / "real" / name, tmp_path / name
    path.parent.mkdir()
    link.symlink_to(path)
    for answer in ("It is so.", "It is different."):
        answers = opened(link)
        answers.add(result({"id": "a", "question": "Ü?"}, "no"))
        answers.add(result({"id": "a", "question": "Ü?"}, answer=answer))
        answers.add(result({"id": "b", "question": "B", "kind": "x"}))
        answers.close()
        answers.convert(["id", "question", "kind"])
    found = MADE[name](path)
    assert [(row["id"], row["kind"] or None, row["answer"]) for row in found] == [
        ("a", None, "It is different."),
        ("b", "x", "It is so."),
    ]
    points = found[0]["points"]
    assert (json.loads(points) if isinstance(points, str) else points) == [POINT]
    assert len(kept(answers.lines)) == 2
    assert link.is_symlink()
    assert sorted(file.name for file in tmp_path.rglob("a*")) == [name, name, f"{name}.jsonl"]


@pytest.mark.parametrize("name", MADE)
def test_a_file_that_is_not_ours_is_not_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("id,question\n", encoding="utf-8")
    with pytest.raises(RowError, match=r"exists, and is not made of .*\.jsonl.* Move the file away"):
        opened(path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", MADE)
def test_a_file_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    answers = opened(path)
    for row in ROWS:
        answers.add(result({**row, "own": os.urandom(5_000).hex()}))
    answers.close()
    path.write_text("old", encoding="utf-8")
    with small_disk(2_000), pytest.raises(OSError, match="File too large"):
        answers.convert(["id", "question", "own"])
    assert path.read_text(encoding="utf-8") == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == [name, f"{name}.jsonl"]


def test_columns_of_several_types_become_text(tmp_path: Path) -> None:
    answers = opened(tmp_path / "a.parquet")
    values: list[Any] = [[1, {"a": 1}], [True, [1]], [2**70, "x"], [None, float("nan")]]
    for row, (scalar, nested) in zip(ROWS, values, strict=False):
        same = {"list": [{"n": 1}, {"n": 1.5}], "score": float("nan"), "empty": {}}
        answers.add(
            result({**row, "id": len(row["id"]), "question": row["id"], "scalar": scalar, "nested": nested, **same})
        )
    answers.add(result({**ROWS[4], "list": None, "score": 0.5}))
    answers.close()
    answers.convert([])
    found = pl.read_parquet(tmp_path / "a.parquet")
    assert found["id"].to_list() == ["2", "2", "2", "2", "q4"]
    assert found["scalar"].to_list() == ["1", "true", str(2**70), None, None]
    assert found["nested"].to_list() == ['{"a": 1}', "[1]", "x", None, None]
    assert found["list"].to_list() == [*[[{"n": 1.0}, {"n": 1.5}]] * 4, None]
    assert found["score"].to_list() == [None] * 4 + [0.5]
    assert found["empty"].to_list() == ["{}"] * 4 + [None]


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", ""]), each),
    max_leaves=5,
)


@given(rows=st.lists(st.dictionaries(st.sampled_from("xyz"), CELLS), min_size=1, max_size=4))
def test_any_value_can_be_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    for name, read in MADE.items():
        answers = opened(tmp_path_factory.mktemp("any") / name)
        for number, row in enumerate(rows):
            answers.add(result({"id": number, "question": "Q", **row}))
        answers.close()
        answers.convert(["id", "question", "x", "y", "z"])
        assert [str(row["id"]) for row in read(answers.path)] == [str(number) for number in range(len(rows))]


def test_answers_are_questions_again(tmp_path: Path) -> None:
    row = {
        "id": "a",
        "question": "Q",
        "outline": ["A; b", {"title": "C"}],
        "messages": [{"role": "user", "content": "D"}],
    }
    answers = opened(tmp_path / "a.csv")
    answers.add(result(row))
    answers.close()
    answers.convert(row)
    (again,) = read_rows(tmp_path / "a.csv")
    assert {name: again[name] for name in row} == row
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == [*row, "answer", "points", "usage", "seconds", "error"]
