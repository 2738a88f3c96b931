"""The queue between the application and the delivering thread: bounded in bytes, and `put` never waits."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from otel_posthog.runtime.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")

_NO_WAITER = float("inf")
_REMOVED_TOGETHER = 64  # items: one caller of `put` does not pay for all


class Ticket(NamedTuple):
    """A moment: `ByteBoundedQueue.wait_done` waits for the items that were put before it."""

    period: int
    lost: int


class Queued(NamedTuple):  # generic only from Python 3.11 on
    """An item in the queue. After `take`, `done` or `give_back` must follow."""

    item: Any
    size: int
    period: int


class ByteBoundedQueue(Generic[T]):
    """A first-in-first-out queue of at most `max_bytes`, in flight or waiting; the oldest items make room.

    Any number of threads may put and take. The lock is re-entrant, so that a signal handler that flushes does
    not wait for the thread it interrupted.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        spill: Callable[[list[T]], bool | None] | None = None,
    ) -> None:
        """Make an empty queue.

        `spill` gets the items without room, outside the lock. It returns True if they are safe elsewhere,
        None if it cannot take them at the moment; then they wait on. Otherwise they are dropped.
        """
        self.max_bytes = max_bytes
        self._clock = clock
        self._spill = spill
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start empty, with new locks and zero counts. In a forked child the items are the parent's."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[Queued] = deque()
        self._bytes = 0
        self._in_flight_bytes = 0
        self._wake_at = _NO_WAITER
        self._flush = False
        # A ticket ends a period. `_open` counts the items of each period that are not done.
        self._period = 0
        self._open: Counter[int] = Counter()
        self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._log = RateLimitedLog(self._clock)

    def put(self, item: T, size: int) -> None:
        """Add an item of `size` bytes. It never waits for the network or a disk."""
        no_room: list[Queued] = []
        with self._lock:
            period = self._period
            self._waiting.append(Queued(item, size, period))
            self._open[period] += 1
            self._bytes += size
            if self._bytes + self._in_flight_bytes > self.max_bytes:
                no_room = self._make_room()
            if self._bytes >= self._wake_at:
                self._changed.notify_all()
        if no_room:
            self._spill_or_drop(no_room)

    def take(self, max_items: float, max_bytes: float = float("inf")) -> list[Queued]:
        """Return the oldest items, up to `max_items` and `max_bytes`, but at least one if there is any."""
        with self._lock:
            taken: list[Queued] = []
            waiting = self._waiting
            while waiting and len(taken) < max_items:
                max_bytes -= waiting[0].size
                if taken and max_bytes < 0:
                    break
                queued = waiting.popleft()
                self._bytes -= queued.size
                self._in_flight_bytes += queued.size
                taken.append(queued)
            return taken

    def done(self, taken: Sequence[Queued], *, safe: bool = True, dropped: str | None = None) -> None:
        """Mark taken items as done: safe, not safe, or `dropped` for a reason."""
        with self._lock:
            for queued in taken:
                self._in_flight_bytes -= queued.size
                self._close(queued)
            if dropped is not None:
                self._dropped[dropped] += len(taken)
            if not safe or dropped is not None:
                self._lost += len(taken)
            self._changed.notify_all()

    def drop(self, reason: str) -> None:
        """Count an item as dropped that was never put."""
        with self._lock:
            self._lost += 1
            self._dropped[reason] += 1

    def give_back(self, taken: Sequence[Queued], instead: Iterable[tuple[T, int]]) -> None:
        """Put items with their sizes in the place of taken ones, as the oldest in the queue."""
        no_room: list[Queued] = []
        with self._lock:
            period = min((queued.period for queued in taken), default=self._period)
            returned = [Queued(item, size, period) for item, size in instead]
            for queued in taken:
                self._in_flight_bytes -= queued.size
                self._close(queued)
            self._open[period] += len(returned)
            self._waiting.extendleft(reversed(returned))
            self._bytes += sum(queued.size for queued in returned)
            if self._bytes + self._in_flight_bytes > self.max_bytes:
                no_room = self._make_room()
            self._changed.notify_all()
        if no_room:
            self._spill_or_drop(no_room)

    def wait(self, timeout: float | None, *, enough: int = 1) -> bool:
        """Wait until `enough` bytes are there or `flush` is called. Return False after `timeout` seconds."""
        with self._lock:
            woken = self._wait_for(enough, timeout)
            self._flush = False
            return woken

    def wait_for_batch(self, linger: float, *, enough: int, idle: float | None = None) -> None:
        """Wait for a first item, `idle` seconds at most, then up to `linger` seconds for `enough` bytes.

        `flush` ends both waits.
        """
        with self._lock:
            if self._wait_for(1, idle):
                self._wait_for(enough, linger)
            self._flush = False

    def flush(self) -> None:
        """Make the present or next wait of the worker return at once."""
        with self._lock:
            self._flush = True
            self._changed.notify_all()

    def ticket(self) -> Ticket:
        """Return this moment: every item put so far is before it."""
        with self._lock:
            self._period += 1
            return Ticket(self._period, self._lost)

    def wait_done(
        self, ticket: Ticket, timeout: float | None, hopeless: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait up to `timeout` seconds until all items before `ticket` are done. Return whether all are safe.

        An item that was lost since the ticket makes it False even if it was put later: it is never wrongly
        True. The wait ends early once `hopeless` returns True.
        """
        with self._lock:
            self._changed.wait_for(lambda: self._is_done(ticket) or hopeless(), timeout)
            return self._is_done(ticket) and self._lost == ticket.lost

    def lost_since(self, ticket: Ticket) -> bool:
        """Whether an item was lost since the ticket."""
        with self._lock:
            return self._lost != ticket.lost

    def dropped(self) -> dict[str, int]:
        """Return the number of dropped items by reason: `queue_full`, `larger_than_queue`, and others."""
        with self._lock:
            return dict(self._dropped)

    @property
    def bytes(self) -> int:
        """Bytes that wait or are in flight."""
        return self._bytes + self._in_flight_bytes

    @property
    def in_flight(self) -> int:
        """Bytes that were taken and are not done."""
        return self._in_flight_bytes

    def in_flight_items(self) -> int:
        """Return the number of items that were taken and are not done."""
        with self._lock:
            return max(self._open.total() - len(self._waiting), 0)

    def __len__(self) -> int:
        return len(self._waiting)

    def _wait_for(self, enough: int, timeout: float | None) -> bool:
        self._wake_at = enough
        try:
            return self._changed.wait_for(lambda: self._flush or self._bytes >= enough, timeout)
        finally:
            self._wake_at = _NO_WAITER

    def _is_done(self, ticket: Ticket) -> bool:
        # Below zero: a signal handler took an item that was being put.
        return all(period >= ticket.period or count <= 0 for period, count in self._open.items())

    def _close(self, queued: Queued) -> None:
        self._open[queued.period] -= 1
        if not self._open[queued.period]:
            del self._open[queued.period]

    def _make_room(self) -> list[Queued]:
        """Remove items over the bound: one that can never fit, else the oldest."""
        removed = []
        if self._waiting[-1].size > self.max_bytes:
            removed.append(self._waiting.pop())
            self._bytes -= removed[0].size
        over = self.max_bytes - self._in_flight_bytes
        while self._bytes > over and self._waiting and len(removed) < _REMOVED_TOGETHER:
            queued = self._waiting.popleft()
            self._bytes -= queued.size
            removed.append(queued)
        return removed

    def _spill_or_drop(self, removed: list[Queued]) -> None:
        spilled = self._is_spilled(removed)
        with self._lock:
            if spilled is None and self._bytes <= 2 * self.max_bytes:
                self._waiting.extendleft(reversed(removed))
                self._bytes += sum(queued.size for queued in removed)
                return
            for queued in removed:
                self._close(queued)
                if not spilled:
                    self._lost += 1
                    impossible = queued.size > self.max_bytes
                    self._dropped["larger_than_queue" if impossible else "queue_full"] += 1
            self._changed.notify_all()
        if not spilled:
            self._log.warn(
                "dropped",
                "The queue of %d bytes is full (%d items dropped): raise max_queue_bytes or set spool_dir.",
                self.max_bytes,
                self._dropped.total(),
            )

    def _is_spilled(self, removed: list[Queued]) -> bool | None:
        try:
            return False if self._spill is None else self._spill([queued.item for queued in removed])
        except Exception:  # noqa: BLE001 - a full disk must not raise in the application
            return False
