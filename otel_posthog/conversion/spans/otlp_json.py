"""Spans of an OTLP request in JSON, as the same views that `otlp_protobuf` makes of protobuf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from otel_posthog.conversion.context_attributes import is_inherited
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT, MARKERS
from otel_posthog.conversion.spans.otlp_json_fields import (
    UnreadableError,
    attributes,
    each,
    fixed64,
    hex_id,
    member,
    members,
    one,
    text,
)
from otel_posthog.conversion.spans.span_view import (
    MAX_SCOPE,
    OTLP_KINDS,
    OTLP_STATUSES,
    Attributes,
    ContextSpan,
    SpanEvent,
    SpanView,
)

__all__ = ["count_spans", "views_of_json_request"]

ScopeNameVersion = tuple[str | None, str | None]
Report = Callable[[str], object]


def views_of_json_request(
    document: Any,
    report: Report | None = None,
    extra_attributes: frozenset[str] = frozenset(),
) -> Iterator[SpanView | ContextSpan]:
    """Yield the spans of an OTLP/JSON request (or `TracesData`) that was parsed from JSON.

    A GenAI span is a `SpanView`; any other is a `ContextSpan` with inherited attributes and
    `extra_attributes`.

    An unreadable span is skipped, and `report` gets one sentence that names its path; without `report` it
    raises ValueError. An unreadable resource or scope is reported once, and its spans are skipped with it.
    """
    report = report or _raise
    for request_path, resource_spans in _walk(document, "resourceSpans", "", report):
        resource = _attempt(request_path, report, one, resource_spans, "resource", attributes, {})
        if resource is None:
            continue
        for resource_path, scope_spans in _walk(resource_spans, "scopeSpans", request_path, report):
            scope = _attempt(resource_path, report, one, scope_spans, "scope", _scope, (None, None))
            if scope is None:
                continue
            for span_path, span in _walk(scope_spans, "spans", resource_path, report):
                view = _attempt(span_path, report, _view, span, scope, resource, extra_attributes)
                if view is not None:
                    yield view


def count_spans(document: Any) -> int:
    """Return the number of spans in a request, readable or not."""
    return sum(
        len(_listed(scope_spans, "spans"))
        for resource_spans in _listed(document, "resourceSpans")
        for scope_spans in _listed(resource_spans, "scopeSpans")
    )


def _listed(holder: Any, name: str) -> list[Any]:
    try:
        return members(holder, name)
    except UnreadableError:
        return []


def _raise(sentence: str) -> NoReturn:
    raise ValueError(sentence)


def _attempt(path: str, report: Report, reader: Callable[..., Any], *args: Any) -> Any:
    """Return the value of `reader`; None if it could not read and `report` got the reason."""
    try:
        return reader(*args)
    except UnreadableError as error:
        sentence = f"{path}{error}"
    report(f"the request{sentence}" if sentence.startswith(" ") else sentence.removeprefix("."))
    return None


def _walk(holder: Any, name: str, path: str, report: Report) -> Iterator[tuple[str, Any]]:
    """Yield the members of a repeated field, each with its path."""
    for index, item in enumerate(_attempt(path, report, members, holder, name) or ()):
        yield f"{path}.{name}[{index}]".removeprefix("."), item


def _view(
    span: Any, scope: ScopeNameVersion, resource: Attributes, extra_attributes: frozenset[str]
) -> SpanView | ContextSpan | None:
    if not any(map(_is_marker, members(span, "attributes"))) and not any(
        isinstance(event, dict) and event.get("name") == EVALUATION_EVENT for event in members(span, "events")
    ):
        return _context_span(span, resource, extra_attributes)
    status, message = one(span, "status", _status, ("UNSET", None))
    return SpanView(
        name=one(span, "name", text, ""),
        kind=one(span, "kind", member, "INTERNAL", "SPAN_KIND_", OTLP_KINDS),
        trace_id=one(span, "traceId", hex_id, ""),
        span_id=one(span, "spanId", hex_id, ""),
        parent_id=_parent(span),
        start_ns=one(span, "startTimeUnixNano", fixed64, 0),
        end_ns=one(span, "endTimeUnixNano", fixed64, 0) or None,
        status=status,
        status_message=message,
        attributes=attributes(span),
        events=each(span, "events", _event),
        links=each(span, "links", _link),
        scope=scope[0],
        scope_version=scope[1],
        resource=resource,
    )


def _context_span(span: Any, resource: Attributes, extra_attributes: frozenset[str]) -> ContextSpan | None:
    """Return a non-GenAI span; None if it is unreadable, which nobody needs to know."""
    kept = [
        pair
        for pair in members(span, "attributes")
        if isinstance(pair, dict)
        and isinstance(key := pair.get("key"), str)
        and (key in extra_attributes or is_inherited(key))
    ]
    try:
        return ContextSpan(
            one(span, "traceId", hex_id, ""),
            one(span, "spanId", hex_id, ""),
            _parent(span),
            attributes({"attributes": kept}),
            resource=resource,
        )
    except UnreadableError:
        return None


def _parent(span: Any) -> str | None:
    """Return the parent's id; zeros mean that there is none."""
    parent_id: str = one(span, "parentSpanId", hex_id, "")
    return parent_id if parent_id.strip("0") else None


def _is_marker(pair: Any) -> bool:
    key = pair.get("key") if isinstance(pair, dict) else None
    return isinstance(key, str) and key in MARKERS


def _scope(scope: Any) -> ScopeNameVersion:
    return one(scope, "name", text, "")[:MAX_SCOPE] or None, one(scope, "version", text, None) or None


def _status(status: Any) -> tuple[str, str | None]:
    code = one(status, "code", member, "UNSET", "STATUS_CODE_", OTLP_STATUSES)
    return code, one(status, "message", text, None) or None


def _link(link: Any) -> list[str]:
    return [one(link, "traceId", hex_id, ""), one(link, "spanId", hex_id, "")]


def _event(event: Any) -> SpanEvent:
    return SpanEvent(one(event, "name", text, ""), one(event, "timeUnixNano", fixed64, 0), attributes(event))
