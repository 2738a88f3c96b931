"""LiteLLM's own OpenTelemetry callback: the GenAI conventions, with details in its metadata.

Source: BerriAI/litellm, litellm/integrations/opentelemetry.py (1.106), and recordings. Its child span
`raw_gen_ai_request` repeats the call under names of the provider and is no concern of ours.
"""

from __future__ import annotations

import ast
from typing import Any

from otel_posthog.spans.dialects.answers import read_usage
from otel_posthog.spans.dialects.rules import Dialect, Parts
from otel_posthog.spans.values import parse_json
from otel_posthog.spans.view import SpanView

__all__ = ["DIALECT"]

_LONGEST = 8192
"""Characters of a usage object; a longer text is none."""


def complete(parts: Parts, view: SpanView) -> None:
    """Cached and reasoning tokens."""
    read_usage(parts, _written(view.attributes.get("metadata.usage_object")))


def _written(value: Any) -> Any:
    """An object as JSON, or as Python writes it."""
    found = parse_json(value)
    if isinstance(found, str) and found.startswith("{") and len(found) <= _LONGEST:
        try:
            return ast.literal_eval(found)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    return found


DIALECT = Dialect("litellm", (), complete=complete)
