"""A request by any protocol to its answer: inflated, read, for its project, taken, and counted."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.gateway.decode import RejectedSpans, plain_body, spans_of
from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.limits import Budget, Limits, RequestRejectedError, Reservation
from otel_posthog.gateway.projects import Projects
from otel_posthog.runtime.log import RateLimitedLog

__all__ = ["OtlpRequest", "RequestHandler"]

_log = logging.getLogger("otel_posthog.gateway")
_OUTCOMES = ("accepted", "handed back", "rejected", "ignored")


@dataclass(slots=True)
class OtlpRequest:
    """An OTLP request, whatever brought it."""

    kind: str
    """Content type, one of `decode.READERS`."""
    body: bytes
    encoding: str
    """Content-Encoding; empty: none."""
    headers: Mapping[str, str]
    """By name in lower case; gRPC's metadata."""
    peer: str
    """The address that it came from, for the log."""

    def release(self) -> bytes:
        """The body, which whoever asked has alone from now on: it goes before the events are sent."""
        body, self.body = self.body, b""
        return body


class RequestHandler:
    """Takes requests. Safe to share by threads."""

    def __init__(self, projects: Projects, limits: Limits = Limits()) -> None:  # noqa: B008  # immutable
        self.projects = projects
        self.limits = limits
        self.budget = Budget(limits.in_flight)
        self._lock = threading.Lock()
        self._notices = RateLimitedLog(time.monotonic)
        self._requests: Counter[tuple[str, str]] = Counter()
        self._spans = Counter(dict.fromkeys(_OUTCOMES, 0))

    def handle(self, request: OtlpRequest, reservation: Reservation) -> IngestResult:
        """Return the result for the spans of the request; what it inflates to is added to `reservation`.

        Raises:
            RequestRejectedError: the request cannot be read, is too large, or there is no room for it now.
        """
        rejected = RejectedSpans()
        spans = self._read(request, reservation, rejected)
        try:
            answer = self.projects.ingest(request.headers, spans, rejected)
        except RequestRejectedError:
            raise
        except Exception as error:  # noqa: BLE001  # a fault of ours: a Collector drops on 500, so not that
            _log.exception("a request could not be taken: please report this")
            raise RequestRejectedError(
                503, f"a fault of the gateway ({type(error).__name__})", retry_after=30
            ) from None
        with self._lock:
            self._spans["accepted" if answer.safe else "handed back"] += answer.spans
            self._spans["ignored"] += answer.ignored
            self._spans["rejected"] += answer.rejected + rejected.count
        if rejected.count:
            answer = answer._replace(rejected=answer.rejected + rejected.count, reason=rejected.reason)
        if answer.rejected:
            self._notices.warn(
                f"rejected {request.peer}",
                "%d spans from %s were rejected: %s",
                answer.rejected,
                request.peer,
                answer.reason,
            )
        return answer

    def _read(
        self, request: OtlpRequest, reservation: Reservation, rejected: RejectedSpans
    ) -> Iterator[SpanView | ContextSpan]:
        """The spans of the request, which is inflated when the first is asked for: its turn has come."""
        yield from spans_of(
            request.kind, self._plain(request, reservation), self.projects.extra_attributes, rejected
        )

    def _plain(self, request: OtlpRequest, reservation: Reservation) -> bytes:
        packed = request.release()
        body = plain_body(packed, request.encoding, self.limits.body)
        if body is not packed:
            reservation.grow(len(body))
        return body

    def refused(self, refusal: RequestRejectedError, peer: str) -> None:
        """Say once a minute that a request was refused for good: its sender may drop it without a word."""
        if refusal.retry_after is None:
            self._notices.warn(
                f"{refusal.status} {peer}",
                "Spans from %s were refused (%d), and may be lost: %s.",
                peer,
                refusal.status,
                refusal,
            )

    def answered(self, protocol: str, status: str) -> None:
        """Count an answer by its protocol, `http` or `grpc`, and its status there."""
        with self._lock:
            self._requests[protocol, status] += 1

    def stats(self) -> dict[str, dict[Any, int]]:
        """What became of requests and spans.

        `requests` by protocol and status; `spans` accepted, handed back (to be sent again),
        rejected, and ignored since they are no concern of ours; `bytes` of requests that are worked on.
        """
        with self._lock:
            return {
                "requests": dict(self._requests),
                "spans": dict(self._spans),
                "bytes": {"in_flight": self.budget.used, "limit": self.budget.limit},
            }
