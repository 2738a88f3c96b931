"""Room in a spool: its size on disk against its bound, and the rows that are dropped to keep it."""

from __future__ import annotations

import sqlite3
from collections import Counter

from otel_posthog.delivery.spool.database import used_bytes

CHECK_EVERY_BYTES = 256 * 1024
"""Bytes that a process writes between two checks of the size."""
ROW_BYTES = 100
"""Bytes of a row beside its body."""

_DEAD_LETTERS = ("dead_letters", "dead_letter")
_ENTRIES = ("entries", "spool_full")


class Eviction:
    """Keeps a spool within `max_bytes`: the oldest dead letters are dropped first.

    Then, if it `drops_oldest`, the oldest entries are dropped; else new entries are not accepted.
    """

    def __init__(self, max_bytes: int, *, drops_oldest: bool) -> None:
        self.max_bytes = max_bytes
        self.drops_oldest = drops_oldest
        self.begin()

    def begin(self) -> None:
        """Count from zero."""
        self.dropped: Counter[str] = Counter()
        """Rows that this process dropped, by reason: `dead_letter` or `spool_full`."""
        self._unchecked = 0

    def is_due(self, written: int) -> bool:
        """Count bytes that were written; whether it is time to call `make_room`."""
        self._unchecked += written
        if self._unchecked < min(CHECK_EVERY_BYTES, self.max_bytes // 4):
            return False
        self._unchecked = 0
        return True

    def make_room(self, connection: sqlite3.Connection) -> bool:
        """Drop the oldest rows until the rest fits. Return whether this process has dropped any so far."""
        connection.execute("BEGIN IMMEDIATE")
        self._drop_oldest(connection, *_DEAD_LETTERS)
        if self.drops_oldest:
            self._drop_oldest(connection, *_ENTRIES)
        connection.execute("COMMIT")
        return bool(self.dropped)

    def has_room(self, connection: sqlite3.Connection, size: int) -> bool:
        """Whether `size` bytes may be written in the open transaction.

        Dead letters are dropped if that is enough; if it is not, the transaction is rolled back.
        """
        if self.drops_oldest:
            return True
        dropped = self.dropped.copy()
        self._drop_oldest(connection, *_DEAD_LETTERS, size)
        if self._excess(connection, size) <= 0:
            return True
        connection.rollback()
        self.dropped = dropped
        return False

    def is_full(self, connection: sqlite3.Connection) -> bool:
        """Whether almost no room is left, and dropping all dead letters would not make more."""
        excess = self._excess(connection, min(self.max_bytes // 16, CHECK_EVERY_BYTES))
        if excess > 0:
            query = f"SELECT coalesce(sum(length(body) + {ROW_BYTES}), 0) FROM dead_letters"  # noqa: S608
            [droppable] = connection.execute(query).fetchone()
            excess -= droppable
        return excess > 0

    def _drop_oldest(self, connection: sqlite3.Connection, table: str, reason: str, room: int = 0) -> None:
        """Delete the oldest rows of a table until there are `room` bytes, or no more rows."""
        while (excess := self._excess(connection, room)) > 0:
            # Half of the excess by the rows' own bytes: on disk they take up to twice as much.
            count = _delete_oldest(connection, table, excess // 2)
            if not count:
                return
            self.dropped[reason] += count

    def _excess(self, connection: sqlite3.Connection, size: int) -> int:
        return used_bytes(connection) + size - self.max_bytes


def _delete_oldest(connection: sqlite3.Connection, table: str, size: int) -> int:
    """Delete the oldest rows of a table that have `size` bytes together. Return their number."""
    count = last = 0
    for identifier, row_size in connection.execute(
        f"SELECT id, length(body) + {ROW_BYTES} FROM {table} ORDER BY id"  # noqa: S608  # a name of ours
    ):
        count, last, size = count + 1, identifier, size - row_size
        if size <= 0:
            break
    connection.execute(f"DELETE FROM {table} WHERE id <= ?", (last,))  # noqa: S608
    return count
