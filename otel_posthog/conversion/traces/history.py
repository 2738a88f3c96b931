"""Memory of the spans of earlier batches: enough to match a later span. Bounded, and without a clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from otel_posthog.conversion.model_call import Kind, ModelCall, Usage

__all__ = [
    "MAX_CANDIDATES",
    "MAX_SPANS",
    "MAX_TRACES",
    "CallOrRecent",
    "RecentSpan",
    "SpanHistory",
    "SpanKey",
    "TimedText",
    "keep_latest",
    "recent_span",
]

MAX_SPANS = 4096
"""Spans that are remembered, the latest."""
MAX_TRACES = 512
"""Traces whose root, and whose streams without an end yet, are remembered."""
MAX_CANDIDATES = 32
"""Calls that are remembered below one span: a twin is among the latest."""

TimedText = tuple[int, str | None]
"""Nanoseconds since 1970, and the text of a message at that time."""

SpanKey = tuple[str, str | None]
"""A trace id and the id of a span in it; None is the trace itself."""


class RecentSpan(NamedTuple):
    """A span of an earlier batch."""

    span_id: str
    kind: Kind
    trace_id: str
    start_ns: int
    end_ns: int | None
    scope: str | None
    request_model: str | None
    response_model: str | None
    response_id: str | None
    usage: Usage
    failed: bool
    private: bool
    ancestor_id: str | None
    """The nearest GenAI ancestor."""
    sent_as: str
    """The id of the span under which PostHog has it: its own, or that of the span it was merged into."""
    counted_by: str | None
    """The id of the generation that counts the call which the span shows; None for structure."""
    resource: Mapping[str, str]


CallOrRecent = ModelCall | RecentSpan

_new = tuple.__new__  # `RecentSpan(...)` without names takes a third of the time


class SpanHistory:
    """The latest spans, indexed by what a later span may have in common with them."""

    def __init__(self) -> None:
        self._spans: OrderedDict[str, RecentSpan] = OrderedDict()
        self.children: OrderedDict[SpanKey, deque[str]] = OrderedDict()
        """Ids of the model calls directly below a span or trace."""
        self.by_response: OrderedDict[str, deque[str]] = OrderedDict()
        """Ids of the model calls without an ancestor, by response id."""
        self.open_streams: OrderedDict[tuple[Any, ...], int] = OrderedDict()
        """Number of counted requests whose stream has not ended, by `deduplication.stream_key`."""
        self.first_inputs: OrderedDict[SpanKey, TimedText] = OrderedDict()
        """The first input of the model calls below a span or trace."""
        self.last_outputs: OrderedDict[SpanKey, TimedText] = OrderedDict()
        """The last output of the model calls below a span or trace."""
        self.heads: OrderedDict[str, str] = OrderedDict()
        """By trace: the id of the span that was sent as its root although it has a parent."""

    def span(self, trace_id: str, span_id: str) -> RecentSpan | None:
        """Return the span if it is remembered; one of that id in another trace is a different span."""
        span = self._spans.get(span_id)
        return span if span is not None and span.trace_id == trace_id else None

    def latest(self, span_id: str) -> RecentSpan | None:
        """Return the latest span of that id in any trace: twins may be in two."""
        return self._spans.get(span_id)

    def calls_below(self, key: SpanKey) -> Iterator[RecentSpan]:
        """Return the model calls directly below a span or trace."""
        return (span for span in self._recent(self.children.get(key, ())) if span.trace_id == key[0])

    def calls_with_response(self, response_id: str) -> Iterator[RecentSpan]:
        """Return the model calls of that response that have no ancestor."""
        spans = self._recent(self.by_response.get(response_id, ()))
        return (span for span in spans if span.response_id == response_id)

    def expect_end(self, key: tuple[Any, ...]) -> None:
        """Remember that a record of the end of this request's stream may come later."""
        self.open_streams[key] = self.open_streams.get(key, 0) + 1
        keep_latest(self.open_streams, MAX_TRACES)

    def remember(self, span: RecentSpan) -> None:
        """Add a span, and forget the oldest."""
        is_new = self.span(span.trace_id, span.span_id) is None
        self._spans[span.span_id] = span
        keep_latest(self._spans, MAX_SPANS)
        if is_new and span.kind.is_model_call:
            _add(self.children, (span.trace_id, span.ancestor_id), span.span_id)
            if span.response_id is not None and span.ancestor_id is None:
                _add(self.by_response, span.response_id, span.span_id)

    def __len__(self) -> int:
        return len(self._spans)

    def _recent(self, span_ids: Iterable[str]) -> Iterator[RecentSpan]:
        for span_id in span_ids:
            span = self._spans.get(span_id)
            if span is not None:
                yield span


def recent_span(call: ModelCall, ancestor_id: str | None, sent_as: str, counted_by: str | None) -> RecentSpan:
    """Return the part of a call that is remembered."""
    return _new(
        RecentSpan,
        (
            call.span_id,
            call.kind,
            call.trace_id,
            call.start_ns,
            call.end_ns,
            call.scope,
            call.request_model,
            call.response_model,
            call.response_id,
            call.usage,
            call.error is not None,
            call.context.privacy_mode,
            ancestor_id,
            sent_as,
            counted_by,
            call.resource,
        ),
    )


def _add(index: OrderedDict[Any, deque[str]], key: Any, span_id: str) -> None:
    span_ids = index.get(key)
    if span_ids is None:
        span_ids = index[key] = deque(maxlen=MAX_CANDIDATES)
        keep_latest(index, MAX_SPANS)
    span_ids.append(span_id)


def keep_latest(entries: OrderedDict[Any, Any], number: int) -> None:
    """Forget the oldest entries until `number` are left."""
    while len(entries) > number:
        entries.popitem(last=False)
