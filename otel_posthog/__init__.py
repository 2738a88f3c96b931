"""OpenTelemetry GenAI spans in, PostHog AI observability events out, nothing lost on the way."""

from otel_posthog.sdk.context import ai_context
from otel_posthog.sdk.exporter import PostHogSpanExporter
from otel_posthog.sdk.processor import PostHogSpanProcessor
from otel_posthog.sdk.setup import configure
from otel_posthog.version import __version__

__all__ = [
    "PostHogSpanExporter",
    "PostHogSpanProcessor",
    "__version__",
    "ai_context",
    "configure",
]
