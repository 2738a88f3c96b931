"""OTLP/JSON of protobuf requests, written as the Collector does: hex ids, integers for enumerations."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def otlp_json(request: Message, *, as_in_proto: bool = False, enum_names: bool = False) -> dict[str, Any]:
    """Return the request as OTLP/JSON, optionally with names as in the .proto or of enumerations."""
    document = MessageToDict(
        request, preserving_proto_field_name=as_in_proto, use_integers_for_enums=not enum_names
    )
    items = [document]
    for _ in range(3):
        items = [inner for item in items for name in _WAY for inner in item.get(name, ())]
    for item in items:
        for name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
            if name in item:
                item[name] = base64.b64decode(item[name]).hex()
    return document


_WAY = (
    *("resourceSpans", "resource_spans", "resourceLogs", "resource_logs"),
    *("scopeSpans", "scope_spans", "scopeLogs", "scope_logs"),
    *("spans", "logRecords", "log_records"),
)
