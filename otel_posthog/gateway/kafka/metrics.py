"""What a consumer did and how far behind it is, for Prometheus, by OpenTelemetry's exporter."""

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
    "batches": ("{batch}", "batches of messages that were handed on"),
    "spans": ("{span}", "spans of which every event is accepted by PostHog or on disk"),
    "rejected_spans": ("{span}", "spans that could not be converted, or that PostHog refused"),
    "dead_letters": ("{message}", "messages in the dead-letter topic"),
    "retries": ("{attempt}", "attempts that failed and were made again"),
    "pauses": ("{pause}", "times that fetching was paused"),
    "rebalances": ("{rebalance}", "times that partitions were assigned"),
    "lost_partitions": ("{partition}", "partitions that were taken away without notice"),
    "failed_commits": ("{commit}", "commits that failed"),
}
_GAUGES = {
    "held_bytes": ("By", "messages that are here and not safe yet"),
    "partitions": ("{partition}", "partitions that are read here"),
    "paused": ("1", "1 while nothing is fetched"),
}
"""By name: unit and meaning."""


def serve(
    host: str, port: int, stats: Callable[[], Mapping[str, int]], lags: Callable[[], Mapping[Partition, int]]
) -> Callable[[], None]:
    """Serve `/metrics`; call what is returned to end it.

    Raises:
        OSError: it cannot be listened there.
    """
    provider = MeterProvider([PrometheusMetricReader(disable_target_info=True)])
    meter = provider.get_meter("otel_posthog.consume", __version__)
    for create, names in (
        (meter.create_observable_counter, _COUNTERS),
        (meter.create_observable_gauge, _GAUGES),
    ):
        for name, (unit, meaning) in names.items():
            create(f"otel_posthog.consume.{name}", [_reading(stats, name)], unit, meaning)

    def behind(_: CallbackOptions) -> Iterator[Observation]:
        for (topic, partition), lag in lags().items():
            yield Observation(lag, {"topic": topic, "partition": partition})

    meter.create_observable_gauge(
        "otel_posthog.consume.lag", [behind], "{message}", "messages after the last committed one"
    )
    server, thread = start_http_server(port, host)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()
        provider.shutdown()

    return end


def _reading(stats: Callable[[], Mapping[str, int]], name: str) -> Callable[[Any], Iterable[Observation]]:
    return lambda _: [Observation(stats()[name])]
