"""A span comes in, a `ModelCall` goes out."""

from otel_posthog.spans.dialects import read
from otel_posthog.spans.view import SpanView, of_request, of_sdk_span

__all__ = ["SpanView", "of_request", "of_sdk_span", "read"]
