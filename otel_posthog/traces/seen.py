"""What is remembered of the spans that came before: enough to know a call again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from otel_posthog.calls import Kind, ModelCall, Usage

__all__ = ["MAX_SEEN", "MAX_TRACES", "Known", "Seen", "Shown", "keep_latest", "known"]

MAX_SEEN = 4096
"""Spans that are remembered, the latest."""
MAX_TRACES = 512
"""Traces of which the first input and last output are remembered."""
Said = tuple[int, Any]
"""When, and what."""


class Known(NamedTuple):
    """What is remembered of a span that became an event, or was taken into another: what `_agree` asks."""

    kind: Kind
    trace_id: str
    start_ns: int
    end_ns: int | None
    scope: str | None
    request_model: str | None
    response_model: str | None
    response_id: str | None
    usage: Usage
    above: str | None
    stands_for: str
    """The id of the span under which PostHog knows it."""
    is_counted: bool
    """Whether that is a generation or an embedding."""


Shown = ModelCall | Known


_new = tuple.__new__  # `Known(...)` without names takes a third of the time


class Seen:
    """What came before: bounded, and without a clock."""

    def __init__(self) -> None:
        self.spans: OrderedDict[str, Known] = OrderedDict()
        self.below: dict[str, list[str]] = {}
        """Ids of the model calls under each span."""
        self.streams: OrderedDict[tuple[Any, ...], int] = OrderedDict()
        """How many requests were counted of which a record may still tell the end, by `_stream_key`."""
        self.first: OrderedDict[str, Said] = OrderedDict()
        self.last: OrderedDict[str, Said] = OrderedDict()

    def expect_end(self, key: tuple[Any, ...]) -> None:
        """A record may tell how the stream of a request ended that is counted now."""
        self.streams[key] = self.streams.get(key, 0) + 1
        keep_latest(self.streams, MAX_TRACES)

    def remember(self, span_id: str, known: Known) -> None:
        """Add a span; the oldest are forgotten."""
        self.spans[span_id] = known
        if known.above is not None and known.kind.is_model_call:
            self.below.setdefault(known.above, []).append(span_id)
        while len(self.spans) > MAX_SEEN:
            _, oldest = self.spans.popitem(last=False)
            if oldest.above is not None:
                self.below.pop(oldest.above, None)


def known(call: ModelCall, above: str | None, survivor: str, kind: Kind) -> Known:
    """What is remembered of a call: where it is, which span stands for it, and as what."""
    return _new(
        Known,
        (
            call.kind,
            call.trace_id,
            call.start_ns,
            call.end_ns,
            call.scope,
            call.request_model,
            call.response_model,
            call.response_id,
            call.usage,
            above,
            survivor,
            kind.is_model_call,
        ),
    )


def keep_latest(notes: OrderedDict[Any, Any], number: int) -> None:
    """Forget the oldest beyond so many."""
    while len(notes) > number:
        notes.popitem(last=False)
