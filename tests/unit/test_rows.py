"""Files of questions and of answers: formats, bad rows, torn lines, and what is asked again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sot_graph.bulk import digest
from sot_graph.cli.rows import Answers, RowError, check_format, check_rows, read_rows

ROWS = [{"id": f"q{number}", "question": f"How do bees {number}?", "kind": "bees"} for number in range(5)]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def result(row: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "answer": None if error else "It is so.",
        "points": [],
        "usage": None,
        "seconds": 0.1,
        "error": error,
    }
    return {**row, **found}


def opened(path: Path) -> Answers:
    answers = Answers(path)
    answers.open()
    return answers


def kept(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "A\\u0000?"}\n\n{"question": "B\xff", "id": 9}\r\n{"question":"C"}')
    assert list(read_rows(path)) == [
        {"id": 1, "question": "A\ufffd?"},
        {"id": 9, "question": "B\ufffd"},
        {"id": 3, "question": "C"},
    ]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('id,question,outline,kind\na,"How, pray?",The sun; ;Scents,\n,"Two\nlines",,x\n', encoding="utf-8")
    assert list(read_rows(path)) == [
        {"id": "a", "question": "How, pray?", "outline": ["The sun", "Scents"]},
        {"id": 2, "question": "Two\nlines", "kind": "x"},
    ]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    rows = [{"question": f"Q{number}", "outline": ["A", "B"] if number % 2 else None, "n": 1.5} for number in range(7)]
    pl.DataFrame(rows).write_parquet(path)
    found = list(read_rows(path))
    assert found == [{"id": number, **row} for number, row in enumerate(rows, start=1)]


BAD = {
    "no JSON": ('{"question": "A"}\n{"quest', "row 2 is not JSON"),
    "no object": ('["A"]', "row 1: must be an object"),
    "no question": ('{"question": "A"}\n{"text": "B"}', "row 2: it has no question.*'text'"),
    "blank": ('{"question": "  "}', "row 1: it has no question"),
    "number": ('{"question": 7}', "row 1: it has no question"),
    "id": ('{"question": "A", "id": [1]}', "row 1: `id` must be text or a whole number"),
    "outline": ('{"question": "A", "outline": [7]}', "row 1: .*title"),
    "same id": ('{"question": "A", "id": 1}\n{"question": "B", "id": "1"}', r"the same id \(1\)"),
    "id like a number": ('{"question": "A", "id": 2}\n{"question": "B"}', r"the same id \(2\)"),
    "empty": ("\n \n", "no question"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    path = tmp_path / "q.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RowError, match=message):
        check_rows(path)


def test_too_many_cells(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("question\nWhy,not\n", encoding="utf-8")
    with pytest.raises(RowError, match="row 2 has more cells"):
        check_rows(path)


def test_only_known_formats() -> None:
    with pytest.raises(RowError, match=r"must end in one of \.jsonl, \.ndjson, \.csv, \.parquet"):
        check_format(Path("q.xlsx"))


def test_columns_are_known_and_rows_counted(tmp_path: Path) -> None:
    questions = check_rows(write(tmp_path / "q.jsonl", [*ROWS, {"question": "C", "level": 3}]))
    assert questions.columns == ["id", "question", "kind", "level"]
    assert len(questions.keys) == 6


def test_answers_are_kept_and_failures_asked_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [result(ROWS[0]), result(ROWS[1], "Error: no"), result(ROWS[2])])
    answers = opened(path)
    assert [answers.has(digest(row["id"], row)) for row in ROWS] == [True, False, True, False, False]
    assert [row["id"] for row in kept(path)] == ["q0", "q2"]
    answers.add(result(ROWS[1]))
    assert [row["id"] for row in kept(path)] == ["q0", "q2", "q1"]
    answers.close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_changed_question_or_outline_is_another_one(tmp_path: Path) -> None:
    answers = opened(write(tmp_path / "a.jsonl", [result(ROWS[0])]))
    for change in ({"question": "Other?"}, {"outline": ["A"]}, {"id": "q9"}):
        row = {**ROWS[0], **change}
        assert not answers.has(digest(row["id"], row))
    other = {**ROWS[0], "kind": "wasps"}
    assert answers.has(digest(other["id"], other)), "other columns do not matter"
    answers.close()


@given(cut=st.integers(min_value=0))
def test_a_line_may_be_torn_anywhere(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = write(tmp_path_factory.mktemp("torn") / "a.jsonl", [result(row) for row in ROWS])
    content = path.read_bytes()
    path.write_bytes(content[: cut % (len(content) + 1)])
    answers = opened(path)
    left = [row for row in ROWS if not answers.has(digest(row["id"], row))]
    for row in left:
        answers.add(result(row))
    answers.close()
    assert sorted(row["id"] for row in kept(path)) == sorted(row["id"] for row in ROWS)


@pytest.mark.parametrize("line", ['{"question": "no answer"}', "text", '{"a": 1}', '[{"id": 1}]'])
def test_a_file_with_other_lines_is_not_touched(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(RowError, match=r"line 1 of .*a\.jsonl is no answer\. Move the file away"):
        opened(path)
    assert path.read_text(encoding="utf-8") == f"{line}\n"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = opened(tmp_path / "a.jsonl")
    with pytest.raises(RowError, match=r"another process is writing a\.jsonl"):
        opened(tmp_path / "a.jsonl")
    first.close()
    opened(tmp_path / "a.jsonl").close()


def read_csv(path: Path) -> list[dict[str, Any]]:
    return pl.read_csv(path, infer_schema=False).to_dicts()


FORMATS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "a.csv": read_csv,
    "a.parquet": lambda path: pl.read_parquet(path).to_dicts(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_are_made_of_the_lines(tmp_path: Path, name: str) -> None:
    answers = opened(tmp_path / name)
    point = {"index": 1, "title": "T", "text": "Ü, \n“x”", "status": "written", "error": None}
    rows = [result({"id": "a", "question": "Ü?"}), result({"id": "b", "question": "B", "kind": "x"})]
    for row in rows:
        answers.add({**row, "points": [point]})
    answers.close()
    answers.convert(["id", "question", "kind"])
    found = FORMATS[name](tmp_path / name)
    assert [(row["id"], row["question"], row["kind"] or None) for row in found] == [("a", "Ü?", None), ("b", "B", "x")]
    points = found[0]["points"]
    assert (json.loads(points) if isinstance(points, str) else points) == [point]
    assert len(kept(answers.lines)) == 2
