"""Content of calls that came as log records, until the span of the call comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView

__all__ = ["MAX_EVENTS", "LogContents"]

MAX_BYTES = 32 * 1024 * 1024
"""The bytes of content that waits, estimated."""
SECONDS = 60.0
"""SDKs export log records after a second, spans after five; a Collector's batches add to both."""
MAX_EVENTS = 1000
"""The events that wait for one span: a conversation has one for each message."""
_OVERHEAD = 400

_Key = tuple[Hashable, str, str]
"""Owner, trace and span."""


class _Waiting(NamedTuple):
    since: float
    events: list[SpanEvent]
    size: int


class LogContents:
    """Events of spans that are still to come. Bounded; its clock is whoever calls."""

    def __init__(self, seconds: float = SECONDS, max_bytes: int = MAX_BYTES) -> None:
        """Remember content for so many seconds, and so many bytes of it at most."""
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[_Key, _Waiting] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def remember(self, content: LogContent, now: float, owner: Hashable = None) -> None:
        """Keep an event for its span; `owner` is what the span must have in common with it."""
        key = (owner, content.trace_id, content.span_id)
        waiting = self._waiting.get(key) or _Waiting(now, [], 0)
        if len(waiting.events) >= MAX_EVENTS or content.event in waiting.events:  # too many, or sent again
            return
        waiting.events.append(content.event)
        size = _OVERHEAD + _size(content.event.attributes)
        self._waiting[key] = waiting._replace(size=waiting.size + size)
        self._bytes += size
        self._forget(now)

    def joined(self, view: SpanView, now: float, owner: Hashable = None) -> SpanView:
        """Return the view with the events that came for it, unless it has such events of its own."""
        if not self._waiting:
            return view
        self._forget(now)
        waiting = self._waiting.get((owner, view.trace_id, view.span_id))
        if waiting is None or any(event.name.startswith("gen_ai.") for event in view.events):
            return view
        return view._replace(events=[*view.events, *waiting.events])

    def _forget(self, now: float) -> None:
        while self._waiting:
            key, oldest = next(iter(self._waiting.items()))
            if now - oldest.since <= self._seconds and self._bytes <= self._max_bytes:
                return
            del self._waiting[key]
            self._bytes -= oldest.size


def _size(value: Any) -> int:
    """Return about how many bytes a value takes."""
    total, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        total += 64 + (len(item) if isinstance(item, str | bytes) else 0)
    return total
