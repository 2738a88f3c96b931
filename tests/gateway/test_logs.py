"""Log records beside spans, and ignored metrics, over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import gzip
import json
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.forwarder import forwarder
from otel_posthog.gateway.decode import JSON, PROTOBUF, RejectedSpans
from otel_posthog.gateway.decode_logs import decode_logs
from otel_posthog.gateway.grpc_service import METHODS
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.limits import Limits, RequestRejectedError
from otel_posthog.gateway.projects import Projects
from tests.delivery.capture_server import CaptureServer
from tests.gateway.support import body_of, gate
from tests.gateway.test_grpc_service import rpc_gate, send
from tests.support.logs import (
    CLAUDE,
    CLAUDE_SCOPE,
    CLIS,
    TIME,
    golden_logs,
    log_record,
    logs_request,
    views_of_logs,
)
from tests.support.otlp_json import otlp_json
from tests.support.spans import CHAT, SPAN_ID, START, TRACE_ID, otlp_request, sdk_span

LOGS, METRICS = "/v1/logs", "/v1/metrics"
SECOND = 1_000_000_000


def body_of_logs(*records: Any, kind: str = PROTOBUF, scope: str = CLAUDE_SCOPE) -> bytes:
    request = logs_request(*records, scope=scope)
    return json.dumps(otlp_json(request)).encode() if kind == JSON else request.SerializeToString()


def events_of(server: CaptureServer, name: str) -> list[dict[str, Any]]:
    return [event["properties"] for event in server.events if event["event"] == name]


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_a_log_record_becomes_a_generation(kind: str) -> None:
    with gate() as (client, _, server):
        response = client.post(body_of_logs(log_record(CLAUDE), kind=kind), kind=kind, path=LOGS)
        assert (response.status, response.headers["content-type"]) == (200, kind)
        (generation,) = events_of(server, "$ai_generation")
    assert generation["$ai_model"] == "claude-sonnet-4-5"


def test_a_compressed_body_is_read() -> None:
    with gate() as (client, _, server):
        body = gzip.compress(body_of_logs(log_record(CLAUDE)))
        assert client.post(body, path=LOGS, content_encoding="gzip").status == 200
        assert len(events_of(server, "$ai_generation")) == 1


def test_a_request_that_is_sent_again_gives_the_same_events() -> None:
    with gate() as (client, _, server):
        for _ in range(2):
            client.post(golden_logs("claude-code").SerializeToString(), path=LOGS)
        uuids = [event["uuid"] for event in server.events]
    assert len(uuids) == 2 * len(set(uuids))


def test_other_log_records_are_ignored_and_counted() -> None:
    with gate() as (client, request_handler, server):
        other = log_record({"event.name": "login"}, body="Ada has logged in")
        request = logs_request(other, other, scope="an application")
        request.MergeFrom(logs_request(log_record(CLAUDE)))
        assert client.post(request.SerializeToString(), path=LOGS).status == 200
        assert request_handler.stats()["log_records"] == {"read": 1, "ignored": 2}
        assert "Ada" not in json.dumps(server.events)


def test_an_unreadable_record_is_rejected_alone() -> None:
    document = json.loads(body_of_logs(log_record(CLAUDE), kind=JSON))
    document["resourceLogs"][0]["scopeLogs"][0]["logRecords"].append({"attributes": 1})
    with gate() as (client, _, server):
        response = client.post(json.dumps(document).encode(), kind=JSON, path=LOGS)
        assert len(events_of(server, "$ai_generation")) == 1
    assert json.loads(response.body)["partialSuccess"]["rejectedLogRecords"] == "1"


@pytest.mark.parametrize("path", [LOGS, METRICS])
def test_the_token_is_required(path: str) -> None:
    with gate(token="a token") as (client, _, _):
        assert client.post(b"", path=path).status == 401
        assert client.post(b"", path=path, authorization="Bearer a token").status == 200


@pytest.mark.parametrize("path", [LOGS, METRICS])
def test_a_body_beyond_the_limit_is_rejected(path: str) -> None:
    with gate(limits=Limits(body=10)) as (client, _, _):
        assert client.post(b"x" * 11, path=path).status == 413


@pytest.mark.parametrize("path", [LOGS, METRICS])
@pytest.mark.parametrize(("method", "kind", "status"), [("GET", PROTOBUF, 405), ("POST", "text/plain", 415)])
def test_methods_and_content_types_are_those_of_traces(
    path: str, method: str, kind: str, status: int
) -> None:
    with gate() as (client, _, _):
        assert client.send(method, path, {"content-type": kind}).status == status


def test_damaged_bytes_are_rejected() -> None:
    with gate() as (client, _, _):
        assert client.post(b"\x0a\xff", path=LOGS).status == 400


@pytest.mark.parametrize(("kind", "answer"), [(PROTOBUF, b""), (JSON, b"{}")])
def test_metrics_are_accepted_and_counted(kind: str, answer: bytes) -> None:
    with gate() as (client, request_handler, server):
        response = client.post(b"\x0a\xff", kind=kind, path=METRICS)
        assert (response.status, response.body) == (200, answer)
        assert request_handler.stats()["signals"] == {"traces": 0, "logs": 0, "metrics": 1}
        assert not server.events


@pytest.mark.parametrize(("method", "signal"), METHODS.items())
def test_all_signals_are_accepted_over_grpc(method: str, signal: str) -> None:
    with rpc_gate() as opened:
        sent = send(opened.target, b"", method=method)
        assert sent.code is grpc.StatusCode.OK
        assert opened.gate.request_handler.stats()["signals"][signal] == 1


def test_a_log_record_over_grpc_becomes_a_generation() -> None:
    with rpc_gate() as opened:
        method = next(method for method, signal in METHODS.items() if signal == "logs")
        send(opened.target, body_of_logs(log_record(CLAUDE)), method=method)
        assert len(events_of(opened.posthog, "$ai_generation")) == 1


def test_the_answer_to_logs_is_a_logs_response() -> None:
    with gate() as (client, _, _):
        body = client.post(body_of_logs(log_record(CLAUDE)), path=LOGS).body
    assert ExportLogsServiceResponse.FromString(body) == ExportLogsServiceResponse()


@pytest.mark.parametrize("content_first", [True, False])
def test_messages_join_the_call_of_their_span_and_count_nothing(content_first: bool) -> None:
    message = log_record(
        {}, event="gen_ai.user.message", body={"content": "hello"}, trace_id=TRACE_ID, span_id=SPAN_ID
    )
    requests = [
        (LOGS, body_of_logs(message, scope="an instrumentor")),
        ("/v1/traces", body_of(sdk_span(CHAT))),
    ]
    with gate() as (client, _, server):
        for path, body in requests if content_first else requests[::-1]:
            assert client.post(body, path=path).status == 200
        (generation,) = events_of(server, "$ai_generation")
    assert ("hello" in json.dumps(generation)) is content_first


@pytest.mark.parametrize("log_first", [True, False])
def test_a_call_in_a_log_record_and_a_span_counts_once(log_first: bool) -> None:
    attributes = {**CHAT, "gen_ai.provider.name": "anthropic", "gen_ai.request.model": CLAUDE["model"]}
    span = body_of(sdk_span(attributes))
    record = log_record(CLAUDE, time_ns=START + SECOND, trace_id=TRACE_ID, span_id=SPAN_ID)
    requests = [(LOGS, body_of_logs(record)), ("/v1/traces", span)]
    with gate() as (client, _, server):
        for path, body in requests if log_first else requests[::-1]:
            client.post(body, path=path)
        assert len(events_of(server, "$ai_generation")) == 1


@pytest.mark.parametrize("milliseconds", ["1499", "1500", "1501"])
def test_a_call_with_its_span_has_the_id_of_the_span(milliseconds: str) -> None:
    attributes = {**CHAT, "gen_ai.provider.name": "anthropic", "gen_ai.request.model": CLAUDE["model"]}
    (span,) = views_of_request(otlp_request(sdk_span(attributes)))
    assert isinstance(span, SpanView)
    record = log_record(
        {**CLAUDE, "duration_ms": milliseconds}, time_ns=span.end_ns or 0, trace_id=TRACE_ID, span_id=SPAN_ID
    )
    events = Pipeline(families=frozenset({"ai"})).finished_events(*views_of_logs(logs_request(record)), span)
    assert [event["properties"]["$ai_span_id"] for event in events] == [span.span_id]
    assert events[0]["properties"]["$ai_input_tokens"] == 10


@pytest.mark.parametrize("same", [True, False])
def test_content_joins_only_spans_of_its_own_project(same: bool) -> None:
    with gate() as (client, request_handler, server):
        sender = forwarder({"api_key": "phc_b", "endpoint": server.url, "events": "ai"}, environ={})
        other = ProjectIngest(sender)
        request_handler.projects = Projects(
            {"a": request_handler.projects.by_name[""], "b": other}, header="x-project"
        )
        message = log_record(
            {}, event="gen_ai.user.message", body={"content": "hello"}, trace_id=TRACE_ID, span_id=SPAN_ID
        )
        client.post(body_of_logs(message, scope="any"), path=LOGS, x_project="a")
        client.post(body_of(sdk_span(CHAT)), x_project="a" if same else "b")
        assert ("hello" in json.dumps(server.events)) is same
        sender.close(1)


@pytest.mark.parametrize("cli", CLIS)
def test_each_cli_gives_as_many_calls_as_its_golden_events(cli: str) -> None:
    with gate() as (client, _, server):
        client.post(golden_logs(cli).SerializeToString(), path=LOGS)
        failed = [event["$ai_is_error"] for event in events_of(server, "$ai_generation")]
    assert (failed.count(False), failed.count(True)) == (1, 1 if cli == "gemini-cli" else 2)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([PROTOBUF, JSON]))
def test_any_body_is_read_or_rejected(body: bytes, kind: str) -> None:
    with contextlib.suppress(RequestRejectedError):
        decode_logs(kind, body, RejectedSpans())


def test_too_many_attributes_are_rejected() -> None:
    values = ["x"] * 300_000
    record = log_record({**CLAUDE, "x": values}, time_ns=TIME)
    body = logs_request(record).SerializeToString()
    with pytest.raises(RequestRejectedError, match=r"no OTLP request|attributes"):
        decode_logs(PROTOBUF, body, RejectedSpans())
