"""OpenTelemetry GenAI spans in, PostHog AI observability events out, nothing lost on the way."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from otel_posthog.runtime.version import __version__
from otel_posthog.sdk.context.ai_context import ai_context, update_ai_context

if TYPE_CHECKING:
    from otel_posthog.sdk.configure import configure
    from otel_posthog.sdk.executor import ContextThreadPoolExecutor
    from otel_posthog.sdk.exporter import PostHogSpanExporter
    from otel_posthog.sdk.feedback import capture_feedback, capture_metric, current_trace_id
    from otel_posthog.sdk.processor import PostHogSpanProcessor

__all__ = [
    "ContextThreadPoolExecutor",
    "PostHogSpanExporter",
    "PostHogSpanProcessor",
    "__version__",
    "ai_context",
    "capture_feedback",
    "capture_metric",
    "configure",
    "current_trace_id",
    "update_ai_context",
]

# The parts that need OpenTelemetry's SDK are loaded when they are first used: instrumentors, and libraries
# that only use `ai_context`, do without.
_LOADED_LATER = {
    "ContextThreadPoolExecutor": "otel_posthog.sdk.executor",
    "PostHogSpanExporter": "otel_posthog.sdk.exporter",
    "PostHogSpanProcessor": "otel_posthog.sdk.processor",
    "capture_feedback": "otel_posthog.sdk.feedback",
    "capture_metric": "otel_posthog.sdk.feedback",
    "configure": "otel_posthog.sdk.configure",
    "current_trace_id": "otel_posthog.sdk.feedback",
}


if not TYPE_CHECKING:  # a type checker must see a misspelt name

    def __getattr__(name: str) -> object:
        if name not in _LOADED_LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_LOADED_LATER[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
