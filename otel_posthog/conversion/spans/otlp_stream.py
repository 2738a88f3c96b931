"""Spans in the bytes of an OTLP request, one at a time.

This module finds the bytes of each span itself, so that at most one span is held as protobuf: a request of
many spans, or of empty messages only, takes no memory but its own bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_posthog.conversion.spans.otlp_protobuf import otlp_attributes, views_of_spans
from otel_posthog.conversion.spans.span_view import Attributes, ContextSpan, SpanView

__all__ = ["LOG_RECORD", "DecodeError", "first_item", "scoped_items", "views_of_request_bytes"]


MAX_SPANS = 200_000
"""Spans in one request: a Collector's default batch has 8,192."""
MAX_FIELDS = 500_000
"""Fields of a request around its spans: seven a span if each comes with a resource of its own."""
MAX_PARTS = 200_000
"""Fields of one span and of the messages in it, four an attribute: OpenTelemetry's SDKs keep 128 of those."""
MAX_DEPTH = 100
"""Levels of nested messages: protobuf's own limit."""
SMALL = 1024 * 1024
"""Bytes up to which a message is harmless; the parts of a larger one are counted before it is read."""

# opentelemetry-proto: field numbers of TracesData/ExportTraceServiceRequest, ResourceSpans and ScopeSpans.
_RESOURCE_SPANS = 1
_OWNER, _BELOW = 1, 2
"""In a ResourceSpans its resource and its scopes; in a ScopeSpans its scope and its spans."""

_Shape = dict[int, Any]
"""The shape of each field that is a message, by its number."""
_PAIR: _Shape = {}
_VALUE: _Shape = {5: {}, 6: {1: _PAIR}}
_VALUE[5][1] = _VALUE
_PAIR[2] = _VALUE
_SPAN: _Shape = {9: _PAIR, 11: {3: _PAIR}, 13: {4: _PAIR}}
LOG_RECORD: _Shape = {5: _VALUE, 6: _PAIR}
_OWNERS: dict[Any, _Shape] = {Resource: {1: _PAIR, 3: {}}, InstrumentationScope: {3: _PAIR}}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def views_of_request_bytes(
    data: bytes, extra_attributes: frozenset[str] = frozenset()
) -> Iterator[SpanView | ContextSpan]:
    """Yield the spans of an encoded OTLP request (or `TracesData`), as `otlp_protobuf.views_of_request` does.

    Raises:
        DecodeError: the bytes are no such request; raised after the spans before the fault.
    """
    for spans, scope, resource in scoped_items(data, Span, _SPAN):
        yield from views_of_spans(spans, scope, resource, extra_attributes)


def scoped_items(
    data: bytes, item: Any, shape: _Shape
) -> Iterator[tuple[Iterator[Any], InstrumentationScope, Attributes]]:
    """Yield the items of each scope of an encoded request, with the scope and its resource's attributes.

    Requests of spans and of log records are built alike; `item` is the class of what is in them.
    """
    left = MAX_SPANS
    budget = iter(range(MAX_FIELDS))
    for number, start, end in _fields(data, 0, len(data), budget):
        if number != _RESOURCE_SPANS:
            continue
        resource, scopes = _owner_and_below(data, start, end, Resource, budget)
        resource_attributes = otlp_attributes(resource.attributes)  # once, however many scopes there are
        for scope_start, scope_end in scopes:
            scope, extents = _owner_and_below(data, scope_start, scope_end, InstrumentationScope, budget)
            left -= len(extents)
            if left < 0:
                raise DecodeError(f"a request may have {MAX_SPANS:,} spans at most")
            items = (item.FromString(_checked(data, *extent, shape)) for extent in extents)
            yield items, scope, resource_attributes


def first_item(data: bytes) -> list[tuple[int, int]]:
    """Return number and kind of the fields of the first item in an encoded request; none in damaged bytes."""
    try:
        for start, end in _at_depth(data, 0, len(data), (_RESOURCE_SPANS, _BELOW, _BELOW)):
            return [*_kinds(data, start, end)]
    except DecodeError:
        pass
    return []


def _at_depth(data: bytes, start: int, end: int, numbers: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    if not numbers:
        yield start, end
        return
    for number, inner_start, inner_end in _fields(data, start, end, iter(range(MAX_FIELDS))):
        if number == numbers[0]:
            yield from _at_depth(data, inner_start, inner_end, numbers[1:])


def _kinds(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    while at < end:
        tag, at = _varint(data, at, end)
        yield tag >> 3, tag & 7
        if tag & 7 == _BYTES:
            size, at = _varint(data, at, end)
            at += size
        elif tag & 7 == _VARINT:
            _, at = _varint(data, at, end)
        elif tag & 7 in (_FIXED64, _FIXED32):
            at += 8 if tag & 7 == _FIXED64 else 4
        else:
            return


def _owner_and_below(
    data: bytes, start: int, end: int, owner: Any, budget: Iterator[int]
) -> tuple[Any, list[tuple[int, int]]]:
    """Return a message's own resource or scope, which may come last, and the extents of what is below it."""
    message = owner()
    below: list[tuple[int, int]] = []
    for number, inner_start, inner_end in _fields(data, start, end, budget):
        if number == _BELOW:
            below.append((inner_start, inner_end))
        elif number == _OWNER:  # protobuf merges a field that comes twice
            message.MergeFromString(_checked(data, inner_start, inner_end, _OWNERS[owner]))
    return message, below


def _checked(data: bytes, start: int, end: int, shape: _Shape) -> bytes:
    """Return the bytes of a message, unless it has too many parts."""
    if end - start > SMALL:
        _count(data, start, end, shape, iter(range(MAX_PARTS)), MAX_DEPTH)
    return data[start:end]


def _count(data: bytes, start: int, end: int, shape: _Shape, budget: Iterator[int], depth: int) -> None:
    """Walk through all fields of a message and of those within it; raise DecodeError beyond the budget."""
    if not depth:
        raise DecodeError(f"a span may have {MAX_DEPTH} messages within each other at most")
    for number, inner_start, inner_end in _fields(data, start, end, budget):
        if number in shape:
            _count(data, inner_start, inner_end, shape[number], budget, depth - 1)


def _fields(data: bytes, at: int, end: int, budget: Iterator[int]) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a message that have a length.

    A field of any kind takes one of the budget.
    """
    while at < end:
        if next(budget, None) is None:
            raise DecodeError(
                "there are too many fields in a span or around the spans: send fewer spans at once"
            )
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _varint(data, at, end)
            start, at = at, at + size
            if at > end:
                break
            if not tag >> 3:
                raise DecodeError("a field has no number")
            yield tag >> 3, start, at
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise DecodeError(f"there is no kind of field {kind} here")
    if at > end:
        raise DecodeError("a field is longer than what it is in")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number and the index after it."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            break
    raise DecodeError("a number does not end")
