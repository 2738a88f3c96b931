"""Context across services in OpenTelemetry's baggage: only what is named leaves, or is believed.

Baggage goes along with every HTTP request that a propagator sees, to whomever it is sent, and comes in from
anybody: hence a list on either side.
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
    """The span attributes for words such as `feature`, `user_id` and `group.company`."""
    return frozenset(ARGUMENTS.get(word) or _prefixed(word) for word in words)


def _prefixed(word: str) -> str:
    kind, _, name = word.partition(".")
    return ARGUMENT_PREFIXES[f"{kind}."] + name


_WORDS = {"True": True, "False": False}
"""Flags that are only on or off, as baggage carries them: text."""


def accepted(context: Context | None, names: frozenset[str]) -> dict[str, str | bool]:
    """What of the baggage in force is believed, as span attributes."""
    if not names:
        return {}
    found = baggage.get_all(context)
    return {
        name: _WORDS.get(value, value) if name.startswith(FLAG) else value
        for name in names.intersection(found)
        if isinstance(value := found[name], str) and 0 < len(value) <= _LONGEST
    }
