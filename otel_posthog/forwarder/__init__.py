"""Options in, delivered events out: every front owns a `Forwarder` and calls its methods only."""

from otel_posthog.forwarder.forwarder import (
    ConvertedSpans,
    DeliveryReport,
    Forwarder,
    active_forwarder,
    forwarder,
)
from otel_posthog.forwarder.span_converter import CallStart, drain

__all__ = [
    "CallStart",
    "ConvertedSpans",
    "DeliveryReport",
    "Forwarder",
    "active_forwarder",
    "drain",
    "forwarder",
]
