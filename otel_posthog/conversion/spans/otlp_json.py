"""Spans that OTLP brought as JSON: the same views that `view.of_request` gives for the protobuf form."""

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
from otel_posthog.conversion.spans.span_view import MAX_SCOPE, Attributes, ContextSpan, SpanEvent, SpanView

__all__ = ["count_spans", "of_json_request"]

_KINDS = ("INTERNAL", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS = ("UNSET", "OK", "ERROR")

Scope = tuple[str | None, str | None]
"""Name and version."""


def of_json_request(
    document: Any,
    unreadable: Callable[[str], object] | None = None,
    extra_attributes: frozenset[str] = frozenset(),
) -> Iterator[SpanView | ContextSpan]:
    """All spans in an OTLP/JSON request (or `TracesData`), parsed from JSON; views of those of concern.

    Of the others the attributes that are handed down are kept, and these `extra_attributes`.

    What cannot be read is left out, and `unreadable` hears one sentence with its place; without that it is a
    ValueError. A resource or scope that cannot be read is heard of once, and takes its spans with it.
    """
    hear = unreadable or _refuse
    for in_request, resource_spans in _walk(document, "resourceSpans", "", hear):
        resource = _attempt(in_request, hear, one, resource_spans, "resource", attributes, {})
        if resource is None:
            continue
        for in_resource, scope_spans in _walk(resource_spans, "scopeSpans", in_request, hear):
            scope = _attempt(in_resource, hear, one, scope_spans, "scope", _scope, (None, None))
            if scope is None:
                continue
            for in_scope, span in _walk(scope_spans, "spans", in_resource, hear):
                view = _attempt(in_scope, hear, _view, span, scope, resource, extra_attributes)
                if view is not None:
                    yield view


def count_spans(document: Any) -> int:
    """How many spans are in a request, readable or not."""
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


def _refuse(sentence: str) -> NoReturn:
    raise ValueError(sentence)


def _attempt(where: str, hear: Callable[[str], object], read: Callable[..., Any], *args: Any) -> Any:
    """What `read` gives; None where it could not and `hear` was told."""
    try:
        return read(*args)
    except UnreadableError as error:
        complaint = f"{where}{error}"
    hear(f"the request{complaint}" if complaint.startswith(" ") else complaint.removeprefix("."))
    return None


def _walk(holder: Any, name: str, where: str, hear: Callable[[str], object]) -> Iterator[tuple[str, Any]]:
    """The members of a repeated field, each with its place."""
    for index, found in enumerate(_attempt(where, hear, members, holder, name) or ()):
        yield f"{where}.{name}[{index}]".removeprefix("."), found


def _view(
    span: Any, scope: Scope, resource: Attributes, extra_attributes: frozenset[str]
) -> SpanView | ContextSpan | None:
    if not any(map(_marks, members(span, "attributes"))) and not any(
        isinstance(event, dict) and event.get("name") == EVALUATION_EVENT for event in members(span, "events")
    ):
        return _other(span, resource, extra_attributes)
    status, message = one(span, "status", _status, ("UNSET", None))
    return SpanView(
        name=one(span, "name", text, ""),
        kind=one(span, "kind", member, "INTERNAL", "SPAN_KIND_", _KINDS),
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


def _other(span: Any, resource: Attributes, extra_attributes: frozenset[str]) -> ContextSpan | None:
    """A span of no concern; nobody needs to hear of one that cannot be read."""
    shared = [
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
            attributes({"attributes": shared}),
            resource=resource,
        )
    except UnreadableError:
        return None


def _parent(span: Any) -> str | None:
    """The id of the span above; zeros say that there is none."""
    found: str = one(span, "parentSpanId", hex_id, "")
    return found if found.strip("0") else None


def _marks(pair: Any) -> bool:
    key = pair.get("key") if isinstance(pair, dict) else None
    return isinstance(key, str) and key in MARKERS


def _scope(scope: Any) -> Scope:
    return one(scope, "name", text, "")[:MAX_SCOPE] or None, one(scope, "version", text, None) or None


def _status(status: Any) -> tuple[str, str | None]:
    code = one(status, "code", member, "UNSET", "STATUS_CODE_", _STATUS)
    return code, one(status, "message", text, None) or None


def _link(link: Any) -> list[str]:
    return [one(link, "traceId", hex_id, ""), one(link, "spanId", hex_id, "")]


def _event(event: Any) -> SpanEvent:
    return SpanEvent(one(event, "name", text, ""), one(event, "timeUnixNano", fixed64, 0), attributes(event))
