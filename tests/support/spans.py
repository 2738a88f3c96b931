"""Spans for tests: recorded ones, and ones with given attributes, as SDK objects and as OTLP."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView

RECORDED = Path(__file__).parent.parent / "golden" / "recorded"
START = 1_793_613_660_000_000_000
TRACE_ID = 0x1CCEF0580A178F3612A542518F9FFF59
SPAN_ID = 0x9E2BF42F9F53215A
PARENT_ID = 0x3A341E0A2BBD6F7B

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.1",
}


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the lines of a recording: spans and the truth of their calls."""
    return [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]


def view_of_recorded(span: Mapping[str, Any]) -> SpanView:
    """Return the view of a recorded span."""
    return SpanView(
        name=span["name"],
        kind=span["kind"],
        trace_id=span["trace_id"],
        span_id=span["span_id"],
        parent_id=span["parent_span_id"],
        start_ns=span["start_ns"],
        end_ns=span["end_ns"],
        status=span["status"],
        status_message=span["status_description"],
        attributes={name: _value(value) for name, value in span["attributes"].items()},
        events=[
            SpanEvent(event["name"], event["time_ns"], {k: _value(v) for k, v in event["attributes"].items()})
            for event in span["events"]
        ],
        links=[[link["trace_id"], link["span_id"]] for link in span.get("links", ())],
        scope=span["scope"],
        scope_version=span["scope_version"],
        resource={},
    )


def _value(written: Any) -> Any:
    if isinstance(written, dict):
        if "@float" in written:
            return float(written["@float"])
        if "@bytes" in written:
            return base64.b64decode(written["@bytes"])
        return {name: _value(value) for name, value in written["@map"].items()}
    return [_value(value) for value in written] if isinstance(written, list) else written


def make_view(
    attributes: Mapping[str, Any] | None = None, *, only: Mapping[str, Any] | None = None, **changes: Any
) -> SpanView:
    """Return the view of a chat span with these attributes added, or with `only` the given ones."""
    values: dict[str, Any] = {
        "name": "chat gpt-5.1",
        "kind": "CLIENT",
        "trace_id": format(TRACE_ID, "032x"),
        "span_id": format(SPAN_ID, "016x"),
        "parent_id": None,
        "start_ns": START,
        "end_ns": START + 1_500_000_000,
        "status": "UNSET",
        "status_message": None,
        "attributes": dict(only) if only is not None else {**CHAT, **(attributes or {})},
        "events": (),
        "links": (),
        "scope": "otel_posthog.openai",
        "scope_version": "0.1.0",
        "resource": {},
    }
    return SpanView(**{**values, **changes})


def sdk_span(
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str = "chat gpt-5.1",
    kind: SpanKind = SpanKind.CLIENT,
    parent: bool = True,
    status: StatusCode = StatusCode.UNSET,
    message: str | None = None,
    end: int | None = START + 1_500_000_000,
    events: tuple[tuple[str, int, Mapping[str, Any]], ...] = (),
    resource: Mapping[str, Any] | None = None,
    span_id: int = SPAN_ID,
    parent_id: int = PARENT_ID,
    sampled: bool = True,
    trace_id: int = TRACE_ID,
) -> ReadableSpan:
    """Return an ended span of the SDK."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return ReadableSpan(
        name=name,
        context=SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags),
        parent=SpanContext(trace_id, parent_id, is_remote=False, trace_flags=flags) if parent else None,
        resource=Resource(dict(resource or {"service.name": "chat-api"})),
        attributes=dict(attributes if attributes is not None else CHAT),
        events=[Event(event, dict(values), at) for event, at, values in events],
        kind=kind,
        status=Status(status, message),
        start_time=START,
        end_time=end,
        instrumentation_scope=InstrumentationScope("otel_posthog.openai", "0.1.0"),
    )


def otlp_request(*spans: ReadableSpan) -> ExportTraceServiceRequest:
    """Return the OTLP request that carries the spans."""
    request = ExportTraceServiceRequest()
    for span in spans:
        group = request.resource_spans.add()
        group.resource.attributes.extend(_pairs(span.resource.attributes))
        scoped = group.scope_spans.add()
        scope = span.instrumentation_scope
        assert scope is not None
        scoped.scope.name, scoped.scope.version = scope.name, scope.version or ""
        copy = scoped.spans.add()
        copy.name = span.name
        copy.kind = _enum(span.kind.value + 1)
        copy.trace_id = span.context.trace_id.to_bytes(16, "big")
        copy.span_id = span.context.span_id.to_bytes(8, "big")
        copy.parent_span_id = span.parent.span_id.to_bytes(8, "big") if span.parent else b""
        copy.start_time_unix_nano = span.start_time or 0
        copy.end_time_unix_nano = span.end_time or 0
        copy.attributes.extend(_pairs(span.attributes or {}))
        copy.status.code = _enum(span.status.status_code.value)
        copy.status.message = span.status.description or ""
        for event in span.events:
            added = copy.events.add()
            added.name, added.time_unix_nano = event.name, event.timestamp
            added.attributes.extend(_pairs(event.attributes or {}))
    return request


def _enum(number: int) -> Any:
    """Protobuf enumerations are numbers at run time and types of their own to a type checker."""
    return number


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any_value(value)) for name, value in attributes.items()]


def _any_value(value: Any) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=str.__str__(value))
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=_pairs(value)))
    return AnyValue(array_value=ArrayValue(values=[_any_value(inner) for inner in value]))
