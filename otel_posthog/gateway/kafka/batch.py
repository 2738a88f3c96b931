"""The decisions about messages, without Kafka: what is delivered together, what is safe, how long to wait.

Nothing here blocks, or knows a broker or a clock.
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
    "must_pause",
    "size_of",
]

BATCH_BYTES = 1024 * 1024
"""The size of a full batch: some 450 spans of 2.2 KB, one request to PostHog."""
LINGER_SECONDS = 0.2
"""Seconds that a message waits for further ones while no batch is in flight."""
MESSAGE_BYTES = 200
"""The memory of a message beside its value, about. It bounds the number of small messages in a batch."""
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.5, 30.0

Partition = tuple[str, int]
"""A partition: its topic and number."""


class _OffsetRange:
    """The messages of one partition in one batch, in their order."""

    __slots__ = ("end", "is_safe")

    def __init__(self) -> None:
        self.end = 0
        """The offset after the last one."""
        self.is_safe = False


class Progress:
    """How far a partition is delivered, in whichever order its batches finish."""

    def __init__(self) -> None:
        self.is_ours = True
        """False once another consumer may have the partition."""
        self.committed: int | None = None
        """The offset that we committed last."""
        self._safe: int | None = None
        self._open: deque[_OffsetRange] = deque()

    def begin(self) -> _OffsetRange:
        """Return a new range after all others."""
        offsets = _OffsetRange()
        self._open.append(offsets)
        return offsets

    def safe(self) -> int | None:
        """Return the offset to commit: everything before it is safe. None if there is none that is new.

        A safe range after one that is not safe does not count, because a restart would skip the latter.
        """
        while self._open and self._open[0].is_safe:
            self._safe = self._open.popleft().end
        return None if self._safe == self.committed else self._safe


class Batch:
    """Messages that are converted and delivered together."""

    def __init__(self, now: float) -> None:
        """Make an empty batch."""
        self.since = now
        self.messages: list[Message] = []
        self.size = 0
        """Bytes of the messages in memory."""
        self.is_backing_off = False
        """Whether PostHog or the dead-letter topic accepts nothing now, and the batch waits for a retry."""
        self.is_done = False
        self.abandoned = threading.Event()
        """Set if no further attempt is to be made."""
        self._ranges: dict[Partition, tuple[Progress, _OffsetRange]] = {}

    def add(self, message: Message, partition: Partition, offset: int, progress: Progress) -> None:
        """Add a message."""
        if partition not in self._ranges:
            self._ranges[partition] = (progress, progress.begin())
        self._ranges[partition][1].end = offset + 1
        self.messages.append(message)
        self.size += size_of(message)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Remove the messages of partitions that another consumer reads from now on."""
        for partition in partitions:
            self._ranges.pop(partition, None)
        self.messages = [each for each in self.messages if (each.topic(), each.partition()) in self._ranges]
        self.size = sum(map(size_of, self.messages))

    def mark_safe(self) -> None:
        """Mark every message as accepted by PostHog, on disk, or a confirmed dead letter."""
        for _, offsets in self._ranges.values():
            offsets.is_safe = True

    def has_any_of(self, partitions: Collection[Partition]) -> bool:
        """Whether it has messages of one of these partitions."""
        return not self._ranges.keys().isdisjoint(partitions)

    def is_ours(self) -> bool:
        """Whether at least one of its partitions is still ours."""
        return any(progress.is_ours for progress, _ in self._ranges.values())


def size_of(message: Message) -> int:
    """Return the bytes of a message in memory, about."""
    return len(message.value() or b"") + MESSAGE_BYTES


def is_due(size: int, age: float, *, is_busy: bool) -> bool:
    """Whether a batch of `size` bytes, whose first message is `age` seconds old, is to be delivered now.

    While others are in flight it waits longer, because a span costs less in a fuller batch.
    """
    return size >= BATCH_BYTES or (size > 0 and age >= LINGER_SECONDS * (5 if is_busy else 1))


def must_pause(size: int, *, has_room: bool, is_backing_off: bool) -> bool:
    """Whether to stop fetching: no thread is free for a full batch, or PostHog accepts nothing."""
    return is_backing_off or (size >= BATCH_BYTES and not has_room)


def backoff(attempt: int, retry_after: float) -> float:
    """Return the seconds until the next attempt, after `attempt` (from 0) failed with `retry_after`."""
    exponential: float = FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 16)
    return min(max(exponential, retry_after), LONGEST_BACKOFF_SECONDS)
