"""The events, in SQLite (WAL). The same uuid and event name is the same event: counted, not stored again."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from otel_posthog.local.capture_wire import Event

#: Marks the file as an inbox ("PHin"), so that nobody else's database is written to by mistake.
APPLICATION_ID = 0x5048696E

_PAGE = 500

_SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL,
    event TEXT NOT NULL,
    path TEXT NOT NULL,
    received_at TEXT NOT NULL,
    copies INTEGER NOT NULL DEFAULT 1,
    body BLOB NOT NULL,
    UNIQUE (uuid, event)
);
PRAGMA application_id = {APPLICATION_ID};
COMMIT;
"""


_INSERT = "INSERT OR IGNORE INTO events (uuid, event, path, received_at, body) VALUES (?, ?, ?, ?, ?)"


class UnusableFileError(Exception):
    """The file cannot be opened or written, or belongs to something else; the text names it."""


def _open(path: Path) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended by name, one for each request.
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    try:
        (owner,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and owner != APPLICATION_ID:
            raise UnusableFileError(f"{path} is a database of something else")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


class Store:
    """Events in a file. Threads may share it, and other processes may read the file meanwhile."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = _open(path)
        except sqlite3.Error as error:
            raise UnusableFileError(f"{path} cannot be used as an inbox's database: {error}") from None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def add(self, events: Iterable[Event], *, path: str, received_at: str) -> list[Event]:
        """Store the events of one request, all or none; return those that were not there before."""
        fresh = []
        with self._lock, self._transaction():
            for event in events:
                key = (event["uuid"], event["event"])
                row = (*key, path, received_at, orjson.dumps(event))
                done = self._db.execute(
                    _INSERT,
                    row,
                )
                if done.rowcount:
                    fresh.append(event)
                else:
                    self._db.execute(
                        "UPDATE events SET copies = copies + 1 WHERE uuid = ? AND event = ?", key
                    )
        return fresh

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # A full disk ends the transaction by itself.
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def read(self, *, event: str | None = None, after: int = 0) -> Iterator[Event]:
        """Yield the events in order of arrival, read page by page: a large inbox is never all in memory.

        Each has an `_inbox` with its `id`, `path`, `received_at` and `copies` (how often it arrived).
        """
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT id, path, received_at, copies, body FROM events "
                    "WHERE id > ? AND (? IS NULL OR event = ?) ORDER BY id LIMIT ?",
                    (after, event, event, _PAGE),
                ).fetchall()
            for row in rows:
                after = row[0]
                about = dict(zip(("id", "path", "received_at", "copies"), row[:4], strict=True))
                yield {**orjson.loads(row[4]), "_inbox": about}
            if len(rows) < _PAGE:
                return

    def counts(self) -> dict[str, Any]:
        """Return the number of `events` kept and of `duplicates` that were not kept again."""
        with self._lock:
            events, copies = self._db.execute(
                "SELECT count(*), coalesce(sum(copies), 0) FROM events"
            ).fetchone()
        return {"events": events, "duplicates": copies - events}
