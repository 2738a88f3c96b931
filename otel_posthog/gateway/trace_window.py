"""Traces that arrive in pieces: what stands on a span above reaches the calls below it from another request.

A span is exported when it ends, so the one at the top, which often knows the user, comes last. A request with
calls whose top is missing waits for it, unanswered: who sent it still has it.
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
"""That are remembered: some 40 MB."""
MAX_BYTES = 64 * 1024 * 1024
"""Of those, about: what a span hands down may be as long as a request."""
MAX_GIVEN_UP = 20_000
"""Traces that nobody waits for a second time."""

_SPAN_BYTES = 400
"""What a span takes beside the texts that it hands down."""

_Key = tuple[str, str]
"""Trace and span."""


class _Remembered(NamedTuple):
    other: ContextSpan
    since: float
    size: int


class TraceWindow:
    """Remembers spans for so many seconds, and has requests wait for them. Safe to share by threads."""

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
        self._spans: OrderedDict[_Key, _Remembered] = OrderedDict()
        self._bytes = 0
        self._given_up: OrderedDict[str, None] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def above(self, views: Sequence[SpanView], others: Iterable[ContextSpan]) -> list[ContextSpan]:
        """All that is known above the views, by this request and by others within the window.

        Waits for what is missing, the window at most.
        """
        with self._changed:
            now = self._clock()
            self._forget(now - self._seconds)
            for other in others:
                self._remember(other._replace(resource={}), now)
            for view in views:
                self._remember(self._other_of(view), now)
            self._changed.notify_all()
            self._wait_for(views, now + self._seconds)
            return self._found_above(views)

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._spans)

    def _wait_for(self, views: Iterable[SpanView], deadline: float) -> None:
        tops = self._missing((view.trace_id, view.parent_id) for view in views)
        missing = {top for top in tops if top[0] not in self._given_up}
        while missing and not self._closed and (left := deadline - self._clock()) > 0:
            self._changed.wait(left)
            missing = self._missing(missing)
        if not self._closed:
            self._given_up.update(dict.fromkeys(trace_id for trace_id, _ in missing))
        while len(self._given_up) > MAX_GIVEN_UP:
            self._given_up.popitem(last=False)

    def _missing(self, places: Iterable[tuple[str, str | None]]) -> set[_Key]:
        """The first spans on the ways up that are not here; a way may end at one without parent, too.

        Each span is passed once, however many are below it: else a long chain would hold up everybody.
        """
        tops: dict[_Key, _Key | None] = {}
        found: set[_Key] = set()
        for trace_id, span_id in places:
            step, top, climbed = span_id, None, list[_Key]()
            while step is not None:
                key = (trace_id, step)
                if key in tops:
                    top = tops[key]
                    break
                here = self._spans.get(key)
                if here is None:
                    top = key
                    break
                tops[key] = None  # where it is its own ancestor
                climbed.append(key)
                step = here.other.parent_id
            tops.update(dict.fromkeys(climbed, top))
            if top is not None:
                found.add(top)
        return found

    def _found_above(self, views: Iterable[SpanView]) -> list[ContextSpan]:
        found: dict[_Key, ContextSpan] = {}
        for view in views:
            step = view.parent_id
            while step is not None and (key := (view.trace_id, step)) not in found and key in self._spans:
                found[key] = self._spans[key].other
                step = found[key].parent_id
        return [*found.values()]

    def _other_of(self, view: SpanView) -> ContextSpan:
        attributes = inherited(view.attributes)
        if self._extra_attributes:
            attributes |= {
                name: view.attributes[name] for name in self._extra_attributes & view.attributes.keys()
            }
        return ContextSpan(view.trace_id, view.span_id, view.parent_id, attributes, is_genai=True)

    def _remember(self, other: ContextSpan, now: float) -> None:
        key = (other.trace_id, other.span_id)
        if key in self._spans:
            self._remove(key)
        size = _SPAN_BYTES + sum(len(name) + _size(value) for name, value in other.attributes.items())
        self._spans[key] = _Remembered(other, now, size)
        self._bytes += size
        while len(self._spans) > self._max_spans or self._bytes > self._max_bytes:
            self._remove(next(iter(self._spans)))

    def _forget(self, before: float) -> None:
        while self._spans:
            key, remembered = next(iter(self._spans.items()))
            if remembered.since >= before:
                return
            self._remove(key)

    def _remove(self, key: _Key) -> None:
        self._bytes -= self._spans.pop(key).size


def _size(value: Any) -> int:
    return len(value if isinstance(value, str | bytes) else repr(value))
