"""A gateway as a process: it accepts spans, and stops in order."""

from __future__ import annotations

import grpc
import requests

from otel_posthog.gateway.grpc_service import EXPORT
from tests.delivery.capture_server import CaptureServer
from tests.gateway.conftest import StartGateway, some_spans, span_ids

TOKEN = {"authorization": "Bearer a-token-of-a-test-0123456789"}


def test_a_gateway_answers_when_posthog_has_the_events_and_exits_with_0(
    start_gateway: StartGateway, posthog: CaptureServer
) -> None:
    gateway = start_gateway()
    answer = requests.post(
        f"{gateway.url}/v1/traces",
        some_spans(5).SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
        timeout=30,
    )
    assert (answer.status_code, answer.content) == (200, b"")
    assert span_ids(posthog) == [1, 2, 3, 4, 5]
    assert gateway.end() == 0
    assert gateway.lines()[-1]["message"] == f"Finished server process [{gateway.process.pid}]"


def test_the_log_names_the_senders_of_rejected_requests_and_spans(start_gateway: StartGateway) -> None:
    token = TOKEN["authorization"].split()[1]
    gateway = start_gateway("--grpc-port", "0", environ={"OTEL_POSTHOG_GATEWAY_TOKEN": token})
    spans = some_spans(1)
    spans.resource_spans[0].scope_spans[0].spans[0].span_id = b""
    url, kind = f"{gateway.url}/v1/traces", {"Content-Type": "application/x-protobuf"}
    assert requests.post(url, b"", headers=kind, timeout=30).status_code == 401
    body = spans.SerializeToString()
    assert requests.post(url, body, headers={**kind, **TOKEN}, timeout=30).status_code == 200
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        call = channel.unary_unary(EXPORT)
        call(body, metadata=(*TOKEN.items(),), timeout=30)
        broken = call.future(b"no protobuf", metadata=(*TOKEN.items(),)).exception(timeout=30)
        assert broken.code() is grpc.StatusCode.INVALID_ARGUMENT
    gateway.wait_for_line(
        "Rejected a request from 127.0.0.1 with 401; its spans may be lost: the header Authorization"
    )
    gateway.wait_for_line(
        "Rejected a request from 127.0.0.1 with 400; its spans may be lost: the body is no OTLP"
    )
    # both requests, once a minute
    assert len(gateway.wait_for_line("Rejected 1 spans from 127.0.0.1: a span has no trace id")) == 1
