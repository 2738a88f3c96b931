"""A PostHog-compatible inbox on this machine: what an application sends is kept, printed and given back."""

from otel_posthog.local.inbox import Inbox

__all__ = ["Inbox"]
