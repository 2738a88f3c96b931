"""A batch to its end: delivered, cut, halved until the culprit stands alone, or handed back."""

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
from otel_posthog.delivery.http.retry import Final, GaveUp, Retrying, Suspect
from otel_posthog.delivery.http.routes import AI, EVENTS_V1, Route, Routes
from otel_posthog.delivery.http.transport import Transport, TransportError
from otel_posthog.delivery.http.wire import Attempts, V0Wire, V1Wire, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from otel_posthog.delivery.counters import Counters
    from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
    from otel_posthog.delivery.options import DeliveryOptions
    from otel_posthog.runtime.log import RateLimitedLog

HALT_SECONDS = 300.0
"""So long nothing is sent after an answer that only a person can change, such as 401."""

_EVENT_AT_FAULT = "the event itself is at fault, others are not affected"


@dataclass(slots=True)
class Report:
    """What became of the events of one `deliver`; every event is in exactly one place."""

    delivered: int = 0
    """How many PostHog accepted."""
    refused: list[tuple[EncodedEvent, str]] = field(default_factory=list)
    """Events PostHog will never accept, each with the reason: `invalid`, `too_large` or PostHog's own."""
    unsent: list[EncodedEvent] = field(default_factory=list)
    """Events to send again later: the deadline came, PostHog takes nothing now, or we were told to stop.

    PostHog may have some of them (an answer that got lost); uuid and timestamp make a second sending the same
    event.
    """

    @property
    def complete(self) -> bool:
        """True if PostHog accepted every event."""
        return not self.refused and not self.unsent


