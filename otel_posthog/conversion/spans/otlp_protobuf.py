"""Spans of an OTLP request in protobuf, as views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from otel_posthog.conversion.context_attributes import is_inherited
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT, MARKERS
from otel_posthog.conversion.spans.span_view import (
    MAX_SCOPE,
    OTLP_KINDS,
    OTLP_STATUSES,
    Attributes,
    ContextSpan,
    SpanEvent,
    SpanView,
)

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1 import trace_pb2

__all__ = ["otlp_attributes", "views_of_request", "views_of_spans"]


def views_of_request(
    request: ExportTraceServiceRequest, extra_attributes: frozenset[str] = frozenset()
) -> Iterator[SpanView | ContextSpan]:
    """Yield the spans of an OTLP request, or of a `TracesData`, which has the same shape.

    A GenAI span is a `SpanView`; any other is a `ContextSpan` with inherited attributes and
    `extra_attributes`.
    """
    for resource_spans in request.resource_spans:
        resource = otlp_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            yield from views_of_spans(scope_spans.spans, scope_spans.scope, resource, extra_attributes)


def views_of_spans(
    spans: Iterable[trace_pb2.Span],
    scope: Any,
    resource: Attributes,
    extra_attributes: frozenset[str] = frozenset(),
) -> Iterator[SpanView | ContextSpan]:
    """Yield the spans of one scope and resource, as `views_of_request` does."""
    for span in spans:
        if _is_marked(span):
            yield _view(span, scope, resource)
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
    """Return the parent's id; zeros mean, as in a traceparent, that there is none."""
    return span_id.hex() if span_id.strip(b"\0") else None


def _is_marked(span: trace_pb2.Span) -> bool:
    for pair in span.attributes:
        if pair.key in MARKERS:
            return True
    return any(event.name == EVALUATION_EVENT for event in span.events) if span.events else False


def _view(span: trace_pb2.Span, scope: Any, resource: Attributes) -> SpanView:
    return SpanView(
        name=span.name,
        kind=_named(OTLP_KINDS, span.kind),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=_parent(span.parent_span_id),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano or None,
        status=_named(OTLP_STATUSES, span.status.code),
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
    """Return OTLP attributes as a dict; the later of two with one key wins."""
    # Nearly all values are texts, so `string_value` is read before the kind of value is.
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
