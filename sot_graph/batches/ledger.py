"""What was asked by batches and what was answered, in one SQLite file that outlives the process."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

MOST_TRIES = 5
"""So often a request is sent again that a batch ended without, or that met a fault of the provider's."""
GAVE_UP = (424, b'{"error": {"message": "no batch has answered this request"}}')
_TABLES = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, path TEXT, body BLOB, tag TEXT, tries INTEGER DEFAULT 0, status INTEGER, reply BLOB,
    is_wanted INTEGER DEFAULT 1
);
CREATE INDEX IF NOT EXISTS by_tag ON requests (tag, status);
CREATE TABLE IF NOT EXISTS batches (tag TEXT PRIMARY KEY, id TEXT, provider TEXT);
CREATE TABLE IF NOT EXISTS settings (text TEXT);
"""


class Stored(NamedTuple):
    """A request as it is sent."""

    id: str
    path: str
    body: bytes


class Reply(NamedTuple):
    """The answer to a request; without a status, the batch has none: it expired, or was cancelled."""

    id: str
    status: int | None
    body: bytes = b""


@dataclass(frozen=True)
class Limits:
    """The most that a provider takes in one batch."""

    requests: int
    size: int
    """In bytes."""


class OpenBatch(NamedTuple):
    """A batch that has not been read; without an id, nobody knows whether the provider has it."""

    tag: str
    id: str | None
    provider: str


class Ledger:
    """The requests, their replies, and the batches that are with the provider."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            self._db.close()
            msg = f"{path} cannot be read: {error}. Move it away to begin anew; what its batches answered is lost then."
            raise ValueError(msg) from error

    def begin(self, settings: str) -> str | None:
        """Begin a run of the command; returns the settings of the run before it, if they are others and matter.

        What failed in that run is forgotten, and asked again.
        """
        with self._db:
            self._db.execute("DELETE FROM requests WHERE status >= 400")
            before = self._db.execute("SELECT text FROM settings").fetchone()
            matters = (
                self.open_batches() or self._db.execute("SELECT 1 FROM requests WHERE status IS NOT NULL").fetchone()
            )
            if before and before[0] != settings and matters:
                return str(before[0])
            self._db.execute("DELETE FROM settings")
            self._db.execute("INSERT INTO settings VALUES (?)", (settings,))
        return None

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Inside, `find` notes what is wanted: only that is submitted, not what an earlier run asked."""
        with self._db:
            self._db.execute("UPDATE requests SET is_wanted = 0 WHERE is_wanted")
            yield

    def find(self, request: Stored) -> Reply | None:
        """The reply to a request; one that is not there is wanted."""
        row = self._db.execute("SELECT id, status, reply FROM requests WHERE id = ?", (request.id,)).fetchone()
        if row is None:
            self._db.execute("INSERT INTO requests (id, path, body) VALUES (?, ?, ?)", request)
        elif row[1] is None:
            self._db.execute("UPDATE requests SET is_wanted = 1 WHERE id = ?", (request.id,))
        return Reply(*row) if row and row[1] is not None else None

    def open_batches(self) -> list[OpenBatch]:
        """The batches that have not been read."""
        return [OpenBatch(*row) for row in self._db.execute("SELECT tag, id, provider FROM batches ORDER BY rowid")]

    def next_batch(self, limits: Limits, provider: str) -> tuple[str, list[Stored]]:
        """Take wanted requests for one batch, of one endpoint; returns its tag, and [] if none is wanted."""
        taken: list[Stored] = []
        size = 0
        wanted = "SELECT id, path, body FROM requests WHERE tag IS NULL AND status IS NULL AND is_wanted "
        wanted += "ORDER BY path, rowid"
        with closing(self._db.execute(wanted)) as rows:
            for each in (Stored(*row) for row in rows):
                size += len(each.body) + 200  # what stands around it
                if taken and (each.path != taken[0].path or len(taken) >= limits.requests or size > limits.size):
                    break
                taken.append(each)
        tag = uuid4().hex
        if taken:
            with self._db:
                self._db.execute("INSERT INTO batches (tag, provider) VALUES (?, ?)", (tag, provider))
                self._db.executemany("UPDATE requests SET tag = ? WHERE id = ?", ((tag, each.id) for each in taken))
        return tag, taken

    def note_id(self, tag: str, ident: str | None) -> None:
        """The provider has taken a batch."""
        with self._db:
            self._db.execute("UPDATE batches SET id = ? WHERE tag = ?", (ident, tag))

    def settle(self, tag: str, replies: Iterable[Reply]) -> int:
        """Store the replies of a batch that has ended; what it left out is wanted again. Returns how many it has."""
        with self._db:
            found = sum(self._store(reply) for reply in replies)
            left = "UPDATE requests SET tag = NULL, tries = tries + 1 WHERE tag = ? AND status IS NULL"
            self._db.execute(left, (tag,))
            gave_up = "UPDATE requests SET status = ?, reply = ? WHERE status IS NULL AND tries >= ?"
            self._db.execute(gave_up, (*GAVE_UP, MOST_TRIES))
            self._db.execute("DELETE FROM batches WHERE tag = ?", (tag,))
        return found

    def _store(self, reply: Reply) -> int:
        # What may pass is sent again: a limit of the rate, a fault of the server.
        if reply.status is None or reply.status == 429 or reply.status >= 500:  # noqa: PLR2004 - HTTP
            return 0
        done = self._db.execute(
            "UPDATE requests SET status = ?, reply = ? WHERE id = ? AND status IS NULL",
            (reply.status, reply.body, reply.id),
        )
        return done.rowcount

    def drop(self, tag: str) -> None:
        """The provider never had a batch: its requests are wanted again."""
        with self._db:
            self._db.execute("UPDATE requests SET tag = NULL WHERE tag = ?", (tag,))
            self._db.execute("DELETE FROM batches WHERE tag = ?", (tag,))

    def close(self, *, is_done: bool = False) -> None:
        """Close the file; remove it once nothing in it is needed."""
        self._db.close()
        if is_done:
            for path in self._files():
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return (self.path.with_name(f"{self.path.name}{end}") for end in ("", "-wal", "-shm"))
