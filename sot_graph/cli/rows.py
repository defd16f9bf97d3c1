"""Files of questions: read row by row, so that memory does not grow."""

import csv
import json
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from sot_graph.bulk import WRITTEN, digest
from sot_graph.scopes import check_items
from sot_graph.text import storable

JSONL = (".jsonl", ".ndjson")
FORMATS = (*JSONL, ".csv", ".parquet")
SEPARATORS = (",", ";", "\t")
ASKING = ("question", "messages")
"""A row has one of these."""
LARGEST_CELL = 2**31 - 1
"""In characters; the module `csv` takes no larger number everywhere."""
CHUNK = 1_000
"""Rows of a Parquet file that are read at once."""
MOST_NAMED = 3
"""How many wrong rows an error names."""
PARQUET = "Parquet needs the extra `parquet` ({}): pip install '.[cli,parquet]' in sot_graph's checkout"


class RowError(ValueError):
    """A file of questions or answers cannot be used."""


def check_format(path: Path) -> str:
    """The format of a file, by its name."""
    if (suffix := path.suffix.lower()) not in FORMATS:
        msg = f"{path} must end in one of {', '.join(FORMATS)}."
        raise RowError(msg)
    return suffix


def check_parquet(*paths: Path) -> None:
    """Refuse Parquet files if the package for them is missing."""
    if any(path.suffix.lower() == ".parquet" for path in paths):
        try:
            import polars  # noqa: F401, ICN001, PLC0415 - an extra
        except ImportError as error:
            raise RowError(PARQUET.format(error)) from None


def check_regular(path: Path) -> None:
    """Refuse a folder, a pipe or a device: files are read several times."""
    if path.exists() and not path.is_file():
        msg = f"{path} is no regular file, but a folder, a pipe or a device."
        raise RowError(msg)


def plain(value: Any) -> Any:
    """A value as JSON has it, inside lists and objects, too.

    NaN, by which pandas says that a value is missing, is None. Dates become ISO text, other values text. Text is
    without what JSON columns reject.
    """
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {storable(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(each) for each in value]
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    return storable(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read questions, each as a dict with its `id`: the row's own, or its number from 1.

    Raises:
        RowError: A row has no question, or is none.
    """
    check_regular(path)
    for number, (line, row) in enumerate(_READERS[check_format(path)](path), start=1):
        try:
            if not isinstance(row, Mapping):
                msg = 'must be an object with a text as "question"'
                raise ValueError(msg)  # noqa: TRY004, TRY301 - the error of any bad row
            yield _checked(plain(row), number)
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"row {line}: {error}"
            raise RowError(msg) from None


def _checked(row: dict[str, Any], number: int) -> dict[str, Any]:
    row |= {name: _read_cell(row[name]) for name in ("messages", "outline") if name in row}
    question, ident = row.get("question"), row.get("id")
    if not row.get("messages") and not (isinstance(question, str) and question.strip()):
        names = ", ".join(map(repr, row)) or "nothing"
        msg = f"it has no question: a text as `question`, or `messages`. It has {names:.200}.{_hint(row)}"
        raise ValueError(msg)
    if ident is not None and not (isinstance(ident, str | int) and str(ident).strip()):
        msg = f"`id` must be text or a whole number, not {ident!r}."
        raise ValueError(msg)
    if isinstance(outline := row.get("outline"), str):  # a cell of a CSV file
        row["outline"] = outline = [title.strip() for title in outline.split(";") if title.strip()] or None
    if outline:
        check_items(outline)
    return {"id": number if ident is None else ident, **{key: value for key, value in row.items() if key != "id"}}


def _hint(row: Mapping[str, Any]) -> str:
    """What to write, if a name is right but for capitals and spaces."""
    near = [name for name in row if name not in ASKING and name.strip().casefold() in ASKING]
    return "".join(f" Write {name!r} as '{name.strip().casefold()}'." for name in near)


def _read_cell(value: Any) -> Any:
    """The list or object in a cell with JSON; other values as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            return plain(json.loads(value))
        except ValueError:
            return value
    return value


def _read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    msg = f"row {number} is not JSON: {error}"
                    raise RowError(msg) from None


def _read_csv(path: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LARGEST_CELL)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        separator = _separator(next(filter(str.strip, lines), ""))
        lines.seek(0)
        names, last = list[str](), 0
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for cells in reader:
                number, last = last + 1, reader.line_num
                if not any(map(str.strip, cells)):
                    continue
                if not names:
                    names = _names(cells)
                elif any(cells[len(names) :]):
                    msg = f"row {number} has more cells than the first row has names"
                    raise RowError(msg)
                else:
                    yield number, {name: cell for name, cell in zip(names, cells, strict=False) if cell}
        except csv.Error as error:
            msg = f"row {last + 1}: {error}. Is a quote not closed there? One inside of quotes is written twice."
            raise RowError(msg) from None


def _separator(header: str) -> str:
    """What separates the cells: a semicolon or a tab, if only so the header has a question."""
    for separator in SEPARATORS:
        names = {name.strip().casefold() for row in csv.reader([header], delimiter=separator) for name in row}
        if not names.isdisjoint(ASKING):
            return separator
    return SEPARATORS[0]


def _names(cells: list[str]) -> list[str]:
    """The names in a header; spreadsheets leave empty cells behind them."""
    names = list(cells)
    while not names[-1].strip():
        names.pop()
    if twice := [repr(name) for name in dict.fromkeys(names) if names.count(name) > 1]:
        msg = f"several columns have the same name ({', '.join(twice[:MOST_NAMED])})"
        raise RowError(msg)
    return names


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import polars  # noqa: ICN001, PLC0415 - an extra, and needed only here

    table, start = polars.scan_parquet(path, glob=False), 0
    while rows := table.slice(start, CHUNK).collect().to_dicts():
        yield from enumerate(rows, start + 1)
        start += CHUNK


_READERS = {".csv": _read_csv, ".parquet": _read_parquet, **dict.fromkeys(JSONL, _read_lines)}


@dataclass
class Questions:
    """What a file of questions has."""

    path: Path
    keys: "array[int]"
    """Of its rows; 8 bytes each."""
    columns: list[str]


def check_rows(path: Path) -> Questions:
    """Read all questions once.

    Raises:
        RowError: A row is wrong, two have the same id, two columns would have the same name, or there is none.
    """
    names: dict[str, None] = {}
    ids, keys = array("Q"), array("Q")
    for row in read_rows(path):
        names |= dict.fromkeys(row)
        ids.append(digest(row["id"], {}))
        keys.append(digest(row["id"], row))
    ids = array("Q", sorted(ids))
    twice = {ids[i] for i in range(1, len(ids)) if ids[i] == ids[i - 1]}
    if twice:
        same = [str(row["id"]) for row in read_rows(path) if digest(row["id"], {}) in twice]
        named = ", ".join(dict.fromkeys(same[: 2 * MOST_NAMED]))
        msg = f"several rows have the same id ({named}). Each row needs an `id` of its own, or none has one."
        raise RowError(msg)
    if not keys:
        msg = "it contains no question."
        raise RowError(msg)
    if both := next((name for name in WRITTEN if name in names and f"input_{name}" in names), None):
        msg = f"it has the columns `{both}` and `input_{both}`; `{both}` would come back as `input_{both}`. Rename one."
        raise RowError(msg)
    return Questions(path, keys, list(names))
