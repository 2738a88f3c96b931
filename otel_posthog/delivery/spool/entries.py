"""The entries and dead letters of a spool."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

EVENT = "event"
"""The kind of an entry whose body is encoded events, one a line. Other kinds belong to the converter.

A blank and a mark may follow it. The mark states how its writer left the events, so that another process
knows what remains to be done before they are sent.
"""


def is_event(kind: str) -> bool:
    """Whether entries of that kind hold events."""
    return kind.partition(" ")[0] == EVENT


class Entry(NamedTuple):
    """An event, or data from which events can be made."""

    kind: str
    body: bytes
    created: float
    """Seconds since 1970."""


class LeasedEntry(NamedTuple):
    """An entry that this process has leased to send it."""

    id: int
    entry: Entry


class DeadLetter(NamedTuple):
    """An event that was rejected for good, and why."""

    body: bytes
    created: float
    reason: str
    kind: str = EVENT


def destination_of(api_key: str) -> str:
    """Return a name for a PostHog project: distinct from others, without its key.

    It does not depend on PostHog's address, so a corrected address or a new proxy keeps the project.
    """
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]
