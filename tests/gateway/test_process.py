"""A gateway as a process: it takes spans, and ends well."""

from __future__ import annotations

import requests

from tests.delivery.capture_server import CaptureServer
from tests.gateway.conftest import StartGateway, some_spans, span_ids


def test_a_gateway_answers_when_posthog_has_it_and_ends_well(
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
