"""Context across services in OpenTelemetry's baggage, by allow-lists on both sides.

Baggage goes along with every HTTP request that a propagator sees, to any host, and comes in from anybody:
hence a list for sending and one for accepting.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry import baggage

from otel_posthog.conversion.context_attributes import ARGUMENT_PREFIXES, ARGUMENTS, FLAG

if TYPE_CHECKING:
    from opentelemetry.context import Context

__all__ = ["accepted", "attribute_names"]

_LONGEST = 1024


def attribute_names(words: Iterable[str]) -> frozenset[str]:
    """Return the span attributes for names such as `feature`, `user_id` and `group.company`."""
    return frozenset(ARGUMENTS.get(word) or _prefixed(word) for word in words)


def _prefixed(word: str) -> str:
    kind, _, name = word.partition(".")
    return ARGUMENT_PREFIXES[f"{kind}."] + name


_WORDS = {"True": True, "False": False}
"""Flags that are on or off, by the text in which baggage carries them."""


def accepted(context: Context | None, names: frozenset[str]) -> dict[str, str | bool]:
    """Return the accepted values of the baggage in force, as span attributes."""
    if not names:
        return {}
    entries = baggage.get_all(context)
    return {
        name: _WORDS.get(value, value) if name.startswith(FLAG) else value
        for name in names.intersection(entries)
        if isinstance(value := entries[name], str) and 0 < len(value) <= _LONGEST
    }
