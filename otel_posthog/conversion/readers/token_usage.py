"""Token counts of any reporter in one meaning: input includes its cached part, output its reasoning.

Reporters differ in what they include. `settle` keeps their figures, and corrects those that the other
figures, the reporter or the provider show to have another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["settle"]

_RAW_ANTHROPIC = frozenset(
    {
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.usage.cache_read_input_tokens",
        "llm.usage.cache_creation_input_tokens",
    }
)
"""Anthropic's own names: its input excludes these counts. The conventions' input includes them."""

_ADDED_UP = frozenset({"opentelemetry.instrumentation.anthropic", "litellm"})
"""Scopes that write, or wrote, Anthropic's own names beside an input that includes the cached tokens."""

_APART = frozenset({"opentelemetry.instrumentation.bedrock"})
"""Scopes that write the conventions' names beside Bedrock's `inputTokens`, which excludes cached tokens."""


def settle(
    usage: dict[str, Any], provider: str | None, scope: str | None, attributes: Mapping[str, Any]
) -> None:
    """Correct the figures of one call, in place, and set `cache_exclusive` if there are cached tokens."""
    given, total = usage.get("input"), usage.get("total")
    reasoning: int = usage.get("reasoning") or 0
    output: int | None = usage.get("output")
    if reasoning and output is not None:
        completion = None if given is None or total is None else total - given
        if output + reasoning == completion or (completion is None and output < reasoning):
            usage["output"] = output + reasoning  # the output excluded it
        elif output - reasoning == completion:
            usage["output"] = output - reasoning  # the output counted it twice
    cached = usage.get("cache_read", 0) + usage.get("cache_write", 0)
    if not cached and "cache_read" not in usage and "cache_write" not in usage:
        return
    if usage.get("input", 0) < cached or scope in _APART:
        usage["cache_exclusive"] = True  # the input is less than its part
    elif (
        total is not None
        and given is not None
        and cached
        and total == given + usage.get("output", 0) + cached
    ):
        usage["cache_exclusive"] = True
    elif "cache_exclusive" not in usage:
        usage["cache_exclusive"] = (
            _excludes_cached(provider)
            and scope not in _ADDED_UP
            and not _RAW_ANTHROPIC.isdisjoint(attributes)
        )


def _excludes_cached(provider: str | None) -> bool:
    """Whether the provider's own input count excludes cached tokens: Anthropic's and Bedrock's do."""
    return provider is not None and ("anthropic" in provider.lower() or "bedrock" in provider.lower())
