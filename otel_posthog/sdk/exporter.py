"""`PostHogSpanExporter`: spans to PostHog, under any span processor."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from typing_extensions import Unpack

from otel_posthog.conversion.spans.sdk_span import context_of_sdk_span, view_of_sdk_span
from otel_posthog.forwarder.forwarder import Forwarder, forwarder
from otel_posthog.forwarder.metrics import measure
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.ai_context import in_use
from otel_posthog.sdk.shutdown import finish_at_the_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from otel_posthog.config.resolve import Options
    from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["PostHogSpanExporter", "active"]

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

    has_processor = False
    """Whether a `PostHogSpanProcessor` was made in this process, which puts `ai_context` onto all spans."""

    def __init__(self, **options: Unpack[Options]) -> None:
        self.forwarder: Forwarder = forwarder(options)
        self._under_way: list[int] = []
        """The threads that export now."""
        self._idle = threading.Condition()
        self._closed = False
        self.behind_others = True
        """Whether another's processor stands before it; ours says that it does not."""
        _made.append(weakref.ref(self))
        follow_forks(self)
        finish_at_the_end(self)
        measure(self.forwarder)
        self.shielded = False
        """True while the processor it was made for is replaced: that one's shutdown is not ours."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """SUCCESS: PostHog has accepted every event of these spans, or they are on disk, within `timeout`.

        FAILURE: not yet. What is neither waits in memory and is tried again.
        """
        if not self.forwarder.enabled:
            return SpanExportResult.SUCCESS
        if self._closed:
            return SpanExportResult.FAILURE
        thread = threading.get_ident()
        with self._idle:
            self._under_way.append(thread)
        try:
            passed_over: list[ReadableSpan] = []
            views = [*self._views(spans, passed_over)]
            events = self.forwarder.conversion.finished(views, others=self._above(views, passed_over))
            sent = self.forwarder.send(events, self.forwarder.config.timeout)
        finally:
            with self._idle:
                self._under_way.remove(thread)
                self._idle.notify_all()
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def _views(self, spans: Sequence[ReadableSpan], passed_over: list[ReadableSpan]) -> Iterator[SpanView]:
        hint = not self.has_processor and in_use()
        conversion = self.forwarder.conversion
        for span in spans:
            view = view_of_sdk_span(span)
            conversion.count("seen")
            if view is None or not is_sampled(span):
                conversion.count("not ours")
                passed_over.append(span)
                continue
            if hint and not (view.scope or "").startswith("otel_posthog."):
                hint = False
                warn_once("no processor", _NO_PROCESSOR, view.scope)
            yield view

    def _above(self, views: Iterable[SpanView], passed_over: Iterable[ReadableSpan]) -> Iterable[ContextSpan]:
        """Those of the spans passed over that are above a view: few, most batches have many of them."""
        features = self.forwarder.pipeline.features
        names = features.names if features is not None else frozenset[str]()
        by_id = {span.context.span_id: span for span in passed_over if span.context is not None}
        found: dict[str, ContextSpan] = {}
        for view in views if by_id else ():
            step = view.parent_id
            while step is not None and step not in found:
                span = by_id.get(int(step, 16))
                if span is None:  # another view, or none that came along
                    break
                other = found[step] = context_of_sdk_span(span, names)
                step = other.parent_id
        return found.values()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Whether all that was exported is accepted by PostHog, or on disk, within the time."""
        seconds = timeout_millis / 1000
        deadline = time.monotonic() + seconds
        # What takes longer is written to disk, where there is one.
        self._wait_for_others(seconds / 2)
        return self.forwarder.outbox.flush(max(deadline - time.monotonic(), 0.0)) and not self._others()

    def _others(self) -> bool:
        """Whether another thread exports now; this one may have been interrupted in the middle of it."""
        return any(thread != threading.get_ident() for thread in self._under_way)

    def _wait_for_others(self, seconds: float) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._others(), seconds)

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Take no more spans; send what waits, within the time (by default the option `timeout`)."""
        if self._closed or self.shielded:
            return
        self._closed = True
        seconds = self.forwarder.config.timeout if timeout_millis is None else timeout_millis / 1000
        deadline = time.monotonic() + seconds
        self._wait_for_others(seconds / 2)
        self.forwarder.outbox.close(max(deadline - time.monotonic(), 0.0))

    def finish(self, *, last: bool) -> None:
        """At the end of the process: send what waits. Before the `last` moment others may still export."""
        if not self.behind_others:
            return  # our processor does it
        if last and self._closed:
            self.forwarder.outbox.rescue()
        elif last:
            self.shutdown()
        elif not self._closed:
            self.force_flush(self.forwarder.config.timeout * 1000)

    def after_fork_in_child(self) -> None:
        """What was under way is the parent's."""
        self._under_way = []
        self._idle = threading.Condition()

    def stats(self) -> dict[str, Any]:
        """Counts since the start; see `Forwarder.stats`."""
        return self.forwarder.stats()


_made: list[weakref.ref[PostHogSpanExporter]] = []
"""All exporters of this process, the latest last."""


def active() -> PostHogSpanExporter | None:
    """The exporter through which the process sends: the latest one that is on and not shut down."""
    _made[:] = [each for each in _made if each() is not None]
    for reference in reversed(_made):
        found = reference()
        if found is not None and found.forwarder.enabled and not found._closed:
            return found
    return None


def is_sampled(span: ReadableSpan) -> bool:
    """Whether the sampler wants the span exported; one that is only recorded is not."""
    context = span.get_span_context()
    return context is not None and context.trace_flags.sampled
