"""Which calls are kept: whole traces by chance, the same ones in every process; failed and dear calls always.

A trace is kept where a number made of its name is below the rate of the call's feature. The number is a hash:
every process, every family of events and every later version of a rate decides alike, and what a lower rate
keeps is a part of what a higher one keeps. It does not depend on OpenTelemetry's own samplers, which look at
the digits of the trace id.

`$sample_rate` is the probability with which an event is kept: the rate of its trace, 1.0 where it is kept in
any case. So `sum(1 / $sample_rate)` is an unbiased estimate of how many there were, `sum(cost /
$sample_rate)` of what they cost.

Limits: a span or score that does not carry the feature of its calls has the rate of all others; only ids and
features decide, so what stands above and below a call that is kept in any case may be missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pricing.cost import Cost, PriceBook

__all__ = ["EVERYTHING_ELSE", "Sampling", "draw", "with_rate"]

Event = dict[str, Any]

EVERYTHING_ELSE = "*"
"""The key of the rate for features without one of their own, and for calls without a feature."""

_BITS = 53
"""What a float holds exactly: the number drawn never rounds up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What is kept."""

    rates: Mapping[str, float]
    """From 0 to 1, by feature; `EVERYTHING_ELSE` is among them."""
    keep_cost: float
    """US dollars; a call that costs more is kept in any case."""
    prices: PriceBook | None = None
    """By these it is told what a call costs where PostHog works out the costs that are sent."""

    def rate(self, call: ModelCall) -> float:
        """The probability with which the trace of the call is kept."""
        feature = call.context.feature
        rate = None if feature is None else self.rates.get(feature)
        return self.rates[EVERYTHING_ELSE] if rate is None else rate

    def keeps_trace(self, call: ModelCall) -> bool:
        """Whether the trace of the call is kept."""
        return draw(call.trace_key) < self.rate(call)

    def keeps_anyway(self, call: ModelCall, cost: Cost | None) -> bool:
        """Whether the call is kept whatever becomes of its trace: it failed, or cost much."""
        return call.error is not None or (cost is not None and cost.total > self.keep_cost)


def draw(trace: str) -> float:
    """The number that stands for a trace, at least 0 and below 1, the same anywhere and at any time."""
    digest = hashlib.blake2b(trace.encode(errors="replace"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


def with_rate(event: Event, rate: float) -> Event:
    """The event, saying with what probability it was kept, unless it says so already."""
    event["properties"].setdefault("$sample_rate", rate)
    return event
