"""Events reach PostHog.

Delivery knows events as plain dicts and bytes, nothing of spans, and reads no environment. Small modules,
one concern each: `encode`, `fit` and `compress` make bytes; `lanes`, `batch` and `wire` make requests;
`transport`, `outcome` and `retry` make attempts; `sender` sees each event to its end; `delivery` composes
them; `handover` is the queue before it.
"""

from otel_posthog.delivery.delivery import Delivery
from otel_posthog.delivery.handover import ByteBoundedQueue, Ticket
from otel_posthog.delivery.options import DeliveryOptions, ingestion_host
from otel_posthog.delivery.sender import Report
from otel_posthog.delivery.transport import Response, Transport, TransportError

__all__ = [
    "ByteBoundedQueue",
    "Delivery",
    "DeliveryOptions",
    "Report",
    "Response",
    "Ticket",
    "Transport",
    "TransportError",
    "ingestion_host",
]
