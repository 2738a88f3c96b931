"""One face for a span, whether the SDK ended it in this process or OTLP brought it from another.

Both readers give the same values: text, numbers, booleans, bytes, None, and lists and dicts of these.
The SDK has tuples where OTLP has arrays, and subclasses of `str` (enumerations of the provider SDKs)
where OTLP has text; dialects never see the difference.

A span that shows none of `MARKERS` is not about a model, agent or tool: the readers answer None for it
after one set operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_posthog.conversion.context_attributes import PARENT_ID, is_inherited
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT, MARKERS, is_genai_span

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1 import trace_pb2
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = [
    "MAX_SCOPE",
    "ContextSpan",
    "PackedSpan",
    "Place",
    "SpanEvent",
    "SpanView",
    "attributes_of",
    "entry_of",
    "of_entry",
    "of_otlp_spans",
    "of_request",
    "of_sdk_span",
    "other_of_sdk_span",
    "otlp_attributes",
    "pack",
    "put_in_place",
    "unpack",
]

Attributes = dict[str, Any]

MAX_SCOPE = 1000
"""Characters of a scope's name that OTLP brings: what is known by its scope is remembered."""

_new = tuple.__new__  # `_make` without its check of the number of fields
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
_OTLP_KINDS = ("INTERNAL", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_OTLP_STATUS = ("UNSET", "OK", "ERROR")


class SpanEvent(NamedTuple):
    """Something that happened within a span, `time_ns` after 1970."""

    name: str
    time_ns: int
    attributes: Attributes


class SpanView(NamedTuple):
    """A finished or running span, as far as a dialect may ask about it."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int | None
    status: str
    """UNSET, OK or ERROR."""
    status_message: str | None
    attributes: Attributes
    events: Sequence[SpanEvent]
    links: Sequence[Sequence[str]]
    """Trace and span id of each."""
    scope: str | None
    scope_version: str | None
    resource: Attributes


class ContextSpan(NamedTuple):
    """A span that is no concern of ours, or not now, as far as those below it need to know it."""

    trace_id: str
    span_id: str
    parent_id: str | None
    attributes: Attributes
    """Those that it hands down."""
    is_genai: bool = False
    """It becomes an event at another time."""
    resource: Mapping[str, Any] = MappingProxyType({})
    """Of a span that OTLP brought."""


# --- the SDK's spans -------------------------------------------------------------------------------


def attributes_of(span: ReadableSpan) -> Attributes:
    """The attributes of an SDK span, as its own dict."""
    # mappingproxy.copy() is BoundedAttributes.copy(): one dict copy under its lock. Any other way to
    # read it takes the lock once for every key.
    found: Any = span.attributes
    copied: Attributes = {} if found is None else found.copy()
    return copied


def of_sdk_span(span: ReadableSpan) -> SpanView | None:
    """The view of an SDK span, running or ended; None where it is no concern of ours."""
    attributes = attributes_of(span)
    if MARKERS.isdisjoint(attributes) and not (span._events and is_genai_span(attributes, span.events)):
        return None
    return _new(SpanView, (*_row(span, _plain_attributes(attributes)), _resource(span.resource)))


def other_of_sdk_span(span: ReadableSpan, extra_attributes: frozenset[str] = frozenset()) -> ContextSpan:
    """A span that is no concern of ours; it keeps the attributes that are handed down, and these."""
    context = span.context
    return ContextSpan(
        format(context.trace_id, "032x") if context is not None else "",
        format(context.span_id, "016x") if context is not None else "",
        format(span.parent.span_id, "016x") if span.parent is not None else None,
        _plain_attributes(
            {
                name: value
                for name, value in attributes_of(span).items()
                if name in extra_attributes or is_inherited(name)
            }
        ),
    )


Place = tuple["str | None"]
"""The id of the nearest span above that PostHog gets; with None, the trace."""


def put_in_place(attributes: Attributes, span: ReadableSpan, place: Place) -> None:
    """Say in the attributes where the span stands, if they do not: it showed what it is after its start."""
    if PARENT_ID not in attributes and span.parent is not None and span.context is not None:
        attributes[PARENT_ID] = place[0] or format(span.context.trace_id, "032x")


class PackedSpan(NamedTuple):
    """A finished SDK span as it waits: half of the object's memory, and out of the application's reach."""

    span_id: str
    row: bytes | Row
    resource: Resource
    size: int
    """Bytes that it takes in memory, about."""


def pack(span: ReadableSpan, place: Place | None = None) -> PackedSpan | None:
    """The span, ready to wait; None where it is no concern of ours.

    `place` tells where it stands, if its attributes do not.
    """
    attributes = attributes_of(span)
    if MARKERS.isdisjoint(attributes) and not (span._events and is_genai_span(attributes, span.events)):
        return None
    if place is not None:
        put_in_place(attributes, span, place)
    row = _row(span, attributes)
    try:
        document = orjson.dumps(row, default=_plain_event)
    except TypeError:  # bytes, lone surrogates, numbers beyond 64 bits: rare enough to wait as they are
        row = _row(span, _plain_attributes(attributes))
        texts = sum(len(value) for value in attributes.values() if isinstance(value, str | bytes))
        return PackedSpan(row[_SPAN_ID], row, span.resource, _PACKED_OVERHEAD + 128 * len(attributes) + texts)
    # A copy: orjson's bytes keep the buffer that they were written in, several times their length.
    document = bytes(memoryview(document))
    return PackedSpan(row[_SPAN_ID], document, span.resource, _PACKED_OVERHEAD + len(document))


def _plain_event(value: Any) -> Any:
    if isinstance(value, SpanEvent):
        return tuple(value)
    raise TypeError


def unpack(packed: PackedSpan) -> SpanView:
    """The view of a span that was packed."""
    row = packed.row
    if isinstance(row, bytes):
        row = orjson.loads(row)
        row[_EVENTS] = [SpanEvent(*event) for event in row[_EVENTS]]
    return SpanView._make((*row, _resource(packed.resource)))


def entry_of(packed: PackedSpan) -> bytes | None:
    """The packed span as one JSON document, to be kept on disk; None where JSON cannot hold all of it."""
    if not isinstance(packed.row, bytes):
        return None
    try:
        resource = orjson.dumps(_resource(packed.resource))
    except TypeError:
        return None
    return b"[" + packed.row + b"," + resource + b"]"


def of_entry(document: Any) -> SpanView:
    """The view of a span that was kept so, given the parsed JSON.

    Raises:
        ValueError, TypeError: that is none.
    """
    row, resource = document
    row[_EVENTS] = [SpanEvent(*event) for event in row[_EVENTS]]
    view = SpanView._make((*row, resource))
    for name, kinds in _TYPES.items():
        if not isinstance(getattr(view, name), kinds):
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
_EVENTS = SpanView._fields.index("events")
_SPAN_ID = SpanView._fields.index("span_id")
_PACKED_OVERHEAD = 400
"""Bytes for the objects around the document, measured on CPython 3.11."""

Row = tuple[Any, ...]


def _row(span: ReadableSpan, attributes: Attributes) -> Row:
    """The fields of a `SpanView` but for the resource."""
    context, parent, scope, status = (
        span.get_span_context(),
        span.parent,
        span.instrumentation_scope,
        span.status,
    )
    # The properties copy what is hardly ever there.
    events = span.events if span._events else ()
    links = span.links if span._links else ()
    return (
        span.name,
        span.kind._name_,  # `name` is a property written in Python
        format(context.trace_id, "032x") if context is not None else "",
        format(context.span_id, "016x") if context is not None else "",
        format(parent.span_id, "016x") if parent is not None else None,
        span.start_time or 0,
        span.end_time,
        status.status_code._name_,
        status.description,
        attributes,
        [SpanEvent(e.name, e.timestamp, _plain_attributes(dict(e.attributes or {}))) for e in events]
        if events
        else [],
        [[format(c.trace_id, "032x"), format(c.span_id, "016x")] for c in (link.context for link in links)]
        if links
        else [],
        (scope.name or None) if scope is not None else None,
        (scope.version or None) if scope is not None else None,
    )


def _plain_attributes(attributes: Attributes) -> Attributes:
    for key in [key for key, value in attributes.items() if type(value) not in _PLAIN]:
        value = attributes[key]
        if type(value) is tuple and _PLAIN.issuperset(map(type, value)):  # nearly always
            attributes[key] = [*value]
        else:
            attributes[key] = _plain(value)
    return attributes


_resources: dict[int, tuple[Resource, Attributes]] = {}


def _resource(resource: Resource) -> Attributes:
    """The attributes of a resource, which all spans of a provider share.

    Kept by identity: a resource hashes itself by writing itself as JSON.
    """
    found = _resources.get(id(resource))
    if found is None:
        if len(_resources) >= 64:
            _resources.clear()
        found = (resource, {key: _plain(value) for key, value in resource.attributes.items()})
        _resources[id(resource)] = found
    return found[1]


def _plain(value: Any) -> Any:
    """The value as OTLP would carry it."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:  # before the abstract types, which are slow to ask
        return [_plain(inner) for inner in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    return str(value)


# --- OTLP --------------------------------------------------------------------------------------------


def of_request(
    request: ExportTraceServiceRequest, extra_attributes: frozenset[str] = frozenset()
) -> Iterator[SpanView | ContextSpan]:
    """All spans in an OTLP request (or a `TracesData`, of the same shape); views of those of concern.

    Of the others the attributes that are handed down are kept, and these `extra_attributes`.
    """
    for resource_spans in request.resource_spans:
        about = otlp_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            yield from of_otlp_spans(scope_spans.spans, scope_spans.scope, about, extra_attributes)


def of_otlp_spans(
    spans: Iterable[trace_pb2.Span],
    scope: Any,
    resource: Attributes,
    extra_attributes: frozenset[str] = frozenset(),
) -> Iterator[SpanView | ContextSpan]:
    """The spans of one scope of a resource with these attributes, as `of_request` gives them."""
    for span in spans:
        if _is_marked(span):
            yield _of_otlp_span(span, scope, resource)
        else:
            yield ContextSpan(
                span.trace_id.hex(),
                span.span_id.hex(),
                _parent(span.parent_span_id),
                {
                    pair.key: _any_value(pair.value)
                    for pair in span.attributes
                    if pair.key in extra_attributes or is_inherited(pair.key)
                },
                resource=resource,
            )


def _parent(span_id: bytes) -> str | None:
    """The id of the span above; zeros say, as in a traceparent, that there is none."""
    return span_id.hex() if span_id.strip(b"\0") else None


def _is_marked(span: trace_pb2.Span) -> bool:
    for pair in span.attributes:
        if pair.key in MARKERS:
            return True
    return any(event.name == EVALUATION_EVENT for event in span.events) if span.events else False


def _of_otlp_span(span: trace_pb2.Span, scope: Any, resource: Attributes) -> SpanView:
    return SpanView(
        name=span.name,
        kind=_named(_OTLP_KINDS, span.kind),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=_parent(span.parent_span_id),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano or None,
        status=_named(_OTLP_STATUS, span.status.code),
        status_message=span.status.message or None,
        attributes=otlp_attributes(span.attributes),
        events=[
            SpanEvent(event.name, event.time_unix_nano, otlp_attributes(event.attributes))
            for event in span.events
        ]
        if span.events
        else [],
        links=[[link.trace_id.hex(), link.span_id.hex()] for link in span.links] if span.links else [],
        scope=scope.name[:MAX_SCOPE] or None,
        scope_version=scope.version or None,
        resource=resource,
    )


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else names[0]


def otlp_attributes(pairs: Any) -> Attributes:
    """Attributes of OTLP as a dict; of two with one key the later."""
    # Nearly all values are texts: what is one need not be asked what it is.
    return {pair.key: (value := pair.value).string_value or _any_value(value) for pair in pairs}


def _any_value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_any_value(inner) for inner in value.array_value.values]
    if which == "kvlist_value":
        return otlp_attributes(value.kvlist_value.values)
    return getattr(value, which)
