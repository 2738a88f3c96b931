"""A batch to its end: delivered, cut, halved until the culprit stands alone, or handed back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otel_posthog.delivery.lanes import AI, Lane, Lanes
from otel_posthog.delivery.outcome import Delivered, Outcome, Refused, Retry, TooLarge, judge
from otel_posthog.delivery.retry import GaveUp, Retrying
from otel_posthog.delivery.transport import Transport, TransportError
from otel_posthog.delivery.wire import V0Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from otel_posthog.delivery.batch import Item
    from otel_posthog.delivery.counters import Counters
    from otel_posthog.delivery.notices import Notices
    from otel_posthog.delivery.options import DeliveryOptions


@dataclass(slots=True)
class Report:
    """What became of the events of one `deliver`; every event is in exactly one place."""

    delivered: int = 0
    """How many PostHog accepted."""
    refused: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    """Events PostHog will never accept, each with the reason: `invalid`, `too_large` or `status_<code>`."""
    unsent: list[dict[str, Any]] = field(default_factory=list)
    """Events to send again later: the deadline came, or the delivery was closed.

    PostHog may have some of them (an answer that got lost); uuid and timestamp make a second sending the same
    event.
    """

    @property
    def complete(self) -> bool:
        """True if PostHog accepted every event."""
        return not self.refused and not self.unsent


class Sender:
    """Sends batches over one wire and sees each event to its end."""

    def __init__(
        self,
        options: DeliveryOptions,
        *,
        transport: Transport,
        retrying: Retrying,
        lanes: Lanes,
        counters: Counters,
        notices: Notices,
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._transport = transport
        self._retrying = retrying
        self._lanes = lanes
        self._counters = counters
        self._notices = notices
        self._now = now
        self._wire = V0Wire(options)
        self._host = urlsplit(options.endpoint).hostname or "the endpoint"

    def send(self, lane: Lane, work: list[list[Item]], deadline: float, report: Report) -> None:
        """Send the batches of `work` by `lane` and note in `report` what became of each event.

        413 and 400 halve the batch, so the others are accepted once, in a batch without the culprit.
        Once there is no time left, the rest is handed back without an attempt.
        """
        work = [*reversed(work)]
        while work:
            batch = work.pop()
            route = self._standing_in(lane, batch)
            outcome = self._retrying.run(
                partial(self._attempt, route, batch),
                deadline,
                partial(self._waiting, batch),
            )
            if isinstance(outcome, Delivered):
                report.delivered += len(batch)
                self._counters.events("delivered", [item.name for item in batch])
            elif isinstance(outcome, GaveUp):
                self._hand_back([batch, *reversed(work)], outcome, report)
                return
            elif isinstance(outcome, Refused):
                if outcome.status == 404 and route is AI:
                    self._lanes.ai_is_missing()
                    work.append(batch)
                else:
                    self._refuse(batch, outcome.reason, outcome.advice, report)
            elif len(batch) > 1:
                middle = len(batch) // 2
                work += [batch[middle:], batch[:middle]]
            elif isinstance(outcome, TooLarge) and self._halve(batch[0]):
                work.append(batch)
            elif isinstance(outcome, TooLarge):
                self._refuse(batch, "too_large", "lower max_event_bytes", report)
            else:
                self._refuse(
                    batch, "invalid", "the event itself is at fault, others are not affected", report
                )

    def _attempt(self, lane: Lane, batch: list[Item], left: float) -> Outcome:
        body, size = self._wire.body(batch, self._now())
        self._counters.request(size, len(body))
        try:
            answer = self._transport.post(
                self._options.endpoint + lane.path, body, self._wire.headers, min(self._options.timeout, left)
            )
        except TransportError as error:
            return Retry(None, str(error))
        return judge(answer.status, answer.headers, answer.body, self._now())

    def _standing_in(self, lane: Lane, batch: list[Item]) -> Lane:
        current = self._lanes.current(lane)
        if current is not lane:
            for item in batch:
                self._recut(item, current)
        return current

    def _recut(self, item: Item, lane: Lane) -> None:
        whole = not item.cut
        item.fit_lane(lane, self._options.max_event_bytes)
        if whole and item.cut:
            self._counters.events("cut", [item.name])

    def _halve(self, item: Item) -> bool:
        whole = not item.cut
        halved = item.halve()
        if whole and halved:
            self._counters.events("cut", [item.name])
        return halved

    def _waiting(self, batch: list[Item], retry: Retry) -> None:
        self._counters.events("retried", [item.name for item in batch])
        self._notices.warn(
            f"retry {retry.reason}",
            "PostHog at %s cannot take events now (%s); trying again.",
            self._host,
            retry.reason,
        )

    def _hand_back(self, work: list[list[Item]], outcome: GaveUp, report: Report) -> None:
        batch = [item for each in work for item in each]
        report.unsent.extend(item.event for item in batch)
        self._counters.losses("unsent", [item.name for item in batch], outcome.reason)
        if outcome.reason == "deadline":
            self._notices.warn(
                "deadline",
                "PostHog at %s took no events in the time allowed; check the connection, or allow more time.",
                self._host,
            )

    def _refuse(self, batch: list[Item], reason: str, advice: str, report: Report) -> None:
        report.refused.extend((item.event, reason) for item in batch)
        self._counters.losses("refused", [item.name for item in batch], reason)
        self._notices.warn(
            f"refused {reason}",
            "PostHog at %s refused %d events (%s): %s.",
            self._host,
            len(batch),
            reason,
            advice,
        )
