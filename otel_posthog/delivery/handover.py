"""The queue between the application and the thread that delivers: bounded in bytes, never in the way."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from otel_posthog.delivery.notices import Notices

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_NOBODY_WAITS = float("inf")


class Ticket(NamedTuple):
    """A moment in the life of a queue, for `ByteBoundedQueue.wait_done`."""

    handed_over: int
    lost: int


class ByteBoundedQueue(Generic[T]):
    """First in, first out; at most `max_bytes` wait, the oldest make room for the newest.

    Any number of threads `put`; one worker calls `wait`, `take` and `done`. The lock is re-entrant, so that
    a signal handler that flushes does not wait for the thread it interrupted.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        spill: Callable[[T], bool] | None = None,
    ) -> None:
        """Make an empty queue.

        `spill` is offered each item that finds no room, outside the lock; True means that it is safe
        elsewhere and not lost.
        """
        self.max_bytes = max_bytes
        self._clock = clock
        self._spill = spill
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Empty the queue, count from zero, with new locks: in a forked child, the items are the parent's."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._wake_at = _NOBODY_WAITS
        self._flush = False
        # Positions in the order of handing over: all below `_left` left the queue, all from there on wait
        # in it.
        self._left = 0
        self._in_flight = 0
        self._first_in_flight = 0
        self._letting_go = 0
        self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._notices = Notices(self._clock)

    def put(self, item: T, size: int) -> None:
        """Hand over `item`, which takes `size` bytes. Never waits for the network or a disk."""
        no_room: tuple[tuple[T, str], ...] = ()
        with self._lock:
            self._waiting.append((item, size))
            self._bytes += size
            if self._bytes > self.max_bytes:
                no_room = self._make_room()
            if self._bytes >= self._wake_at:
                self._changed.notify_all()
        if no_room:
            self._let_go(no_room)

    def take(self, max_items: int, max_bytes: float = float("inf")) -> list[T]:
        """Return the oldest items, up to `max_items` and `max_bytes`, one at least; `done` must follow."""
        with self._lock:
            taken: list[T] = []
            waiting = self._waiting
            while waiting and len(taken) < max_items:
                item, size = waiting[0]
                max_bytes -= size
                if taken and max_bytes < 0:
                    break
                waiting.popleft()
                self._bytes -= size
                taken.append(item)
            if not self._in_flight:
                self._first_in_flight = self._left
            self._in_flight += len(taken)
            self._left += len(taken)
            return taken

    def done(self, count: int, *, delivered: bool = True) -> None:
        """Say that `count` taken items are dealt with, and whether all of them are safe."""
        with self._lock:
            self._in_flight -= count
            if not delivered:
                self._lost += count
            self._changed.notify_all()

    def wait(self, timeout: float | None, *, enough: int = 1) -> bool:
        """Wait until `enough` bytes are there or `flush` is called, `timeout` seconds at most; else False."""
        with self._lock:
            woken = self._wait_for(enough, timeout)
            self._flush = False
            return woken

    def wait_for_batch(self, linger: float, *, enough: int) -> None:
        """Wait for a first item, then up to `linger` seconds for `enough` bytes; `flush` ends both waits."""
        with self._lock:
            self._wait_for(1, None)
            self._wait_for(enough, linger)
            self._flush = False

    def flush(self) -> None:
        """Make the worker's present or next `wait` return at once."""
        with self._lock:
            self._flush = True
            self._changed.notify_all()

    def ticket(self) -> Ticket:
        """Return this moment: everything handed over so far is before it."""
        with self._lock:
            return Ticket(self._left + len(self._waiting), self._lost)

    def wait_done(self, ticket: Ticket, timeout: float | None) -> bool:
        """Wait until all before `ticket` is dealt with, `timeout` seconds at most; True if all of it is safe.

        An item lost since the ticket makes it False even if it was handed over later: never True wrongly.
        """
        with self._lock:
            finished = self._changed.wait_for(lambda: self._is_done(ticket), timeout)
            return finished and self._lost == ticket.lost

    def dropped(self) -> dict[str, int]:
        """Return how many items were dropped, by reason: `queue_full`, `larger_than_queue`."""
        with self._lock:
            return dict(self._dropped)

    @property
    def bytes(self) -> int:
        """Bytes that wait; what was taken no longer counts."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._waiting)

    def _wait_for(self, enough: int, timeout: float | None) -> bool:
        self._wake_at = enough
        try:
            return self._changed.wait_for(lambda: self._flush or self._bytes >= enough, timeout)
        finally:
            self._wake_at = _NOBODY_WAITS

    def _is_done(self, ticket: Ticket) -> bool:
        in_flight = self._in_flight and self._first_in_flight < ticket.handed_over
        return self._left >= ticket.handed_over and not in_flight and not self._letting_go

    def _make_room(self) -> tuple[tuple[T, str], ...]:
        """Remove what is over the bound: an item that can never fit, else the oldest."""
        newest = self._waiting[-1][1]
        removed = []
        while self._bytes > self.max_bytes:
            impossible = newest > self.max_bytes
            item, size = self._waiting.pop() if impossible else self._waiting.popleft()
            self._bytes -= size
            self._left += 1
            removed.append((item, "larger_than_queue" if impossible else "queue_full"))
            newest = 0
        self._letting_go += len(removed)
        return tuple(removed)

    def _let_go(self, items: tuple[tuple[T, str], ...]) -> None:
        lost = [reason for item, reason in items if not self._is_spilled(item)]
        with self._lock:
            self._letting_go -= len(items)
            self._lost += len(lost)
            for reason in lost:
                self._dropped[reason] += 1
            self._changed.notify_all()
        if lost:
            self._notices.warn(
                "dropped",
                "The queue of %d bytes is full (%d items dropped): raise max_queue_bytes or set spool_dir.",
                self.max_bytes,
                self._dropped.total(),
            )

    def _is_spilled(self, item: T) -> bool:
        try:
            return self._spill is not None and self._spill(item)
        except Exception:  # noqa: BLE001 - whoever hands over must not pay for a full disk
            return False
