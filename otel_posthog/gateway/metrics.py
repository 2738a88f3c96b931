"""The metrics of a worker for Prometheus, through OpenTelemetry's meters and exporter.

Nothing is counted twice: all but durations is read from the parts' own counts at each scrape.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY, generate_latest

from otel_posthog.forwarder import Forwarder
from otel_posthog.forwarder.metrics import measure
from otel_posthog.gateway.request_handler import RequestHandler
from otel_posthog.runtime.version import __version__

__all__ = ["SPOOL_FAMILIES", "Metrics"]

PREFIX = "otel_posthog.gateway."
SPOOL_FAMILIES = ("otel_posthog_gateway_spool_",)
"""Prefixes of the Prometheus families that are the same in all workers."""
SPOOL_SECONDS = 5.0
"""Time that the counts of the spool are cached, because they take a query."""
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The buckets of the histogram of durations, in seconds."""

_Stats = dict[str, dict[Any, int]]
Reading = Iterable[tuple[float, dict[str, str]]]
"""Numbers and their attributes."""


class Metrics:
    """The meters of a worker. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._with_spool = True
        self._spool_stats: tuple[float, dict[str, dict[str, Any]]] = (float("-inf"), {})
        """By project, and when they were read."""
        self._reader = PrometheusMetricReader()
        resource = Resource.create({"service.name": "otel-posthog-gateway", "service.version": __version__})
        self._provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("otel_posthog.gateway", __version__)
        self._duration = self._meter.create_histogram(
            PREFIX + "request.duration",
            "s",
            "Time to decode, convert and deliver the spans of a request",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )

    def record_duration(self, part: str, seconds: float) -> None:
        """Record the duration of a part of a request: `decode`, `convert` or `deliver`."""
        self._duration.record(seconds, {"part": part})

    def watch(self, request_handler: RequestHandler, connections: Callable[[], Collection[object]]) -> None:
        """Report the counts of the request handler and of its projects' forwarders."""
        forwarders = {name: ingest.forwarder for name, ingest in request_handler.projects.by_name.items()}
        for name, forwarder in forwarders.items():
            measure(forwarder, self._provider, _project_attributes(name))

        def connected() -> Reading:
            return ((len(connections()), {"protocol": "http"}),)

        def halted() -> Reading:
            return [(bool(each.halted_for), _project_attributes(name)) for name, each in forwarders.items()]

        for name, unit, description, read in _REQUEST_METRICS:
            self._observe(name, unit, description, functools.partial(_read, request_handler, read))
        self._observe("connections", "{connection}", "Open connections", connected)
        self._observe("halted", "", "Whether PostHog rejects the key or the account", halted)
        for metric in _SPOOL_METRICS:
            self._observe(
                metric.name, metric.unit, metric.description, self._spool_reading(metric.read, forwarders)
            )

    def _observe(self, name: str, unit: str, description: str, read: Callable[[], Reading]) -> None:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for value, attributes in read():
                yield Observation(value, attributes)

        create = (
            self._meter.create_observable_counter
            if name in _COUNTERS
            else self._meter.create_observable_gauge
        )
        create(PREFIX + name, [observe], unit, description)

    def _spool_reading(
        self, read: Callable[[dict[str, Any]], float | None], forwarders: dict[str, Forwarder]
    ) -> Callable[[], Reading]:
        def reading() -> Reading:
            if not self._with_spool:
                return
            for name, stats in self._spools(forwarders).items():
                value = read(stats)
                if value is not None:
                    yield value, _project_attributes(name)

        return reading

    def _spools(self, forwarders: dict[str, Forwarder]) -> dict[str, dict[str, Any]]:
        read_at, spools = self._spool_stats
        if time.monotonic() - read_at > SPOOL_SECONDS:
            spools = {
                name: {**stats, "full": forwarder.spool_is_full}
                for name, forwarder in forwarders.items()
                if (stats := forwarder.stats()["spool"])
            }
            self._spool_stats = (time.monotonic(), spools)
        return spools

    def text(self, *, spool: bool = True) -> str:
        """Return all metrics in Prometheus' text format 0.0.4.

        Without `spool`, those that are the same in all workers are left out.
        """
        with self._lock:
            self._with_spool = spool
            return generate_latest(REGISTRY).decode()

    def close(self) -> None:
        """Stop reporting."""
        self._provider.shutdown()


def _project_attributes(project: str) -> dict[str, str]:
    return {"posthog.project": project} if project else {}


def _read(request_handler: RequestHandler, read: Callable[[_Stats], Reading]) -> Reading:
    return read(request_handler.stats())


def _requests(stats: _Stats) -> Reading:
    return [
        (count, {"protocol": protocol, "status": status})
        for (protocol, status), count in stats["requests"].items()
    ]


def _spans(stats: _Stats) -> Reading:
    return [(count, {"outcome": outcome.replace(" ", "_")}) for outcome, count in stats["spans"].items()]


def _by(key: str, label: str) -> Callable[[_Stats], Reading]:
    """Return the reader of counts by a label."""
    return lambda stats: [(count, {label: value}) for value, count in stats[key].items()]


_COUNTERS = frozenset({"requests", "spans", "signals", "log_records"})
_REQUEST_METRICS: tuple[tuple[str, str, str, Callable[[_Stats], Reading]], ...] = (
    ("requests", "{request}", "Requests for spans, by protocol and status", _requests),
    ("spans", "{span}", "Spans accepted, handed back to be retried, rejected, or ignored", _spans),
    ("signals", "{request}", "Accepted requests by signal; metrics are ignored", _by("signals", "signal")),
    (
        "log_records",
        "{record}",
        "Log records read for calls, or ignored because they are no such event",
        _by("log_records", "outcome"),
    ),
    (
        "in_flight",
        "By",
        "Bytes of requests in flight",
        lambda stats: [(stats["bytes"]["in_flight"], {})],
    ),
    ("in_flight.limit", "By", "The limit of bytes in flight", lambda stats: [(stats["bytes"]["limit"], {})]),
)


class _SpoolMetric(NamedTuple):
    """A metric of a project's spool."""

    name: str
    unit: str
    description: str
    read: Callable[[dict[str, Any]], float | None]


_SPOOL_METRICS = (
    _SpoolMetric("spool.entries", "{entry}", "Entries that wait on disk", lambda stats: stats["entries"]),
    _SpoolMetric("spool.size", "By", "Bytes that wait on disk", lambda stats: stats["bytes"]),
    _SpoolMetric(
        "spool.oldest", "s", "Age of the oldest entry", lambda stats: stats["oldest_seconds"] or 0.0
    ),
    _SpoolMetric(
        "spool.dead_letters",
        "{entry}",
        "Events that PostHog rejected for good",
        lambda stats: stats["dead_letters"],
    ),
    _SpoolMetric("spool.full", "", "Whether the spool is full", lambda stats: stats["full"]),
)
