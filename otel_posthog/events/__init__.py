"""A `ModelCall` goes in, PostHog events come out, as plain dicts."""

from otel_posthog.events.ai import ai_event
from otel_posthog.events.completion import failed, generation, requested, success
from otel_posthog.events.cost import PriceBook
from otel_posthog.events.evaluation import evaluation_events
from otel_posthog.events.identity import trace_id, with_pseudonym
from otel_posthog.events.price_file import own_prices
from otel_posthog.events.privacy import discreet
from otel_posthog.events.redact import redacted, redacted_content
from otel_posthog.events.sampling import Sampling

__all__ = [
    "PriceBook",
    "Sampling",
    "ai_event",
    "discreet",
    "evaluation_events",
    "failed",
    "generation",
    "own_prices",
    "redacted",
    "redacted_content",
    "requested",
    "success",
    "trace_id",
    "with_pseudonym",
]
