"""Files of questions: formats, bad rows, and what is made of values that JSON has not."""

import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sot_graph.cli.rows import FORMATS, RowError, check_format, check_rows, read_rows

ROWS = [{"id": f"q{number}", "question": f"How do bees {number}?", "kind": "bees"} for number in range(5)]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


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


BAD_CSV = {
    "too many cells": ("question\nWhy,not\n", "row 2 has more cells"),
    "same name": ("question,kind,kind\nWhy?,a,b\n", "several columns have the same name .'kind'."),
    "open quote": ('question,kind\nA,a\nB,"b\nC,c\nD,d\n', "row 3: unexpected end of data. Is a quote not closed"),
    "open quote before another": ('question,kind\nA,"a\nB,"b"\n', "row 2: .* Is a quote not closed"),
    "capital": ("Question,kind\nA,a\n", "row 2: it has no question.* Write 'Question' as 'question'"),
    "space": ("kind, question\na,A\n", "Write ' question' as 'question'"),
    "only names": ("question,kind\n,\n", "no question"),
    "both names": ("question,answer,input_answer\nA,b,\nB,,c\n", "`answer` would come back as `input_answer`. Rename"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_a_bad_csv_file_is_refused(tmp_path: Path, name: str) -> None:
    text, message = BAD_CSV[name]
    path = tmp_path / "q.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RowError, match=message):
        check_rows(path)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_with_other_separators(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text("id,question,kind\na,Who?,x\n".replace(",", separator), encoding="utf-8")
    assert list(read_rows(path)) == [{"id": "a", "question": "Who?", "kind": "x"}]


def test_empty_rows_and_cells_at_the_end_of_a_sheet_are_no_questions(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("\n,,,\nquestion,kind,,\nA,a,,\n,,,\nB,b\n , ,,\n,,,\n", encoding="utf-8")
    assert list(read_rows(path)) == [
        {"id": 1, "question": "A", "kind": "a"},
        {"id": 2, "question": "B", "kind": "b"},
    ]


def test_json_in_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    messages = [{"role": "user", "content": "What\x00?"}]
    cells = [json.dumps(value).replace('"', '""') for value in (["Sun", {"title": "Scents"}], messages)]
    path.write_text(
        f'question,outline,messages,kind\nA,"{cells[0]}","{cells[1]}",[1]\nB,[Sun]; {{x}},[urgent],\n', encoding="utf-8"
    )
    first, second = read_rows(path)
    assert (first["outline"], first["kind"]) == (["Sun", {"title": "Scents"}], "[1]")
    assert first["messages"] == [{"role": "user", "content": "What\ufffd?"}]
    assert (second["outline"], second["messages"]) == (["[Sun]", "{x}"], "[urgent]"), "text that is no JSON stays"


def test_values_inside_of_values_are_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        r'{"messages": [{"role": "user", "content": "A\ud800\u0000"}], "outline": ["B\udfff"], "own": {"\u0000": NaN}}',
        encoding="utf-8",
    )
    assert list(read_rows(path)) == [
        {
            "id": 1,
            "messages": [{"role": "user", "content": "A\ufffd\ufffd"}],
            "outline": ["B\ufffd"],
            "own": {"\ufffd": None},
        }
    ]


def test_values_that_json_has_not(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    values = {
        "missing": float("nan"),
        "endless": float("inf"),
        "day": date(2026, 1, 2),
        "moment": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "price": Decimal("1.50"),
        "bytes": b"\xff!",
        "inside": [{"score": float("nan"), "day": date(2026, 1, 2)}],
    }
    pl.DataFrame([{"question": "A", **values}]).write_parquet(path)
    assert list(read_rows(path)) == [
        {
            "id": 1,
            "question": "A",
            "missing": None,
            "endless": "inf",
            "day": "2026-01-02",
            "moment": "2026-01-02T03:04:00+00:00",
            "price": "1.50",
            "bytes": "\ufffd!",
            "inside": [{"score": None, "day": "2026-01-02"}],
        }
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_pipes_and_folders_are_refused(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(pipe := tmp_path / f"pipe{suffix}")
    (folder := tmp_path / f"folder{suffix}").mkdir()
    for path in (pipe, folder):
        with pytest.raises(RowError, match="no regular file"):
            check_rows(path)


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    for name in ("q[1].parquet", "q1.parquet"):
        pl.DataFrame([{"question": name}]).write_parquet(tmp_path / name)
    assert [row["question"] for row in read_rows(tmp_path / "q[1].parquet")] == ["q[1].parquet"]


def test_only_known_formats() -> None:
    with pytest.raises(RowError, match=r"must end in one of \.jsonl, \.ndjson, \.csv, \.parquet"):
        check_format(Path("q.xlsx"))


def test_columns_are_known_and_rows_counted(tmp_path: Path) -> None:
    questions = check_rows(write(tmp_path / "q.jsonl", [*ROWS, {"question": "C", "level": 3}]))
    assert questions.columns == ["id", "question", "kind", "level"]
    assert len(questions.keys) == 6
