"""`PostHogSpanExporter`: spans to PostHog, under any span processor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from typing_extensions import Unpack

from otel_posthog.assembly import Forwarder, call_after_fork, forwarder, say_once
from otel_posthog.sdk.context import in_use
from otel_posthog.spans.view import of_sdk_span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from otel_posthog.config import Options
    from otel_posthog.spans.view import SpanView

__all__ = ["PostHogSpanExporter"]

_NO_PROCESSOR = (
    "ai_context (feature, user, privacy) does not reach the spans of %s through an exporter alone: "
    "attach PostHogSpanProcessor() instead of a processor with PostHogSpanExporter."
)


class PostHogSpanExporter(SpanExporter):
    """Sends the spans of model calls, agents and tools to PostHog as events. Ignores all other spans.

    Use it under any `SpanProcessor`. `PostHogSpanProcessor` does more: it puts `ai_context` onto spans,
    sends `llm_completion_requested` when a call starts, and loses nothing in a burst.

    Every argument is optional, keyword only, and has an environment variable; the README lists them.

    Raises:
        ValueError: an argument is wrong; the text names it.
    """

    has_processor = False
    """Whether a `PostHogSpanProcessor` was made in this process, which puts `ai_context` onto all spans."""

    def __init__(self, **options: Unpack[Options]) -> None:
        self.forwarder: Forwarder = forwarder(options)
        self._under_way = 0
        self._idle = threading.Condition()
        self._closed = False
        call_after_fork(self._reset_after_fork)
        self.shielded = False
        """True while the processor it was made for is replaced: that one's shutdown is not ours."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """SUCCESS: PostHog has accepted every event of these spans; FAILURE: not, or not within `timeout`."""
        if not self.forwarder.enabled:
            return SpanExportResult.SUCCESS
        if self._closed:
            return SpanExportResult.FAILURE
        with self._idle:
            self._under_way += 1
        try:
            events = self.forwarder.convert(self._views(spans), self.forwarder.pipeline.finished)
            sent = self.forwarder.send(events, self.forwarder.config.timeout)
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def _views(self, spans: Sequence[ReadableSpan]) -> Iterator[SpanView]:
        hint = not self.has_processor and in_use()
        for span in spans:
            view = of_sdk_span(span)
            if view is None or not is_sampled(span):
                continue
            if hint and not (view.scope or "").startswith("otel_posthog."):
                hint = False
                say_once("no processor", _NO_PROCESSOR, view.scope)
            yield view

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether every `export` that is under way in other threads ended within the time."""
        with self._idle:
            return self._idle.wait_for(lambda: self._under_way == 0, timeout_millis / 1000)

    def shutdown(self, timeout_millis: int = 30_000) -> None:
        """Take no more spans; let exports under way end, or end them after the time."""
        if self._closed or self.shielded:
            return
        self._closed = True
        ended = self.force_flush(timeout_millis)
        self.forwarder.delivery.close(abort=not ended)

    def _reset_after_fork(self) -> None:
        """In a child: what was under way is the parent's."""
        self._under_way = 0
        self._idle = threading.Condition()

    def stats(self) -> dict[str, Any]:
        """Counts since the start: events converted, delivered, retried, cut, refused, dropped by reason."""
        return self.forwarder.stats()


def is_sampled(span: ReadableSpan) -> bool:
    """Whether the sampler wants the span exported; one that is only recorded is not."""
    context = span.get_span_context()
    return context is not None and context.trace_flags.sampled
