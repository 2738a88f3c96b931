"""Events reach PostHog.

Delivery knows events as plain dicts and bytes, nothing of spans, and reads no environment. Small modules,
one concern each: `encode`, `fit` and `compress` make bytes; `routes`, `batch` and `wire` make requests;
`transport`, `outcome` and `retry` make attempts; `sender` sees each event to its end; `delivery` composes
them. Before it stand `handover`, the queue in memory, and `spool` with `spool_file`, the one on disk;
`backlog` sends what is on disk, and `outbox` composes all of it with a thread. `spool` is imported by who has
one: SQLite is not loaded for nothing.
"""

from otel_posthog.delivery.batch_sender import Report
from otel_posthog.delivery.client import DeliveryClient
from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
from otel_posthog.delivery.http.transport import Response, Transport, TransportError
from otel_posthog.delivery.memory_queue import ByteBoundedQueue, Ticket
from otel_posthog.delivery.options import DeliveryOptions, ingestion_host
from otel_posthog.delivery.outbox import Outbox
from otel_posthog.delivery.spool.backlog import Backlog, Converter
from otel_posthog.delivery.spool.entries import DeadLetter, Entry, destination_of

__all__ = [
    "Backlog",
    "ByteBoundedQueue",
    "Converter",
    "DeadLetter",
    "DeliveryClient",
    "DeliveryOptions",
    "EncodedEvent",
    "Entry",
    "Outbox",
    "Report",
    "Response",
    "Ticket",
    "Transport",
    "TransportError",
    "destination_of",
    "ingestion_host",
]
