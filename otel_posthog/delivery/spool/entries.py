"""What can be kept on disk."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

EVENT = "event"
"""The kind of an entry whose body is encoded events, one a line; other kinds are their owner's.

A blank and a mark may follow: how its owner left the events, who may have to do more before they are sent.
"""


def is_event(kind: str) -> bool:
    """Whether entries of that kind hold events."""
    return kind.partition(" ")[0] == EVENT


class Entry(NamedTuple):
    """Something to keep: an event, or what events can be made of."""

    kind: str
    body: bytes
    created: float
    """Seconds since 1970."""


class Held(NamedTuple):
    """An entry that this process has leased."""

    id: int
    entry: Entry


class DeadLetter(NamedTuple):
    """An event that PostHog will never accept, and why."""

    body: bytes
    created: float
    reason: str
    kind: str = EVENT


def destination_of(api_key: str) -> str:
    """Return a name for a PostHog project that tells it apart from others without holding its key.

    Whoever mends a mistyped address, or puts a proxy before PostHog, has the same project.
    """
    return hashlib.sha256(api_key.encode()).hexdigest()[:16]