class BatchSender:
    """Sends batches and sees each event to its end."""

    def __init__(
        self,
        options: DeliveryOptions,
        *,
        transport: Transport,
        retrying: Retrying,
        routes: Routes,
        counters: Counters,
        notices: RateLimitedLog,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._transport = transport
        self._retrying = retrying
        self._routes = routes
        self._counters = counters
        self._notices = notices
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
        """Paths of lanes of which the last word in the log is that PostHog takes no events by them."""

    def halted_for(self) -> float:
        """Return the seconds for which nothing will be sent; 0 where sending goes on."""
        return max(self._halted_until - self._clock(), 0.0)

    def halted_by(self) -> str:
        """Return PostHog's last answer that only a person can change, and what to do about it."""
        return self._halted_by

    def send(
        self,
        route: Route,
        work: list[list[EncodedEvent]],
        deadline: float,
        stop: threading.Event,
        report: Report,
    ) -> None:
        """Send the batches of `work` by `route` and note in `report` what became of each event.

        413 and 400 halve the batch, so the others are accepted once, in a batch without the culprit.
        Once there is no time left, the rest is handed back without an attempt.
        """
        work = [*reversed(work)]
        accepted_before = report.delivered
        suspects: list[EncodedEvent] = []
        suspicion = ""
        while work:
            batch = work.pop()
            outcome: Final = GaveUp("halted")
            if not self.halted_for():
                current = self._standing_in(route, batch)
                outcome = self._retrying.run(
                    partial(self._attempt, current, batch, Attempts(), report),
                    deadline,
                    stop,
                    partial(self._waiting, route, batch),
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
                    self._takes_again(route)
            elif isinstance(outcome, (GaveUp, Halted)):
                if isinstance(outcome, Halted):
                    self._halt(route, outcome)
                self._hand_back([suspects, batch, *reversed(work)], outcome.reason, report)
                return
            elif isinstance(outcome, Dropped):
                self._refuse(batch, outcome.reason, "see the billing limits of the PostHog project", report)
            elif len(batch) > 1:
                middle = len(batch) // 2
                work += [batch[middle:], batch[:middle]]
            elif isinstance(outcome, TooLarge) and self._halve(batch[0]):
                work.append(batch)
            elif isinstance(outcome, TooLarge):
                self._refuse(batch, "too_large", "lower max_content_bytes", report)
            elif isinstance(outcome, Suspect):
                suspects += batch
                suspicion = outcome.reason
            else:
                self._refuse(batch, "invalid", _EVENT_AT_FAULT, report)
        if suspects and report.delivered > accepted_before:
            self._refuse(suspects, suspicion, _EVENT_AT_FAULT, report)
        elif suspects:  # nothing else came through either: it is the server
            self._hand_back([suspects], suspicion, report)

    def _attempt(
        self, route: Route, batch: list[EncodedEvent], attempts: Attempts, report: Report, left: float
    ) -> Outcome:
        wire = self._v1 if route is EVENTS_V1 else self._v0
        now = self._now()
        attempts.next(now)
        request = wire.request(batch, attempts, now)
        self._counters.request(request.size, len(request.body))
        try:
            answer = self._transport.post(
                self._options.endpoint + route.path,
                request.body,
                request.headers,
                min(self._options.timeout, left),
            )
        except TransportError as error:
            return Retry(None, str(error))
        outcome = wire.judge(answer, self._now())
        return self._part(batch, outcome, report) if isinstance(outcome, Partial) else outcome

    def _part(self, batch: list[EncodedEvent], outcome: Partial, report: Report) -> Outcome:
        """Note what is settled, and leave in the batch what is to be sent again."""
        again: list[EncodedEvent] = []
        delivered: list[EncodedEvent] = []
        for item in batch:
            uuid = item.uuid
            if uuid in outcome.dropped:
                reason = outcome.dropped[uuid]
                self._refuse([item], reason, "PostHog keeps it out; see its documentation", report)
            elif uuid in outcome.again:
                again.append(item)
            elif uuid not in outcome.too_large:
                delivered.append(item)
            elif self._halve(item):
                again.append(item)
            else:
                self._refuse([item], "too_large", "lower max_content_bytes", report)
        self._delivered(delivered, report)
        batch[:] = again
        return Retry(outcome.after, "single events") if again else Delivered()

    def _delivered(self, items: list[EncodedEvent], report: Report) -> None:
        report.delivered += len(items)
        self._counters.events("delivered", [item.name for item in items])

    def _standing_in(self, route: Route, batch: list[EncodedEvent]) -> Route:
        current = self._routes.current(route)
        if current is not route:
            for item in batch:
                self._recut(item, current)
        return current

    def _recut(self, item: EncodedEvent, route: Route) -> None:
        whole = not item.cut
        item.fit(route.max_event_bytes, route.size)
        if whole and item.cut:
            self._counters.events("cut", [item.name])

    def _halve(self, item: EncodedEvent) -> bool:
        whole = not item.cut
        halved = item.halve()
        if whole and halved:
            self._counters.events("cut", [item.name])
        return halved

    def _waiting(self, route: Route, batch: list[EncodedEvent], retry: Retry) -> None:
        self._counters.events("retried", [item.name for item in batch])
        said = self._notices.warn(
            f"retry {retry.reason}",
            "PostHog at %s cannot take events now (%s); trying again.",
            self._host,
            retry.reason,
        )
        self._warned(route, said=said)

    def _halt(self, route: Route, outcome: Halted) -> None:
        self._halted_by = f"({outcome.reason}): {outcome.advice}"
        self._halted_until = self._clock() + HALT_SECONDS
        said = self._notices.warn(
            f"halted {outcome.reason}",
            "PostHog at %s takes no events %s. Nothing is sent for %d minutes, then it is tried again.",
            self._host,
            self._halted_by,
            HALT_SECONDS // 60,
        )
        self._warned(route, said=said)

    def _warned(self, route: Route, *, said: bool) -> None:
        if said or self._warned_of:  # what is said of one lane is not said of the other in the same minute
            self._warned_of.add(route.path)

    def _takes_again(self, route: Route) -> None:
        if route.path in self._warned_of:
            self._warned_of.discard(route.path)
            if not self._warned_of:
                self._notices.info("PostHog at %s takes events again.", self._host)

    def _hand_back(self, work: Iterable[list[EncodedEvent]], reason: str, report: Report) -> None:
        batch = [item for each in work for item in each]
        report.unsent.extend(batch)
        self._counters.losses("unsent", [item.name for item in batch], reason)

    def _refuse(self, batch: list[EncodedEvent], reason: str, advice: str, report: Report) -> None:
        report.refused.extend((item, reason) for item in batch)
        self._counters.losses("refused", [item.name for item in batch], reason)
        self._notices.warn(
            f"refused {reason}",
            "PostHog at %s refused %d events (%s): %s.",
            self._host,
            len(batch),
            reason,
            advice,
        )
