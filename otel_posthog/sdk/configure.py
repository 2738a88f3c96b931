"""`configure()`: set everything up in one call."""

from __future__ import annotations

import logging
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from typing_extensions import Unpack

from otel_posthog.runtime.install_hint import install_hint
from otel_posthog.sdk.processor import PostHogSpanProcessor

if TYPE_CHECKING:
    from otel_posthog.config.resolve import Options

__all__ = ["configure"]

_log = logging.getLogger("otel_posthog")
_lock = threading.Lock()
_INSTRUMENTORS = ("otel_posthog_openai", "otel_posthog_gemini")
_configured: PostHogSpanProcessor | None = None


def configure(**options: Unpack[Options]) -> PostHogSpanProcessor:
    """Set everything up: a tracer provider (or the existing one), our processor, both instrumentors.

    A second call changes nothing and returns the same processor. Every argument is optional, keyword
    only, and has an environment variable; `docs/configuration.md` lists them.

    Returns:
        The processor, with `force_flush(timeout_millis)`, `shutdown()` and `stats()`.

    Raises:
        ValueError: an argument is invalid; the text names it.
    """
    global _configured  # noqa: PLW0603  # once a process, as OpenTelemetry's provider is
    with _lock:
        if _configured is not None:
            if options:
                _log.warning(
                    "configure() was called before; these options are ignored: %s", ", ".join(options)
                )
            return _configured
        processor = PostHogSpanProcessor(**options)
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            provider = TracerProvider()
            trace.set_tracer_provider(provider)
        provider.add_span_processor(processor)
        _instrument()
        _configured = processor
        return processor


def adopt(processor: PostHogSpanProcessor) -> None:
    """Let `configure()` return this processor, which the environment set up, so that none is added twice."""
    global _configured  # noqa: PLW0603  # as above
    with _lock:
        _configured = processor


def _instrument() -> None:
    """Switch our instrumentors on, found by their entry points: this room must not import them."""
    by_name = {each.name: each for each in entry_points(group="opentelemetry_instrumentor")}
    for name in _INSTRUMENTORS:
        if name not in by_name:
            continue
        try:
            instrumentor = by_name[name].load()()
        except ModuleNotFoundError:
            _log.warning(
                "Nothing is instrumented, because packages are missing: %s", install_hint("openai", "gemini")
            )
            return
        if instrumentor.is_instrumented_by_opentelemetry:
            continue
        try:
            instrumentor.instrument(skip_dep_check=True)
        except ModuleNotFoundError:
            _log.debug("%s: its SDK is not installed.", type(instrumentor).__name__)
