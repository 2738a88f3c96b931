"""What waits on disk: kept there, sent from there when PostHog takes it again, buried where it never will."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
from otel_posthog.delivery.http.retry import back_off
from otel_posthog.delivery.spool.entries import DeadLetter, Entry, Held, is_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from otel_posthog.delivery.batch_sender import Report
    from otel_posthog.delivery.client import DeliveryClient
    from otel_posthog.delivery.spool.spool import Spool

Load = Any
"""What is handed over: an `EncodedEvent`, or something that the `Converter` knows."""

LOOK_SECONDS = 30.0
"""So often the spool is looked at for what another process left."""
MAX_TAKEN = 500
"""Loads that are converted and sent together."""


class Converter(Protocol):
    """Makes events of loads, and loads of what was kept of them; what it cannot make it counts."""

    event_kind: str
    """The kind of entries of events that are as this converter leaves them: `EVENT`, or it and a mark."""

    def stored(self, items: list[EncodedEvent], kind: str) -> list[EncodedEvent]:
        """Return what may leave of events that were kept as an entry of that kind."""
        ...

    def events(self, loads: Iterable[Load]) -> Iterator[dict[str, Any]]:
        """Return the events of the loads."""
        ...

    def entries(self, loads: Iterable[Load]) -> list[Entry]:
        """Return what is to be kept on disk of the loads."""
        ...

    def load(self, entry: Entry) -> Load | None:
        """Return the load that was kept so; None if it cannot be read."""
        ...


def events_of(loads: Sequence[Load], converter: Converter) -> Iterator[dict[str, Any] | EncodedEvent]:
    """Return the events of loads, of which some are events already."""
    yield from (load for load in loads if isinstance(load, EncodedEvent))
    yield from converter.events(load for load in loads if not isinstance(load, EncodedEvent))


class Backlog:
    """The spool as the outbox sees it; without a spool nothing can be kept, and nothing waits."""

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

        `patience` is in seconds: so long one batch is tried at a time. What is older than `max_age` seconds
        becomes a dead letter.
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
        """In a child: look at the spool a while later, it is the parent's first."""
        self._failures = 0
        self._due = self._clock() + LOOK_SECONDS
        self._buried: Counter[str] = Counter()

    @property
    def is_there(self) -> bool:
        """Whether there is a spool at all."""
        return self._spool is not None

    def is_full(self) -> bool:
        """Whether the spool takes nothing more; never where its oldest entries make room."""
        return self._spool is not None and self._spool.is_full()

    # --- keeping ---

    def keep(self, loads: Sequence[Load], *, held: bool = False) -> list[int] | None:
        """Write loads to disk, leased by us if `held`; their ids there, None if they are not on disk."""
        if self._spool is None:
            return None
        now = self._now()
        entries = [self._entry(load, now) for load in loads if isinstance(load, EncodedEvent)]
        entries += self._converter.entries([load for load in loads if not isinstance(load, EncodedEvent)])
        return self._spool.put(entries, held=held)

    def spill(self, loads: Sequence[Load]) -> bool | None:
        """Write loads to disk, unless another thread is at it (None): nobody waits for that."""
        if self._spool is None:
            return False
        if self._spool.is_busy():
            return None
        kept = self.keep(loads)
        self.hurry()
        if kept is None and self._spool.is_locked:
            return None  # by another process, for a moment
        return kept is not None

    def acknowledge(self, ids: Sequence[int], report: Report, letters: Iterable[DeadLetter] = ()) -> bool:
        """Take out entries of ours that were sent; what was not goes back, what never will is buried.

        Whether all of it is accepted or on disk.
        """
        if self._spool is None:
            return not report.unsent and not report.refused
        now = self._now()
        back = [self._entry(item, now) for item in report.unsent]
        kind = self._converter.event_kind
        refused = [DeadLetter(item.uncut, now, reason, kind) for item, reason in report.refused]
        dead = [*refused, *letters]
        if not ids and not back and not dead:
            return True
        return self._spool.acknowledge(ids, back, dead)

    # --- sending ---

    def hurry(self) -> None:
        """Look at the spool at the next opportunity."""
        self._due = min(self._due, self._clock())

    def due_in(self) -> float | None:
        """Seconds until the spool is to be looked at; None where there is none."""
        return None if self._spool is None else max(self._due - self._clock(), 0.0)

    def waits(self) -> bool:
        """Whether something waits on disk that nobody is sending."""
        if self._spool is None:
            return False
        self._spool.reclaim()
        return self._spool.waits()

    def empty(self, stop: threading.Event, urgent: Callable[[], bool], seconds: float | None = None) -> None:
        """Send what waits on disk, until there is no more, PostHog takes none, or something `urgent` waits.

        `seconds` is the longest it may take for one batch; None: `patience`.
        """
        if self._spool is None:
            return
        spool = self._spool
        while held := spool.take(MAX_TAKEN, self._max_batch_bytes):
            loads, letters = self._read(held)
            deadline = self._clock() + min(self._patience, seconds or self._patience)
            report = self._delivery.deliver(events_of(loads, self._converter), deadline, stop)
            # All of it as it was, if nothing came of it: converted events take more room.
            nothing = bool(report.unsent) and not report.delivered and not report.refused and not letters
            if nothing:
                spool.release([each.id for each in held])
            else:
                self.acknowledge([each.id for each in held], report, letters)
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
        """Leave the spool alone for a while that grows from failure to failure."""
        self._due = self._clock() + back_off(self._failures, random.random())  # noqa: S311
        self._failures += 1

    def _read(self, held: Sequence[Held]) -> tuple[list[Load], list[DeadLetter]]:
        """The loads of entries; what cannot be read, or is too old, becomes a dead letter."""
        loads: list[Load] = []
        letters: list[DeadLetter] = []
        oldest = self._now() - self._max_age
        for _, entry in held:
            found = self._load(entry)
            if found is not None and entry.created >= oldest:
                loads += found
                continue
            reason = "unreadable" if found is None else "too_old"
            letters.append(DeadLetter(entry.body, entry.created, reason, entry.kind))
            self._buried[reason] += 1
        return loads, letters

    def _load(self, entry: Entry) -> list[Load] | None:
        """The loads of an entry, or events; None where it cannot be read."""
        if not is_event(entry.kind):
            load = self._converter.load(entry)
            return None if load is None else [load]
        try:
            items = [EncodedEvent.of_bytes(line) for line in entry.body.splitlines()]
            return self._converter.stored(items, entry.kind) if items else None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None

    def _entry(self, item: EncodedEvent, now: float) -> Entry:
        return Entry(self._converter.event_kind, item.uncut, now)

    # --- the house ---

    def stats(self) -> dict[str, Any]:
        """What is in the spool; `buried` counts what could not be read or was too old. Empty without one."""
        return {} if self._spool is None else {**self._spool.stats(), "buried": dict(self._buried)}

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._spool is not None:
            self._spool.leave()
            self._spool.copy_into_database()
            self._spool.close()
