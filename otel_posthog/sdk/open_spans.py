"""Open spans: the nearest GenAI ancestor of each, and finished spans that wait for the span around them.

A span ends inside the span around it. If both seem to show one model call (two instrumentors, nested or side
by side), the inner one waits here until the outer one has ended, so that one event is made of both. Nothing
else waits.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_posthog.conversion.spans.genai_detection import is_genai_span, looks_like_model_call
from otel_posthog.conversion.spans.sdk_span import attributes_of
from otel_posthog.conversion.traces import NEAR_NS
from otel_posthog.runtime.forks import follow_forks

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from otel_posthog.conversion.spans.packed_span import PackedSpan
    from otel_posthog.conversion.spans.sdk_span import Ancestor

__all__ = ["FLUSH_WAIT_SECONDS", "OpenSpans", "has_processor"]

MAX_OPEN_SPANS = 100_000
"""Open spans that are remembered; an older one may lose its ancestor, or be announced again."""
MAX_WAIT_SECONDS = 30.0
"""The longest wait of a finished span for the span around it, which some instrumentors never end."""
FLUSH_WAIT_SECONDS = 1.0
"""A span that has waited longer is sent by a flush: the span around it will not end in this moment."""
MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Bytes of waiting spans, beside the queue; a span that finds no room does not wait."""
BESIDE = 8
"""Spans remembered under one parent: a twin begins right after the other."""


class _AiSpan(NamedTuple):
    """An open GenAI span."""

    span: weakref.ref[Any]
    scope: str | None
    start_ns: int
    beside: int | None
    """The id of a span of another scope under the same parent that began a moment before."""


class _Waiting(NamedTuple):
    since: float
    spans: tuple[PackedSpan, ...]


_trackers: weakref.WeakSet[OpenSpans] = weakref.WeakSet()


def has_processor() -> bool:
    """Whether a processor of ours, which puts `ai_context` onto spans, is in this process."""
    return bool(_trackers)


