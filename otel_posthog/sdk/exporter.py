"""`PostHogSpanExporter`: spans to PostHog, under any span processor."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from typing_extensions import Unpack

from otel_posthog.conversion.spans.sdk_span import context_of_sdk_span, view_of_sdk_span
from otel_posthog.forwarder import Forwarder, forwarder
from otel_posthog.forwarder.metrics import measure
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.ai_context import entered_any
from otel_posthog.sdk.open_spans import has_processor
from otel_posthog.sdk.shutdown import finish_at_exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from otel_posthog.config.resolve import Options
    from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["PostHogSpanExporter", "is_sampled"]

_NO_PROCESSOR = (
    "ai_context (feature, user, privacy) does not reach the spans of %s through an exporter alone: "
    "attach PostHogSpanProcessor() instead of a processor with PostHogSpanExporter."
)


class PostHogSpanExporter(SpanExporter):
    """Sends the spans of model calls, agents and tools to PostHog as events. Ignores all other spans.

    Use it under any `SpanProcessor`. `PostHogSpanProcessor` does more: it puts `ai_context` onto spans,
    sends `llm_completion_requested` when a call starts, and loses nothing in a burst.

    Every argument is optional, keyword only, and has an environment variable: see `docs/configuration.md`.

    Raises:
        ValueError: an argument is wrong; the text names it.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self.forwarder: Forwarder = forwarder(options)
        self._under_way: list[int] = []
        """The threads that export now."""
        self._idle = threading.Condition()
        self._closed = False
        self._detached = False
        follow_forks(self)
        finish_at_exit(self)
        measure(self.forwarder)

    @property
    def behind_others(self) -> bool:
        """Whether the spans come through a processor of others, which may still hold some."""
        return not self._detached

    def detach(self) -> Forwarder:
        """Leave the forwarder to a `PostHogSpanProcessor`, which flushes and closes it from now on."""
        self._detached = True
        return self.forwarder

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """SUCCESS: PostHog has accepted every event of these spans, or they are on disk, within `timeout`.

        FAILURE: not yet. What is neither waits in memory and is tried again.
        """
        if not self.forwarder.enabled:
            return SpanExportResult.SUCCESS
        if self._closed or self.forwarder.closed:
            return SpanExportResult.FAILURE
        thread = threading.get_ident()
        with self._idle:
            self._under_way.append(thread)
        try:
            passed_over: list[ReadableSpan] = []
            views = [*self._views(spans, passed_over)]
            ancestors = self._ancestors(views, passed_over)
            sent = self.forwarder.export_spans(views, ancestors, self.forwarder.timeout)
        finally:
            with self._idle:
                self._under_way.remove(thread)
                self._idle.notify_all()
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def _views(self, spans: Sequence[ReadableSpan], passed_over: list[ReadableSpan]) -> Iterator[SpanView]:
        hint = not has_processor() and entered_any()
        for span in spans:
            view = view_of_sdk_span(span)
            ours = view is not None and is_sampled(span)
            self.forwarder.count_spans(seen=1, not_ours=not ours)
            if view is None or not ours:
                passed_over.append(span)
                continue
            if hint and not (view.scope or "").startswith("otel_posthog."):
                hint = False
                warn_once("no processor", _NO_PROCESSOR, view.scope)
            yield view

    def _ancestors(
        self, views: Iterable[SpanView], passed_over: Iterable[ReadableSpan]
    ) -> Iterable[ContextSpan]:
        """Return the ancestors of views among the spans passed over: few of many in most batches."""
        names = self.forwarder.feature_attributes
        by_id = {span.context.span_id: span for span in passed_over if span.context is not None}
        ancestors: dict[str, ContextSpan] = {}
        for view in views if by_id else ():
            step = view.parent_id
            while step is not None and step not in ancestors:
                span = by_id.get(int(step, 16))
                if span is None:  # another view, or not in this batch
                    break
                ancestor = ancestors[step] = context_of_sdk_span(span, names)
                step = ancestor.parent_id
        return ancestors.values()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Return whether all exported spans are at PostHog or on disk, within the time."""
        seconds = timeout_millis / 1000
        deadline = time.monotonic() + seconds
        # An export that takes longer is written to disk, if there is a spool.
        self._wait_for_others(seconds / 2)
        return self.forwarder.flush(max(deadline - time.monotonic(), 0.0)) and not self._others()

    def _others(self) -> bool:
        """Whether another thread exports now; this one may have been interrupted while exporting."""
        return any(thread != threading.get_ident() for thread in self._under_way)

    def _wait_for_others(self, seconds: float) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._others(), seconds)

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Take no more spans and send the queue, within the time (by default the option `timeout`)."""
        if self._closed:
            return
        self._closed = True
        if self._detached:
            return  # the processor closes the forwarder
        seconds = self.forwarder.timeout if timeout_millis is None else timeout_millis / 1000
        deadline = time.monotonic() + seconds
        self._wait_for_others(seconds / 2)
        self.forwarder.close(max(deadline - time.monotonic(), 0.0))

    def finish(self, *, last: bool) -> None:
        """Send the queue at the end of the process. Until the `last` moment other threads may export."""
        if self._detached:
            return  # the processor does it
        if last and self._closed:
            self.forwarder.rescue()
        elif last:
            self.shutdown()
        elif not self._closed:
            self.force_flush(self.forwarder.timeout * 1000)

    def after_fork_in_child(self) -> None:
        """Begin anew: exports in progress stay the parent's."""
        self._under_way = []
        self._idle = threading.Condition()

    def stats(self) -> dict[str, Any]:
        """Return the counts since the start; see `Forwarder.stats`."""
        return self.forwarder.stats()


def is_sampled(span: ReadableSpan) -> bool:
    """Whether the sampler wants the span exported; one that is only recorded is not."""
    context = span.get_span_context()
    return context is not None and context.trace_flags.sampled
