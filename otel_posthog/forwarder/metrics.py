"""Metrics about ourselves, under OpenTelemetry's names for SDK components, if there is a meter provider.

A reading takes our own counts; nothing is counted twice. Source of the names: semantic conventions,
"OpenTelemetry SDK metrics".
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from otel_posthog.forwarder.forwarder import Forwarder
from otel_posthog.runtime.version import __version__

__all__ = ["measure"]

_PROCESSOR, _EXPORTER = "posthog_span_processor", "posthog_span_exporter"

Reading = Callable[[dict[str, Any]], Iterable[tuple[int, str | None]]]
"""Yields numbers from `Forwarder.stats`, each with its error type, if any."""

_About = dict[str, str]


class _Measured:
    """The forwarders that report to one meter provider."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self._forwarders: weakref.WeakKeyDictionary[Forwarder, tuple[int, _About]] = (
            weakref.WeakKeyDictionary()
        )
        self._numbers = itertools.count()
        meter = metrics.get_meter("otel_posthog", __version__, provider)
        counter, gauge = meter.create_observable_counter, meter.create_observable_up_down_counter
        self._instruments = [
            create(name, [self._observed(component, read)], unit="{span}")
            for create, name, component, read in (
                (counter, "otel.sdk.processor.span.processed", _PROCESSOR, _processed),
                (gauge, "otel.sdk.processor.span.queue.size", _PROCESSOR, _queued),
                (counter, "otel.sdk.exporter.span.exported", _EXPORTER, _exported),
                (gauge, "otel.sdk.exporter.span.inflight", _EXPORTER, _in_flight),
            )
        ]

    def add(self, forwarder: Forwarder, about: _About) -> None:
        self._forwarders[forwarder] = (next(self._numbers), about)

    def _observed(self, component: str, read: Reading) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for forwarder, (number, about) in [*self._forwarders.items()]:
                name = f"{component}/{number}"
                whose = {"otel.component.type": component, "otel.component.name": name, **about}
                for value, error in read(forwarder.stats(spool=False)):
                    yield Observation(value, whose if error is None else {**whose, "error.type": error})

        return observe


_measured: weakref.WeakKeyDictionary[Any, _Measured] = weakref.WeakKeyDictionary()
_of_all: list[_Measured] = []
"""The forwarders that report to the global provider, whichever that will be."""


def measure(
    forwarder: Forwarder, provider: MeterProvider | None = None, about: Mapping[str, str] | None = None
) -> None:
    """Report the forwarder's counts, with attributes `about` it, to a provider or the global one."""
    if provider is None:
        if not _of_all:
            _of_all.append(_Measured(None))
        measured = _of_all[0]
    else:
        measured = _measured.get(provider) or _measured.setdefault(provider, _Measured(provider))
    measured.add(forwarder, dict(about or {}))


def _processed(stats: dict[str, Any]) -> Iterator[tuple[int, str | None]]:
    spans = stats["spans"]
    yield spans["converted"], None
    yield from ((count, reason) for reason, count in spans["dropped"].items())


def _queued(stats: dict[str, Any]) -> Iterator[tuple[int, str | None]]:
    yield stats["queue"]["waiting"], None


def _in_flight(stats: dict[str, Any]) -> Iterator[tuple[int, str | None]]:
    yield stats["queue"]["in_flight"], None


_OF_A_SPAN = (
    ("$ai_generation", "$ai_embedding", "$ai_span", "$ai_trace"),
    ("llm_completion_success", "llm_completion_failed"),
    ("llm_generation",),
)
"""By family: the events of which every span makes exactly one."""


def _exported(stats: dict[str, Any]) -> Iterator[tuple[int, str | None]]:
    events = stats["events"]
    queued = events["queued"]
    counted = next((family for family in _OF_A_SPAN if any(name in queued for name in family)), ())
    yield sum(events["delivered"].get(name, 0) for name in counted), None
    for reason in sorted({reason for name in counted for reason in events["refused"].get(name, ())}):
        yield sum(events["refused"].get(name, {}).get(reason, 0) for name in counted), reason
