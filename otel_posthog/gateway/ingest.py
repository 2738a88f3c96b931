"""Spans become events, and the events are accepted by PostHog or on disk before anybody says yes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import orjson

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.delivery import EncodedEvent, Report
from otel_posthog.forwarder.forwarder import Forwarder
from otel_posthog.forwarder.span_converter import emptied
from otel_posthog.gateway.trace_window import TraceWindow

__all__ = ["IngestResult", "ProjectIngest"]

RETRY_AFTER = 5.0
"""Seconds, where PostHog does not take events and nobody knows for how long."""


MOST_UNDELIVERED = 24 * 1024 * 1024
"""Bytes of events that wait for PostHog while further requests are read."""


class IngestResult(NamedTuple):
    """What became of the spans of a request."""

    safe: bool
    """Every event that can ever be accepted is accepted by PostHog, or on disk. Else: send all again."""
    retry_after: float = 0.0
    """Seconds, where it is not safe."""
    spans: int = 0
    """Spans of concern that were made events, or are to be sent again."""
    rejected: int = 0
    """Spans that could not be converted, or of which PostHog refused an event for good."""
    reason: str | None = None
    """One sentence, where it is not safe or spans were rejected."""
    ignored: int = 0
    """Spans that are no concern of ours."""


class ProjectIngest:
    """Takes spans for one PostHog project. Safe to share by threads.

    Conversions go one after the other, since they share one interpreter: only one request's spans are in
    memory at a time. Sending goes side by side.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        *,
        window_seconds: float = 0.0,
        on_duration: Callable[[str, float], object] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the ingest of a project; calls wait up to `window_seconds` for their parent spans.

        `on_duration` is called with `decode`, `convert` and `deliver`, and the seconds that each took.
        """
        self.forwarder = forwarder
        features = forwarder.pipeline.features
        self.extra_attributes: frozenset[str] = frozenset() if features is None else features.names
        """Attributes of any span that the rules for features ask for."""
        self._window = TraceWindow(window_seconds, self.extra_attributes) if window_seconds else None
        self._on_duration = on_duration
        self._clock = clock
        self._converting = threading.Lock()
        self._delivered = threading.Condition()
        self._undelivered = 0
        self._rests_until = float("-inf")
        forwarder.outbox.watch()

    def ingest(self, spans: Iterable[SpanView | ContextSpan]) -> IngestResult:
        """Have the events of the spans accepted or stored; what `spans` raises goes through.

        The same spans again give the same events, by their uuid.
        """
        with self._converting:
            with self._delivered:  # else a slow PostHog would have us fill the memory with events
                self._delivered.wait_for(lambda: self._undelivered < MOST_UNDELIVERED)
            with self._timed("decode"):
                views, others = _parted(spans)
            ignored = len(others)
            self.forwarder.conversion.count("seen", len(views) + ignored)
            self.forwarder.conversion.count("not ours", ignored)
            if self._window is None:
                items, answer = self._converted(views, others)
        if self._window is not None:
            others = self._window.above(views, others)
            with self._converting:
                items, answer = self._converted(views, others)
        answer = answer._replace(ignored=ignored)
        if not items:
            return answer
        size = sum(item.size for item in items)
        self._wait_for_delivery(size)
        try:
            with self._timed("deliver"):
                return self._sent(items, answer)
        finally:
            self._wait_for_delivery(-size)

    def _converted(
        self, views: list[SpanView], others: list[ContextSpan]
    ) -> tuple[list[EncodedEvent], IngestResult]:
        """The events of the views, and the answer if they can be delivered."""
        conversion = self.forwarder.conversion
        count = len(views)
        with self._timed("convert"):
            failed = self._failures()
            items = [
                EncodedEvent.of_event(event) for event in conversion.finished(emptied(views), others=others)
            ]
            failed = self._failures() - failed
        reason = "spans could not be converted: please report this" if failed else None
        return items, IngestResult(safe=True, spans=count - failed, rejected=failed, reason=reason)

    def _wait_for_delivery(self, size: int) -> None:
        with self._delivered:
            self._undelivered += size
            self._delivered.notify_all()

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = self._clock()
        yield
        self._on_duration(what, self._clock() - began)

    @property
    def remembers(self) -> bool:
        """Whether what one request brings is of use to another."""
        return self._window is not None

    def close(self) -> None:
        """Let no request wait for spans any more: the gateway ends."""
        if self._window is not None:
            self._window.close()

    def _failures(self) -> int:
        failures: int = self.forwarder.conversion.stats()["spans"]["failed to convert"]
        return failures

    def _sent(self, items: list[EncodedEvent], converted: IngestResult) -> IngestResult:
        outbox = self.forwarder.outbox
        if self.rests_for() and outbox.keep(items):
            return converted
        if self.rests_for():
            return self._not_now(converted)
        safe, report = outbox.attempt(items, self.forwarder.config.timeout)
        if report.unsent:
            pause = self.forwarder.delivery.halted_for() or RETRY_AFTER
            self._rests_until = self._clock() + pause
            if not safe:
                return self._not_now(converted)
        return _with_refused(converted, report)

    def rests_for(self) -> float:
        """Seconds for which PostHog is not asked, since it did not take events a moment ago."""
        return max(self._rests_until - self._clock(), self.forwarder.delivery.halted_for(), 0.0)

    def _not_now(self, converted: IngestResult) -> IngestResult:
        return IngestResult(
            safe=False,
            retry_after=max(self.rests_for(), 1.0),
            spans=converted.spans + converted.rejected,
            reason=f"{self._why_not_now()}; send again later",
            ignored=converted.ignored,
        )

    def _why_not_now(self) -> str:
        delivery = self.forwarder.delivery
        if delivery.halted_for():
            return f"PostHog takes no events {delivery.halted_by()}, and see the log of otel-posthog"
        if not self.forwarder.backlog.is_there:
            return "PostHog does not take events now, and there is no spool"
        return (
            "PostHog does not take events now, and the spool is full or unusable: see the log of otel-posthog"
        )


def _parted(spans: Iterable[SpanView | ContextSpan]) -> tuple[list[SpanView], list[ContextSpan]]:
    views: list[SpanView] = []
    others: list[ContextSpan] = []
    for span in spans:
        if isinstance(span, SpanView):
            views.append(span)
        else:
            others.append(span)
    return views, others


def _with_refused(answer: IngestResult, report: Report) -> IngestResult:
    """The answer, where PostHog refused events for good: it is not asked again, and says so."""
    if not report.refused:
        return answer
    spans = {*_span_ids(item for item, _ in report.refused)}
    why = ", ".join(sorted({reason for _, reason in report.refused}))
    return answer._replace(
        rejected=answer.rejected + len(spans), reason=f"PostHog refused {len(report.refused)} events ({why})"
    )


def _span_ids(items: Iterable[EncodedEvent]) -> Iterator[str]:
    for item in items:
        properties = orjson.loads(item.data).get("properties", {})
        yield str(properties.get("$ai_span_id") or item.uuid)
