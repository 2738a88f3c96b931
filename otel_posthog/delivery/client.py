"""Events reach PostHog: the composition of encoding, lanes, batches, retries and the transport."""

from __future__ import annotations

import random as _random
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from otel_posthog.delivery.batch_sender import BatchSender, Report
from otel_posthog.delivery.counters import Counters
from otel_posthog.delivery.encoding.encoded_event import EncodedEvent, batches
from otel_posthog.delivery.http.retry import Retrying
from otel_posthog.delivery.http.routes import EVENTS, EVENTS_V1, Route, Routes
from otel_posthog.delivery.http.transport import RequestsTransport, Transport
from otel_posthog.runtime.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_posthog.delivery.options import DeliveryOptions


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class DeliveryClient:
    """Sends events to PostHog and says truthfully what became of them. Safe to use from several threads."""

    def __init__(
        self,
        options: DeliveryOptions,
        *,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
        sleep: Callable[[float], object] | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        """Compose a delivery.

        `clock` is in seconds and never goes back, `now` is the wall clock in UTC, `sleep` waits so many
        seconds (default: a wait that `stop` and `close(abort=True)` end), `random` is in [0, 1).
        """
        self._options = options
        self._clock = clock
        self._transport: Transport = RequestsTransport() if transport is None else transport
        self._routes = Routes(clock, EVENTS_V1 if options.capture_mode == "v1" else EVENTS)
        self._counters = Counters()
        self._sender = BatchSender(
            options,
            transport=self._transport,
            retrying=Retrying(
                clock=clock,
                sleep=sleep,
                random=random,
            ),
            routes=self._routes,
            counters=self._counters,
            notices=RateLimitedLog(clock),
            clock=clock,
            now=now,
        )
        self._begin()

    def _begin(self) -> None:
        self._closed = False
        self._stops: set[threading.Event] = set()

    def deliver(
        self,
        events: Iterable[dict[str, Any] | EncodedEvent],
        deadline: float | None = None,
        stop: threading.Event | None = None,
    ) -> Report:
        """Send `events` and return what became of each.

        Until `deadline` (in the clock's time), and no longer than `max_retry_seconds`, what PostHog cannot
        take is tried again; `stop` ends that at once. Never raises for what PostHog, the network or the
        content of an event do.
        """
        longest = self._clock() + self._options.max_retry_seconds
        deadline = longest if deadline is None else min(deadline, longest)
        if stop is None:
            stop = threading.Event()
        self._stops.add(stop)
        try:
            if self._closed:
                stop.set()
            return self._deliver(events, deadline, stop)
        finally:
            self._stops.discard(stop)

    def _deliver(
        self, events: Iterable[dict[str, Any] | EncodedEvent], deadline: float, stop: threading.Event
    ) -> Report:
        report = Report()
        routes = self._by_route(events)
        for routes_left, (route, items) in zip(range(len(routes), 0, -1), routes, strict=True):
            # A lane that is down must not use up the time of the other.
            now = self._clock()
            route_deadline = now + (deadline - now) / routes_left
            work = list(batches(items, self._options.max_batch_bytes, self._options.max_batch_events))
            self._sender.send(route, work, route_deadline, stop, report)
        return report

    def halted_for(self) -> float:
        """Return the seconds for which nothing will be sent, after an answer that only a person can mend."""
        return self._sender.halted_for()

    def halted_by(self) -> str:
        """Return why, and what to do about it: `(status_401): check the project API key (phc_...)`."""
        return self._sender.halted_by()

    def close(self, abort: bool = False) -> None:
        """Close idle connections.

        With `abort`, a waiting back-off ends at once, no further attempt is made now or later, and what is
        not accepted yet is handed back. Without, sends that are under way go on.
        """
        if abort:
            self._closed = True
            for stop in [*self._stops]:
                stop.set()
        self._transport.close()

    def stats(self) -> dict[str, Any]:
        """Return counts since the start.

        `delivered`, `retried` (once per further attempt) and `cut`: events by name. `refused`, and `unsent`
        (handed back to be sent later): by name, then by reason. `requests`: HTTP attempts; `bytes`: of JSON
        in them; `wire_bytes`: the same compressed.
        """
        return self._counters.snapshot()

    def reset_after_fork(self) -> None:
        """In a forked child: new connections and locks, counts from zero."""
        self._begin()
        self._transport.reset_after_fork()
        self._counters.reset_after_fork()

    def _by_route(
        self, events: Iterable[dict[str, Any] | EncodedEvent]
    ) -> list[tuple[Route, list[EncodedEvent]]]:
        routes: dict[str, tuple[Route, list[EncodedEvent]]] = {}
        for event in events:
            item = EncodedEvent.of_event(event) if isinstance(event, dict) else event
            route = self._routes.for_event(item.name)
            whole = not item.cut
            item.fit(route.max_event_bytes, route.size)
            routes.setdefault(route.path, (route, []))[1].append(item)
            if whole and item.cut:
                self._counters.events("cut", [item.name])
        return list(routes.values())
