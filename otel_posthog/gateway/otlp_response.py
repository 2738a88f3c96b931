"""The bodies of answers to OTLP requests, in the content type of the request.

Source: opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response". A Collector that gets a 200 whose body it
cannot parse retries the whole request.
"""

from __future__ import annotations

import orjson
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_posthog.gateway.decode import JSON

__all__ = ["CODES", "accepted", "accepted_body", "rejection_body", "retry_info"]

# google.rpc.Code: what gRPC calls these HTTP statuses.
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 3, 415: 3, 429: 8, 503: 14}
_UNKNOWN = 2


def accepted(rejected: int, reason: str | None) -> ExportTraceServiceResponse:
    """Return the message for an accepted request, of which `rejected` spans were not."""
    if not rejected and reason is None:
        return ExportTraceServiceResponse()
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=reason or "")
    return ExportTraceServiceResponse(partial_success=partial)


def accepted_body(kind: str, rejected: int, reason: str | None, signal: str = "traces") -> bytes:
    """Return the same message as a body."""
    message = accepted(rejected, reason)
    if kind != JSON:
        return message.SerializeToString()
    if not message.HasField("partial_success"):
        return b"{}"
    # protobuf's JSON writes 64-bit integers as strings
    return orjson.dumps({"partialSuccess": {_REJECTED[signal]: str(rejected), "errorMessage": reason or ""}})


_REJECTED = {"traces": "rejectedSpans", "logs": "rejectedLogRecords", "metrics": "rejectedDataPoints"}
"""The count in the response to each signal. In protobuf all three are field 1, so one message serves them."""


def rejection_body(kind: str, status: int, sentence: str, retry_after: float | None = None) -> bytes:
    """Return a `google.rpc.Status`, whose message a Collector logs.

    In protobuf it may hold the seconds until a retry, for gRPC; over HTTP a header has them.
    """
    code = CODES.get(status, _UNKNOWN)
    if kind == JSON:
        return orjson.dumps({"code": code, "message": sentence})
    serialized = b"\x08%c%b" % (code, _field(2, sentence.encode()))
    if retry_after is None:
        return serialized
    pause = Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry_info(retry_after))
    return serialized + _field(3, pause.SerializeToString())


def retry_info(seconds: float) -> bytes:
    """Return a serialized `google.rpc.RetryInfo`."""
    pause = Duration()
    pause.FromMilliseconds(round(seconds * 1000))
    return _field(1, pause.SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, _varint(len(content)), content)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
