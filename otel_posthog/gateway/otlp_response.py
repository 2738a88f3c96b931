"""What OTLP says to a sender: bodies of answers in the content type of the request.

Source: opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response". A Collector that gets a 200 whose body it
cannot parse sends everything again.
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

__all__ = ["CODES", "accepted", "accepted_body", "refusal_body", "retry_info"]

# google.rpc.Code: what gRPC calls these HTTP statuses.
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 3, 415: 3, 429: 8, 503: 14}
_UNKNOWN = 2


def accepted(rejected: int, reason: str | None) -> ExportTraceServiceResponse:
    """The message of a request that was taken, but for so many spans."""
    if not rejected and reason is None:
        return ExportTraceServiceResponse()
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=reason or "")
    return ExportTraceServiceResponse(partial_success=partial)


def accepted_body(kind: str, rejected: int, reason: str | None) -> bytes:
    """The same as a body."""
    message = accepted(rejected, reason)
    if kind != JSON:
        return message.SerializeToString()
    if not message.HasField("partial_success"):
        return b"{}"
    # protobuf's JSON has 64-bit integers as texts
    return orjson.dumps({"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": reason or ""}})


def refusal_body(kind: str, status: int, sentence: str, retry_after: float | None = None) -> bytes:
    """A `google.rpc.Status`: the Collector writes its message into its log.

    In protobuf it also says after how many seconds to send again; over HTTP a header does.
    """
    code = CODES.get(status, _UNKNOWN)
    if kind == JSON:
        return orjson.dumps({"code": code, "message": sentence})
    found = b"\x08%c%b" % (code, _field(2, sentence.encode()))
    if retry_after is None:
        return found
    pause = Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry_info(retry_after))
    return found + _field(3, pause.SerializeToString())


def retry_info(seconds: float) -> bytes:
    """A `google.rpc.RetryInfo`."""
    pause = Duration()
    pause.FromMilliseconds(round(seconds * 1000))
    return _field(1, pause.SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, _varint(len(content)), content)


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
