"""A log record as the view of a span: its time, its ids, and what went wrong."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from otel_posthog.conversion.spans.log_record import LogRecord, digest
from otel_posthog.conversion.spans.span_view import Attributes, SpanView

__all__ = ["MS", "duration_ns", "number_of", "time_of", "view_of_record"]

MS = 1_000_000
"""Nanoseconds."""
_LONGEST_MS = 86_400_000
"""The longest call or tool run that is believed: a day."""
_ROUNDING_NS = 2 * MS
"""Durations are whole milliseconds: so a record begins after its span, which is the outer one of the two."""
_MESSAGES = ("error.message", "error")


def view_of_record(
    record: LogRecord,
    *,
    name: str,
    attributes: Attributes,
    failed: bool = False,
    scope: str | None,
    start_ns: int | None = None,
) -> SpanView:
    """Return the view of a record, with ids derived from its content; it ends at the record's time."""
    end_ns = time_of(record)
    content = (
        *(record.event, end_ns, record.trace_id, record.span_id, record.body),
        sorted(record.attributes.items()),
    )
    if start_ns is None:
        start_ns = end_ns - duration_ns(record.attributes)
    if record.span_id:
        start_ns = min(start_ns + _ROUNDING_NS, end_ns)
    message = next((record.attributes[key] for key in _MESSAGES if record.attributes.get(key)), None)
    return SpanView(
        name=name,
        kind="CLIENT",
        trace_id=record.trace_id or digest("trace", *content, size=16),
        span_id=digest(*content),
        parent_id=record.span_id or None,
        start_ns=max(start_ns, 0),
        end_ns=end_ns,
        status="ERROR" if failed else "UNSET",
        status_message=message if failed and isinstance(message, str) else None,
        attributes=attributes,
        events=[],
        links=[],
        scope=scope,
        scope_version=record.scope_version,
        resource=record.resource,
    )


def time_of(record: LogRecord) -> int:
    """Return when the event happened: the CLIs write a time of their own, and Codex no other."""
    written = record.attributes.get("event.timestamp")
    if isinstance(written, str):
        try:
            moment = dt.datetime.fromisoformat(written.replace("Z", "+00:00"))
            since = moment - _EPOCH
        except (ValueError, TypeError, OverflowError):  # no time, or one without a zone
            return record.time_ns
        return max(since // _MICROSECOND * 1000, 0)
    return record.time_ns


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MICROSECOND = dt.timedelta(microseconds=1)


def duration_ns(attributes: Attributes) -> int:
    """Return how long the call or tool run took that the record reports."""
    milliseconds = number_of(attributes.get("duration_ms"))
    return int(milliseconds * MS) if milliseconds is not None and 0 <= milliseconds <= _LONGEST_MS else 0


def number_of(value: Any) -> float | None:
    """Return a number, also of a text: Claude Code and Codex write numbers as texts; None for all else."""
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 10**_MOST_DIGITS else None


_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_MOST_DIGITS = 15
