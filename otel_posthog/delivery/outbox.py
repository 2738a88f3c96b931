"""The outbox: every load in it reaches PostHog or the disk, or is counted as lost.

One thread of ours takes loads from the queue in memory and from the spool, has them converted, and delivers
the events. Events that PostHog does not accept go to the spool. Without a spool they stay in memory, and are
lost only beyond its bound.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from otel_posthog.delivery.batch_sender import SendReport
from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
from otel_posthog.delivery.memory_queue import ByteBoundedQueue, Queued
from otel_posthog.delivery.spool.backlog import MAX_TAKEN, Backlog, Converter, Load, events_of
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import RateLimitedLog
from otel_posthog.runtime.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_posthog.delivery.client import DeliveryClient

ENOUGH_BYTES = 1024 * 1024
"""Bytes in the queue that are sent without waiting for more."""
GRACE_SECONDS = 3.0
"""Seconds that `close` waits for the answer to a request in flight when its own time is over."""


class _InFlight:
    """Loads in a request, and the ids of their copies on disk, if there are any."""

    __slots__ = ("copies", "loads")

    def __init__(self, loads: list[Load], copies: list[int] | None = None) -> None:
        self.loads = loads
        self.copies = copies


class Outbox:
    """Delivers the loads of all threads. Follows forks."""

    def __init__(
        self,
        delivery: DeliveryClient,
        converter: Converter,
        backlog: Backlog,
        *,
        max_queue_bytes: int,
        max_batch_bytes: int,
        flush_interval: float,
        always: bool = False,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], object] = start_thread,
    ) -> None:
        """Make an empty outbox.

        `always`: a load is in the spool before `enqueue` returns. `start` runs a function on a thread of its
        own.
        """
        self.flush_interval = flush_interval
        """The most seconds that a load waits for others."""
        self.max_taken = MAX_TAKEN
        self._delivery = delivery
        self._converter = converter
        self._backlog = backlog
        self._always = always
        self._max_batch_bytes = max_batch_bytes
        self._clock = clock
        self._start = start
        self._queue: ByteBoundedQueue[Load] = ByteBoundedQueue(
            max_queue_bytes, clock=clock, spill=backlog.spill
        )
        self._begin()
        follow_forks(self)
        if backlog.has_leasable():  # entries of a process that ended
            backlog.hurry()
            self._start_worker()

    def _begin(self) -> None:
        self._closed = False
        self._running = False
        # Re-entrant: a signal handler may flush while its thread holds it.
        self._lock = threading.RLock()
        self._log = RateLimitedLog(self._clock)
        self._stop = threading.Event()
        self._in_flight: _InFlight | None = None  # on our own thread
        self._sending: list[_InFlight] = []  # on threads in `attempt`
        self._this_thread = threading.local()
        self._passed = threading.Condition(threading.RLock())
        self._passes = 0
        self._passing = False

    # --- on the application's threads ---

    def enqueue(self, load: Load, size: int) -> None:
        """Accept a load of `size` bytes. It never waits for the network."""
        if (self._always or self._closed) and self._backlog.keep([load]) is not None:
            self._backlog.hurry()
        elif self._closed:
            self._queue.drop("after_shutdown")
            self._log.warn("closed", "A span ended after shutdown and is not sent.")
        else:
            self._queue.put(load, size)
        self._ensure_worker()

    def send_now(self, events: Iterable[dict[str, Any]], seconds: float) -> bool:
        """Send events on this thread. Return whether each is accepted or on disk within the time.

        Unsent events that are not on disk wait in memory and are retried, though False is returned.
        """
        safe, report = self.attempt([EncodedEvent.of_event(event) for event in events], seconds)
        if not safe:
            for event in report.unsent:
                self._queue.put(event, event.size)
            if report.unsent:
                self._ensure_worker()
        return safe

    def attempt(self, events: list[EncodedEvent], seconds: float) -> tuple[bool, SendReport]:
        """Send events on this thread. Return whether each is accepted or on disk in time, and a report.

        If not, the unsent events are in the report and nowhere else: retrying them is up to the caller.
        """
        deadline = self._clock() + seconds
        sending = _InFlight(events, self._backlog.keep(events, held=True) if self._always else None)
        with self._lock:
            self._sending.append(sending)
        try:
            report = self._delivery.deliver(events, deadline)
        finally:
            with self._lock:
                self._sending.remove(sending)
        safe = self._backlog.acknowledge(sending.copies or (), report)
        if safe and report.unsent:
            self._backlog.postpone()
            self._ensure_worker()
        return safe, report

    def keep(self, events: list[EncodedEvent]) -> bool:
        """Write events to disk, to be sent later. Return whether they are there."""
        kept = self._backlog.keep(events) is not None
        if kept:
            self._ensure_worker()
        return kept

    def watch(self) -> None:
        """Send what other processes leave in the spool, from now on, even if nothing is enqueued."""
        if self._backlog.is_there:
            self._ensure_worker()

    def flush(self, seconds: float) -> bool:
        """Send what waits. Return whether all loads so far are accepted or on disk within the time.

        A hook that calls it on the delivering thread gets False: that thread cannot wait for itself.
        """
        return self._flush(seconds, spool=True)

    def _flush(self, seconds: float, *, spool: bool) -> bool:
        if getattr(self._this_thread, "busy", False):
            return False
        self._this_thread.busy = True
        try:
            return self._flush_once(seconds, spool=spool)
        finally:
            self._this_thread.busy = False

    def _flush_once(self, seconds: float, *, spool: bool) -> bool:
        deadline = self._clock() + seconds
        ticket = self._queue.ticket()
        wanted = self._passes + 1 + self._passing
        self._backlog.hurry()
        self._queue.flush()
        if not self._running:  # while the interpreter shuts down, no thread can be started
            self._pass(seconds)
            deadline = self._clock()  # no other thread will send the rest

        def hopeless() -> bool:
            return self._delivery.halted_for() > self._left(deadline)

        if not self._backlog.is_there:
            return self._queue.wait_done(ticket, self._left(deadline), hopeless)
        # Writing unsent events to disk takes a moment, too.
        margin = min(seconds / 4, 2.0)
        if not self._queue.wait_done(ticket, self._left(deadline - margin), hopeless) or self._sending:
            return self._to_disk() and not self._queue.lost_since(ticket)
        if spool:  # everything is safe; entries on disk may still be sent
            with self._passed:
                self._passed.wait_for(lambda: self._passes >= wanted, self._left(deadline))
        return True

    def close(self, seconds: float) -> bool:
        """Send what waits, within the time, and stop. The rest goes to disk, or is lost and logged.

        Return whether everything is safe.
        """
        if self._closed:
            return True
        safe = False
        try:
            # The spool also has entries of other processes: a process that ends does not wait for those.
            safe = self._flush(seconds, spool=self._always)
        finally:  # also if Ctrl-C ends the wait
            safe = self._end(safe=safe)
        return safe

    def _end(self, *, safe: bool) -> bool:
        self._closed = True
        safe = self._to_disk() or safe
        self._queue.flush()
        with self._passed:  # the next process must not repeat a request in flight
            self._passed.wait_for(lambda: not self._passing, GRACE_SECONDS)
        left = self._queue.take(float("inf"))
        if left:
            self._queue.done(left, dropped="shutdown")
        lost = len(left) + sum(len(each.loads) for each in self._all_in_flight() if each.copies is None)
        if lost and not safe:
            self._log.warn(
                "shutdown",
                "Shut down before PostHog accepted everything (%d spans or events lost): %s set spool_dir.",
                lost,
                "mend what PostHog rejects, or" if self._delivery.halted_for() else "raise timeout, or",
            )
        self._delivery.close(abort=True)
        self._backlog.close()
        return safe

    def rescue(self) -> None:
        """Write everything unsent to disk at once: a signal ends the process during `close`."""
        self._to_disk()
        self._backlog.close()

    def stats(self, *, spool: bool = True) -> dict[str, Any]:
        """Return figures of the queue, its drops by reason, and of the spool, which takes a query."""
        return {
            "queue": {
                "waiting": len(self._queue),
                "in_flight": self._queue.in_flight_items(),
                "bytes": self._queue.bytes,
                "max_bytes": self._queue.max_bytes,
                "dropped": self._queue.dropped(),
            },
            "spool": self._backlog.stats() if spool else {},
        }

    def after_fork_in_child(self) -> None:
        """Start empty: queued loads are the parent's to send. A thread starts when it is first needed."""
        self._queue.reset_after_fork()
        self._backlog.reset_after_fork()
        self._begin()

    # --- on our own thread ---

    def _ensure_worker(self) -> None:
        if not self._running and not self._closed:
            self._start_worker()

    def _start_worker(self) -> None:
        with self._lock:
            if self._running:
                return
            self._running = True
            try:
                self._start(self._work)
            except RuntimeError as error:  # at shutdown, or too many threads: the next call tries again
                self._running = False
                self._log.warn("thread", "No thread could be started to send from (%s).", error)

    def _work(self) -> None:
        self._this_thread.busy = True
        while not self._closed:
            halted = self._delivery.halted_for()
            if halted:
                self._queue.wait(halted, enough=self._queue.max_bytes + 1)
            else:
                self._queue.wait_for_batch(self._linger(), enough=ENOUGH_BYTES, idle=self._idle())
            try:
                self._pass()
            except BaseException as error:  # noqa: BLE001  # the thread must live
                self._log.warn("worker", "Sending failed (%s); please report this.", type(error).__name__)
                self._backlog.postpone()
        self._running = False

    def _linger(self) -> float:
        return 0.0 if self._closed else self.flush_interval

    def _idle(self) -> float | None:
        """Return the seconds to wait for a load; with `always` it appears in the spool, not in the queue."""
        due = self._backlog.due_in()
        return self.flush_interval if self._always else due

    def _pass(self, seconds: float | None = None) -> None:
        """Send what waits in memory, then what waits in the spool."""
        self._passing = True
        try:
            while taken := self._queue.take(self.max_taken, self._max_batch_bytes):
                if not self._send(taken, seconds):
                    return
            if self._backlog.due_in() == 0.0:
                self._backlog.drain(self._new_stop(), lambda: len(self._queue) > 0, seconds)
        finally:
            with self._passed:
                self._passes += 1
                self._passing = False
                self._passed.notify_all()

    def _new_stop(self) -> threading.Event:
        self._stop = threading.Event()
        if self._closed:
            self._stop.set()
        return self._stop

    def _send(self, taken: list[Queued], seconds: float | None = None) -> bool:
        """Send some loads. Return whether PostHog accepts events, so that others may follow."""
        in_flight = _InFlight([queued.item for queued in taken])
        with self._lock:
            self._in_flight, stop = in_flight, self._new_stop()
        events = events_of(in_flight.loads, self._converter)
        deadline = None if seconds is None else self._clock() + seconds
        report: SendReport | None = None
        try:
            report = self._delivery.deliver(events, deadline, stop)
        finally:
            with self._lock:
                self._in_flight = None
            if report is None:
                self._queue.done(taken, dropped="fault_of_ours")
        if self._backlog.acknowledge(in_flight.copies or (), report):
            self._queue.done(taken)
        elif report.unsent and in_flight.copies is None:
            self._queue.give_back(taken, [(event, event.size) for event in report.unsent])
        else:
            self._queue.done(taken, safe=in_flight.copies is not None)
        if report.unsent:
            self._backlog.postpone()
        return not report.unsent

    def _to_disk(self) -> bool:
        """Write all loads that wait or are in flight to disk. Return whether all are there."""
        waiting = self._queue.take(float("inf"))
        kept = not waiting or self._backlog.keep([queued.item for queued in waiting]) is not None
        if kept:
            self._queue.done(waiting)
        else:
            self._queue.give_back(waiting, [(queued.item, queued.size) for queued in waiting])
        self._stop.set()  # the loads in flight are about to be safe, or are lost anyway
        for each in self._all_in_flight():
            if each.copies is None:
                copies = self._backlog.keep(each.loads, held=True)
                with self._lock:
                    unfinished = each in self._all_in_flight()
                    if unfinished:
                        each.copies = copies
                if unfinished:
                    kept = kept and copies is not None
                elif copies:  # it was finished meanwhile
                    self._backlog.acknowledge(copies, SendReport())
        return kept

    def _all_in_flight(self) -> list[_InFlight]:
        with self._lock:
            return [*self._sending, *([] if self._in_flight is None else [self._in_flight])]

    def _left(self, deadline: float) -> float:
        return max(deadline - self._clock(), 0.0)
