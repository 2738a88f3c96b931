"""Token counts of any reporter in one meaning: input with its cached part, output with its reasoning.

Reporters differ in what they count where. What they say is kept; what can be told from the figures
themselves, from who reports and from the provider, is put right here.
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
"""Anthropic's own names: who passes them on does not add them up. The conventions' names include them."""

_ADDED_UP = frozenset({"opentelemetry.instrumentation.anthropic", "litellm"})
"""Scopes that write Anthropic's own names, or did, beside an input that has the cached tokens in it."""

_APART = frozenset({"opentelemetry.instrumentation.bedrock"})
"""Scopes that write the conventions' names beside Bedrock's `inputTokens`, which has no cached ones in it."""


def settle(
    usage: dict[str, Any], provider: str | None, scope: str | None, attributes: Mapping[str, Any]
) -> None:
    """Put right, in place, what the figures of one call say about each other."""
    given, total = usage.get("input"), usage.get("total")
    reasoning: int = usage.get("reasoning") or 0
    output: int | None = usage.get("output")
    if reasoning and output is not None:
        answered = None if given is None or total is None else total - given
        if output + reasoning == answered or (answered is None and output < reasoning):
            usage["output"] = output + reasoning  # it was beside the output
        elif output - reasoning == answered:
            usage["output"] = output - reasoning  # it was counted twice
    cached = usage.get("cache_read", 0) + usage.get("cache_write", 0)
    if not cached and "cache_read" not in usage and "cache_write" not in usage:
        return
    if usage.get("input", 0) < cached or scope in _APART:
        usage["cache_exclusive"] = True  # fewer than their own part
    elif (
        total is not None
        and given is not None
        and cached
        and total == given + usage.get("output", 0) + cached
    ):
        usage["cache_exclusive"] = True
    elif "cache_exclusive" not in usage:
        usage["cache_exclusive"] = (
            _counts_cached_apart(provider)
            and scope not in _ADDED_UP
            and not _RAW_ANTHROPIC.isdisjoint(attributes)
        )


def _counts_cached_apart(provider: str | None) -> bool:
    """Anthropic's `input_tokens` and Bedrock's `inputTokens` are what no cache was read or written for."""
    return provider is not None and ("anthropic" in provider.lower() or "bedrock" in provider.lower())
