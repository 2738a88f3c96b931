"""Routes: the paths of PostHog, their limits, and the events that go to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_posthog.delivery.encoding.truncation import escaped_size

if TYPE_CHECKING:
    from collections.abc import Callable

FALLBACK_SECONDS = 600.0
"""Seconds without the AI route: an upgraded self-hosted PostHog is noticed within ten minutes."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path of PostHog's capture service."""

    path: str
    max_event_bytes: int
    size: Callable[[bytes], int]
    """Returns an event's size as PostHog compares it with `max_event_bytes`."""


# PostHog rust/capture: AI_MAX_EVENT_BYTES, 8 MiB per event; 16 KiB are left for what it adds.
AI = Route("/i/v0/ai/batch/", 8 * 1024 * 1024 - 16 * 1024, len)
# PostHog rust/capture: a `$ai_*` event over 983,040 bytes is a 413 for the whole request, and a Kafka message
# (the event escaped once more, and 400 bytes of envelope) ends at 1,000,000. One KiB is left.
EVENTS = Route("/batch/", 983_040 - 1024, escaped_size)
# The same events on the v1 wire: the limit is the same, and an event over it is rejected alone.
EVENTS_V1 = Route("/i/v1/analytics/events", EVENTS.max_event_bytes, EVENTS.size)


class Routes:
    """Chooses the route of an event, and remembers for ten minutes that this PostHog has no AI route."""

    def __init__(self, clock: Callable[[], float], events: Route = EVENTS) -> None:
        self._clock = clock
        self._events = events
        self._ai_from = float("-inf")

    def for_event(self, name: str) -> Route:
        """Return the route for events called `name`: every `$ai_*` event is an AI event to PostHog."""
        return self.current(AI) if name.startswith("$ai_") else self._events

    def current(self, route: Route) -> Route:
        """Return `route`, or the one to use instead for now."""
        return self._events if route is AI and self._clock() < self._ai_from else route

    def ai_is_missing(self) -> None:
        """Remember that the AI route answered 404, as in self-hosted installations that are older than it."""
        self._ai_from = self._clock() + FALLBACK_SECONDS
