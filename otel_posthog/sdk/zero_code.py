"""`OTEL_TRACES_EXPORTER=posthog opentelemetry-instrument python app.py`, with nothing else set.

Three things prevent that line from working, and one entry point here solves each:

- without a distribution package nobody configures the SDK. With `opentelemetry-distro`, metrics and logs
  default to an OTLP exporter; if none is installed, the whole start-up is given up (`sdk/_configuration`: an
  unknown exporter raises). `PostHogDistro` sets those two to none then, leaves everything else to the other
  distribution, and configures the SDK if there is none;
- the order of files decides which of several distributions is loaded. So `environment_variables`, which the
  command line loads first, does the same through the environment;
- the SDK puts its own batch processor before an exporter. It loses spans in a burst and does not see the
  start of a span. `take_over` replaces it with ours.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.distro import BaseDistro, DefaultDistro
from opentelemetry.instrumentation.version import __version__ as instrumentation_version
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util._importlib_metadata import EntryPoint, entry_points

from otel_posthog.sdk.configure import adopt
from otel_posthog.sdk.environment_variables import prepare
from otel_posthog.sdk.exporter import PostHogSpanExporter
from otel_posthog.sdk.processor import PostHogSpanProcessor

__all__ = ["PostHogDistro", "take_over"]

_log = logging.getLogger("otel_posthog")


class _Configurator(_OTelSDKConfigurator):
    """OpenTelemetry's own configuration by environment variables."""


class PostHogDistro(BaseDistro):  # type: ignore[misc]  # untyped base
    """The distribution of the one line. It leaves the work to another distribution if there is one."""

    def _configure(self, **kwargs: Any) -> None:
        prepare(os.environ)
        self._other().configure(**kwargs)
        if not entry_points(group="opentelemetry_configurator"):
            configurator: Any = _Configurator
            configurator().configure(auto_instrumentation_version=instrumentation_version)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentor as the other distribution would."""
        self._other().load_instrumentor(entry_point, **kwargs)

    def _other(self) -> BaseDistro:
        for entry_point in entry_points(group="opentelemetry_distro"):
            if entry_point.name != "posthog":
                other = entry_point.load()()
                if isinstance(other, BaseDistro):
                    return other
        return DefaultDistro()


def take_over() -> None:
    """Replace each batch processor that has our exporter with our processor."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return
    # The SDK has no public way to ask a provider for its processors or to take one away.
    active = getattr(provider, "_active_span_processor", None)
    processors = getattr(active, "_span_processors", ())
    for processor in processors:
        exporter = getattr(processor, "span_exporter", None)
        if isinstance(processor, BatchSpanProcessor) and isinstance(exporter, PostHogSpanExporter):
            ours = PostHogSpanProcessor(exporter)
            ours.follow_batch_settings(os.environ)
            active._span_processors = tuple(ours if p is processor else p for p in active._span_processors)  # type: ignore[union-attr]
            untyped: Any = processor
            untyped.shutdown()
            adopt(ours)
