"""The spool: entries that wait on disk until PostHog accepts them. Processes with one directory share it.

Only the holder of an entry's lease may send it, so that no two processes send it at the same time.

    put                     lease                    acknowledge
    ----> [ waiting ] --------------> [ sending ] ---------------> deleted, and in the same transaction
               |                       ^      |                    - a dead letter for each rejected event
         leave |                 lease |      | release            - a new entry for each unsent event
       reclaim |                       |      | reclaim
        expiry |                       |      | expiry
               +-------> [ free ] -----+      |
                            ^                 |
                            +-----------------+

A waiting entry belongs to its writer and a free one to nobody. `reclaim` frees those of holders that died.

A fault of the disk raises nothing. The caller learns that the entries are not on disk, the log states the
reason once a minute, and the file is tried again later.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from otel_posthog.delivery.spool.database import identity, is_broken, move_aside, open_spool_file
from otel_posthog.delivery.spool.entries import DeadLetter, Entry, LeasedEntry
from otel_posthog.delivery.spool.eviction import ROW_BYTES, Eviction
from otel_posthog.delivery.spool.lease_holder import is_alive, name_of_holder
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

T = TypeVar("T")

MAX_LEASE_SECONDS = 3600.0
"""The longest lease, however patient its holder is."""
RETRY_SECONDS = 10.0
"""Seconds until a file that cannot be used is tried again."""

_CHECKPOINT_BYTES = 16 * 1024 * 1024
"""Bytes in the write-ahead log after which `put` itself copies it into the database."""
_LEASABLE = "destination = ? AND (holder IN ('', ?) OR held_until <= ? OR held_until > ?)"
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
        """Create the spool; the file in `directory` is opened when it is first needed.

        `clock` times the leases, in seconds; all processes of a machine share it, and it never jumps. `now`
        is in seconds since 1970. `is_alive` returns whether a holder may still be alive. Beyond `max_bytes`
        the oldest entries are dropped if the spool `drops_oldest`; else it accepts no more entries, so that a
        server can ask its clients to wait.
        """
        self._directory = directory
        self._destination = destination
        self._eviction = Eviction(max_bytes, drops_oldest=drops_oldest)
        self._lease_seconds = min(lease_seconds, MAX_LEASE_SECONDS)
        self._clock = clock
        self._now = now
        self._is_alive = is_alive
        self._connection: sqlite3.Connection | None = None
        self._begin()
        follow_forks(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._copying = threading.RLock()
        """Acquired before the other lock, by users of a connection besides the spool's own."""
        self._log = RateLimitedLog(self._clock)
        self._holder = name_of_holder()
        self._file: tuple[int, int] | None = None
        self._open_at = float("-inf")
        self._uncopied = 0
        self._eviction.begin()
        self._undeleted: list[int] = []
        """Ids of entries that were acknowledged while the disk did not let us delete them."""
        self.is_locked = False
        """Whether another process had locked the file at our last attempt."""

    # --- entries ---

    def put(self, entries: Iterable[Entry], *, held: bool = False) -> list[int] | None:
        """Write entries, as being sent by us if `held`. Return their ids, or None if they are not on disk."""
        rows = [(self._destination, *self._lease_of_ours(held), *entry) for entry in entries]
        if not rows:
            return []
        with self._lock:
            ids = self._try(lambda connection: self._insert(connection, rows))
            if ids is not None:
                self._wrote(_size(rows, 4))
            return ids

    def is_busy(self) -> bool:
        """Whether another thread is using the spool now."""
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def lease(self, max_entries: int, max_bytes: int) -> list[LeasedEntry]:
        """Lease the oldest entries that are ours or free, at least one if there is any."""

        def lease(connection: sqlite3.Connection) -> list[LeasedEntry]:
            clock = self._clock()
            leased: list[LeasedEntry] = []
            room = max_bytes
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_DELETE, [(each, self._holder + _SENDING) for each in self._undeleted])
            candidates = connection.execute(
                f"SELECT id, length(body) FROM entries WHERE {_LEASABLE} ORDER BY id LIMIT ?",  # noqa: S608
                (*self._leasable(clock), max_entries),
            ).fetchall()
            for identifier, size in candidates:
                room -= size
                if leased and room < 0:
                    break
                row = connection.execute(
                    "SELECT kind, body, created FROM entries WHERE id = ?", (identifier,)
                ).fetchone()
                leased.append(LeasedEntry(identifier, Entry(*row)))
            connection.executemany(
                "UPDATE entries SET holder = ?, held_until = ? WHERE id = ?",
                [(*self._lease_of_ours(held=True), each.id) for each in leased],
            )
            connection.execute("COMMIT")
            self._undeleted.clear()
            return leased

        with self._lock:
            return self._try(lease) or []

    def acknowledge(
        self,
        ids: Sequence[int],
        back: Iterable[Entry] = (),
        dead: Iterable[DeadLetter] = (),
    ) -> bool:
        """Delete entries that we are sending, and in the same transaction add others and dead letters.

        Return False if the disk did not allow it. Then nothing has changed.
        """
        rows = [(self._destination, *self._lease_of_ours(held=False), *entry) for entry in back]
        letters = [(self._destination, self._now(), *letter) for letter in dead]

        def acknowledge(connection: sqlite3.Connection) -> bool:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_DELETE, [(each, self._holder + _SENDING) for each in ids])
            if rows and not self._has_room(connection, rows):
                return False
            connection.executemany(_INSERT_ENTRY, rows)
            connection.executemany(_INSERT_LETTER, letters)
            connection.execute("COMMIT")
            return True

        with self._lock:
            done = self._try(acknowledge) or False
            if done:
                self._wrote(_size(rows, 4) + _size(letters, 2))
            elif not rows and not letters:
                self._undeleted += ids
            return done

    def release(self, ids: Iterable[int]) -> None:
        """Free entries that we are sending."""
        rows = [(each, self._holder + _SENDING) for each in ids]
        with self._lock:
            self._try(
                lambda connection: connection.executemany(
                    "UPDATE entries SET holder = '', held_until = 0 WHERE id = ? AND holder = ?", rows
                )
            )

    def reclaim(self) -> bool:
        """Free the entries of holders that died. Return whether there were any."""

        def reclaim(connection: sqlite3.Connection) -> bool:
            holders = connection.execute(
                "SELECT DISTINCT holder FROM entries WHERE destination = ? AND holder NOT IN ('', ?, ?)",
                (self._destination, self._holder, self._holder + _SENDING),
            ).fetchall()
            dead = [(holder,) for [holder] in holders if not self._is_alive(holder)]
            connection.executemany(_FREE, dead)
            return bool(dead)

        with self._lock:
            return self._try(reclaim) or False

    def leave(self) -> None:
        """Free the entries that we wrote and are not sending."""
        with self._lock:
            self._try(lambda connection: connection.execute(_FREE, (self._holder,)))

    def has_leasable(self) -> bool:
        """Whether there is an entry that we could lease."""

        def has_leasable(connection: sqlite3.Connection) -> bool:
            query = f"SELECT 1 FROM entries WHERE {_LEASABLE} LIMIT 1"  # noqa: S608  # a constant of ours
            return connection.execute(query, self._leasable(self._clock())).fetchone() is not None

        with self._lock:
            return self._try(has_leasable) or False

    # --- maintenance ---

    def stats(self) -> dict[str, Any]:
        """Return figures of this destination: `entries`, their `bytes`, `oldest_seconds`, `dead_letters`.

        `dropped`: rows that this process dropped because the spool was full.
        """

        def count(connection: sqlite3.Connection) -> dict[str, Any]:
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
            none: dict[str, Any] = {"entries": 0, "bytes": 0, "oldest_seconds": None, "dead_letters": 0}
            return {**(self._try(count) or none), "dropped": dict(self._eviction.dropped)}

    def is_full(self) -> bool:
        """Whether almost no room is left, and nothing in the spool may be dropped."""
        with self._lock:
            return not self._eviction.drops_oldest and bool(self._try(self._eviction.is_full))

    def copy_into_database(self) -> None:
        """Copy the write-ahead log into the database, on a connection that blocks no other thread."""
        with self._copying:
            with self._lock:
                if not self._uncopied or self._connection is None:
                    return
                self._uncopied = 0
            with suppress(sqlite3.Error, OSError), closing(open_spool_file(self._directory)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close the file. It is opened again when it is needed."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def before_fork(self) -> None:
        """Close the file: SQLite's locks do not survive a fork, and no thread may hold its mutexes then."""
        self._copying.acquire()
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Go on. The file is opened again when it is needed."""
        self._lock.release()
        self._copying.release()

    def after_fork_in_child(self) -> None:
        """Begin as another holder: the parent's leases stay the parent's."""
        self._begin()

    # --- rows ---

    def _insert(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[int] | None:
        if len(rows) == 1 and self._eviction.drops_oldest:  # a transaction of its own, in one call
            return [connection.execute(_INSERT_ENTRY, rows[0]).lastrowid or 0]
        connection.execute("BEGIN IMMEDIATE")
        if not self._has_room(connection, rows):
            return None
        ids = [connection.execute(_INSERT_ENTRY, row).lastrowid or 0 for row in rows]
        connection.execute("COMMIT")
        return ids

    def _has_room(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> bool:
        has_room = self._eviction.has_room(connection, _size(rows, 4))
        if not has_room:
            self._warn_full()
        return has_room

    def _wrote(self, size: int) -> None:
        self._uncopied += size
        if self._uncopied >= _CHECKPOINT_BYTES:
            self.copy_into_database()
        if self._eviction.is_due(size) and self._try(self._eviction.make_room):
            self._warn_full()

    def _warn_full(self) -> None:
        self._log.warn(
            "full",
            "The spool of %d bytes is full (%d entries dropped): raise spool_max_bytes.",
            self._eviction.max_bytes,
            self._eviction.dropped.total(),
        )

    def _lease_of_ours(self, held: bool) -> tuple[str, float]:
        return self._holder + _SENDING * held, self._clock() + self._lease_seconds

    def _leasable(self, clock: float) -> tuple[str, str, float, float]:
        # A lease that ends later than any that is written now is from before a restart of the machine.
        return self._destination, self._holder, clock, clock + 2 * MAX_LEASE_SECONDS

    # --- the file ---

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return the result of `work`, or None if the disk did not allow it and its transaction is undone."""
        for attempt in range(2):
            connection = self._open()
            if connection is None:
                return None
            try:
                if connection.in_transaction:  # a signal handler interrupted it
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
            self.close()  # another process moved it aside, or deleted it: nobody would read what is written
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
            self._log.warn(
                "broken", "The spool could not be read and was moved to %s; a new one was begun.", aside
            )

    def _unusable(self, error: Exception) -> None:
        self.close()
        self._open_at = self._clock() + RETRY_SECONDS
        self._log.warn(
            "unusable",
            "The spool in %s cannot be used (%s); what waits is kept in memory only. Make room there or"
            " correct its permissions.",
            self._directory,
            error,
        )


_INSERT_ENTRY = (
    "INSERT INTO entries (destination, holder, held_until, kind, body, created) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_LETTER = (
    "INSERT INTO dead_letters (destination, died, body, created, reason, kind) VALUES (?, ?, ?, ?, ?, ?)"
)
_DELETE = "DELETE FROM entries WHERE id = ? AND holder = ?"
_FREE = "UPDATE entries SET holder = '', held_until = 0 WHERE holder = ?"


def _size(rows: list[tuple[Any, ...]], body: int) -> int:
    return sum(ROW_BYTES + len(row[body]) for row in rows)
