"""Delivery of events to PostHog or to disk. It knows events as dicts and bytes, but no spans.

`encoding` makes bytes of events. `http` makes requests, and reads outcomes from their answers. `batch_sender`
sends each batch until all of its events have an end; `client` composes these. Before it stand `memory_queue`
and `spool`, and `outbox` composes all of it with a thread. The spool is imported by those that have one:
SQLite is not loaded for nothing.
"""

from otel_posthog.delivery.client import DeliveryClient
from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
from otel_posthog.delivery.http.transport import Transport
from otel_posthog.delivery.options import DeliveryOptions, ingestion_host
from otel_posthog.delivery.outbox import Outbox
from otel_posthog.delivery.spool.backlog import Backlog
from otel_posthog.delivery.spool.entries import Entry, destination_of

__all__ = [
    "Backlog",
    "DeliveryClient",
    "DeliveryOptions",
    "EncodedEvent",
    "Entry",
    "Outbox",
    "Transport",
    "destination_of",
    "ingestion_host",
]
