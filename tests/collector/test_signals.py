"""The real Collector sends spans, log records and metrics through three pipelines to one gateway."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)

from tests.delivery.capture_server import CaptureServer
from tests.gateway.conftest import StartGateway, posthog, start_gateway  # noqa: F401 - fixtures
from tests.support.collector import Program, collector, send
from tests.support.logs import golden_logs
from tests.support.spans import CHAT, sdk_span
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("_real_collector")


def post(to: Program, path: str, body: bytes) -> None:
    """Send a body to the Collector, and check that it accepts it."""
    request = urllib.request.Request(
        to.url + path, data=body, headers={"Content-Type": "application/x-protobuf"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


def some_metrics() -> bytes:
    """Return a request with one gauge."""
    point = NumberDataPoint(time_unix_nano=1, as_int=1)
    metric = Metric(name="claude_code.token.usage", gauge=Gauge(data_points=[point]))
    request = ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(scope_metrics=[ScopeMetrics(metrics=[metric])])]
    )
    return request.SerializeToString()


def signals(url: str) -> dict[str, int]:
    """Return the number of accepted requests by signal, from the gateway's metrics."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
        text = response.read().decode()
    counts = Counter[str]()
    for labels, count in re.findall(
        r"^otel_posthog_gateway_signals_total\{(.*?)\} (\S+)$", text, re.MULTILINE
    ):
        counts[re.search(r'signal="(\w+)"', labels)[1]] += int(float(count))  # type: ignore[index]
    return dict(counts)


def test_three_pipelines_go_to_one_gateway(
    posthog: CaptureServer,  # noqa: F811 - the fixture
    start_gateway: StartGateway,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    gateway = start_gateway()
    url = f"http://{gateway.host}:{gateway.port}"
    with collector(tmp_path, "all-signals.yaml", OTEL_POSTHOG_GATEWAY=url) as running:
        send(running, [sdk_span(CHAT)])
        post(running, "/v1/logs", golden_logs("claude-code").SerializeToString())
        post(running, "/v1/metrics", some_metrics())
        until(lambda: signals(url) == {"traces": 1, "logs": 1, "metrics": 1}, "all signals are accepted")
        log = running.output
    models = Counter(
        event["properties"]["$ai_model"] for event in posthog.events if event["event"] == "$ai_generation"
    )
    assert models == {"gpt-5.1": 1, "claude-sonnet-4-5-20250929": 3}
    assert "Exporting failed" not in log
    assert "Partial success" not in log
