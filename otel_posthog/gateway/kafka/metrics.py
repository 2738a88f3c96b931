"""The counts and the lag of a consumer for Prometheus, through OpenTelemetry's exporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from otel_posthog.gateway.kafka.batch import Partition
from otel_posthog.runtime.version import __version__

__all__ = ["serve"]

_COUNTERS = {
    "messages": ("{message}", "messages that were read"),
    "bytes": ("By", "bytes of messages that were read"),
    "batches": ("{batch}", "batches of messages whose delivery began"),
    "spans": ("{span}", "spans of which every event is accepted by PostHog or on disk"),
    "rejected_spans": ("{span}", "spans that could not be converted, or that PostHog rejected"),
    "dead_letters": ("{message}", "messages in the dead-letter topic"),
    "retries": ("{attempt}", "attempts that failed and were repeated"),
    "pauses": ("{pause}", "times that fetching was paused"),
    "rebalances": ("{rebalance}", "times that partitions were assigned"),
    "lost_partitions": ("{partition}", "partitions that were lost without a revocation"),
    "failed_commits": ("{commit}", "commits that failed"),
}
_GAUGES = {
    "held_bytes": ("By", "bytes of messages in memory that are not safe yet"),
    "partitions": ("{partition}", "partitions assigned to this consumer"),
    "paused": ("1", "1 while fetching is paused"),
}
"""Unit and description by name."""


def serve(
    host: str, port: int, stats: Callable[[], Mapping[str, int]], lags: Callable[[], Mapping[Partition, int]]
) -> Callable[[], None]:
    """Serve `/metrics`, and return the function that stops it.

    Raises:
        OSError: it cannot listen at this address.
    """
    provider = MeterProvider([PrometheusMetricReader(disable_target_info=True)])
    meter = provider.get_meter("otel_posthog.consume", __version__)
    for create, names in (
        (meter.create_observable_counter, _COUNTERS),
        (meter.create_observable_gauge, _GAUGES),
    ):
        for name, (unit, description) in names.items():
            create(f"otel_posthog.consume.{name}", [_reading(stats, name)], unit, description)

    def lag(_: CallbackOptions) -> Iterator[Observation]:
        for (topic, partition), messages in lags().items():
            yield Observation(messages, {"topic": topic, "partition": partition})

    meter.create_observable_gauge(
        "otel_posthog.consume.lag", [lag], "{message}", "messages after the last committed one"
    )
    server, thread = start_http_server(port, host)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()
        provider.shutdown()

    return stop


def _reading(stats: Callable[[], Mapping[str, int]], name: str) -> Callable[[Any], Iterable[Observation]]:
    return lambda _: [Observation(stats()[name])]
