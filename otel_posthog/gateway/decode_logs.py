"""Model calls out of the body of a request with log records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from otel_posthog.conversion.spans.log_calls import views_of_records
from otel_posthog.conversion.spans.log_record import LogContent, LogRecord
from otel_posthog.conversion.spans.otlp_logs import records_of_bytes
from otel_posthog.conversion.spans.otlp_logs_json import records_of_json
from otel_posthog.conversion.spans.otlp_stream import DecodeError
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.gateway.decode import JSON, MAX_VALUES, RejectedSpans, count_values, json_document
from otel_posthog.gateway.limits import RequestRejectedError

__all__ = ["DecodedLogs", "decode_logs"]


class DecodedLogs(NamedTuple):
    """The calls in a request of log records, and the number of records."""

    views: list[SpanView | LogContent]
    read: int
    """Records of a model call's events."""
    ignored: int
    """All other records: most of an application's."""


def decode_logs(content_type: str, body: bytes, rejected: RejectedSpans) -> DecodedLogs:
    """Return the calls in an OTLP request of log records; `rejected` counts the unreadable records.

    Raises:
        RequestRejectedError: the body is no OTLP request, or has too many values.
    """
    records: list[LogRecord] = []
    ignored, left = 0, MAX_VALUES
    try:
        for record in _records(content_type, body, rejected):
            if record is None:
                ignored += 1
                continue
            left -= count_values(record.attributes) + count_values({"": record.body})
            if left < 0:
                raise RequestRejectedError(
                    413,
                    f"the request has more than {MAX_VALUES:,} attributes: send fewer log records at once",
                )
            records.append(record)
    except (DecodeError, RecursionError) as error:
        raise RequestRejectedError(400, f"the body is no OTLP request in protobuf: {error}") from None
    return DecodedLogs([*views_of_records(records)], len(records), ignored)


def _records(content_type: str, body: bytes, rejected: RejectedSpans) -> Iterator[LogRecord | None]:
    if content_type == JSON:
        return records_of_json(json_document(body), rejected.add)
    return records_of_bytes(body)
