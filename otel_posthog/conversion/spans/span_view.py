"""One shape for a span, whether this process's SDK ended it or OTLP brought it from another process.

All readers give the same values: text, numbers, booleans, bytes, None, and lists and dicts of these.
The SDK has tuples if OTLP has arrays, and subclasses of `str` (enumerations of the provider SDKs)
if OTLP has text; dialects never see the difference.

A span without any of `MARKERS` is not about a model, agent or tool: the readers return None or a
`ContextSpan` for it, after one set operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["MAX_SCOPE", "OTLP_KINDS", "OTLP_STATUSES", "Attributes", "ContextSpan", "SpanEvent", "SpanView"]

Attributes = dict[str, Any]

MAX_SCOPE = 1000
"""Characters of a scope's name that OTLP brings: caches are keyed by scope."""

OTLP_KINDS = ("INTERNAL", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
"""Span kinds by their number in OTLP; unspecified means internal."""
OTLP_STATUSES = ("UNSET", "OK", "ERROR")
"""Status codes by their number in OTLP."""


class SpanEvent(NamedTuple):
    """An event within a span, `time_ns` nanoseconds after 1970."""

    name: str
    time_ns: int
    attributes: Attributes


# The spool keeps spans as JSON rows by position, and a newer version reads what an older one wrote: never
# reorder, remove or insert fields of `SpanView` (tests/delivery/spool/test_spool_of_before.py).
class SpanView(NamedTuple):
    """A finished or running span, with all that a dialect may read."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int | None
    status: str
    """UNSET, OK or ERROR."""
    status_message: str | None
    attributes: Attributes
    events: Sequence[SpanEvent]
    links: Sequence[Sequence[str]]
    """Trace and span id of each."""
    scope: str | None
    scope_version: str | None
    resource: Attributes


class ContextSpan(NamedTuple):
    """A non-GenAI span, or one handled in another batch: only what its children inherit."""

    trace_id: str
    span_id: str
    parent_id: str | None
    attributes: Attributes
    """Those that children inherit."""
    is_genai: bool = False
    """Whether it becomes an event in another batch."""
    resource: Mapping[str, Any] = MappingProxyType({})
    """Empty unless OTLP brought the span."""
