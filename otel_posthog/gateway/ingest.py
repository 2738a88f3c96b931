"""Spans of one project become events that are at PostHog or on disk before a request is acknowledged."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import orjson

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.delivery import EncodedEvent
from otel_posthog.forwarder import DeliveryReport, Forwarder, drain
from otel_posthog.gateway.trace_window import TraceWindow

__all__ = ["IngestResult", "ProjectIngest"]

RETRY_AFTER = 5.0
"""Seconds until a retry, if PostHog accepts nothing and asks for no pause."""
MAX_UNDELIVERED = 24 * 1024 * 1024
"""Bytes of events in delivery, above which no further request is converted."""


class IngestResult(NamedTuple):
    """The outcome of the spans of a request."""

    safe: bool
    """Whether every event is at PostHog, on disk, or rejected for good. If not, the sender retries all."""
    retry_after: float = 0.0
    """Seconds until a retry, unless safe."""
    spans: int = 0
    """GenAI spans that became events, or that the sender should retry."""
    rejected: int = 0
    """Spans that could not be converted, or of which PostHog rejected an event for good."""
    reason: str | None = None
    """One sentence, unless safe and nothing is rejected."""
    ignored: int = 0
    """Spans that are not GenAI spans."""


class ProjectIngest:
    """Ingests spans for one PostHog project. Safe to share by threads.

    One request is converted at a time, because threads share one interpreter; so only one request's spans are
    in memory. Requests are delivered in parallel.
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
        self.extra_attributes = forwarder.feature_attributes
        """Attributes of any span that the feature rules read."""
        self._window = TraceWindow(window_seconds, self.extra_attributes) if window_seconds else None
        self._on_duration = on_duration
        self._clock = clock
        self._converting = threading.Lock()
        self._delivered = threading.Condition()
        self._undelivered = 0
        self._paused_until = float("-inf")
        forwarder.watch_spool()

    def ingest(self, spans: Iterable[SpanView | ContextSpan]) -> IngestResult:
        """Convert and deliver the spans. An error that `spans` raises is passed on.

        The same spans again give the same events, by their uuid.
        """
        with self._converting:
            with self._delivered:  # while PostHog is slow, events would otherwise fill the memory
                self._delivered.wait_for(lambda: self._undelivered < MAX_UNDELIVERED)
            with self._timed("decode"):
                views, others = _split(spans)
            ignored = len(others)
            self.forwarder.count_spans(seen=len(views) + ignored, not_ours=ignored)
            if self._window is None:
                events, result = self._convert(views, others)
        if self._window is not None:
            others = self._window.above(views, others)
            with self._converting:
                events, result = self._convert(views, others)
        result = result._replace(ignored=ignored)
        if not events:
            return result
        size = sum(event.size for event in events)
        self._add_undelivered(size)
        try:
            with self._timed("deliver"):
                return self._deliver(events, result)
        finally:
            self._add_undelivered(-size)

    def _convert(
        self, views: list[SpanView], others: list[ContextSpan]
    ) -> tuple[list[EncodedEvent], IngestResult]:
        """Return the events of the views, and the result if they can be delivered."""
        count = len(views)
        with self._timed("convert"):
            events, failed = self.forwarder.convert(drain(views), others)
        reason = "spans could not be converted: please report this bug" if failed else None
        return events, IngestResult(safe=True, spans=count - failed, rejected=failed, reason=reason)

    def _add_undelivered(self, size: int) -> None:
        with self._delivered:
            self._undelivered += size
            self._delivered.notify_all()

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = self._clock()
        yield
        self._on_duration(part, self._clock() - began)

    @property
    def has_window(self) -> bool:
        """Whether the spans of one request matter to others."""
        return self._window is not None

    def close(self) -> None:
        """Let every request continue without waiting for spans: the gateway shuts down."""
        if self._window is not None:
            self._window.close()

    def _deliver(self, events: list[EncodedEvent], converted: IngestResult) -> IngestResult:
        if self.pause_left() and self.forwarder.keep(events):
            return converted
        if self.pause_left():
            return self._not_now(converted)
        report = self.forwarder.deliver(events, self.forwarder.timeout)
        if report.unsent:
            pause = self.forwarder.halted_for or RETRY_AFTER
            self._paused_until = self._clock() + pause
            if not report.safe:
                return self._not_now(converted)
        return _with_rejected(converted, report)

    def pause_left(self) -> float:
        """Return the seconds for which nothing is sent, because PostHog has just accepted nothing; else 0."""
        return max(self._paused_until - self._clock(), self.forwarder.halted_for, 0.0)

    def _not_now(self, converted: IngestResult) -> IngestResult:
        return IngestResult(
            safe=False,
            retry_after=max(self.pause_left(), 1.0),
            spans=converted.spans + converted.rejected,
            reason=f"{self._reason_not_now()}; send again later",
            ignored=converted.ignored,
        )

    def _reason_not_now(self) -> str:
        if self.forwarder.halted_for:
            return f"PostHog accepts no events {self.forwarder.halted_by}, and see the log of otel-posthog"
        if not self.forwarder.has_spool:
            return "PostHog accepts no events now, and there is no spool"
        return "PostHog accepts no events now, and the spool is full or unusable: see the log of otel-posthog"


def _split(spans: Iterable[SpanView | ContextSpan]) -> tuple[list[SpanView], list[ContextSpan]]:
    views: list[SpanView] = []
    others: list[ContextSpan] = []
    for span in spans:
        if isinstance(span, SpanView):
            views.append(span)
        else:
            others.append(span)
    return views, others


def _with_rejected(result: IngestResult, report: DeliveryReport) -> IngestResult:
    """Return the result with the spans of which PostHog rejected an event for good."""
    if not report.rejected:
        return result
    spans = {*_span_ids(event for event, _ in report.rejected)}
    reasons = ", ".join(sorted({reason for _, reason in report.rejected}))
    return result._replace(
        rejected=result.rejected + len(spans),
        reason=f"PostHog rejected {len(report.rejected)} events ({reasons})",
    )


def _span_ids(events: Iterable[EncodedEvent]) -> Iterator[str]:
    for event in events:
        properties = orjson.loads(event.data).get("properties", {})
        yield str(properties.get("$ai_span_id") or event.uuid)
