"""The backlog: entries of the spool, sent when PostHog accepts events again, or dead-lettered."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
from otel_posthog.delivery.http.retry import back_off
from otel_posthog.delivery.spool.entries import DeadLetter, Entry, LeasedEntry, is_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from otel_posthog.delivery.batch_sender import SendReport
    from otel_posthog.delivery.client import DeliveryClient
    from otel_posthog.delivery.spool.spool import Spool

Load = Any
"""Input of the outbox: an `EncodedEvent`, or an object that the `Converter` makes events of."""

LOOK_SECONDS = 30.0
"""Seconds between two looks into the spool for entries of other processes."""
MAX_TAKEN = 500
"""The most loads that are converted and sent together."""


class Converter(Protocol):
    """Makes events of loads, and entries of loads and back. It counts the failures itself."""

    event_kind: str
    """The kind of entries for events of this converter: `EVENT`, perhaps with a mark."""

    def stored(self, events: list[EncodedEvent], kind: str) -> list[EncodedEvent]:
        """Return events out of an entry of that kind, reduced to what may leave now."""
        ...

    def events(self, loads: Iterable[Load]) -> Iterator[dict[str, Any]]:
        """Yield the events of the loads."""
        ...

    def entries(self, loads: Iterable[Load]) -> list[Entry]:
        """Return entries for the loads."""
        ...

    def load(self, entry: Entry) -> Load | None:
        """Return the load of an entry; None if it cannot be read."""
        ...


def events_of(loads: Sequence[Load], converter: Converter) -> Iterator[dict[str, Any] | EncodedEvent]:
    """Yield the events of loads, first those that are events already."""
    yield from (load for load in loads if isinstance(load, EncodedEvent))
    yield from converter.events(load for load in loads if not isinstance(load, EncodedEvent))


class Backlog:
    """The spool as the outbox uses it. Without a spool nothing can be kept, and nothing waits."""

    def __init__(
        self,
        spool: Spool | None,
        delivery: DeliveryClient,
        converter: Converter,
        *,
        max_batch_bytes: int,
        patience: float,
        max_age: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make the backlog of a spool.

        `patience`: seconds to retry one batch before it is set aside for now. An entry older than `max_age`
        seconds becomes a dead letter.
        """
        self._spool = spool
        self._delivery = delivery
        self._converter = converter
        self._max_batch_bytes = max_batch_bytes
        self._patience = patience
        self._max_age = max_age
        self._clock = clock
        self._now = now
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Look into the spool a while later: its entries are the parent's first. Called in a forked child."""
        self._failures = 0
        self._due = self._clock() + LOOK_SECONDS
        self._dead_lettered: Counter[str] = Counter()

    @property
    def is_there(self) -> bool:
        """Whether there is a spool."""
        return self._spool is not None

    def is_full(self) -> bool:
        """Whether the spool accepts no more entries. It always does if it drops its oldest."""
        return self._spool is not None and self._spool.is_full()

    # --- keeping ---

    def keep(self, loads: Sequence[Load], *, held: bool = False) -> list[int] | None:
        """Write loads to disk, as being sent by us if `held`. Return their ids, or None if that failed."""
        if self._spool is None:
            return None
        now = self._now()
        entries = [self._entry(load, now) for load in loads if isinstance(load, EncodedEvent)]
        entries += self._converter.entries([load for load in loads if not isinstance(load, EncodedEvent)])
        return self._spool.put(entries, held=held)

    def spill(self, loads: Sequence[Load]) -> bool | None:
        """Write loads to disk. Return whether they are there; None if the spool is in use at the moment."""
        if self._spool is None:
            return False
        if self._spool.is_busy():
            return None
        kept = self.keep(loads)
        self.hurry()
        if kept is None and self._spool.is_locked:
            return None  # another process has locked it
        return kept is not None

    def acknowledge(self, ids: Sequence[int], report: SendReport, letters: Iterable[DeadLetter] = ()) -> bool:
        """Delete entries that we sent, keep unsent events as new ones, and dead-letter rejected events.

        Return whether every event is accepted or on disk.
        """
        if self._spool is None:
            return not report.unsent and not report.rejected
        now = self._now()
        back = [self._entry(event, now) for event in report.unsent]
        kind = self._converter.event_kind
        rejected = [DeadLetter(event.uncut, now, reason, kind) for event, reason in report.rejected]
        dead = [*rejected, *letters]
        if not ids and not back and not dead:
            return True
        return self._spool.acknowledge(ids, back, dead)

    # --- sending ---

    def hurry(self) -> None:
        """Look into the spool at the next opportunity."""
        self._due = min(self._due, self._clock())

    def due_in(self) -> float | None:
        """Return the seconds until the next look into the spool; None without a spool."""
        return None if self._spool is None else max(self._due - self._clock(), 0.0)

    def has_leasable(self) -> bool:
        """Whether an entry waits on disk that no process is sending."""
        if self._spool is None:
            return False
        self._spool.reclaim()
        return self._spool.has_leasable()

    def drain(self, stop: threading.Event, urgent: Callable[[], bool], seconds: float | None = None) -> None:
        """Send the backlog until it is empty, PostHog does not accept it, or other work is `urgent`.

        `seconds`: the most for one batch, `patience` by default.
        """
        if self._spool is None:
            return
        spool = self._spool
        while leased := spool.lease(MAX_TAKEN, self._max_batch_bytes):
            loads, letters = self._loads_of(leased)
            deadline = self._clock() + min(self._patience, seconds or self._patience)
            report = self._delivery.deliver(events_of(loads, self._converter), deadline, stop)
            ids = [each.id for each in leased]
            if report.unsent and not (report.delivered or report.rejected or letters):
                spool.release(ids)  # the entries as they are: converted events take more room
            else:
                self.acknowledge(ids, report, letters)
            if report.unsent:
                self.postpone()
                return
            if urgent() or stop.is_set():
                return
        self._failures = 0
        self._due = self._clock() + LOOK_SECONDS
        if spool.reclaim():
            self.hurry()
        spool.copy_into_database()

    def postpone(self) -> None:
        """Leave the spool alone for a while, longer after each failure."""
        self._due = self._clock() + back_off(self._failures, random.random())  # noqa: S311
        self._failures += 1

    def _loads_of(self, leased: Sequence[LeasedEntry]) -> tuple[list[Load], list[DeadLetter]]:
        """Return the loads of entries, and dead letters for entries that are not readable or too old."""
        loads: list[Load] = []
        letters: list[DeadLetter] = []
        oldest = self._now() - self._max_age
        for _, entry in leased:
            readable = self._read(entry)
            if readable is not None and entry.created >= oldest:
                loads += readable
                continue
            reason = "unreadable" if readable is None else "too_old"
            letters.append(DeadLetter(entry.body, entry.created, reason, entry.kind))
            self._dead_lettered[reason] += 1
        return loads, letters

    def _read(self, entry: Entry) -> list[Load] | None:
        """Return the loads of an entry; None if it cannot be read."""
        if not is_event(entry.kind):
            load = self._converter.load(entry)
            return None if load is None else [load]
        try:
            events = [EncodedEvent.of_bytes(line) for line in entry.body.splitlines()]
            return self._converter.stored(events, entry.kind) if events else None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def _entry(self, event: EncodedEvent, now: float) -> Entry:
        return Entry(self._converter.event_kind, event.uncut, now)

    # --- maintenance ---

    def stats(self) -> dict[str, Any]:
        """Return `Spool.stats` and `buried`: entries dead-lettered here, by reason. Empty without a spool."""
        return {} if self._spool is None else {**self._spool.stats(), "buried": dict(self._dead_lettered)}

    def close(self) -> None:
        """Free our entries and close the file, which is opened again when it is needed."""
        if self._spool is not None:
            self._spool.leave()
            self._spool.copy_into_database()
            self._spool.close()
