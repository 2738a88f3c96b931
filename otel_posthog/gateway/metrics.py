"""What a worker counts, as Prometheus reads it; through OpenTelemetry's meters and its exporter.

Nothing is counted twice: all but durations is read from our counts when somebody asks.
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

from otel_posthog.forwarder.forwarder import Forwarder
from otel_posthog.forwarder.metrics import measure
from otel_posthog.gateway.request_handler import RequestHandler
from otel_posthog.runtime.version import __version__

__all__ = ["SPOOL_FAMILIES", "Metrics"]

PREFIX = "otel_posthog.gateway."
SPOOL_FAMILIES = ("otel_posthog_gateway_spool_",)
"""How names begin, in Prometheus, of numbers that are the same in all workers."""
SPOOL_SECONDS = 5.0
"""So long what was found in the spool is told again: to count it takes a query."""
BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds, of the histogram."""

_Stats = dict[str, dict[Any, int]]
Reading = Iterable[tuple[float, dict[str, str]]]
"""Numbers, and what each is about."""


class Metrics:
    """The meters of a worker. Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._with_spool = True
        self._found: tuple[float, dict[str, dict[str, Any]]] = (float("-inf"), {})
        self._reader = PrometheusMetricReader()
        resource = Resource.create({"service.name": "otel-posthog-gateway", "service.version": __version__})
        self._provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("otel_posthog.gateway", __version__)
        self._duration = self._meter.create_histogram(
            PREFIX + "request.duration",
            "s",
            "To decode, convert and deliver the spans of a request",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )

    def took(self, what: str, seconds: float) -> None:
        """Count what a part of a request took."""
        self._duration.record(seconds, {"part": what})

    def watch(self, request_handler: RequestHandler, connections: Callable[[], Collection[object]]) -> None:
        """Report what is counted there, and by the forwarders of its projects."""
        forwarders = {name: ingest.forwarder for name, ingest in request_handler.projects.by_name.items()}
        for name, forwarder in forwarders.items():
            measure(forwarder, self._provider, _about(name))

        def connected() -> Reading:
            return ((len(connections()), {"protocol": "http"}),)

        def halted() -> Reading:
            return [(bool(each.delivery.halted_for()), _about(name)) for name, each in forwarders.items()]

        for name, unit, about, read in _OF_RECEPTION:
            self._observe(name, unit, about, functools.partial(_read, request_handler, read))
        self._observe("connections", "{connection}", "Connections that are open", connected)
        self._observe("halted", "", "Whether PostHog refuses the key or the account", halted)
        for row in _OF_SPOOL:
            self._observe(row.name, row.unit, row.about, self._of_spool(row.read, forwarders))

    def _observe(self, name: str, unit: str, about: str, read: Callable[[], Reading]) -> None:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for value, attributes in read():
                yield Observation(value, attributes)

        create = (
            self._meter.create_observable_counter
            if name in _COUNTERS
            else self._meter.create_observable_gauge
        )
        create(PREFIX + name, [observe], unit, about)

    def _of_spool(
        self, read: Callable[[dict[str, Any]], float | None], forwarders: dict[str, Forwarder]
    ) -> Callable[[], Reading]:
        def found() -> Reading:
            if not self._with_spool:
                return
            for name, stats in self._spools(forwarders).items():
                value = read(stats)
                if value is not None:
                    yield value, _about(name)

        return found

    def _spools(self, forwarders: dict[str, Forwarder]) -> dict[str, dict[str, Any]]:
        since, found = self._found
        if time.monotonic() - since > SPOOL_SECONDS:
            found = {
                name: {**stats, "full": forwarder.backlog.is_full()}
                for name, forwarder in forwarders.items()
                if (stats := forwarder.stats()["spool"])
            }
            self._found = (time.monotonic(), found)
        return found

    def text(self, *, spool: bool = True) -> str:
        """All numbers in Prometheus' text format 0.0.4; those of the `spool` are the same in all workers."""
        with self._lock:
            self._with_spool = spool
            return generate_latest(REGISTRY).decode()

    def close(self) -> None:
        """Report no more."""
        self._provider.shutdown()


def _about(project: str) -> dict[str, str]:
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


_COUNTERS = frozenset({"requests", "spans"})
_OF_RECEPTION: tuple[tuple[str, str, str, Callable[[_Stats], Reading]], ...] = (
    ("requests", "{request}", "Requests for spans, by protocol and status", _requests),
    ("spans", "{span}", "Spans accepted, handed back to be sent again, rejected, or ignored", _spans),
    (
        "in_flight",
        "By",
        "Bytes of requests that are worked on",
        lambda stats: [(stats["bytes"]["in_flight"], {})],
    ),
    ("in_flight.limit", "By", "The limit of these bytes", lambda stats: [(stats["bytes"]["limit"], {})]),
)


class _OfSpool(NamedTuple):
    """A number about the spool of a project."""

    name: str
    unit: str
    about: str
    read: Callable[[dict[str, Any]], float | None]


_OF_SPOOL = (
    _OfSpool("spool.entries", "{entry}", "Entries that wait on disk", lambda found: found["entries"]),
    _OfSpool("spool.size", "By", "Bytes that wait on disk", lambda found: found["bytes"]),
    _OfSpool("spool.oldest", "s", "Age of the oldest entry", lambda found: found["oldest_seconds"] or 0.0),
    _OfSpool(
        "spool.dead_letters",
        "{entry}",
        "Events that PostHog refused for good",
        lambda found: found["dead_letters"],
    ),
    _OfSpool("spool.full", "", "Whether the spool takes nothing more", lambda found: found["full"]),
)
