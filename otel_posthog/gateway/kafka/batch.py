"""What is decided about messages, apart from Kafka: what goes together, what is safe, how long to wait.

Nothing here blocks, or knows a broker; the one who asks has the clock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = [
    "BATCH_BYTES",
    "LINGER_SECONDS",
    "Batch",
    "Partition",
    "Progress",
    "backoff",
    "is_due",
    "must_hold",
    "size_of",
]

BATCH_BYTES = 1024 * 1024
"""Messages of so many bytes are converted together: some 450 spans of 2.2 KB, one request to PostHog."""
LINGER_SECONDS = 0.2
"""So long a message waits for company while nothing else is under way."""
MESSAGE_BYTES = 200
"""What a message takes in memory beside its value, about: bounds how many small ones go together."""
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.5, 30.0

Partition = tuple[str, int]
"""A partition: its topic and number."""


class _Stretch:
    """Messages of one partition that one batch holds, in their order."""

    __slots__ = ("end", "is_safe")

    def __init__(self) -> None:
        self.end = 0
        """The offset after the last of them."""
        self.is_safe = False


class Progress:
    """How far a partition is delivered, however the batches that its messages are in come to their ends."""

    def __init__(self) -> None:
        self.is_ours = True
        """False once another consumer may have the partition."""
        self.committed: int | None = None
        """What the broker knows from us."""
        self._safe: int | None = None
        self._open: deque[_Stretch] = deque()

    def begin(self) -> _Stretch:
        """A stretch after all others."""
        stretch = _Stretch()
        self._open.append(stretch)
        return stretch

    def safe(self) -> int | None:
        """The offset up to which everything is safe and that may be committed; None where nothing is new.

        What is safe beyond something that is not does not count: a restart would leave that out.
        """
        while self._open and self._open[0].is_safe:
            self._safe = self._open.popleft().end
        return None if self._safe == self.committed else self._safe


class Batch:
    """Messages that are converted and delivered together, or read again together."""

    def __init__(self, now: float) -> None:
        """Make an empty one."""
        self.since = now
        self.messages: list[Message] = []
        self.size = 0
        """Bytes that the messages take."""
        self.is_backing_off = False
        """PostHog, or the dead-letter topic, did not take it; it is to be tried again."""
        self.has_ended = False
        self.over = threading.Event()
        """No further attempt is to be made."""
        self._stretches: dict[Partition, tuple[Progress, _Stretch]] = {}

    def add(self, message: Message, partition: Partition, offset: int, progress: Progress) -> None:
        """Take a message in."""
        found = self._stretches.get(partition)
        if found is None:
            found = self._stretches[partition] = (progress, progress.begin())
        found[1].end = offset + 1
        self.messages.append(message)
        self.size += size_of(message)

    def drop(self, partitions: Collection[Partition]) -> None:
        """Let go of partitions that another consumer reads from now on."""
        for partition in partitions:
            self._stretches.pop(partition, None)
        self.messages = [
            each for each in self.messages if (each.topic(), each.partition()) in self._stretches
        ]
        self.size = sum(map(size_of, self.messages))

    def settle(self) -> None:
        """Everything in it is at PostHog, on disk, or a confirmed dead letter."""
        for _, stretch in self._stretches.values():
            stretch.is_safe = True

    def concerns(self, partitions: Collection[Partition]) -> bool:
        """Whether it holds messages of one of these partitions."""
        return not self._stretches.keys().isdisjoint(partitions)

    def is_wanted(self) -> bool:
        """Whether one of its partitions is still ours."""
        return any(progress.is_ours for progress, _ in self._stretches.values())


def size_of(message: Message) -> int:
    """Bytes that a message takes in memory, about."""
    return len(message.value() or b"") + MESSAGE_BYTES


def is_due(size: int, age: float, *, is_busy: bool) -> bool:
    """Whether messages of `size` bytes, of which the first is `age` seconds here, are handed on now.

    While others are under way there is no hurry: the fuller a batch, the cheaper a span.
    """
    return size >= BATCH_BYTES or (size > 0 and age >= LINGER_SECONDS * (5 if is_busy else 1))


def must_hold(size: int, *, has_room: bool, is_backing_off: bool) -> bool:
    """Whether no more is to be fetched: what is here cannot be handed on, or PostHog cannot take it."""
    return is_backing_off or (size >= BATCH_BYTES and not has_room)


def backoff(attempt: int, retry_after: float) -> float:
    """Seconds until the next attempt, after `attempt` (from 0) failed and PostHog perhaps asked for some."""
    grown: float = FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 16)
    return min(max(grown, retry_after), LONGEST_BACKOFF_SECONDS)
