"""OTLP/JSON of protobuf requests, written as the Collector does: hex ids, integers for enumerations."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def otlp_json(request: Message, *, as_in_proto: bool = False, enum_names: bool = False) -> dict[str, Any]:
    """The request as OTLP/JSON, in the names of the .proto or of enumerations where asked."""
    document = MessageToDict(
        request, preserving_proto_field_name=as_in_proto, use_integers_for_enums=not enum_names
    )
    names = ("resource_spans", "scope_spans") if as_in_proto else ("resourceSpans", "scopeSpans")
    for group in document.get(names[0], ()):
        for scoped in group.get(names[1], ()):
            for span in scoped.get("spans", ()):
                for name in ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return document
