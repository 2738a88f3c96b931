"""Traces that arrive in pieces: what stands on a span above reaches the calls below it from another request.

A span is exported when it ends, so the one at the top, which often knows the user, comes last. A request with
calls whose top is missing waits for it, unanswered: who sent it still has it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from otel_posthog.attributes import handed_down
from otel_posthog.spans.view import Other, SpanView

__all__ = ["TraceWindow"]

MAX_SPANS = 100_000
"""That are remembered: some 40 MB."""
MAX_GIVEN_UP = 20_000
"""Traces that nobody waits for a second time."""

_Key = tuple[str, str]
"""Trace and span."""


class TraceWindow:
    """Remembers spans for so many seconds, and has requests wait for them. Safe to share by threads."""

    def __init__(
        self,
        seconds: float,
        also: frozenset[str] = frozenset(),
        *,
        max_spans: int = MAX_SPANS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty window. `also`: attributes that are kept beside those that are handed down."""
        self._seconds = seconds
        self._also = also
        self._max_spans = max_spans
        self._clock = clock
        self._spans: OrderedDict[_Key, tuple[Other, float]] = OrderedDict()
        self._given_up: OrderedDict[str, None] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def above(self, views: Sequence[SpanView], others: Iterable[Other]) -> list[Other]:
        """All that is known above the views, by this request and by others within the window.

        Waits for what is missing, the window at most.
        """
        with self._changed:
            now = self._clock()
            self._forget(now - self._seconds)
            for other in others:
                self._remember(other, now)
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
        missing = {
            top
            for view in views
            if (top := self._top((view.trace_id, view.parent_id))) and top[0] not in self._given_up
        }
        while missing and not self._closed and (left := deadline - self._clock()) > 0:
            self._changed.wait(left)
            missing = {top for key in missing if (top := self._top(key))}
        if not self._closed:
            self._given_up.update(dict.fromkeys(trace_id for trace_id, _ in missing))
        while len(self._given_up) > MAX_GIVEN_UP:
            self._given_up.popitem(last=False)

    def _top(self, key: tuple[str, str | None]) -> _Key | None:
        """The first span on the way up that is not here; None where the way ends at one without parent."""
        trace_id, span_id = key
        climbed = set()
        while span_id is not None and span_id not in climbed:
            found = self._spans.get((trace_id, span_id))
            if found is None:
                return trace_id, span_id
            climbed.add(span_id)
            span_id = found[0].parent_id
        return None

    def _found_above(self, views: Iterable[SpanView]) -> list[Other]:
        found: dict[_Key, Other] = {}
        for view in views:
            step = view.parent_id
            while step is not None and (key := (view.trace_id, step)) not in found and key in self._spans:
                found[key] = self._spans[key][0]
                step = found[key].parent_id
        return [*found.values()]

    def _other_of(self, view: SpanView) -> Other:
        attributes = handed_down(view.attributes)
        if self._also:
            attributes |= {name: view.attributes[name] for name in self._also & view.attributes.keys()}
        return Other(view.trace_id, view.span_id, view.parent_id, attributes, is_of_concern=True)

    def _remember(self, other: Other, now: float) -> None:
        key = (other.trace_id, other.span_id)
        self._spans[key] = (other, now)
        self._spans.move_to_end(key)
        if len(self._spans) > self._max_spans:
            self._spans.popitem(last=False)

    def _forget(self, before: float) -> None:
        while self._spans:
            key, (_, since) = next(iter(self._spans.items()))
            if since >= before:
                return
            del self._spans[key]