class OpenSpans:
    """The open spans of one processor. Threads may share it; it follows forks."""

    def __init__(
        self,
        emit: Callable[[tuple[PackedSpan, ...]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without spans. `emit` gets finished spans that wait no longer, the outermost last."""
        self._emit = emit
        self._clock = clock
        self.after_fork_in_child()
        follow_forks(self)
        _trackers.add(self)

    def add(self, span: Span, parent: Any, *, is_sent: bool) -> str | None:
        """Add a span. Return the id of its nearest ancestor that PostHog gets, if known.

        `is_sent`: PostHog gets this span as well.
        """
        context, upper = span.get_span_context(), parent.get_span_context()
        above: str | None = None
        if upper.is_valid and not upper.is_remote:
            if (
                upper.span_id not in self._ai
                and upper.trace_flags.sampled
                and is_genai_span(attributes_of(parent), ())
            ):
                self._take_in(parent)  # it showed what it is after its start
            above = _hex(upper.span_id) if upper.span_id in self._ai else self._above.get(upper.span_id)
        if above is not None:
            self._above[context.span_id] = above
            _forget_oldest(self._above)
        if is_sent:
            self._take_in(span)
        return above

    def ancestor_of(self, span: ReadableSpan) -> Ancestor:
        """Return the ancestor of a span that is about to end."""
        return (self._above.get(span.context.span_id),)

    def around(self, span: ReadableSpan) -> weakref.ref[Any] | None:
        """Return the open span that may show the same call as this model call."""
        around_id = self._around(span)
        entry = self._ai.get(around_id) if around_id is not None else None
        return None if entry is None else entry.span

    def remove(self, span: ReadableSpan, packed: PackedSpan | None) -> tuple[PackedSpan, ...]:
        """Remove a span. Return the spans to queue now, the outermost last; none if this one waits."""
        span_id = span.context.span_id
        waits_for = None if packed is None else self._around(span)
        with self._lock:  # two spans that end at the same moment see each other
            self._above.pop(span_id, None)
            self._ai.pop(span_id, None)
            self._beside.pop(span_id, None)
            waiting = self._held.pop(span_id, None) if self._held else None
            group = () if waiting is None else waiting.spans
            self._held_bytes -= _size(group)
            if packed is not None:
                group = (*group, packed)
            if group and waits_for is not None and waits_for in self._ai:
                size = _size(group)
                if self._held_bytes + size <= MAX_WAITING_BYTES:
                    self._held_bytes += size
                    others = self._held.get(waits_for, _Waiting(self._clock(), ()))
                    self._held[waits_for] = _Waiting(others.since, (*others.spans, *group))
                    group = ()
        if self._held:
            self.release(MAX_WAIT_SECONDS)
        return group

    def release(self, seconds: float = 0.0) -> None:
        """Let go of the spans that have waited for so many seconds."""
        if not self._held:
            return
        with self._lock:
            limit = self._clock() - seconds
            due = [key for key, waiting in self._held.items() if waiting.since <= limit]
            gone = [self._held.pop(key) for key in due]
            self._held_bytes -= sum(_size(waiting.spans) for waiting in gone)
        for waiting in gone:
            for packed in waiting.spans:  # each alone: the converter decides whether they are one call
                self._emit((packed,))

    def _take_in(self, span: Any) -> None:
        scope, parent = span.instrumentation_scope, span.parent
        name = scope.name if scope is not None else None
        span_id, began = span.get_span_context().span_id, span.start_time or 0
        beside: int | None = None
        if parent is not None:
            under = self._beside.get(parent.span_id)
            if under is None:
                under = self._beside[parent.span_id] = deque(maxlen=BESIDE)
                _forget_oldest(self._beside)
            beside = self._beside_of(name, began, [*under])
            under.append(span_id)
        self._ai[span_id] = _AiSpan(weakref.ref(span), name, began, beside)
        _forget_oldest(self._ai)

    def _beside_of(self, scope: str | None, began: int, under: Iterable[int]) -> int | None:
        """Return the latest span of another scope that began just before and has no twin of this scope."""
        open_ones = {other: span for other in under if (span := self._ai.get(other)) is not None}
        taken = {span.beside for span in open_ones.values() if span.scope == scope}
        free = [
            other
            for other, span in open_ones.items()
            if span.beside is None
            and span.scope != scope
            and other not in taken
            and 0 <= began - span.start_ns <= NEAR_NS
        ]
        return free[-1] if free else None

    def _around(self, span: ReadableSpan) -> int | None:
        """Return the nearest open GenAI ancestor, or a span beside that began just before."""
        span_id: int = span.context.span_id
        above, mine = self._above.get(span_id), self._ai.get(span_id)
        beside = None if mine is None else mine.beside
        if (above is None and beside is None) or not looks_like_model_call(attributes_of(span)):
            return None
        scope = span.instrumentation_scope.name if span.instrumentation_scope is not None else None
        upper: int | None = None if above is None else int(above, 16)
        if upper is not None and self._is_call(upper, scope):
            return upper
        return beside if beside is not None and self._is_call(beside, scope) else None

    def _is_call(self, span_id: int, scope: str | None) -> bool:
        entry = self._ai.get(span_id)
        span = entry.span() if entry is not None else None
        return (
            entry is not None
            and span is not None
            and entry.scope != scope
            and looks_like_model_call(attributes_of(span))
        )

    # --- forks ---

    def after_fork_in_child(self) -> None:
        """Begin anew: waiting spans are the parent's; open spans may end in either process."""
        self._lock = threading.RLock()
        self._above: dict[int, str] = getattr(self, "_above", {})
        """By span: the id of its nearest ancestor that PostHog gets."""
        self._ai: dict[int, _AiSpan] = getattr(self, "_ai", {})
        self._beside: dict[int, deque[int]] = getattr(self, "_beside", {})
        """By the id of a parent: the ids of its latest GenAI spans."""
        self._held: dict[int, _Waiting] = {}
        """By the id of the awaited span: the waiting spans."""
        self._held_bytes = 0


def _size(spans: tuple[PackedSpan, ...]) -> int:
    return sum(packed.size for packed in spans)


def _hex(span_id: int) -> str:
    return format(span_id, "016x")


def _forget_oldest(open_spans: dict[Any, Any]) -> None:
    """Forget the oldest: spans that never end must not fill the memory."""
    while len(open_spans) > MAX_OPEN_SPANS:
        open_spans.pop(next(iter(open_spans)), None)
