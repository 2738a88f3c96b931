"""Spans out of the body of a request; a malformed body is rejected, an unreadable span is counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from otel_posthog.conversion.spans.otlp_json import count_spans, views_of_json_request
from otel_posthog.conversion.spans.otlp_stream import DecodeError, views_of_request_bytes
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.gateway.limits import RequestRejectedError
from otel_posthog.runtime.decompression import CODECS, BrokenBodyError, TooMuchError, inflate

__all__ = [
    "JSON",
    "PROTOBUF",
    "READERS",
    "RejectedSpans",
    "count_values",
    "json_document",
    "plain_body",
    "spans_of",
]

PROTOBUF, JSON = "application/x-protobuf", "application/json"

MAX_VALUES = 1_000_000
"""Attributes, events, links and members of lists in one request: a Collector's default batch has 200,000."""
MAX_JSON_MEMBERS = 1_500_000
"""Members, objects and lists in a JSON body: 8,192 spans of 18 attributes have 700,000."""
# Also a string without an end: each quote in it would otherwise begin another one.
_STRING = re.compile(rb'"[^"]*(?:"|\Z)')
_ZEROS = "0" * 32


class RejectedSpans:
    """The number of spans of a request that are rejected, and the first reason."""

    def __init__(self) -> None:
        self.count = 0
        self.reason: str | None = None

    def add(self, reason: str, count: int = 1) -> None:
        """Count rejected spans."""
        self.count += count
        self.reason = self.reason or reason


def plain_body(body: bytes, encoding: str, ceiling: int) -> bytes:
    """Return the body without its Content-Encoding.

    Raises:
        RequestRejectedError: the encoding is unknown, the body is damaged, or larger than `ceiling` bytes.
    """
    if encoding in ("", "identity"):
        return body
    codec = CODECS.get(encoding)
    if codec is None:
        raise RequestRejectedError(
            415, f"Content-Encoding {encoding[:40]!r} is not one of {', '.join(CODECS)}"
        )
    try:
        return inflate(codec, body, ceiling, every_part=True)
    except TooMuchError as error:
        raise RequestRejectedError(413, f"{error}: lower the sender's send_batch_max_size") from None
    except BrokenBodyError as error:
        raise RequestRejectedError(400, str(error)) from None


def spans_of(
    kind: str, body: bytes, extra_attributes: frozenset[str], rejected: RejectedSpans
) -> Iterator[SpanView | ContextSpan]:
    """Yield a `SpanView` per GenAI span and a `ContextSpan` for the rest of an OTLP request.

    A context span keeps the attributes that are inherited, and `extra_attributes`. Unreadable spans are
    skipped and recorded in `rejected`.

    Raises:
        RequestRejectedError: the body is no OTLP request, or has too many values; after the spans before it.
    """
    spans = READERS[kind](body, extra_attributes, rejected)
    del body  # its memory is freed when its last span is read
    try:
        yield from _checked(spans, rejected)
    except (DecodeError, RecursionError) as error:
        raise RequestRejectedError(400, f"the body is no OTLP request in protobuf: {error}") from None


def _of_protobuf(
    body: bytes, extra_attributes: frozenset[str], _: RejectedSpans
) -> Iterator[SpanView | ContextSpan]:
    return views_of_request_bytes(body, extra_attributes)


def _of_json(
    body: bytes, extra_attributes: frozenset[str], rejected: RejectedSpans
) -> Iterator[SpanView | ContextSpan]:
    document = json_document(body)
    reasons: list[str] = []
    read = 0
    for read, span in enumerate(views_of_json_request(document, reasons.append, extra_attributes), 1):  # noqa: B007  # at the end
        yield span
    if reasons:  # one reason may apply to all spans of a resource
        rejected.add(reasons[0], max(count_spans(document) - read, 1))


def json_document(body: bytes) -> dict[str, Any]:
    """Return a JSON body, parsed.

    Raises:
        RequestRejectedError: the body is no object, or has too many members.
    """
    if _punctuation(body) > MAX_JSON_MEMBERS and _has_too_many_members(body):
        raise RequestRejectedError(
            413, f"the body has more than {MAX_JSON_MEMBERS:,} members: send fewer spans at once"
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRejectedError(400, f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise RequestRejectedError(400, "the body is no OTLP request: it is not an object")
    return document


def _has_too_many_members(body: bytes) -> bool:
    """Whether the body has too many members outside of strings, or more strings than they could hold."""
    body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    return (
        body.count(b'"') > 4 * (MAX_JSON_MEMBERS + 1)
        or _punctuation(_STRING.sub(b"", body)) > MAX_JSON_MEMBERS
    )


def _punctuation(text: bytes) -> int:
    """Return the number of commas and opening brackets: a bound for members, objects and lists."""
    return sum(map(text.count, (b",", b"{", b"[")))


READERS: dict[str, Callable[[bytes, frozenset[str], RejectedSpans], Iterator[SpanView | ContextSpan]]] = {
    PROTOBUF: _of_protobuf,
    JSON: _of_json,
}
"""By content type."""


def _checked(
    spans: Iterable[SpanView | ContextSpan], rejected: RejectedSpans
) -> Iterator[SpanView | ContextSpan]:
    """Yield the spans, without GenAI spans that have no ids: their events would share one uuid."""
    left = MAX_VALUES
    for span in spans:
        if isinstance(span, SpanView):
            left -= count_values(span.attributes)
            if span.events or span.links:
                left -= len(span.links) + sum(1 + count_values(event.attributes) for event in span.events)
            if left < 0:
                raise RequestRejectedError(
                    413, f"the request has more than {MAX_VALUES:,} attributes: send fewer spans at once"
                )
            if not (_is_id(span.trace_id, 32) and _is_id(span.span_id, 16)):
                rejected.add("a span has no trace id or span id")
                continue
        yield span


def _is_id(text: str, digits: int) -> bool:
    return len(text) == digits and text != _ZEROS[:digits]


def count_values(value: Any) -> int:
    """Return the number of values in a dict or list, nested ones included."""
    count = len(value)
    for inner in value.values() if type(value) is dict else value:
        if type(inner) is dict or type(inner) is list:
            count += count_values(inner)
    return count
