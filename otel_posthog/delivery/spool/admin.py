"""The administration of a spool: list, show, revive, adopt and purge what is in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_posthog.delivery.spool.database import FILE_NAME, open_spool_file
from otel_posthog.delivery.spool.entries import is_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_ROWS = """
SELECT 'dead', id, destination, kind, created, reason, length(body), body FROM dead_letters
UNION ALL
SELECT 'waiting', id, destination, kind, created, '', length(body), body FROM entries
ORDER BY 1, 2
"""


_COUNTS = """
SELECT destination, sum(waits), sum(NOT waits)
FROM (SELECT destination, 1 AS waits FROM entries UNION ALL SELECT destination, 0 FROM dead_letters)
GROUP BY destination ORDER BY destination
"""


class Count(NamedTuple):
    """Numbers of entries and dead letters."""

    waiting: int = 0
    refused: int = 0

    def __str__(self) -> str:
        parts = ((self.waiting, "waiting"), (self.refused, "refused"))
        return ", ".join(f"{number:,} {word}" for number, word in parts if number) or "nothing waiting"


class SpoolRow(NamedTuple):
    """An entry or dead letter."""

    name: str
    """`w12` is an entry, `d3` a dead letter."""
    destination: str
    event: str
    """The name of the event, or of several; `span` if it is not converted yet."""
    created: float
    reason: str
    """The reason of a dead letter; blank for an entry."""
    size: int


def rows(directory: Path) -> Iterator[SpoolRow]:
    """Yield everything in a spool, dead letters first.

    Raises:
        FileNotFoundError: there is no spool in the directory.
        sqlite3.Error: the spool cannot be read.
    """
    with closing(_open(directory)) as connection:
        for state, number, destination, kind, created, reason, size, body in connection.execute(_ROWS):
            name = f"{state[0]}{number}"
            yield SpoolRow(name, destination, _event_of(kind, body), created, reason, size)


def counts(directory: Path) -> dict[str, Count]:
    """Return counts by destination, without empty ones.

    Raises:
        FileNotFoundError: there is no spool in the directory.
        sqlite3.Error: the spool cannot be read.
    """
    with closing(_open(directory)) as connection:
        return {destination: Count(*numbers) for destination, *numbers in connection.execute(_COUNTS)}


def show(directory: Path, name: str) -> bytes | None:
    """Return the whole body of a row, JSON; None if there is no row of that name."""
    table, number = _table_and_id(name)
    with closing(_open(directory)) as connection:
        query = f"SELECT body FROM {table} WHERE id = ?"  # noqa: S608  # a name of ours
        row = connection.execute(query, (number,)).fetchone()
    return None if row is None else bytes(row[0])


def revive(directory: Path, destination: str, names: Iterable[str] | None) -> int:
    """Make dead letters of a destination entries again, all or those named. Return their number."""
    with closing(_open(directory)) as connection:
        condition, values = _named("d", names)
        connection.execute("BEGIN IMMEDIATE")
        moved = connection.execute(
            "INSERT INTO entries (destination, kind, created, body)"  # noqa: S608  # our own words and ?
            " SELECT destination, kind, strftime('%s', 'now'), body FROM dead_letters"
            f" WHERE destination = ? AND {condition}",
            (destination, *values),
        ).rowcount
        connection.execute(
            f"DELETE FROM dead_letters WHERE destination = ? AND {condition}",  # noqa: S608
            (destination, *values),
        )
        connection.execute("COMMIT")
    return moved


def adopt(directory: Path, destination: str, new: str) -> int:
    """Move all rows of a destination to another one, as after a wrong key. Return their number."""
    with closing(_open(directory)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        moved = sum(
            connection.execute(
                f"UPDATE {table} SET destination = ? WHERE destination = ?",  # noqa: S608  # a name of ours
                (new, destination),
            ).rowcount
            for table in ("entries", "dead_letters")
        )
        connection.execute("COMMIT")
    return moved


def purge(directory: Path, names: Iterable[str] | None) -> int:
    """Delete all dead letters, or the dead letters and entries named. Return their number."""
    listed = None if names is None else [*names]
    with closing(_open(directory)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        condition, values = _named("d", listed)
        deleted = connection.execute(f"DELETE FROM dead_letters WHERE {condition}", values).rowcount  # noqa: S608
        if listed is not None:
            condition, values = _named("w", listed)
            deleted += connection.execute(f"DELETE FROM entries WHERE {condition}", values).rowcount  # noqa: S608
        connection.execute("COMMIT")
    return deleted


def _open(directory: Path) -> sqlite3.Connection:
    if not (directory / FILE_NAME).is_file():
        raise FileNotFoundError(directory)
    return open_spool_file(directory)


def _table_and_id(name: str) -> tuple[str, int]:
    return ("dead_letters" if name.startswith("d") else "entries"), int(name[1:])


def _named(letter: str, names: Iterable[str] | None) -> tuple[str, list[int]]:
    if names is None:
        return "1", []
    numbers = [int(name[1:]) for name in names if name.startswith(letter)]
    return f"id IN ({','.join('?' * len(numbers))})", numbers


def _event_of(kind: str, body: Any) -> str:
    if not is_event(kind):
        return kind
    try:
        events = [orjson.loads(line) for line in bytes(body).splitlines()]
    except orjson.JSONDecodeError:
        return "event (not readable)"
    return ", ".join(str(event.get("event")) for event in events if isinstance(event, dict))
