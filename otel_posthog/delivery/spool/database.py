"""The file of a spool: opened, checked, and moved aside if it cannot be read.

It is one SQLite database in WAL mode, shared by all processes with the same directory. A commit reaches the
operating system, so `kill -9` of this process does not undo it; a power failure may cost the last seconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

FILE_NAME = "otel-posthog.sqlite3"
VERSION = 1
_APPLICATION = 0x0F3790  # marks SQLite files of this application

BUSY_SECONDS = 0.5
"""The longest wait for another process that is writing."""

_WAL_BYTES = 4 * 1024 * 1024
"""The size of the write-ahead log after it was copied into the database."""

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

# Words in SQLite's errors about a file that it will never read again.
# An I/O error is not among them: a full disk causes one, too.
_BROKEN = (
    "malformed",
    "not a database",
    "unsupported file format",
    "no such",
    "has no column",
    "could not decode",
)


class _Connection(sqlite3.Connection):
    """A connection that is closed when it is deleted: Python 3.13 and later only warn and leave it open."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.close()


class NewerSpoolError(sqlite3.OperationalError):
    """A later version of this package wrote the file."""


def open_spool_file(directory: Path) -> sqlite3.Connection:
    """Open the database in the directory. Create it if it is missing, readable by its owner only.

    Raises:
        sqlite3.Error, OSError: it cannot be read or written; see `is_broken`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / FILE_NAME
    with contextlib.suppress(FileExistsError):  # SQLite creates its other files with the same mode
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
    """Whether SQLite's error means that the file is damaged, not that it is full, locked or inaccessible."""
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, NewerSpoolError):
        return False
    text = str(error).lower()
    return any(word in text for word in _BROKEN)


def identity(directory: Path) -> tuple[int, int] | None:
    """Return an identity of the file, other than that of a later file of this name; None if it is missing."""
    try:
        status = (directory / FILE_NAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages in use."""
    [pages], [free], [size] = (
        connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def move_aside(directory: Path, broken: tuple[int, int] | None) -> Path | None:
    """Rename the broken file with its log and return its new path; None if another process has done so."""
    path = directory / FILE_NAME
    aside = path.with_name(f"{FILE_NAME}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    if broken is None or identity(directory) != broken:
        return None
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside
