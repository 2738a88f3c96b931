"""The body of a request becomes spans; what cannot be read is refused, or counted and said."""

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

__all__ = ["JSON", "PROTOBUF", "READERS", "RejectedSpans", "plain_body", "spans_of"]

PROTOBUF, JSON = "application/x-protobuf", "application/json"

MAX_PARTS = 1_000_000
"""Attributes, events, links and members of lists in one request: a Collector's default batch has 200,000."""
MAX_MARKS = 1_500_000
"""Members, objects and lists in a JSON body: 8,192 spans of 18 attributes have 700,000."""
_TEXT = re.compile(rb'"[^"]*(?:"|\Z)')  # also one without an end: else each quote in it would begin one
_ZEROS = "0" * 32


class RejectedSpans:
    """Spans of a request that could not be read: how many, and the first reason."""

    def __init__(self) -> None:
        self.count = 0
        self.reason: str | None = None

    def add(self, reason: str, count: int = 1) -> None:
        """Count spans that could not be read for a reason."""
        self.count += count
        self.reason = self.reason or reason


def plain_body(body: bytes, encoding: str, ceiling: int) -> bytes:
    """The body without its Content-Encoding.

    Raises:
        RequestRejectedError: there is no such encoding here, it is damaged, or larger than `ceiling` bytes.
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
    """All spans in an OTLP request of a content type; views of those of concern.

    Of the others the attributes that are handed down are kept, and these `extra_attributes`. What cannot be
    read is left out and told `rejected`.

    Raises:
        RequestRejectedError: it is no OTLP request, or has too many parts; raised when the place is reached.
    """
    spans = READERS[kind](body, extra_attributes, rejected)
    del body  # it goes when its last span is read
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
    if _marks(body) > MAX_MARKS and _has_too_many_marks(body):
        raise RequestRejectedError(
            413, f"the body has more than {MAX_MARKS:,} members: send fewer spans at once"
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRejectedError(400, f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise RequestRejectedError(400, "the body is no OTLP request: it is not an object")
    reasons: list[str] = []
    read = 0
    for read, span in enumerate(views_of_json_request(document, reasons.append, extra_attributes), 1):  # noqa: B007  # at the end
        yield span
    if reasons:  # one reason may stand for all spans of a resource
        rejected.add(reasons[0], max(count_spans(document) - read, 1))


def _has_too_many_marks(body: bytes) -> bool:
    """Whether it has too many marks outside of texts, or more texts than could be between the marks."""
    body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    return body.count(b'"') > 4 * (MAX_MARKS + 1) or _marks(_TEXT.sub(b"", body)) > MAX_MARKS


def _marks(text: bytes) -> int:
    """What separates members, and opens objects and lists."""
    return sum(map(text.count, (b",", b"{", b"[")))


READERS: dict[str, Callable[[bytes, frozenset[str], RejectedSpans], Iterator[SpanView | ContextSpan]]] = {
    PROTOBUF: _of_protobuf,
    JSON: _of_json,
}
"""By content type."""


def _checked(
    spans: Iterable[SpanView | ContextSpan], rejected: RejectedSpans
) -> Iterator[SpanView | ContextSpan]:
    """The spans, without those of concern that have no ids: their events could not be told apart."""
    left = MAX_PARTS
    for span in spans:
        if isinstance(span, SpanView):
            left -= _parts(span.attributes)
            if span.events or span.links:
                left -= len(span.links) + sum(1 + _parts(event.attributes) for event in span.events)
            if left < 0:
                raise RequestRejectedError(
                    413, f"the request has more than {MAX_PARTS:,} attributes: send fewer spans at once"
                )
            if not (_is_id(span.trace_id, 32) and _is_id(span.span_id, 16)):
                rejected.add("a span has no trace id or span id")
                continue
        yield span


def _is_id(text: str, digits: int) -> bool:
    return len(text) == digits and text != _ZEROS[:digits]


def _parts(value: Any) -> int:
    """How many values are in a dict or list and in those within it."""
    count = len(value)
    for inner in value.values() if type(value) is dict else value:
        if type(inner) is dict or type(inner) is list:
            count += _parts(inner)
    return count
