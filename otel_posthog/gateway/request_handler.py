"""A request of either protocol becomes an answer: inflated, decoded, ingested for its project, counted."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from otel_posthog.conversion.spans.log_contents import LogContents
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.gateway.decode import RejectedSpans, plain_body, spans_of
from otel_posthog.gateway.decode_logs import decode_logs
from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.limits import Budget, Limits, RequestRejectedError, Reservation
from otel_posthog.gateway.projects import Projects
from otel_posthog.runtime.log import RateLimitedLog

__all__ = ["SIGNALS", "OtlpRequest", "RequestHandler"]

SIGNALS = ("traces", "logs", "metrics")

_log = logging.getLogger("otel_posthog.gateway")
_OUTCOMES = ("accepted", "handed back", "rejected", "ignored")


@dataclass(slots=True)
class OtlpRequest:
    """An OTLP request over HTTP or gRPC."""

    content_type: str
    """One of `decode.READERS`."""
    body: bytes
    encoding: str
    """Content-Encoding; empty if there is none."""
    headers: Mapping[str, str]
    """By name in lower case; over gRPC its metadata."""
    peer: str
    """The sender's address, for the log."""
    signal: str = "traces"
    """One of `SIGNALS`."""

    def pop_body(self) -> bytes:
        """Return the body and forget it, so that its memory is freed before the events are sent."""
        body, self.body = self.body, b""
        return body


class RequestHandler:
    """Answers requests. Safe to share by threads."""

    def __init__(self, projects: Projects, limits: Limits = Limits()) -> None:  # noqa: B008  # immutable
        self.projects = projects
        self.limits = limits
        self.budget = Budget(limits.in_flight)
        self._lock = threading.Lock()
        self._notices = RateLimitedLog(time.monotonic)
        self._requests: Counter[tuple[str, str]] = Counter()
        self._spans = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._signals = Counter(dict.fromkeys(SIGNALS, 0))
        self._log_records = Counter({"read": 0, "ignored": 0})
        self._log_contents = LogContents()

    def handle(self, request: OtlpRequest, reservation: Reservation) -> IngestResult:
        """Return the result for the spans of the request.

        `reservation` has the bytes of the body already; those of the inflated body are added.

        Raises:
            RequestRejectedError: the request cannot be read, is too large, or there is no room for it now.
        """
        if request.signal == "metrics":  # accepted and ignored, so that one Collector may send all signals
            request.pop_body()
            self._count_accepted(request.signal)
            return IngestResult(safe=True)
        rejected = RejectedSpans()
        read = self._read_logs if request.signal == "logs" else self._read
        spans = read(request, reservation, rejected)
        try:
            result = self.projects.ingest(request.headers, spans, rejected)
        except RequestRejectedError:
            raise
        except Exception as error:  # noqa: BLE001  # our bug; after a 500 a Collector would drop
            _log.exception("a request could not be handled: please report this bug")
            raise RequestRejectedError(
                503, f"a bug in the gateway ({type(error).__name__})", retry_after=30
            ) from None
        if result.safe:
            self._count_accepted(request.signal)
        with self._lock:
            self._spans["accepted" if result.safe else "handed back"] += result.spans
            self._spans["ignored"] += result.ignored
            self._spans["rejected"] += result.rejected + rejected.count
        if rejected.count:
            result = result._replace(rejected=result.rejected + rejected.count, reason=rejected.reason)
        if result.rejected:
            self._notices.warn(
                f"rejected {request.peer}",
                "Rejected %d spans from %s: %s.",
                result.rejected,
                request.peer,
                result.reason,
            )
        return result

    def _read(
        self, request: OtlpRequest, reservation: Reservation, rejected: RejectedSpans
    ) -> Iterator[SpanView | ContextSpan]:
        """Yield the spans of the request; the body is inflated when the first span is needed."""
        for span in spans_of(
            request.content_type,
            self._plain_body(request, reservation),
            self.projects.extra_attributes,
            rejected,
        ):
            yield self._with_content(span, request) if isinstance(span, SpanView) else span

    def _with_content(self, span: SpanView, request: OtlpRequest) -> SpanView:
        """Return the span with the content of its call, if that arrived in log records."""
        if not self._log_contents:
            return span
        owner = self.projects.owner(request.headers, span.resource)
        with self._lock:
            return self._log_contents.joined(span, time.monotonic(), owner)

    def _read_logs(
        self, request: OtlpRequest, reservation: Reservation, rejected: RejectedSpans
    ) -> Iterator[SpanView | ContextSpan]:
        """Yield the calls in the log records of the request; keep content that belongs to spans for those."""
        logs = decode_logs(request.content_type, self._plain_body(request, reservation), rejected)
        now = time.monotonic()
        with self._lock:
            self._log_records["read"] += logs.read
            self._log_records["ignored"] += logs.ignored
            for item in logs.views:
                if isinstance(item, LogContent):
                    owner = self.projects.owner(request.headers, item.resource)
                    self._log_contents.remember(item, now, owner)
        yield from (item for item in logs.views if isinstance(item, SpanView))

    def _count_accepted(self, signal: str) -> None:
        with self._lock:
            self._signals[signal] += 1

    def _plain_body(self, request: OtlpRequest, reservation: Reservation) -> bytes:
        packed = request.pop_body()
        body = plain_body(packed, request.encoding, self.limits.body)
        if body is not packed:
            reservation.grow(len(body))
        return body

    def log_rejection(self, error: RequestRejectedError, peer: str) -> None:
        """Log once a minute that a request was rejected for good, because its sender may drop it silently."""
        if error.retry_after is None:
            self._notices.warn(
                f"{error.status} {peer}",
                "Rejected a request from %s with %d; its spans may be lost: %s.",
                peer,
                error.status,
                error,
            )

    def count_answer(self, protocol: str, status: str) -> None:
        """Count an answer by its protocol, `http` or `grpc`, and its status there."""
        with self._lock:
            self._requests[protocol, status] += 1

    def stats(self) -> dict[str, dict[Any, int]]:
        """Return the counts of requests and spans.

        `requests` by protocol and status; `spans` accepted, handed back (to be retried), rejected, and
        ignored because they are no GenAI spans; accepted requests by signal in `signals`; `log_records` read
        for calls, and ignored; `bytes` of the requests in flight.
        """
        with self._lock:
            return {
                "requests": dict(self._requests),
                "spans": dict(self._spans),
                "signals": dict(self._signals),
                "log_records": dict(self._log_records),
                "bytes": {"in_flight": self.budget.used, "limit": self.budget.limit},
            }
