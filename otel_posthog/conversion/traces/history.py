"""What is remembered of the spans that came before: enough to know a call again.

Bounded, and without a clock.
"""

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
    "keep_latest",
    "recent_span",
]

MAX_SPANS = 4096
"""Spans that are remembered, the latest."""
MAX_TRACES = 512
"""Traces of which the first input and last output are remembered."""
MAX_CANDIDATES = 32
"""Calls that are remembered of one place in a trace: a twin is among the latest."""

TimedText = tuple[int, Any]
"""When, and what."""

SpanKey = tuple[str, str | None]
"""A trace, and the span in it under which something stands; None is the trace itself."""


class RecentSpan(NamedTuple):
    """What is remembered of a span."""

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
    above: str | None
    stands_for: str
    """The id of the span under which PostHog knows it."""
    counted_by: str | None
    """The id of the generation that counts the call which the span shows; None for structure."""
    resource: Mapping[str, str]


CallOrRecent = ModelCall | RecentSpan

_new = tuple.__new__  # `RecentSpan(...)` without names takes a third of the time


class SpanHistory:
    """What came before."""

    def __init__(self) -> None:
        self._spans: OrderedDict[str, RecentSpan] = OrderedDict()
        self.children: OrderedDict[SpanKey, deque[str]] = OrderedDict()
        """Ids of the calls that stand somewhere."""
        self.by_response: OrderedDict[str, deque[str]] = OrderedDict()
        """Ids of the calls without a span above that name a response."""
        self.open_streams: OrderedDict[tuple[Any, ...], int] = OrderedDict()
        """How many requests were counted of which a record may still tell the end."""
        self.first_inputs: OrderedDict[SpanKey, TimedText] = OrderedDict()
        self.last_outputs: OrderedDict[SpanKey, TimedText] = OrderedDict()
        self.heads: OrderedDict[str, str] = OrderedDict()
        """Ids of the spans that were sent as a trace's head though something is above them."""

    def span(self, trace_id: str, span_id: str) -> RecentSpan | None:
        """The span, if it is remembered; one of that id in another trace is not it."""
        found = self._spans.get(span_id)
        return found if found is not None and found.trace_id == trace_id else None

    def latest(self, span_id: str) -> RecentSpan | None:
        """The span that came last with that id, whatever its trace: twins may be in two."""
        return self._spans.get(span_id)

    def calls_below(self, place: SpanKey) -> Iterator[RecentSpan]:
        """The calls that stand there."""
        return (found for found in self._recent(self.children.get(place, ())) if found.trace_id == place[0])

    def calls_with_response(self, response_id: str) -> Iterator[RecentSpan]:
        """The calls that name the response, of traces that begin with them."""
        known = self._recent(self.by_response.get(response_id, ()))
        return (found for found in known if found.response_id == response_id)

    def expect_end(self, key: tuple[Any, ...]) -> None:
        """A record may tell how the stream of a request ended that is counted now."""
        self.open_streams[key] = self.open_streams.get(key, 0) + 1
        keep_latest(self.open_streams, MAX_TRACES)

    def remember(self, span: RecentSpan) -> None:
        """Add a span; the oldest are forgotten."""
        is_new = self.span(span.trace_id, span.span_id) is None
        self._spans[span.span_id] = span
        keep_latest(self._spans, MAX_SPANS)
        if is_new and span.kind.is_model_call:
            _add(self.children, (span.trace_id, span.above), span.span_id)
            if span.response_id is not None and span.above is None:
                _add(self.by_response, span.response_id, span.span_id)

    def __len__(self) -> int:
        return len(self._spans)

    def _recent(self, span_ids: Iterable[str]) -> Iterator[RecentSpan]:
        for span_id in span_ids:
            found = self._spans.get(span_id)
            if found is not None:
                yield found


def recent_span(call: ModelCall, above: str | None, stands_for: str, counted_by: str | None) -> RecentSpan:
    """What is remembered of a call."""
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
            above,
            stands_for,
            counted_by,
            call.resource,
        ),
    )


def _add(index: OrderedDict[Any, deque[str]], key: Any, span_id: str) -> None:
    found = index.get(key)
    if found is None:
        found = index[key] = deque(maxlen=MAX_CANDIDATES)
        keep_latest(index, MAX_SPANS)
    found.append(span_id)


def keep_latest(notes: OrderedDict[Any, Any], number: int) -> None:
    """Forget the oldest beyond so many."""
    while len(notes) > number:
        notes.popitem(last=False)
