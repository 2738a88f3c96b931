"""Spans of the SDK in this process, as views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from otel_posthog.conversion.context_attributes import PARENT_ID, is_inherited
from otel_posthog.conversion.spans.genai_detection import MARKERS, is_genai_span
from otel_posthog.conversion.spans.span_view import Attributes, ContextSpan, SpanEvent, SpanView

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = [
    "Ancestor",
    "SpanRow",
    "attributes_of",
    "context_of_sdk_span",
    "normalize",
    "resource_attributes",
    "row_of",
    "set_parent_id",
    "view_of_sdk_span",
]

_new = tuple.__new__  # `_make` without its check of the number of fields
_OTLP_TYPES = frozenset({str, int, float, bool, type(None), bytes})

Ancestor = tuple["str | None"]
"""The id of the nearest GenAI span above; `(None,)` if there is none, so that the trace is the parent."""

SpanRow = tuple[Any, ...]
"""The fields of a `SpanView` without the last, the resource."""


def attributes_of(span: ReadableSpan) -> Attributes:
    """Return the attributes of an SDK span as a dict of our own."""
    # mappingproxy.copy() is BoundedAttributes.copy(): one dict copy under its lock. Any other way to
    # read it takes the lock once for every key.
    attributes: Any = span.attributes
    copied: Attributes = {} if attributes is None else attributes.copy()
    return copied


def view_of_sdk_span(span: ReadableSpan) -> SpanView | None:
    """Return the view of an SDK span, running or ended; None if it is not a GenAI span."""
    attributes = attributes_of(span)
    if MARKERS.isdisjoint(attributes) and not (span._events and is_genai_span(attributes, span.events)):
        return None
    return _new(SpanView, (*row_of(span, normalize(attributes)), resource_attributes(span.resource)))


def context_of_sdk_span(span: ReadableSpan, extra_attributes: frozenset[str] = frozenset()) -> ContextSpan:
    """Return a non-GenAI span with its inherited attributes and `extra_attributes`."""
    context = span.context
    return ContextSpan(
        format(context.trace_id, "032x") if context is not None else "",
        format(context.span_id, "016x") if context is not None else "",
        format(span.parent.span_id, "016x") if span.parent is not None else None,
        normalize(
            {
                name: value
                for name, value in attributes_of(span).items()
                if name in extra_attributes or is_inherited(name)
            }
        ),
    )


def set_parent_id(attributes: Attributes, span: ReadableSpan, ancestor: Ancestor) -> None:
    """Set `posthog.parent_id` in the attributes unless it is there.

    It is missing if the span became a GenAI span after its start.
    """
    if PARENT_ID not in attributes and span.parent is not None and span.context is not None:
        attributes[PARENT_ID] = ancestor[0] or format(span.context.trace_id, "032x")


def row_of(span: ReadableSpan, attributes: Attributes) -> SpanRow:
    """Return the row of an SDK span with these attributes."""
    context, parent, scope, status = (
        span.get_span_context(),
        span.parent,
        span.instrumentation_scope,
        span.status,
    )
    # The properties `events` and `links` copy lists that are nearly always empty.
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
        [SpanEvent(e.name, e.timestamp, normalize(dict(e.attributes or {}))) for e in events]
        if events
        else [],
        [[format(c.trace_id, "032x"), format(c.span_id, "016x")] for c in (link.context for link in links)]
        if links
        else [],
        (scope.name or None) if scope is not None else None,
        (scope.version or None) if scope is not None else None,
    )


def normalize(attributes: Attributes) -> Attributes:
    """Turn the values into those that OTLP would carry, in place, and return the dict."""
    for key in [key for key, value in attributes.items() if type(value) not in _OTLP_TYPES]:
        value = attributes[key]
        if type(value) is tuple and _OTLP_TYPES.issuperset(map(type, value)):  # nearly always
            attributes[key] = [*value]
        else:
            attributes[key] = _normalized(value)
    return attributes


def _normalized(value: Any) -> Any:
    """Return the value as OTLP would carry it."""
    kind = type(value)
    if kind in _OTLP_TYPES:
        return value
    if kind is tuple or kind is list:  # before the abstract types, whose checks are slow
        return [_normalized(inner) for inner in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _normalized(inner) for key, inner in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Sequence):
        return [_normalized(inner) for inner in value]
    return str(value)


_MAX_RESOURCES = 64
_resources: dict[int, tuple[Resource, Attributes]] = {}


def resource_attributes(resource: Resource) -> Attributes:
    """Return the attributes of a resource, one dict for all spans of a provider.

    The cache is keyed by identity: a resource hashes itself by writing itself as JSON.
    """
    cached = _resources.get(id(resource))
    if cached is None:
        if len(_resources) >= _MAX_RESOURCES:
            _resources.clear()
        cached = (resource, {key: _normalized(value) for key, value in resource.attributes.items()})
        _resources[id(resource)] = cached
    return cached[1]
