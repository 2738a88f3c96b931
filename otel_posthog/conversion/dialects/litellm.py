"""LiteLLM's own OpenTelemetry callback: the GenAI conventions, with details in its metadata.

Source: BerriAI/litellm, litellm/integrations/opentelemetry.py (1.106), and recordings. Its child span
`raw_gen_ai_request` repeats the call under names of the provider and is not a GenAI span.
"""

from __future__ import annotations

from otel_posthog.conversion.readers.attribute_values import parse_written
from otel_posthog.conversion.readers.provider_payloads import read_usage
from otel_posthog.conversion.readers.rule_table import Dialect, Parts
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]


def complete(parts: Parts, view: SpanView) -> None:
    """Read cached and reasoning tokens."""
    read_usage(parts, parse_written(view.attributes.get("metadata.usage_object")))


DIALECT = Dialect("litellm", (), complete=complete)
