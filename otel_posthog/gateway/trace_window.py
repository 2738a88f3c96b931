"""Traces that arrive in several requests: calls inherit from spans above them in another request.

A span is exported when it ends, so the topmost one, which often has the user, arrives last. A request with
calls waits, unanswered, until the spans above them arrive; its sender still has it meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from otel_posthog.conversion.context_attributes import inherited
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["TraceWindow"]

MAX_SPANS = 100_000
"""Spans in the window: some 40 MB."""
MAX_BYTES = 64 * 1024 * 1024
"""Their memory, about: an inherited attribute may be as long as a request."""
MAX_GIVEN_UP = 20_000
"""Traces that were awaited in vain and are not awaited again."""

_SPAN_BYTES = 400
"""The memory of a span without its attributes."""

_Key = tuple[str, str]
"""Trace id and span id."""


class _Entry(NamedTuple):
    span: ContextSpan
    since: float
    size: int


class TraceWindow:
    """Keeps the spans of the last `seconds`, and lets requests wait for them. Safe to share by threads."""

    def __init__(
        self,
        seconds: float,
        extra_attributes: frozenset[str] = frozenset(),
        *,
        max_spans: int = MAX_SPANS,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty window; `extra_attributes` are kept beside those that are inherited."""
        self._seconds = seconds
        self._extra_attributes = extra_attributes
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._clock = clock
        self._spans: OrderedDict[_Key, _Entry] = OrderedDict()
        self._bytes = 0
        self._given_up: OrderedDict[str, None] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def above(self, views: Sequence[SpanView], others: Iterable[ContextSpan]) -> list[ContextSpan]:
        """Return the spans above the views, from this request and from others within the window.

        Blocks until all of them have arrived, for the length of the window at most.
        """
        with self._changed:
            now = self._clock()
            self._expire(now - self._seconds)
            for other in others:
                self._add(other._replace(resource={}), now)
            for view in views:
                self._add(self._context_span(view), now)
            self._changed.notify_all()
            self._wait_for(views, now + self._seconds)
            return self._ancestors(views)

    def close(self) -> None:
        """Let every request continue without waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._spans)

    def _wait_for(self, views: Iterable[SpanView], deadline: float) -> None:
        keys = self._missing((view.trace_id, view.parent_id) for view in views)
        missing = {key for key in keys if key[0] not in self._given_up}
        while missing and not self._closed and (remaining := deadline - self._clock()) > 0:
            self._changed.wait(remaining)
            missing = self._missing(missing)
        if not self._closed:
            self._given_up.update(dict.fromkeys(trace_id for trace_id, _ in missing))
        while len(self._given_up) > MAX_GIVEN_UP:
            self._given_up.popitem(last=False)

    def _missing(self, starts: Iterable[tuple[str, str | None]]) -> set[_Key]:
        """Return the first missing span above each start, if any is missing.

        Each span is visited once, however many are below it; a long chain would otherwise block all requests.
        """
        missing_above: dict[_Key, _Key | None] = {}
        missing: set[_Key] = set()
        for trace_id, start in starts:
            span_id, missing_key, path = start, None, list[_Key]()
            while span_id is not None:
                key = (trace_id, span_id)
                if key in missing_above:
                    missing_key = missing_above[key]
                    break
                entry = self._spans.get(key)
                if entry is None:
                    missing_key = key
                    break
                missing_above[key] = None  # ends the loop if the span is its own ancestor
                path.append(key)
                span_id = entry.span.parent_id
            missing_above.update(dict.fromkeys(path, missing_key))
            if missing_key is not None:
                missing.add(missing_key)
        return missing

    def _ancestors(self, views: Iterable[SpanView]) -> list[ContextSpan]:
        ancestors: dict[_Key, ContextSpan] = {}
        for view in views:
            span_id = view.parent_id
            while (
                span_id is not None
                and (key := (view.trace_id, span_id)) not in ancestors
                and key in self._spans
            ):
                ancestors[key] = self._spans[key].span
                span_id = ancestors[key].parent_id
        return [*ancestors.values()]

    def _context_span(self, view: SpanView) -> ContextSpan:
        attributes = inherited(view.attributes)
        if self._extra_attributes:
            attributes |= {
                name: view.attributes[name] for name in self._extra_attributes & view.attributes.keys()
            }
        return ContextSpan(view.trace_id, view.span_id, view.parent_id, attributes, is_genai=True)

    def _add(self, span: ContextSpan, now: float) -> None:
        key = (span.trace_id, span.span_id)
        if key in self._spans:
            self._remove(key)
        size = _SPAN_BYTES + sum(len(name) + _size(value) for name, value in span.attributes.items())
        self._spans[key] = _Entry(span, now, size)
        self._bytes += size
        while len(self._spans) > self._max_spans or self._bytes > self._max_bytes:
            self._remove(next(iter(self._spans)))

    def _expire(self, before: float) -> None:
        while self._spans:
            key, entry = next(iter(self._spans.items()))
            if entry.since >= before:
                return
            self._remove(key)

    def _remove(self, key: _Key) -> None:
        self._bytes -= self._spans.pop(key).size


def _size(value: Any) -> int:
    return len(value if isinstance(value, str | bytes) else repr(value))
