"""A `ModelCall` goes in, PostHog events come out, as plain dicts."""

from otel_posthog.events.ai import ai_event
from otel_posthog.events.completion import failed, generation, requested, success
from otel_posthog.events.cost import PriceBook, own_prices

__all__ = ["PriceBook", "ai_event", "failed", "generation", "own_prices", "requested", "success"]
