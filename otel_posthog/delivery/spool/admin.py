"""A spool as a person looks at it: what waits, what was refused, and what to do about it."""

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
    """How much there is in a spool."""

    waiting: int = 0
    refused: int = 0

    def __str__(self) -> str:
        parts = ((self.waiting, "waiting"), (self.refused, "refused"))
        return ", ".join(f"{number:,} {word}" for number, word in parts if number) or "nothing waiting"


class Row(NamedTuple):
    """Something in a spool."""

    name: str
    """`w12` waits, `d3` is dead."""
    destination: str
    what: str
    """The event's name; `span` where it is none yet."""
    created: float
    reason: str
    """Why PostHog refused it."""
    size: int


def rows(directory: Path) -> Iterator[Row]:
    """All that is in a spool, dead letters first.

    Raises:
        FileNotFoundError: there is no spool in the directory.
        sqlite3.Error: it cannot be read.
    """
    with closing(_open(directory)) as connection:
        for state, number, destination, kind, created, reason, size, body in connection.execute(_ROWS):
            name = f"{state[0]}{number}"
            yield Row(name, destination, _what(kind, body), created, reason, size)


def counts(directory: Path) -> dict[str, Count]:
    """How much there is in a spool by destination, those with nothing left out.

    Raises:
        FileNotFoundError: there is no spool in the directory.
        sqlite3.Error: it cannot be read.
    """
    with closing(_open(directory)) as connection:
        return {destination: Count(*found) for destination, *found in connection.execute(_COUNTS)}


def show(directory: Path, name: str) -> bytes | None:
    """The whole body of a row, JSON; None if there is none of that name."""
    table, number = _place(name)
    with closing(_open(directory)) as connection:
        query = f"SELECT body FROM {table} WHERE id = ?"  # noqa: S608  # a name of ours
        found = connection.execute(query, (number,)).fetchone()
    return None if found is None else bytes(found[0])


def revive(directory: Path, destination: str, names: Iterable[str] | None) -> int:
    """Let dead letters of a destination wait again, all or those named; how many they were."""
    with closing(_open(directory)) as connection:
        condition, values = _which("d", names)
        connection.execute("BEGIN IMMEDIATE")
        moved = connection.execute(
            "INSERT INTO entries (destination, kind, created, body)"  # noqa: S608  # built of ours and of ?
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
    """Give what is there for a destination to another, as after a wrong key; how many they were."""
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
    """Delete dead letters, all or those named, and what waits where it is named; how many they were."""
    named = None if names is None else [*names]
    with closing(_open(directory)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        condition, values = _which("d", named)
        gone = connection.execute(f"DELETE FROM dead_letters WHERE {condition}", values).rowcount  # noqa: S608
        if named is not None:
            condition, values = _which("w", named)
            gone += connection.execute(f"DELETE FROM entries WHERE {condition}", values).rowcount  # noqa: S608
        connection.execute("COMMIT")
    return gone


def _open(directory: Path) -> sqlite3.Connection:
    if not (directory / FILE_NAME).is_file():
        raise FileNotFoundError(directory)
    return open_spool_file(directory)


def _place(name: str) -> tuple[str, int]:
    return ("dead_letters" if name.startswith("d") else "entries"), int(name[1:])


def _which(letter: str, names: Iterable[str] | None) -> tuple[str, list[int]]:
    if names is None:
        return "1", []
    numbers = [int(name[1:]) for name in names if name.startswith(letter)]
    return f"id IN ({','.join('?' * len(numbers))})", numbers


def _what(kind: str, body: Any) -> str:
    if not is_event(kind):
        return kind
    try:
        events = [orjson.loads(line) for line in bytes(body).splitlines()]
    except orjson.JSONDecodeError:
        return "event (not readable)"
    return ", ".join(str(event.get("event")) for event in events if isinstance(event, dict))
