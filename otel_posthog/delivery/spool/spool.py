"""The spool: what waits on disk until PostHog takes it, shared by all processes with the same directory.

An entry is its writer's to send, for as long as that process lives or a lease lasts, so that no two send one
at the same time; what a process leaves when it ends, or dies, is anybody's. A fault of the disk raises
nothing: the caller is told that the entries are not on disk, the log says why once a minute, and the file is
tried again later.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from otel_posthog.delivery.spool.database import identity, is_broken, move_aside, open_spool_file
from otel_posthog.delivery.spool.entries import DeadLetter, Entry, Held
from otel_posthog.delivery.spool.lease_holder import is_alive, name_of_holder
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

T = TypeVar("T")

MAX_LEASE_SECONDS = 3600.0
"""No process may hold an entry for longer, however patient it is."""
RETRY_SECONDS = 10.0
"""A file that cannot be used is tried again after so long."""

_CHECK_EVERY_BYTES = 256 * 1024  # written by us between two looks at the size of the file
_CHECKPOINT_BYTES = 16 * 1024 * 1024  # in the write-ahead log, if nobody else has copied it into the database
_ROW_BYTES = 100  # of an entry beside its body
_FREE = "destination = ? AND (holder IN ('', ?) OR held_until <= ? OR held_until > ?)"
_SENDING = "!"  # after the holder's name: the entry is being sent


class Spool:
    """The entries of one destination in a directory. Safe to use from several threads, and around forks."""

    def __init__(
        self,
        directory: Path,
        destination: str,
        *,
        max_bytes: int,
        lease_seconds: float,
        drops_oldest: bool = True,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        is_alive: Callable[[str], bool] = is_alive,
    ) -> None:
        """Open the spool in `directory` when it is first needed.

        `clock` counts the leases, in seconds; it is one for all processes of a machine and never jumps.
        `now` is in seconds since 1970. `is_alive` tells whether a holder may still send what it holds. Where
        there are more than `max_bytes`, the oldest entries make room, or, unless it `drops_oldest`, nothing
        more is written: who asks can tell its sender to wait.
        """
        self._directory = directory
        self._destination = destination
        self._max_bytes = max_bytes
        self._drops_oldest = drops_oldest
        self._lease_seconds = min(lease_seconds, MAX_LEASE_SECONDS)
        self._clock = clock
        self._now = now
        self._is_alive = is_alive
        self._notices = RateLimitedLog(clock)
        self._connection: sqlite3.Connection | None = None
        self._begin()
        follow_forks(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._copying = threading.RLock()
        """Taken before the other lock, by who uses a connection beside the spool's own."""
        self._holder = name_of_holder()
        self._file: tuple[int, int] | None = None
        self._open_at = float("-inf")
        self._unchecked = 0
        self._uncopied = 0
        self._dropped: Counter[str] = Counter()
        self._done: list[int] = []  # sent, but the disk did not let us take them out
        self.is_locked = False
        """Whether another process had the file when we last wanted it."""

    # --- entries ---

    def put(self, entries: Iterable[Entry], *, held: bool = False) -> list[int] | None:
        """Write the entries, as being sent by us if `held`; their ids, or None if they are not on disk."""
        rows = [(self._destination, *self._lease(held), *entry) for entry in entries]
        if not rows:
            return []
        with self._lock:
            written = self._try(lambda connection: self._insert(connection, rows))
            if written is not None:
                self._wrote(_size(rows, 4))
            return written

    def is_busy(self) -> bool:
        """Whether another thread is using the spool now."""
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def take(self, max_entries: int, max_bytes: int) -> list[Held]:
        """Lease the oldest entries that are ours or nobody's to send, one at least if there is any."""

        def lease(connection: sqlite3.Connection) -> list[Held]:
            clock = self._clock()
            taken: list[Held] = []
            room = max_bytes
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_TAKE_OUT, [(each, self._holder + _SENDING) for each in self._done])
            found = connection.execute(
                f"SELECT id, length(body) FROM entries WHERE {_FREE} ORDER BY id LIMIT ?",  # noqa: S608
                (*self._free(clock), max_entries),
            ).fetchall()
            for identifier, size in found:
                room -= size
                if taken and room < 0:
                    break
                row = connection.execute(
                    "SELECT kind, body, created FROM entries WHERE id = ?", (identifier,)
                ).fetchone()
                taken.append(Held(identifier, Entry(*row)))
            connection.executemany(
                "UPDATE entries SET holder = ?, held_until = ? WHERE id = ?",
                [(*self._lease(held=True), held.id) for held in taken],
            )
            connection.execute("COMMIT")
            self._done.clear()
            return taken

        with self._lock:
            return self._try(lease) or []

    def acknowledge(
        self,
        ids: Sequence[int],
        back: Iterable[Entry] = (),
        dead: Iterable[DeadLetter] = (),
    ) -> bool:
        """Take the entries out that we are sending; in the same moment put others in, and dead letters.

        False if the disk did not take it: then nothing has changed.
        """
        rows = [(self._destination, *self._lease(held=False), *entry) for entry in back]
        letters = [(self._destination, self._now(), *letter) for letter in dead]

        def settled(connection: sqlite3.Connection) -> bool:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_TAKE_OUT, [(each, self._holder + _SENDING) for each in ids])
            if rows and not self._has_room(connection, rows):
                return False
            connection.executemany(_INSERT_ENTRY, rows)
            connection.executemany(_INSERT_LETTER, letters)
            connection.execute("COMMIT")
            return True

        with self._lock:
            done = self._try(settled) or False
            if done:
                self._wrote(_size(rows, 4) + _size(letters, 2))
            elif not rows and not letters:
                self._done += ids
            return done

    def release(self, ids: Iterable[int]) -> None:
        """Let others, and ourselves, take the entries again."""
        rows = [(each, self._holder + _SENDING) for each in ids]
        with self._lock:
            self._try(
                lambda connection: connection.executemany(
                    "UPDATE entries SET holder = '', held_until = 0 WHERE id = ? AND holder = ?", rows
                )
            )

    def reclaim(self) -> bool:
        """Let go what is held by a process that is no more; whether there was something."""

        def let_go(connection: sqlite3.Connection) -> bool:
            holders = connection.execute(
                "SELECT DISTINCT holder FROM entries WHERE destination = ? AND holder NOT IN ('', ?, ?)",
                (self._destination, self._holder, self._holder + _SENDING),
            ).fetchall()
            gone = [(holder,) for [holder] in holders if not self._is_alive(holder)]
            connection.executemany(_LET_GO, gone)
            return bool(gone)

        with self._lock:
            return self._try(let_go) or False

    def leave(self) -> None:
        """Let others take what we wrote and are not sending."""
        with self._lock:
            self._try(lambda connection: connection.execute(_LET_GO, (self._holder,)))

    def waits(self) -> bool:
        """Whether there is an entry that we could take."""

        def found(connection: sqlite3.Connection) -> bool:
            query = f"SELECT 1 FROM entries WHERE {_FREE} LIMIT 1"  # noqa: S608  # a constant of ours
            return connection.execute(query, self._free(self._clock())).fetchone() is not None

        with self._lock:
            return self._try(found) or False

    # --- the house ---

    def stats(self) -> dict[str, Any]:
        """What is there for this destination: `entries`, their `bytes`, `oldest_seconds`, `dead_letters`.

        `dropped`: entries that this process took out because the spool was full.
        """

        def counted(connection: sqlite3.Connection) -> dict[str, Any]:
            entries, size, oldest = connection.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0), min(created) FROM entries"
                " WHERE destination = ?",
                (self._destination,),
            ).fetchone()
            [letters] = connection.execute(
                "SELECT count(*) FROM dead_letters WHERE destination = ?", (self._destination,)
            ).fetchone()
            return {
                "entries": entries,
                "bytes": size,
                "oldest_seconds": None if oldest is None else max(self._now() - oldest, 0.0),
                "dead_letters": letters,
            }

        with self._lock:
            nothing: dict[str, Any] = {"entries": 0, "bytes": 0, "oldest_seconds": None, "dead_letters": 0}
            return {**(self._try(counted) or nothing), "dropped": dict(self._dropped)}

    def copy_into_database(self) -> None:
        """Copy the write-ahead log into the database, by a connection that nobody waits for."""
        with self._copying:
            with self._lock:
                if not self._uncopied or self._connection is None:
                    return
                self._uncopied = 0
            with suppress(sqlite3.Error, OSError), closing(open_spool_file(self._directory)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def before_fork(self) -> None:
        """Leave the file: SQLite's locks do not survive a fork, and its mutexes may not be held in one."""
        self._copying.acquire()
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Go on; the file is opened again when it is needed."""
        self._lock.release()
        self._copying.release()

    def after_fork_in_child(self) -> None:
        """Go on as somebody else: the parent's leases stay the parent's."""
        self._begin()
        self._notices = RateLimitedLog(self._clock)

    def is_full(self) -> bool:
        """Whether there is next to no room, and nothing that makes some."""

        def full(connection: sqlite3.Connection) -> bool:
            excess = self._excess(connection, min(self._max_bytes // 16, _CHECK_EVERY_BYTES))
            if excess > 0:  # dead letters make room
                query = f"SELECT coalesce(sum(length(body) + {_ROW_BYTES}), 0) FROM dead_letters"  # noqa: S608
                [dead] = connection.execute(query).fetchone()
                excess -= dead
            return excess > 0

        with self._lock:
            return not self._drops_oldest and bool(self._try(full))

    # --- within ---

    def _insert(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[int] | None:
        if len(rows) == 1 and self._drops_oldest:  # a transaction of its own, in one call
            return [connection.execute(_INSERT_ENTRY, rows[0]).lastrowid or 0]
        connection.execute("BEGIN IMMEDIATE")
        if not self._has_room(connection, rows):
            return None
        ids = [connection.execute(_INSERT_ENTRY, row).lastrowid or 0 for row in rows]
        connection.execute("COMMIT")
        return ids

    def _has_room(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> bool:
        """Whether the rows may be written now; where none of the oldest entries goes, dead letters do.

        Where all of them would not be enough, the transaction is undone, and none goes for nothing.
        """
        if self._drops_oldest:
            return True
        size, dropped = _size(rows, 4), self._dropped.copy()
        self._drop_oldest(connection, "dead_letters", "dead_letter", size)
        if self._excess(connection, size) <= 0:
            return True
        connection.rollback()
        self._dropped = dropped
        self._warn_full()
        return False

    def _lease(self, held: bool) -> tuple[str, float]:
        return self._holder + _SENDING * held, self._clock() + self._lease_seconds

    def _free(self, clock: float) -> tuple[str, str, float, float]:
        # A lease that ends later than any can, but for one that is written right now, is from before the
        # machine was started anew.
        return self._destination, self._holder, clock, clock + 2 * MAX_LEASE_SECONDS

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do the work; None if the disk does not let us. What was begun is undone."""
        for attempt in range(2):
            connection = self._open()
            if connection is None:
                return None
            try:
                if connection.in_transaction:  # a signal handler came in between
                    connection.rollback()
                return work(connection)
            except (sqlite3.Error, OSError) as error:
                with suppress(sqlite3.Error):
                    connection.rollback()
                self.is_locked = "locked" in str(error)
                if self.is_locked:
                    return None
                if is_broken(error) and attempt == 0:
                    self._replace_broken()
                else:
                    self._unusable(error)
                    return None
        return None

    def _open(self) -> sqlite3.Connection | None:
        if self._connection is not None:
            if self._file == identity(self._directory):
                return self._connection
            self.close()  # moved aside by another process, or deleted: what is written there nobody finds
        if self._clock() < self._open_at:
            return None
        try:
            try:
                self._connection = open_spool_file(self._directory)
            except sqlite3.Error as error:
                if not is_broken(error):
                    raise
                self._replace_broken()
                self._connection = open_spool_file(self._directory)
        except (sqlite3.Error, OSError) as error:
            self._unusable(error)
        self._file = identity(self._directory)
        return self._connection

    def _replace_broken(self) -> None:
        broken = self._file if self._connection is not None else identity(self._directory)
        self.close()
        aside = None
        with suppress(OSError):
            aside = move_aside(self._directory, broken)
        if aside is not None:
            self._notices.warn(
                "broken", "The spool could not be read and was moved to %s; a new one was begun.", aside
            )

    def _unusable(self, error: Exception) -> None:
        self.close()
        self._open_at = self._clock() + RETRY_SECONDS
        self._notices.warn(
            "unusable",
            "The spool in %s cannot be used (%s); what waits is kept in memory only. Make room there or"
            " correct its permissions.",
            self._directory,
            error,
        )

    def _wrote(self, size: int) -> None:
        self._unchecked += size
        self._uncopied += size
        if self._uncopied >= _CHECKPOINT_BYTES:
            self.copy_into_database()
        if self._unchecked >= min(_CHECK_EVERY_BYTES, self._max_bytes // 4):
            self._unchecked = 0
            self._try(self._make_room)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Take out the oldest dead letters, then the oldest entries, until the rest fits."""
        connection.execute("BEGIN IMMEDIATE")
        self._drop_oldest(connection, "dead_letters", "dead_letter")
        if self._drops_oldest:
            self._drop_oldest(connection, "entries", "spool_full")
        connection.execute("COMMIT")
        if self._dropped:
            self._warn_full()

    def _drop_oldest(self, connection: sqlite3.Connection, table: str, reason: str, room: int = 0) -> None:
        """Take out the oldest rows of the table until there is so much room, or there are no more."""
        while (excess := self._excess(connection, room)) > 0:
            # Half of it by the rows' own bytes: on disk they take up to twice as much.
            gone = _take_out_oldest(connection, table, excess // 2)
            if not gone:
                return
            self._dropped[reason] += gone

    def _excess(self, connection: sqlite3.Connection, size: int) -> int:
        return _used_bytes(connection) + size - self._max_bytes

    def _warn_full(self) -> None:
        self._notices.warn(
            "full",
            "The spool of %d bytes is full (%d entries dropped): raise spool_max_bytes.",
            self._max_bytes,
            self._dropped.total(),
        )


def _take_out_oldest(connection: sqlite3.Connection, table: str, size: int) -> int:
    """Delete the oldest rows of a table that together have so many bytes; how many they were."""
    gone = last = 0
    for identifier, row_size in connection.execute(
        f"SELECT id, length(body) + {_ROW_BYTES} FROM {table} ORDER BY id"  # noqa: S608  # a name of ours
    ):
        gone, last, size = gone + 1, identifier, size - row_size
        if size <= 0:
            break
    connection.execute(f"DELETE FROM {table} WHERE id <= ?", (last,))  # noqa: S608
    return gone


_INSERT_ENTRY = (
    "INSERT INTO entries (destination, holder, held_until, kind, body, created) VALUES (?, ?, ?, ?, ?, ?)"
)
_TAKE_OUT = "DELETE FROM entries WHERE id = ? AND holder = ?"
_LET_GO = "UPDATE entries SET holder = '', held_until = 0 WHERE holder = ?"
_INSERT_LETTER = (
    "INSERT INTO dead_letters (destination, died, body, created, reason, kind) VALUES (?, ?, ?, ?, ?, ?)"
)


def _size(rows: list[tuple[Any, ...]], body: int) -> int:
    return sum(_ROW_BYTES + len(row[body]) for row in rows)


def _used_bytes(connection: sqlite3.Connection) -> int:
    [pages], [free], [size] = (
        connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
