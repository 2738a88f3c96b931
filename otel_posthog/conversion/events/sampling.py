"""Sampling of whole traces, by the same rule in every process; failed and expensive calls are always kept.

A trace is kept if a number derived from its name is below the rate of the call's feature. The number is a
hash. So every process, every family of events and every later rate decide alike, and a lower rate keeps a
subset of the traces that a higher one keeps. The choice does not depend on OpenTelemetry's own samplers,
which use the digits of the trace id.

`$sample_rate` is the probability with which an event is kept: the rate of its trace, or 1.0 if it is always
kept. So `sum(1 / $sample_rate)` is an unbiased estimate of the number of events before sampling, and
`sum(cost / $sample_rate)` of their cost.

Limits: a span or score without the feature of its calls has the rate of all others. Only ids and features
decide, so spans above and below a call that is always kept may be missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pricing.cost import Cost, PriceBook
from otel_posthog.conversion.privacy.allow_list import Event

__all__ = ["EVERYTHING_ELSE", "Sampling", "draw", "with_rate"]

EVERYTHING_ELSE = "*"
"""The key of the rate for features without a rate of their own, and for calls without a feature."""

_BITS = 53
"""Bits that a float holds exactly, so that the number never rounds up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The rule that decides which calls are kept."""

    rates: Mapping[str, float]
    """From 0 to 1, by feature; `EVERYTHING_ELSE` is among them."""
    keep_cost: float
    """US dollars; a call that costs more is always kept."""
    prices: PriceBook | None = None
    """Prices for that decision if the costs that are sent are left to PostHog."""

    def rate(self, call: ModelCall) -> float:
        """Return the probability with which the trace of the call is kept."""
        feature = call.context.feature
        rate = None if feature is None else self.rates.get(feature)
        return self.rates[EVERYTHING_ELSE] if rate is None else rate

    def keeps_trace(self, call: ModelCall) -> bool:
        """Whether the trace of the call is kept."""
        return draw(call.trace_key) < self.rate(call)

    def keeps_anyway(self, call: ModelCall, cost: Cost | None) -> bool:
        """Whether the call is kept even if its trace is not: it failed, or cost more than `keep_cost`."""
        return call.error is not None or (cost is not None and cost.total > self.keep_cost)


def draw(trace: str) -> float:
    """Return the number of a trace: at least 0, below 1, and the same everywhere and at any time."""
    digest = hashlib.blake2b(trace.encode(errors="replace"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


def with_rate(event: Event, rate: float) -> Event:
    """Set the event's `$sample_rate` unless it has one, and return the event."""
    event["properties"].setdefault("$sample_rate", rate)
    return event
