"""A batch until its end: delivered, cut, halved until the bad event is alone, or left unsent."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otel_posthog.delivery.http.outcome import (
    Delivered,
    Dropped,
    Halted,
    Missing,
    Outcome,
    Partial,
    Retry,
    TooLarge,
    missing_path,
)
from otel_posthog.delivery.http.retry import FinalOutcome, GaveUp, RetryUntilFinal, SuspectBatch
from otel_posthog.delivery.http.routes import AI, EVENTS_V1, Route, Routes
from otel_posthog.delivery.http.transport import Transport, TransportError
from otel_posthog.delivery.http.wire import Attempts, V0Wire, V1Wire, Wire
from otel_posthog.runtime.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from otel_posthog.delivery.counters import Counters
    from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
    from otel_posthog.delivery.options import DeliveryOptions

HALT_SECONDS = 300.0
"""Seconds without a request after an answer that only a person can mend, such as 401."""

_RETRY_ADVICE = {"NameResolutionError": ": no such host is known, check the endpoint (POSTHOG_HOST)"}
"""By the reason of a retry: it may end by itself, but a mistyped address does not."""

_EVENT_AT_FAULT = "the event itself is at fault, others are not affected"


@dataclass(slots=True)
class SendReport:
    """The fate of the events of one `deliver`. Every event is in exactly one field."""

    delivered: int = 0
    """The number of events that PostHog accepted."""
    rejected: list[tuple[EncodedEvent, str]] = field(default_factory=list)
    """Events that PostHog will never accept, with the reason: `invalid`, `too_large` or PostHog's own."""
    unsent: list[EncodedEvent] = field(default_factory=list)
    """Events to send again later: the deadline passed, delivery is halted, or it was stopped.

    PostHog may have some of them, if an answer got lost. A second copy has the same uuid and timestamp, so it
    is the same event.
    """

    @property
    def complete(self) -> bool:
        """Whether PostHog accepted every event."""
        return not self.rejected and not self.unsent


