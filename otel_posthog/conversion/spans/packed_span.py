"""A finished SDK span as it waits: packed in memory, and as an entry of the spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_posthog.conversion.spans.genai_detection import MARKERS, is_genai_span
from otel_posthog.conversion.spans.sdk_span import (
    Ancestor,
    SpanRow,
    attributes_of,
    normalize,
    resource_attributes,
    row_of,
    set_parent_id,
)
from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["PackedSpan", "pack", "spool_entry", "unpack", "view_of_spool_entry"]

_EVENTS = SpanView._fields.index("events")
_SPAN_ID = SpanView._fields.index("span_id")
_PACKED_OVERHEAD = 400
"""Bytes for the objects around the document, measured on CPython 3.11."""


class PackedSpan(NamedTuple):
    """A finished SDK span: half of the object's memory, and out of the application's reach."""

    span_id: str
    row: bytes | SpanRow
    """JSON, or the row itself if JSON cannot hold it."""
    resource: Resource
    size: int
    """Approximate bytes in memory."""


def pack(span: ReadableSpan, ancestor: Ancestor | None = None) -> PackedSpan | None:
    """Return the span, packed; None if it is not a GenAI span.

    `ancestor` sets the parent unless the span's attributes name one.
    """
    attributes = attributes_of(span)
    if MARKERS.isdisjoint(attributes) and not (span._events and is_genai_span(attributes, span.events)):
        return None
    if ancestor is not None:
        set_parent_id(attributes, span, ancestor)
    row = row_of(span, attributes)
    try:
        document = orjson.dumps(row, default=_event_as_list)
    except TypeError:  # bytes, lone surrogates, numbers beyond 64 bits: rare enough to keep the row itself
        row = row_of(span, normalize(attributes))
        texts = sum(len(value) for value in attributes.values() if isinstance(value, str | bytes))
        return PackedSpan(row[_SPAN_ID], row, span.resource, _PACKED_OVERHEAD + 128 * len(attributes) + texts)
    # A copy: orjson's bytes keep the buffer that they were written in, several times their length.
    document = bytes(memoryview(document))
    return PackedSpan(row[_SPAN_ID], document, span.resource, _PACKED_OVERHEAD + len(document))


def _event_as_list(value: Any) -> Any:
    if isinstance(value, SpanEvent):
        return tuple(value)
    raise TypeError


def unpack(packed: PackedSpan) -> SpanView:
    """Return the view of a packed span."""
    row = packed.row
    if isinstance(row, bytes):
        row = orjson.loads(row)
        row[_EVENTS] = [SpanEvent(*event) for event in row[_EVENTS]]
    return SpanView._make((*row, resource_attributes(packed.resource)))


def spool_entry(packed: PackedSpan) -> bytes | None:
    """Return the packed span as one JSON document for the spool; None if JSON cannot hold all of it."""
    if not isinstance(packed.row, bytes):
        return None
    try:
        resource = orjson.dumps(resource_attributes(packed.resource))
    except TypeError:
        return None
    return b"[" + packed.row + b"," + resource + b"]"


def view_of_spool_entry(document: Any) -> SpanView:
    """Return the view of a span from the parsed JSON of `spool_entry`.

    Raises:
        ValueError, TypeError: the document is no such entry.
    """
    row, resource = document
    row[_EVENTS] = [SpanEvent(*event) for event in row[_EVENTS]]
    view = SpanView._make((*row, resource))
    for name, types in _TYPES.items():
        if not isinstance(getattr(view, name), types):
            raise TypeError(f"{name} of a span is a {type(getattr(view, name)).__name__}")
    return view


_NONE = type(None)
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "kind": (str,),
    "trace_id": (str,),
    "span_id": (str,),
    "parent_id": (str, _NONE),
    "start_ns": (int,),
    "end_ns": (int, _NONE),
    "status": (str,),
    "status_message": (str, _NONE),
    "attributes": (dict,),
    "links": (list,),
    "scope": (str, _NONE),
    "scope_version": (str, _NONE),
    "resource": (dict,),
}
