"""Log records in the bytes of an OTLP request, one at a time, as `otlp_stream` reads spans."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.proto.logs.v1 import logs_pb2

from otel_posthog.conversion.spans.log_record import LogRecord, event_name
from otel_posthog.conversion.spans.otlp_protobuf import otlp_attributes
from otel_posthog.conversion.spans.otlp_stream import LOG_RECORD, first_item, scoped_items
from otel_posthog.conversion.spans.span_view import MAX_SCOPE, Attributes

__all__ = ["holds_log_records", "records_of_bytes"]


def records_of_bytes(data: bytes) -> Iterator[LogRecord | None]:
    """Yield the log records of an encoded OTLP request (or `LogsData`); None for one of no concern.

    Raises:
        DecodeError: the bytes are no such request; raised when the place is reached.
    """
    for items, scope, resource in scoped_items(data, logs_pb2.LogRecord, LOG_RECORD):
        name = scope.name[:MAX_SCOPE] or None
        for record in items:
            yield _record(record, name, scope.version or None, resource)


_FIXED64 = 1
_TIME, _OBSERVED = 1, 11
"""Field numbers of a LogRecord's times. A span and a metric begin with a text or bytes."""


def holds_log_records(data: bytes) -> bool:
    """Whether an encoded request is of log records: outside of them, requests of all signals look alike."""
    return any(number in (_TIME, _OBSERVED) and kind == _FIXED64 for number, kind in first_item(data))


def _record(
    record: logs_pb2.LogRecord, scope: str | None, version: str | None, resource: Attributes
) -> LogRecord | None:
    attributes = otlp_attributes(record.attributes)
    body = otlp_attributes([_Body(record.body)])["body"]
    event = event_name(getattr(record, "event_name", ""), body, attributes, scope)
    if event is None:
        return None
    return LogRecord(
        event=event,
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
        trace_id=record.trace_id.hex() if record.trace_id.strip(b"\0") else "",
        span_id=record.span_id.hex() if record.span_id.strip(b"\0") else "",
        body=body,
        attributes=attributes,
        scope=scope,
        scope_version=version,
        resource=resource,
    )


class _Body:
    """The body as a pair, which is how values are read."""

    __slots__ = ("key", "value")

    def __init__(self, value: object) -> None:
        self.key, self.value = "body", value
