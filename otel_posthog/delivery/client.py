"""The delivery client: encoding, routes, batches, retries and the transport, composed."""

from __future__ import annotations

import random as _random
import threading
import time
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from otel_posthog.delivery.batch_sender import BatchSender, SendReport
from otel_posthog.delivery.counters import Counters
from otel_posthog.delivery.encoding.encoded_event import EncodedEvent, batches
from otel_posthog.delivery.http.retry import retry_until_final
from otel_posthog.delivery.http.routes import EVENTS, EVENTS_V1, Route, Routes
from otel_posthog.delivery.http.transport import RequestsTransport, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_posthog.delivery.options import DeliveryOptions


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class DeliveryClient:
    """Sends events to PostHog and reports what became of each. Safe to use from several threads."""

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
        """Compose a client.

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
            retry=partial(retry_until_final, clock=clock, sleep=sleep, random=random),
            routes=self._routes,
            counters=self._counters,
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
    ) -> SendReport:
        """Send `events` and return what became of each.

        Events that PostHog cannot accept now are retried until `deadline` (in the clock's time), and for
        `max_retry_seconds` at most; `stop` ends that at once. No fault of PostHog, the network or an event's
        content raises.
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
    ) -> SendReport:
        report = SendReport()
        routes = self._by_route(events)
        for routes_left, (route, encoded) in zip(range(len(routes), 0, -1), routes, strict=True):
            # A route that is down must not use up the time of the other.
            now = self._clock()
            route_deadline = now + (deadline - now) / routes_left
            work = list(batches(encoded, self._options.max_batch_bytes, self._options.max_batch_events))
            self._sender.send(route, work, route_deadline, stop, report)
        return report

    def halted_for(self) -> float:
        """Return the seconds for which nothing will be sent, after an answer that only a person can mend."""
        return self._sender.halted_for()

    def halted_by(self) -> str:
        """Return that answer with advice: `(status_401): check the project API key (phc_...)`."""
        return self._sender.halted_by()

    def close(self, abort: bool = False) -> None:
        """Close idle connections.

        With `abort`, a back-off ends at once, no further attempt is made now or later, and events that are
        not accepted yet are reported as unsent. Without it, sends in progress go on.
        """
        if abort:
            self._closed = True
            for stop in [*self._stops]:
                stop.set()
        self._transport.close()

    def stats(self) -> dict[str, Any]:
        """Return counts since the start.

        `delivered`, `retried` (once per further attempt) and `cut`: events by name. `refused` (rejected for
        good) and `unsent` (to be sent later): by name, then by reason. `requests`: HTTP attempts; `bytes`: of
        JSON in them; `wire_bytes`: the same compressed.
        """
        return self._counters.snapshot()

    def reset_after_fork(self) -> None:
        """Start with new connections and locks and zero counts. Called in a forked child."""
        self._begin()
        self._transport.reset_after_fork()
        self._counters.reset_after_fork()

    def _by_route(
        self, events: Iterable[dict[str, Any] | EncodedEvent]
    ) -> list[tuple[Route, list[EncodedEvent]]]:
        routes: dict[str, tuple[Route, list[EncodedEvent]]] = {}
        for event in events:
            encoded = EncodedEvent.of_event(event) if isinstance(event, dict) else event
            route = self._routes.for_event(encoded.name)
            self._sender.fit(encoded, route)
            routes.setdefault(route.path, (route, []))[1].append(encoded)
        return list(routes.values())
