"""Log records for tests: those of the golden files, and ones made of given attributes, as OTLP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_posthog.conversion.spans.log_calls import views_of_records
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.otlp_logs import records_of_bytes
from otel_posthog.conversion.spans.span_view import SpanView
from tests.support.spans import START, _any_value

GOLDEN = Path(__file__).parent.parent / "golden" / "logs"
CLIS = ("claude-code", "codex", "gemini-cli")

TIME = START
CLAUDE = {
    "event.name": "api_request",
    "session.id": "session-1",
    "prompt.id": "prompt-1",
    "user.id": "user-1",
    "model": "claude-sonnet-4-5",
    "input_tokens": "10",
    "output_tokens": "5",
    "duration_ms": "1000",
}
CLAUDE_SCOPE = "com.anthropic.claude_code.events"


def golden_logs(cli: str) -> ExportLogsServiceRequest:
    """The golden request of a CLI."""
    return ParseDict(json.loads((GOLDEN / f"{cli}.json").read_text()), ExportLogsServiceRequest())


def log_record(
    attributes: Mapping[str, Any],
    *,
    body: Any = None,
    event: str = "",
    time_ns: int = TIME,
    trace_id: int = 0,
    span_id: int = 0,
) -> LogRecord:
    """A record; without a trace and span id unless they are given."""
    return LogRecord(
        time_unix_nano=time_ns,
        observed_time_unix_nano=time_ns,
        attributes=[KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()],
        body=_any_value(body),
        event_name=event,
        trace_id=trace_id.to_bytes(16, "big") if trace_id else b"",
        span_id=span_id.to_bytes(8, "big") if span_id else b"",
    )


def logs_request(
    *records: LogRecord, scope: str = CLAUDE_SCOPE, resource: Mapping[str, Any] | None = None
) -> ExportLogsServiceRequest:
    """An OTLP request of records of one scope and resource."""
    pairs = [KeyValue(key=key, value=_any_value(value)) for key, value in (resource or {}).items()]
    scoped = ScopeLogs(scope=InstrumentationScope(name=scope), log_records=records)
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=Resource(attributes=pairs), scope_logs=[scoped])]
    )


def views_of_logs(request: ExportLogsServiceRequest) -> list[SpanView]:
    """The calls in a request."""
    return [item for item in items_of_logs(request) if isinstance(item, SpanView)]


def items_of_logs(request: ExportLogsServiceRequest) -> Iterator[SpanView | LogContent]:
    """The calls in a request, and the content of spans."""
    records = records_of_bytes(request.SerializeToString())
    return views_of_records(record for record in records if record is not None)
