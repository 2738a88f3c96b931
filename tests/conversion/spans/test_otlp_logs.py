"""Log records are read alike from protobuf and JSON; whatever comes is read, reported or a decode error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.conversion.spans.log_calls import views_of_records
from otel_posthog.conversion.spans.log_record import LogRecord
from otel_posthog.conversion.spans.otlp_logs import holds_log_records, records_of_bytes
from otel_posthog.conversion.spans.otlp_logs_json import records_of_json
from otel_posthog.conversion.spans.span_view import SpanView
from tests.support.logs import CLAUDE, CLIS, golden_logs, log_record, logs_request
from tests.support.otlp_json import otlp_json
from tests.support.spans import CHAT, otlp_request, sdk_span

_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    [
        *("claude_code.api_request", "claude_code.tool_result", "claude_code.user_prompt"),
        *(
            "codex.sse_event",
            "codex.api_request",
            "gemini_cli.api_response",
            "claude_code.assistant_response",
            "qwen-code.tool_call",
        ),
        *("gen_ai.client.inference.operation.details", "gen_ai.choice", "gen_ai.evaluation.result", "other"),
    ]
)
_KEYS = st.sampled_from(
    [
        *("session.id", "prompt.id", "prompt_id", "conversation.id", "model", "duration_ms", "attempt"),
        *("event.timestamp", "event.kind", "error.message", "status_code", "endpoint", "success", "prompt"),
        *("input_token_count", "input_tokens", "request_text", "response_text", "gen_ai.usage.input_tokens"),
        *(
            "gen_ai.output.messages",
            "gen_ai.evaluation.name",
            "tool_name",
            "request_id",
            "body",
            "response",
            "posthog.x",
        ),
    ]
)
_RECORDS = st.builds(
    lambda attributes, body, event, trace_id, span_id: log_record(
        attributes, body=body, event=event, trace_id=trace_id, span_id=span_id
    ),
    st.dictionaries(_KEYS | st.text(max_size=10), _VALUES, max_size=8),
    _VALUES,
    _NAMES,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
)


def read_json(document: Any) -> tuple[list[LogRecord], list[str]]:
    """The records of a JSON request, and what was reported."""
    reported: list[str] = []
    return [record for record in records_of_json(document, reported.append) if record], reported


def read_protobuf(body: bytes) -> list[LogRecord]:
    """The records of an encoded request."""
    return [record for record in records_of_bytes(body) if record]


@pytest.mark.parametrize("cli", CLIS)
def test_the_golden_records_are_read_from_either_form(cli: str) -> None:
    request = golden_logs(cli)
    assert read_json(otlp_json(request)) == (read_protobuf(request.SerializeToString()), [])


@settings(deadline=None)
@given(st.lists(_RECORDS, max_size=4), st.booleans())
def test_json_gives_what_the_bytes_give(records: list[Any], as_in_proto: bool) -> None:
    request = logs_request(*records)
    document = json.loads(json.dumps(otlp_json(request, as_in_proto=as_in_proto)))
    assert read_json(document) == (read_protobuf(request.SerializeToString()), [])


@settings(deadline=None)
@given(st.lists(_RECORDS, max_size=4))
def test_any_records_become_spans_with_ids(records: list[Any]) -> None:
    body = logs_request(*records).SerializeToString()
    for item in views_of_records(read_protobuf(body)):
        assert (len(item.trace_id), len(item.span_id)) == (32, 16)
        if isinstance(item, SpanView):
            assert item.end_ns is None or item.start_ns <= item.end_ns


@settings(deadline=None)
@given(st.lists(_RECORDS, min_size=1, max_size=2), st.data())
def test_damaged_bytes_give_records_or_a_decode_error(records: list[Any], data: st.DataObject) -> None:
    body = bytearray(logs_request(*records).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    holds_log_records(cut)
    with contextlib.suppress(DecodeError):
        [*views_of_records(read_protobuf(cut))]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_records_or_a_decode_error(body: bytes) -> None:
    holds_log_records(body)
    with contextlib.suppress(DecodeError):
        read_protobuf(body)


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("resourceLogs", "scopeLogs", "logRecords", "scope", "resource", "attributes", "key"),
                    *("value", "body", "stringValue", "kvlistValue", "values", "traceId", "timeUnixNano"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(_JSON)
def test_any_json_gives_records_or_reports(document: Any) -> None:
    read_json(document)


@settings(deadline=None)
@given(_JSON)
def test_what_cannot_be_read_costs_only_its_record(damaged: Any) -> None:
    document = otlp_json(logs_request(log_record(CLAUDE)))
    document["resourceLogs"][0]["scopeLogs"][0]["logRecords"].insert(0, damaged)
    records, _ = read_json(document)
    assert records[-1].event == "claude_code.api_request"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"attributes": 1}, "resourceLogs[0].scopeLogs[0].logRecords[0].attributes is not a list"),
        ({"traceId": "x"}, "resourceLogs[0].scopeLogs[0].logRecords[0].traceId is not hex"),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_place(damage: dict[str, Any], sentence: str) -> None:
    document = otlp_json(logs_request(log_record(CLAUDE)))
    document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].update(damage)
    assert read_json(document) == ([], [sentence])


def test_requests_of_log_records_are_told_from_those_of_spans() -> None:
    assert holds_log_records(logs_request(log_record(CLAUDE)).SerializeToString())
    assert not holds_log_records(otlp_request(sdk_span(CHAT)).SerializeToString())
