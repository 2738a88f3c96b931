"""Log records that OTLP brought as JSON: the same that `otlp_logs` reads from protobuf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from otel_posthog.conversion.spans.log_record import LogRecord, event_name
from otel_posthog.conversion.spans.otlp_json_fields import (
    UnreadableError,
    attributes,
    fixed64,
    hex_id,
    members,
    one,
    text,
)
from otel_posthog.conversion.spans.span_view import MAX_SCOPE

__all__ = ["records_of_json"]

Report = Callable[[str], object]


def records_of_json(document: Any, report: Report) -> Iterator[LogRecord | None]:
    """Yield the log records of an OTLP/JSON request, parsed from JSON; None for one of no concern.

    What cannot be read is left out, and `report` gets one sentence with its place.
    """
    for in_request, group in _walk(document, "resourceLogs", "", report):
        resource = _attempt(in_request, report, lambda: one(group, "resource", attributes, {}))  # noqa: B023
        if resource is None:
            continue
        for in_resource, scoped in _walk(group, "scopeLogs", in_request, report):
            scope = _attempt(in_resource, report, lambda: one(scoped, "scope", _scope, (None, None)))  # noqa: B023
            if scope is None:
                continue
            for place, item in _walk(scoped, "logRecords", in_resource, report):
                read = _attempt(place, report, lambda: (_record(item, scope, resource),))  # noqa: B023
                yield from read or ()


def _walk(holder: Any, name: str, place: str, report: Report) -> Iterator[tuple[str, Any]]:
    """Yield the members of a repeated field, each with its place."""
    listed: list[Any] = _attempt(place, report, lambda: members(holder, name)) or []
    for index, item in enumerate(listed):
        yield f"{place}.{name}[{index}]".removeprefix("."), item


def _attempt(place: str, report: Report, read: Callable[[], Any]) -> Any:
    """Return the value of `read`; None if it cannot be read, which `report` gets."""
    try:
        return read()
    except UnreadableError as error:
        sentence = f"{place}{error}"
    report(f"the request{sentence}" if sentence.startswith(" ") else sentence.removeprefix("."))
    return None


def _scope(scope: Any) -> tuple[str | None, str | None]:
    return one(scope, "name", text, "")[:MAX_SCOPE] or None, one(scope, "version", text, None) or None


def _record(item: Any, scope: tuple[str | None, str | None], resource: dict[str, Any]) -> LogRecord | None:
    pairs = attributes(item)
    body = _body(item)
    event = event_name(one(item, "eventName", text, ""), body, pairs, scope[0])
    if event is None:
        return None
    trace_id, span_id = one(item, "traceId", hex_id, ""), one(item, "spanId", hex_id, "")
    return LogRecord(
        event=event,
        time_ns=one(item, "timeUnixNano", fixed64, 0) or one(item, "observedTimeUnixNano", fixed64, 0),
        trace_id=trace_id if trace_id.strip("0") else "",
        span_id=span_id if span_id.strip("0") else "",
        body=body,
        attributes=pairs,
        scope=scope[0],
        scope_version=scope[1],
        resource=resource,
    )


def _body(item: Any) -> Any:
    """The body, read as the value of an attribute is."""
    return one(
        item, "body", lambda value: attributes({"attributes": [{"key": "body", "value": value}]}), {}
    ).get("body")
