"""The file of the answers: lines are added as answers come, and the format that was asked for is made at the end."""

import csv
import json
import os
import shutil
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from io import FileIO
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from sot_graph.bulk import WRITTEN, digest, given_by
from sot_graph.cli.columns import Columns, as_text
from sot_graph.cli.rows import JSONL, RowError, check_format, check_regular, plain

BEGIN = b'{"id": '
"""Of each line."""
WHOLE, PARTLY, NOTHING = 2, 1, 0
"""What a line is worth: an answer; a failure with what was written of it; a failure."""


class Answers:
    """The file of the answers.

    A question that failed and was asked again has several lines, until `close` leaves one. Nothing is dropped before:
    a process may be killed at any time, and `open` mends a line that it left torn.

    A file in another format than JSON lines is made of one with JSON lines beside it, when all is done.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.format = path, check_format(path)
        self.lines = path if self.format in JSONL else path.with_name(f"{path.name}.jsonl")
        self._keys, self._worth = array("Q"), bytearray()
        """Of each line."""
        self._done, self._counted = array("Q"), 0
        self._file: FileIO | None = None

    def open(self) -> None:
        """Open the file, mend a torn last line, and see what is answered.

        Raises:
            RowError: It has other lines than answers, another process writes it, or a file that is not made of it would
                be overwritten.
        """
        for path in (self.path, self.lines):
            check_regular(path)
        if self.path.exists() and not self.lines.exists():
            msg = f"{self.path} exists, and is not made of {self.lines.name}, which does not. Move the file away, or "
            msg += "choose another --output."
            raise RowError(msg)
        self.lines.parent.mkdir(parents=True, exist_ok=True)
        self._file = _locked(self.lines.resolve())
        self._keys, self._worth = array("Q"), bytearray()
        try:
            self._read(self._file)
        except BaseException:
            self._release()
            raise
        self._done = _ordered(key for key, worth in self._noted() if worth == WHOLE)
        self._counted = len(self._keys)

    def _read(self, file: FileIO) -> None:
        """Note each line, and mend the last one."""
        size = 0
        with self.lines.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                row, is_whole = _parsed(line), line.endswith(b"\n")
                if row is None and not is_whole and line.startswith(BEGIN[: len(line)]):  # a killed process has left it
                    os.ftruncate(file.fileno(), size)
                    return
                if row is None or not set(WRITTEN) <= row.keys():
                    msg = f"line {number} of {self.lines} is no answer. Move the file away, or choose another --output."
                    raise RowError(msg)
                self._note(row)
                size += len(line)
                if not is_whole:
                    _write(file, b"\n")
                    return

    def _note(self, row: Mapping[str, Any]) -> None:
        self._keys.append(digest(row["id"], row))
        self._worth.append(_worth(row))

    def _noted(self) -> Iterator[tuple[int, int]]:
        return zip(self._keys, self._worth, strict=True)

    def refresh(self) -> None:
        """Count what was added among what is there."""
        self._done = _ordered([*self._done, *self._keys[self._counted :]])
        self._counted = len(self._keys)

    def has(self, key: int) -> bool:
        """Whether the row with this key was answered when the file was opened, or tried before `refresh`."""
        place = bisect_left(self._done, key)
        return place < len(self._done) and self._done[place] == key

    def __len__(self) -> int:
        return len(self._done)

    @property
    def size(self) -> int:
        """The bytes that are held in memory for what is there."""
        arrays = (self._keys, self._done)
        return sum(len(each) * each.itemsize for each in arrays) + len(self._worth)

    def add(self, result: Mapping[str, Any]) -> None:
        """Append a result. It is in the system's hands then, whatever happens to this process."""
        if self._file:
            row = plain(result)
            _write(self._file, _line(row))
            self._note(row)

    def close(self) -> None:
        """Leave one line for each question, and close the file.

        That is its answer; else the newest failure of which something is written; else the newest.

        If that cannot be written (the disk is full, say, or somebody has changed the file), all lines stay, and the
        next `open` reads them.
        """
        if self._file:
            try:
                with suppress(OSError, ValueError):
                    self._compact()
            finally:
                self._release()

    def _compact(self) -> None:
        newest = self._newest()
        if not newest:
            return
        with _replacing(self.lines) as path:
            with path.open("wb") as new:
                new.writelines(self._kept(newest))
                new.flush()
                os.fsync(new.fileno())
            if os.name == "nt":  # which replaces no open file; elsewhere the lock is held until the end
                self._release()

    def _newest(self) -> dict[int, int]:
        """The keys of several lines, each with the line to keep: the newest of those that are worth most."""
        several = {key for key, other in pairwise(sorted(self._keys)) if key == other}
        newest: dict[int, int] = {}
        for number, (key, worth) in enumerate(self._noted() if several else ()):
            if key in several and worth >= self._worth[newest.get(key, number)]:
                newest[key] = number
        return newest

    def _kept(self, newest: Mapping[int, int]) -> Iterator[bytes]:
        with self.lines.open("rb") as lines:
            for number, (line, key) in enumerate(zip(lines, self._keys, strict=True)):
                if newest.get(key, number) == number:
                    yield line

    def _release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def convert(self, columns: Iterable[str]) -> None:
        """Make the file in its own format of the one with JSON lines. Nobody may write that meanwhile."""
        if self.format in JSONL:
            return
        self.open()
        try:
            if self.format == ".csv":
                self._write_csv(columns)
            else:
                self._write_parquet()
        finally:
            self._release()

    def _rows(self) -> Iterator[dict[str, Any]]:
        return (plain(json.loads(line)) for line in self._kept(self._newest()))

    def _write_csv(self, columns: Iterable[str]) -> None:
        names = [f"input_{name}" if name in WRITTEN else name for name in columns]
        with _replacing(self.path) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*names, *WRITTEN], restval="", extrasaction="ignore")
            writer.writeheader()
            for row in self._rows():
                cells = {
                    name: as_text(value) if isinstance(value, list | dict) else value for name, value in row.items()
                }
                writer.writerow(cells)

    def _write_parquet(self) -> None:
        import polars  # noqa: ICN001, PLC0415 - an extra, and needed only here

        columns = Columns()
        for row in self._rows():
            columns.note(row)
        with _replacing(self.path) as path:
            lines = path.with_name(f"{path.name}.jsonl")
            try:
                with lines.open("wb") as file:
                    file.writelines(_line(columns.fitted(row)) for row in self._rows())
                polars.scan_ndjson(escape(str(lines)), infer_schema_length=None).sink_parquet(path)
            finally:
                lines.unlink(missing_ok=True)


def _worth(row: Mapping[str, Any]) -> int:
    if not row["error"]:
        return WHOLE
    points = row["points"] if isinstance(row["points"], list) else []
    has_text = any(isinstance(point, dict) and point.get("status") == "written" for point in points)
    return PARTLY if row["answer"] or has_text else NOTHING


def _ordered(keys: Iterable[int]) -> "array[int]":
    return array("Q", (key for key, _same in groupby(sorted(keys))))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "id" in row and given_by(row) else None


def _write(file: FileIO, line: bytes) -> None:
    """Write a whole line, or nothing."""
    size, written = os.fstat(file.fileno()).st_size, 0
    try:
        while written < len(line):
            written += file.write(line[written:])
    except OSError:
        with suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """The path of a file that takes the place of `path` at the end; if anything fails, `path` stays as it is."""
    real = path.resolve()  # a link stays one
    new = real.with_name(f"{real.name}.new")
    try:
        yield new
        if real.exists():
            shutil.copymode(real, new)
        new.replace(real)  # atomic
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _locked(path: Path) -> FileIO:
    """A file, open to append, that one process holds until it ends."""
    file = FileIO(path, "ab")
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
