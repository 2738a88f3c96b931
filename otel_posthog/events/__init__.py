"""A `ModelCall` goes in, PostHog events come out, as plain dicts."""

from otel_posthog.events.ai import ai_event
from otel_posthog.events.completion import failed, generation, requested, success
from otel_posthog.events.cost import PriceBook, own_prices
from otel_posthog.events.evaluation import evaluation_events
from otel_posthog.events.identity import trace_id, with_pseudonym
from otel_posthog.events.privacy import discreet

__all__ = [
    "PriceBook",
    "ai_event",
    "discreet",
    "evaluation_events",
    "failed",
    "generation",
    "own_prices",
    "requested",
    "success",
    "trace_id",
    "with_pseudonym",
]
