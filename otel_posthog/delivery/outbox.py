"""The outbox: what is handed over reaches PostHog, or the disk, or is counted as lost.

One thread of ours takes what waits, in memory or in the spool, has it converted, and delivers it. What
PostHog does not take goes to the spool; without one it waits in memory, and only the bound of the memory
makes a loss.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from otel_posthog.delivery.batch_sender import Report
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
"""So much waiting is sent without waiting for more."""
GRACE_SECONDS = 3.0
"""So long the end waits for the answer to a request that is under way, when all other time is over."""


class _UnderWay:
    """Loads in a request, and their copies on disk where there are some."""

    __slots__ = ("copies", "loads")

    def __init__(self, loads: list[Load], copies: list[int] | None = None) -> None:
        self.loads = loads
        self.copies = copies


class Outbox:
    """Takes loads from any thread and sees each to its end. Follows forks."""

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

        `always`: what is handed over is in the spool before `enqueue` returns. `start` runs a function on a
        thread of its own.
        """
        self.flush_interval = flush_interval
        """Seconds that something waits for company."""
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
        if backlog.waits():  # of a process that is no more
            backlog.hurry()
            self._start_worker()

    def _begin(self) -> None:
        self._closed = False
        self._running = False
        # Re-entrant: a signal handler may flush while its thread holds it.
        self._lock = threading.RLock()
        self._notices = RateLimitedLog(self._clock)
        self._stop = threading.Event()
        self._under_way: _UnderWay | None = None  # on our own thread
        self._sending: list[_UnderWay] = []  # by `send_now`
        self._here = threading.local()
        self._passed = threading.Condition(threading.RLock())
        self._passes = 0
        self._passing = False

    # --- on the application's threads ---

    def enqueue(self, load: Load, size: int) -> None:
        """Take a load of `size` bytes; nobody waits for the network."""
        if (self._always or self._closed) and self._backlog.keep([load]) is not None:
            self._backlog.hurry()
        elif self._closed:
            self._queue.drop("after_shutdown")
            self._notices.warn("closed", "A span ended after shutdown and is not sent.")
        else:
            self._queue.put(load, size)
        self._ensure_worker()

    def send_now(self, events: Iterable[dict[str, Any]], seconds: float) -> bool:
        """Send events on this thread; True if PostHog accepted each one, or it is on disk, within the time.

        What is neither waits in memory and is tried again, though False is returned.
        """
        safe, report = self.attempt([EncodedEvent.of_event(event) for event in events], seconds)
        if not safe:
            for item in report.unsent:
                self._queue.put(item, item.size)
            if report.unsent:
                self._ensure_worker()
        return safe

    def attempt(self, items: list[EncodedEvent], seconds: float) -> tuple[bool, Report]:
        """Send items on this thread; whether PostHog accepted each one, or it is on disk, within the time.

        What is neither is in the report and nowhere else: whoever has it sends it again.
        """
        deadline = self._clock() + seconds
        sending = _UnderWay(items, self._backlog.keep(items, held=True) if self._always else None)
        with self._lock:
            self._sending.append(sending)
        try:
            report = self._delivery.deliver(items, deadline)
        finally:
            with self._lock:
                self._sending.remove(sending)
        safe = self._backlog.acknowledge(sending.copies or (), report)
        if safe and report.unsent:
            self._backlog.postpone()
            self._ensure_worker()
        return safe, report

    def keep(self, items: list[EncodedEvent]) -> bool:
        """Write items to disk, to be sent from there when PostHog takes events again; whether they are."""
        kept = self._backlog.keep(items) is not None
        if kept:
            self._ensure_worker()
        return kept

    def watch(self) -> None:
        """Look at the spool from now on, even if nothing is handed over: for what others leave there."""
        if self._backlog.is_there:
            self._ensure_worker()

    def flush(self, seconds: float) -> bool:
        """Send what waits; True if everything handed over before is accepted or on disk, within the time.

        Called while it is at work on the same thread, as by a hook, it cannot wait for that: False.
        """
        return self._flush(seconds, spool=True)

    def _flush(self, seconds: float, *, spool: bool) -> bool:
        if getattr(self._here, "busy", False):
            return False
        self._here.busy = True
        try:
            return self._flush_once(seconds, spool=spool)
        finally:
            self._here.busy = False

    def _flush_once(self, seconds: float, *, spool: bool) -> bool:
        deadline = self._clock() + seconds
        ticket = self._queue.ticket()
        wanted = self._passes + 1 + self._passing
        self._backlog.hurry()
        self._queue.flush()
        if not self._running:  # at the end of the interpreter no thread can be started any more
            self._pass(seconds)
            deadline = self._clock()  # nobody else is at it

        def hopeless() -> bool:
            return self._delivery.halted_for() > self._left(deadline)

        if not self._backlog.is_there:
            return self._queue.wait_done(ticket, self._left(deadline), hopeless)
        # Writing to disk what could not be sent takes a moment, too.
        margin = min(seconds / 4, 2.0)
        if not self._queue.wait_done(ticket, self._left(deadline - margin), hopeless) or self._sending:
            return self._to_disk() and not self._queue.lost_since(ticket)
        if spool:  # all of it is safe; what is on disk may still be sent
            with self._passed:
                self._passed.wait_for(lambda: self._passes >= wanted, self._left(deadline))
        return True

    def close(self, seconds: float) -> bool:
        """Send what waits, within the time, and stop; what is left is on disk, or lost and said.

        Whether all of it is safe.
        """
        if self._closed:
            return True
        safe = False
        try:
            # In the spool is what others left as well: who ends does not wait for that.
            safe = self._flush(seconds, spool=self._always)
        finally:  # also where Ctrl-C ends the wait
            safe = self._end(safe=safe)
        return safe

    def _end(self, *, safe: bool) -> bool:
        self._closed = True
        safe = self._to_disk() or safe
        self._queue.flush()
        with self._passed:  # a request that is under way is not to be sent again by the next process
            self._passed.wait_for(lambda: not self._passing, GRACE_SECONDS)
        left = self._queue.take(float("inf"))
        if left:
            self._queue.done(left, dropped="shutdown")
        lost = len(left) + sum(len(each.loads) for each in self._all_under_way() if each.copies is None)
        if lost and not safe:
            self._notices.warn(
                "shutdown",
                "Shut down before PostHog accepted everything (%d spans or events lost): %s set spool_dir.",
                lost,
                "mend what PostHog refuses, or" if self._delivery.halted_for() else "raise timeout, or",
            )
        self._delivery.close(abort=True)
        self._backlog.close()
        return safe

    def rescue(self) -> None:
        """Write what is not sent to disk now: a signal ends the process while it is being closed."""
        self._to_disk()
        self._backlog.close()

    def stats(self, *, spool: bool = True) -> dict[str, Any]:
        """What waits in memory, what was dropped by reason, and what is in the spool, which takes a query."""
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
        """What waits is the parent's to send; a thread of our own starts when it is first needed."""
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
            except RuntimeError as error:  # at the end of the interpreter; too many: the next one tries again
                self._running = False
                self._notices.warn("thread", "No thread could be started to send from (%s).", error)

    def _work(self) -> None:
        self._here.busy = True
        while not self._closed:
            halted = self._delivery.halted_for()
            if halted:
                self._queue.wait(halted, enough=self._queue.max_bytes + 1)
            else:
                self._queue.wait_for_batch(self._linger(), enough=ENOUGH_BYTES, idle=self._idle())
            try:
                self._pass()
            except BaseException as error:  # noqa: BLE001  # the thread must live
                self._notices.warn("worker", "Sending failed (%s); please report this.", type(error).__name__)
                self._backlog.postpone()
        self._running = False

    def _linger(self) -> float:
        return 0.0 if self._closed else self.flush_interval

    def _idle(self) -> float | None:
        """How long to wait for a load; in the spool one appears without being said."""
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
                self._backlog.empty(self._stop_of_now(), lambda: len(self._queue) > 0, seconds)
        finally:
            with self._passed:
                self._passes += 1
                self._passing = False
                self._passed.notify_all()

    def _stop_of_now(self) -> threading.Event:
        self._stop = threading.Event()
        if self._closed:
            self._stop.set()
        return self._stop

    def _send(self, taken: list[Queued], seconds: float | None = None) -> bool:
        """Send some loads; whether it makes sense to go on with others now."""
        under_way = _UnderWay([queued.item for queued in taken])
        with self._lock:
            self._under_way, stop = under_way, self._stop_of_now()
        events = events_of(under_way.loads, self._converter)
        deadline = None if seconds is None else self._clock() + seconds
        report: Report | None = None
        try:
            report = self._delivery.deliver(events, deadline, stop)
        finally:
            with self._lock:
                self._under_way = None
            if report is None:
                self._queue.done(taken, dropped="fault_of_ours")
        if self._backlog.acknowledge(under_way.copies or (), report):
            self._queue.done(taken)
        elif report.unsent and under_way.copies is None:
            self._queue.give_back(taken, [(item, item.size) for item in report.unsent])
        else:
            self._queue.done(taken, safe=under_way.copies is not None)
        if report.unsent:
            self._backlog.postpone()
        return not report.unsent

    def _to_disk(self) -> bool:
        """Write all that waits or is under way to disk; whether nothing is left that is not there."""
        waiting = self._queue.take(float("inf"))
        kept = not waiting or self._backlog.keep([queued.item for queued in waiting]) is not None
        if kept:
            self._queue.done(waiting)
        else:
            self._queue.give_back(waiting, [(queued.item, queued.size) for queued in waiting])
        self._stop.set()  # it will be safe, there is no hurry; or it is lost anyway
        for each in self._all_under_way():
            if each.copies is None:
                copies = self._backlog.keep(each.loads, held=True)
                with self._lock:
                    still = each in self._all_under_way()
                    if still:
                        each.copies = copies
                if still:
                    kept = kept and copies is not None
                elif copies:  # it came to its end meanwhile
                    self._backlog.acknowledge(copies, Report())
        return kept

    def _all_under_way(self) -> list[_UnderWay]:
        with self._lock:
            return [*self._sending, *([] if self._under_way is None else [self._under_way])]

    def _left(self, deadline: float) -> float:
        return max(deadline - self._clock(), 0.0)
