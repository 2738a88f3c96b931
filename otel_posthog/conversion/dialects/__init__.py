"""The dialects that instrumentors speak. Add a dialect here: one module, most of it a table, and one line."""

from __future__ import annotations

from functools import lru_cache

from otel_posthog.conversion.dialects import (
    adk,
    genai,
    langfuse,
    langsmith,
    litellm,
    openinference,
    openllmetry,
    pydantic_ai,
    vercel,
)
from otel_posthog.conversion.readers.rule_table import Dialect, Index, index_of

__all__ = ["DIALECTS", "index_for"]

DIALECTS: tuple[Dialect, ...] = (
    vercel.DIALECT,
    langfuse.DIALECT,
    langsmith.DIALECT,
    adk.DIALECT,
    openinference.DIALECT,
    litellm.DIALECT,
    openllmetry.DIALECT,
    pydantic_ai.DIALECT,
    genai.DIALECT,
)
"""In order of precedence: an earlier one's attributes win, and the first that knows a span's kind decides."""


@lru_cache(maxsize=256)
def index_for(names: tuple[str, ...]) -> Index:
    """Return the rules of the dialects of these names, by attribute."""
    return index_of([dialect for dialect in DIALECTS if dialect.name in names])
