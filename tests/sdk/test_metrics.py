"""Our own metrics, read by a real meter provider in a process of its own: it is set once a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from otel_posthog.local import Inbox

CODE = """
import json
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_posthog import configure
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5.1"}
reader = InMemoryMetricReader()
%s
handle = configure(flush_interval=60)
%s
tracer = trace.get_tracer("app")
for _ in range(3):
    tracer.start_span("chat", attributes=CHAT).end()

def read():
    points = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    points[metric.name + "|" + point.attributes.get("error.type", "")] = point.value
                    assert point.attributes["otel.component.name"].endswith("/0"), point.attributes
    return points

readings = [read()]
handle.force_flush(20_000)
readings.append(read())
print(json.dumps(readings))
"""
SET = "metrics.set_meter_provider(MeterProvider([reader]))"


def read(before: str, after: str, host: str, **environ: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", CODE % (before, after)],
        env={"PATH": os.environ["PATH"], "POSTHOG_API_KEY": "phc_test", "POSTHOG_HOST": host, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    readings: list[dict[str, Any]] = json.loads(done.stdout)
    return readings


@pytest.mark.parametrize(("before", "after"), [(SET, ""), ("", SET)], ids=["before us", "after us"])
@pytest.mark.parametrize("events", ["ai", "llm_completion", "ai,llm_completion", "llm_generation"])
def test_spans_are_counted_in_opentelemetrys_names(
    inbox: Inbox, before: str, after: str, events: str
) -> None:
    waiting, sent = read(before, after, inbox.url, OTEL_EXPORTER_POSTHOG_EVENTS=events)
    assert waiting["otel.sdk.processor.span.queue.size|"] >= 3
    assert waiting["otel.sdk.exporter.span.exported|"] == 0
    assert sent == {
        "otel.sdk.processor.span.queue.size|": 0,
        "otel.sdk.processor.span.processed|": 3,
        "otel.sdk.exporter.span.inflight|": 0,
        "otel.sdk.exporter.span.exported|": 3,
    }


def test_what_is_lost_is_counted_with_its_error(inbox: Inbox) -> None:
    environ = {"OTEL_EXPORTER_POSTHOG_MAX_QUEUE_BYTES": "8192"}
    span = "trace.get_tracer('a').start_span('chat', attributes=CHAT | {'a': 'x' * 400}).end()"
    fill = f"for _ in range(40): {span}"
    _, sent = read(SET, fill, inbox.url, **environ)
    assert sent["otel.sdk.processor.span.processed|queue_full"] > 0