class BatchSender:
    """Sends batches until each of their events has an end."""

    def __init__(
        self,
        options: DeliveryOptions,
        *,
        transport: Transport,
        retry: RetryUntilFinal,
        routes: Routes,
        counters: Counters,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._transport = transport
        self._retry = retry
        self._routes = routes
        self._counters = counters
        self._log = RateLimitedLog(clock)
        self._clock = clock
        self._now = now
        self._v0: Wire = V0Wire(options)
        self._v1: Wire = V1Wire(options)
        self._host = urlsplit(options.endpoint).hostname or "the endpoint"
        if options.project:
            self._host += f" (project {options.project})"
        self._halted_until = float("-inf")
        self._halted_by = ""
        self._warned_of: set[str] = set()
        """Paths of routes whose last line in the log is a warning."""

    def halted_for(self) -> float:
        """Return the seconds for which nothing will be sent; 0 if delivery is not halted."""
        return max(self._halted_until - self._clock(), 0.0)

    def halted_by(self) -> str:
        """Return PostHog's last answer that only a person can mend, with advice."""
        return self._halted_by

    def send(
        self,
        route: Route,
        work: list[list[EncodedEvent]],
        deadline: float,
        stop: threading.Event,
        report: SendReport,
    ) -> None:
        """Send the batches of `work` by `route`, and add each event to `report`.

        413 and 400 halve the batch, so that the other events are accepted once, in a batch without the bad
        one. At the deadline the rest is unsent, without an attempt.
        """
        work = [*reversed(work)]
        accepted_before = report.delivered
        suspects: list[EncodedEvent] = []
        suspicion = ""
        while work:
            batch = work.pop()
            outcome: FinalOutcome = GaveUp("halted")
            if not self.halted_for():
                current = self._current_route(route, batch)
                outcome = self._retry(
                    partial(self._attempt, current, batch, Attempts(), report),
                    deadline,
                    stop,
                    partial(self._on_retry, route, batch),
                )
                if isinstance(outcome, Missing):
                    if current is AI:
                        self._routes.ai_is_missing()
                        work.append(batch)
                        continue
                    outcome = missing_path()
            if isinstance(outcome, Delivered):
                self._delivered(batch, report)
                if self._warned_of:
                    self._recovered(route)
            elif isinstance(outcome, (GaveUp, Halted)):
                if isinstance(outcome, Halted):
                    self._halt(route, outcome)
                self._leave_unsent([suspects, batch, *reversed(work)], outcome.reason, report)
                return
            elif isinstance(outcome, Dropped):
                self._reject(batch, outcome.reason, "see the billing limits of the PostHog project", report)
            elif len(batch) > 1:
                middle = len(batch) // 2
                work += [batch[middle:], batch[:middle]]
            elif isinstance(outcome, TooLarge) and self._halve(batch[0]):
                work.append(batch)
            elif isinstance(outcome, TooLarge):
                self._reject(batch, "too_large", "lower max_content_bytes", report)
            elif isinstance(outcome, SuspectBatch):
                suspects += batch
                suspicion = outcome.reason
            else:
                self._reject(batch, "invalid", _EVENT_AT_FAULT, report)
        if suspects and report.delivered > accepted_before:
            self._reject(suspects, suspicion, _EVENT_AT_FAULT, report)
        elif suspects:  # no other event was accepted either: it is the server
            self._leave_unsent([suspects], suspicion, report)

    def _attempt(
        self, route: Route, batch: list[EncodedEvent], attempts: Attempts, report: SendReport, left: float
    ) -> Outcome:
        wire = self._v1 if route is EVENTS_V1 else self._v0
        now = self._now()
        attempts.next(now)
        payload = wire.payload(batch, attempts, now)
        self._counters.request(payload.size, len(payload.body))
        try:
            answer = self._transport.post(
                self._options.endpoint + route.path,
                payload.body,
                payload.headers,
                min(self._options.timeout, left),
            )
        except TransportError as error:
            return Retry(None, str(error))
        outcome = wire.judge(answer, self._now())
        return self._accept_part(batch, outcome, report) if isinstance(outcome, Partial) else outcome

    def _accept_part(self, batch: list[EncodedEvent], outcome: Partial, report: SendReport) -> Outcome:
        """Report the events that have an end, and leave those to retry in the batch."""
        left: list[EncodedEvent] = []
        delivered: list[EncodedEvent] = []
        for event in batch:
            uuid = event.uuid
            if uuid in outcome.dropped:
                advice = "PostHog drops it by a rule of its own; see its documentation"
                self._reject([event], outcome.dropped[uuid], advice, report)
            elif uuid in outcome.retry:
                left.append(event)
            elif uuid not in outcome.too_large:
                delivered.append(event)
            elif self._halve(event):
                left.append(event)
            else:
                self._reject([event], "too_large", "lower max_content_bytes", report)
        self._delivered(delivered, report)
        batch[:] = left
        return Retry(outcome.after, "single events") if left else Delivered()

    def _delivered(self, events: list[EncodedEvent], report: SendReport) -> None:
        report.delivered += len(events)
        self._counters.events("delivered", [event.name for event in events])

    def _current_route(self, route: Route, batch: list[EncodedEvent]) -> Route:
        current = self._routes.current(route)
        if current is not route:
            for event in batch:
                self.fit(event, current)
        return current

    def fit(self, event: EncodedEvent, route: Route) -> None:
        """Cut an event to the limit of a route, and count the first cut."""
        was_cut = event.cut
        event.fit(route.max_event_bytes, route.size)
        if event.cut and not was_cut:
            self._counters.events("cut", [event.name])

    def _halve(self, event: EncodedEvent) -> bool:
        was_cut = event.cut
        halved = event.halve()
        if halved and not was_cut:
            self._counters.events("cut", [event.name])
        return halved

    def _on_retry(self, route: Route, batch: list[EncodedEvent], retry: Retry) -> None:
        self._counters.events("retried", [event.name for event in batch])
        logged = self._log.warn(
            f"retry {retry.reason}",
            "PostHog at %s cannot take events now (%s)%s; trying again.",
            self._host,
            retry.reason,
            _RETRY_ADVICE.get(retry.reason, ""),
        )
        self._warned(route, logged=logged)

    def _halt(self, route: Route, outcome: Halted) -> None:
        self._halted_by = f"({outcome.reason}): {outcome.advice}"
        self._halted_until = self._clock() + HALT_SECONDS
        logged = self._log.warn(
            f"halted {outcome.reason}",
            "PostHog at %s takes no events %s. Nothing is sent for %d minutes, then it is tried again.",
            self._host,
            self._halted_by,
            HALT_SECONDS // 60,
        )
        self._warned(route, logged=logged)

    def _warned(self, route: Route, *, logged: bool) -> None:
        if logged or self._warned_of:  # within a minute, a problem of two routes is logged for one of them
            self._warned_of.add(route.path)

    def _recovered(self, route: Route) -> None:
        if route.path in self._warned_of:
            self._warned_of.discard(route.path)
            if not self._warned_of:
                self._log.info("PostHog at %s takes events again.", self._host)

    def _leave_unsent(self, work: Iterable[list[EncodedEvent]], reason: str, report: SendReport) -> None:
        events = [event for batch in work for event in batch]
        report.unsent.extend(events)
        self._counters.losses("unsent", [event.name for event in events], reason)

    def _reject(self, batch: list[EncodedEvent], reason: str, advice: str, report: SendReport) -> None:
        report.rejected.extend((event, reason) for event in batch)
        self._counters.losses("refused", [event.name for event in batch], reason)
        self._log.warn(
            f"rejected {reason}",
            "PostHog at %s rejected %d events (%s): %s.",
            self._host,
            len(batch),
            reason,
            advice,
        )
