"""PostHog events of a `ModelCall`, as plain dicts."""

from otel_posthog.conversion.events.ai_events import ai_event
from otel_posthog.conversion.events.completion_events import (
    failed_event,
    generation_event,
    requested_event,
    success_event,
)
from otel_posthog.conversion.events.sampling import Sampling
from otel_posthog.conversion.events.score_events import evaluation_events

__all__ = [
    "Sampling",
    "ai_event",
    "evaluation_events",
    "failed_event",
    "generation_event",
    "requested_event",
    "success_event",
]
