"""Files of questions, and the file of their answers: read and written row by row, so that memory does not grow."""

import csv
import json
import os
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sot_graph.bulk import WRITTEN, digest, given_by
from sot_graph.scopes import check_items
from sot_graph.text import storable

JSONL = (".jsonl", ".ndjson")
FORMATS = (*JSONL, ".csv", ".parquet")
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


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read questions, each as a dict with its `id`: the row's own, or its number from 1.

    Raises:
        RowError: A row has no question, or is none.
    """
    for number, (line, row) in enumerate(_READERS[check_format(path)](path), start=1):
        try:
            if not isinstance(row, Mapping):
                msg = 'must be an object with a text as "question"'
                raise ValueError(msg)  # noqa: TRY004, TRY301 - the error of any bad row
            yield _checked({key: _storable(value) for key, value in row.items()}, number)
        except (TypeError, ValueError) as error:
            msg = f"row {line}: {error}"
            raise RowError(msg) from None


def _checked(row: dict[str, Any], number: int) -> dict[str, Any]:
    question, ident = row.get("question"), row.get("id")
    if not row.get("messages") and not (isinstance(question, str) and question.strip()):
        names = ", ".join(map(repr, row)) or "nothing"
        msg = f"it has no question: a text as `question`, or `messages`. It has {names:.200}."
        raise ValueError(msg)
    if ident is not None and not (isinstance(ident, str | int) and str(ident).strip()):
        msg = f"`id` must be text or a whole number, not {ident!r}."
        raise ValueError(msg)
    if isinstance(outline := row.get("outline"), str):  # a cell of a CSV file
        row["outline"] = outline = [title.strip() for title in outline.split(";") if title.strip()] or None
    if outline:
        check_items(outline)
    return {"id": number if ident is None else ident, **{key: value for key, value in row.items() if key != "id"}}


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


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
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        for row in (reader := csv.DictReader(lines)):
            if None in row:
                msg = f"row {reader.line_num} has more cells than the first row has names"
                raise RowError(msg)
            yield reader.line_num, {key: value for key, value in row.items() if value}


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import polars  # noqa: ICN001, PLC0415 - an extra, and needed only here

    table, start = polars.scan_parquet(path), 0
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
        RowError: A row is wrong, two have the same id, or there is none.
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
    return Questions(path, keys, list(names))


class Answers:
    """The file of the answers. Its lines are complete: what a killed process left is mended when it is opened.

    A file in another format than JSON lines is made of one with JSON lines beside it, when all is done.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.format = path, check_format(path)
        self.lines = path if self.format in JSONL else path.with_name(f"{path.name}.jsonl")
        self._done, self._added = array("Q"), array("Q")
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Open the file, and drop a torn last line and the answers that failed.

        Raises:
            RowError: It has other lines than answers, or another process writes it.
        """
        self.lines.parent.mkdir(parents=True, exist_ok=True)
        self._file = _locked(self.lines)
        done, is_clean = array("Q"), True
        try:
            for line, key in self._read():
                is_clean &= key is not None and line.endswith(b"\n")
                done.extend([] if key is None else [key])
        except BaseException:
            self.close()
            raise
        self._done = array("Q", sorted(set(done)))
        if not is_clean or len(self._done) < len(done):
            self._rewrite()

    def _read(self) -> Iterator[tuple[bytes, int | None]]:
        """The lines, each with the key of an answer; None if it is not to be kept."""
        if not self.lines.exists():
            return
        with self.lines.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                row = _parsed(line)
                if row is None and not line.endswith(b"\n"):  # a killed process has left it
                    yield line, None
                elif row is None or not set(WRITTEN) <= row.keys():
                    msg = f"line {number} of {self.lines} is no answer. Move the file away, or choose another --output."
                    raise RowError(msg)
                else:
                    yield line, None if row["error"] else digest(row["id"], row)

    def _rewrite(self) -> None:
        path, kept = self.lines.with_name(f"{self.lines.name}.new"), set[int]()
        path.unlink(missing_ok=True)
        new = _locked(path)
        for line, key in self._read():
            if key is not None and key not in kept:
                new.write(line if line.endswith(b"\n") else line + b"\n")
                kept.add(key)
        new.flush()
        self.close()
        path.replace(self.lines)  # atomic: if the process is killed, no answer is lost
        self._file = new

    def refresh(self) -> None:
        """Count what was added among what is there."""
        self._done, self._added = array("Q", sorted([*self._done, *self._added])), array("Q")

    def has(self, key: int) -> bool:
        """Whether the row with this key was answered when the file was opened or refreshed; see `digest`."""
        place = bisect_left(self._done, key)
        return place < len(self._done) and self._done[place] == key

    def __len__(self) -> int:
        return len(self._done)

    def add(self, result: Mapping[str, Any]) -> None:
        """Append a result. It is in the system's hands then, whatever happens to this process."""
        if self._file:
            line = json.dumps(result, ensure_ascii=False, default=str)
            self._file.write(line.encode("utf-8", "replace") + b"\n")
            self._file.flush()
            self._added.append(digest(result["id"], result))

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def convert(self, columns: Iterable[str]) -> None:
        """Make the file in its own format of the one with JSON lines."""
        if self.format == ".parquet":
            import polars  # noqa: ICN001, PLC0415 - an extra, and needed only here

            polars.scan_ndjson(self.lines, infer_schema_length=None).sink_parquet(self.path)
        elif self.format == ".csv":
            names = [f"input_{name}" if name in WRITTEN else name for name in columns]
            with self.path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, [*names, *WRITTEN], restval="", extrasaction="ignore")
                writer.writeheader()
                for _number, row in _read_lines(self.lines):
                    writer.writerow({name: _cell(value) for name, value in row.items()})


def check_parquet(*paths: Path) -> None:
    """Refuse Parquet files if the package for them is missing."""
    if any(path.suffix.lower() == ".parquet" for path in paths):
        try:
            import polars  # noqa: F401, ICN001, PLC0415 - an extra
        except ImportError as error:
            raise RowError(PARQUET.format(error)) from None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "id" in row and given_by(row) else None


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _locked(path: Path) -> BinaryIO:
    """A file, open to append, that one process holds until it ends."""
    file = path.open("ab")
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where the second process is not noticed
    except ImportError:
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_current = os.path.samestat(os.fstat(file.fileno()), path.stat())  # else it was rewritten meanwhile
    except OSError:
        is_current = False
    if not is_current:
        file.close()
        msg = f"another process is writing {path.name}. Wait for its end."
        raise RowError(msg)
    return file
