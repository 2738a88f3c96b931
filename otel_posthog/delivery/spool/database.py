"""The file of a spool: opened, checked, moved aside where it cannot be read.

One SQLite database in WAL mode in the directory, shared by all processes that are told the same directory.
Committed means written to the operating system, which `kill -9` of this process does not undo; a power
failure may cost the last seconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

FILE_NAME = "otel-posthog.sqlite3"
VERSION = 1
_APPLICATION = 0x0F3790  # tells SQLite's files of one application from another's

BUSY_SECONDS = 0.5
"""The longest wait for another process that writes."""

_WAL_BYTES = 4 * 1024 * 1024
"""What is left of the write-ahead log once it is copied into the database."""

_PRAGMAS = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = {_WAL_BYTES};
"""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    kind TEXT NOT NULL,
    created REAL NOT NULL,
    holder TEXT NOT NULL DEFAULT '',
    held_until REAL NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    created REAL NOT NULL,
    died REAL NOT NULL,
    reason TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""

# SQLite's own words for a file that it will not read again, whatever is tried.
# An I/O error is none: a full disk gives one, too.
_BROKEN = (
    "malformed",
    "not a database",
    "unsupported file format",
    "no such",
    "has no column",
    "could not decode",
)


class _Connection(sqlite3.Connection):
    """Closed when nobody has it any more: from Python 3.13 on, SQLite's own warns of that and leaves it."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.close()


class NewerSpoolError(sqlite3.OperationalError):
    """A later version of this package wrote the file."""


def open_spool_file(directory: Path) -> sqlite3.Connection:
    """Open the database in the directory, made where it is missing: only its owner may read it.

    Raises:
        sqlite3.Error, OSError: it cannot be read or written; see `is_broken`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / FILE_NAME
    with contextlib.suppress(FileExistsError):  # SQLite gives its other files the mode of this one
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=32,
        factory=_Connection,
    )
    try:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        [application] = connection.execute("PRAGMA application_id").fetchone()
        if application == _APPLICATION and VERSION < version < 1000:
            raise NewerSpoolError(f"{path} was written by a later version of otel-posthog")
        if (application, version) not in ((0, 0), (_APPLICATION, VERSION)):
            raise sqlite3.DatabaseError(f"{path} is not a database of otel-posthog")
        connection.executescript(_PRAGMAS if version == VERSION else _PRAGMAS + _SCHEMA)
        connection.execute("SELECT 1 FROM entries, dead_letters LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def is_broken(error: Exception) -> bool:
    """Whether SQLite's error says that the file itself is at fault: no room, no access or no turn is not."""
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, NewerSpoolError):
        return False
    text = str(error).lower()
    return any(word in text for word in _BROKEN)


def identity(directory: Path) -> tuple[int, int] | None:
    """What tells the file from another that takes its place under the same name."""
    try:
        found = (directory / FILE_NAME).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def move_aside(directory: Path, broken: tuple[int, int] | None) -> Path | None:
    """Rename the broken file, and what belongs to it; None if another process has done so already."""
    path = directory / FILE_NAME
    aside = path.with_name(f"{FILE_NAME}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    if broken is None or identity(directory) != broken:
        return None
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside
