"""`PostHogSpanProcessor`: puts context onto spans at their start and queues every finished span.

For the application a span costs a few attributes at its start; at its end, a look at its attribute names and
an entry in a queue. Conversion, encoding and sending run on a thread of ours.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from typing_extensions import Unpack

from otel_posthog.conversion.context_attributes import FEATURE, PARENT_ID, has_context, inherited
from otel_posthog.conversion.spans.genai_detection import becomes_genai_span, is_genai_span
from otel_posthog.conversion.spans.packed_span import pack
from otel_posthog.conversion.spans.sdk_span import attributes_of
from otel_posthog.forwarder import CallStart, forwarder
from otel_posthog.forwarder.metrics import measure
from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.ai_context import current_attributes, send_as_baggage
from otel_posthog.sdk.context.baggage import accepted, attribute_names
from otel_posthog.sdk.context.posthog_sdk import posthog_attributes
from otel_posthog.sdk.exporter import PostHogSpanExporter, is_sampled
from otel_posthog.sdk.open_spans import FLUSH_WAIT_SECONDS, OpenSpans
from otel_posthog.sdk.shutdown import finish_at_exit, install_sigterm_handler

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_posthog.config.resolve import Options

__all__ = ["PostHogSpanProcessor"]


class PostHogSpanProcessor(SpanProcessor):
    """Turns spans of model calls, agents and tools into PostHog events: attach it to a `TracerProvider`.

    - at the start of a span it puts `ai_context` and the inherited context onto it, and for a model call it
      sends `llm_completion_requested`;
    - at the end of a span it queues the span, in bursts as well; a thread of ours sends it.

    Every argument is optional, keyword only, and has an environment variable: see `docs/configuration.md`.
    `exporter` is an existing `PostHogSpanExporter` to send through, instead of options.

    Raises:
        ValueError: an argument is invalid; the text names it.
    """

    behind_others = False

    def __init__(self, exporter: PostHogSpanExporter | None = None, **options: Unpack[Options]) -> None:
        if exporter is not None and options:
            raise ValueError("exporter: give either an exporter or options, not both")
        if exporter is not None:
            self.forwarder = exporter.detach()
        else:
            self.forwarder = forwarder(options)
            measure(self.forwarder)
        self._feature_rules = self.forwarder.feature_rules
        self._accepted = attribute_names(self.forwarder.baggage_accepted)
        if self.forwarder.enabled:
            send_as_baggage(attribute_names(self.forwarder.baggage_sent))
        self._open = OpenSpans(self.forwarder.end_together)
        self._closed = False
        finish_at_exit(self)

    # --- on the application's threads --------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put context onto the span; queue the start of a model call."""
        if not self.forwarder.enabled or self._closed:
            return
        try:
            self._start(span, parent_context)
        except Exception as error:  # noqa: BLE001  # never into the application
            warn_once(
                "on_start",
                "A span's context could not be read (%s); please report this.",
                type(error).__name__,
            )

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the finished span."""
        context = span.get_span_context()
        if context is None or not self.forwarder.enabled:
            return
        try:
            if not context.trace_flags.sampled:
                if ready := self._open.remove(span, None):
                    self.forwarder.end_together(ready)
                return
            self.forwarder.count_spans(seen=1)
            install_sigterm_handler()
            if not self._end(span):
                self.forwarder.count_spans(not_ours=1)
        except Exception as error:  # noqa: BLE001  # never into the application
            warn_once("on_end", "A span could not be read (%s); please report this.", type(error).__name__)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Return whether every span queued so far is at PostHog or on disk, within the time."""
        if not self.forwarder.enabled:
            return True
        self._open.release(FLUSH_WAIT_SECONDS)
        return self.forwarder.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Send the queue, within the time (by default the option `timeout`), and stop.

        The end of a process calls this and must not hang. The rest is on disk if there is a spool; else it is
        dropped, counted and logged. A span that ends later is on disk, or dropped, counted and logged.
        """
        if self._closed:
            return
        self._closed = True
        self._open.release()
        self.forwarder.close(self.forwarder.timeout if timeout_millis is None else timeout_millis / 1000)

    def finish(self, *, last: bool) -> None:
        """Send the queue at the end of the process, and stop."""
        self._open.release()
        if last and self._closed:
            self.forwarder.rescue()
        self.shutdown()

    def stats(self) -> dict[str, Any]:
        """Return the counts since the start; see `Forwarder.stats`."""
        return self.forwarder.stats()

    def follow_batch_settings(self, environ: Mapping[str, str]) -> None:
        """Apply `OTEL_BSP_SCHEDULE_DELAY` and `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` if they are set.

        `OTEL_BSP_MAX_QUEUE_SIZE` has no counterpart: the queue is bounded by `max_queue_bytes`.
        """
        for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"):
            try:
                value = int(environ.get(name) or 0)
            except ValueError:  # the SDK has logged it
                continue
            if value > 0 and name == "OTEL_BSP_SCHEDULE_DELAY":
                self.forwarder.set_batching(flush_interval=value / 1000)
            elif value > 0:
                self.forwarder.set_batching(max_spans=value)

    def _start(self, span: Span, parent_context: Context | None) -> None:
        parent = trace.get_current_span(parent_context)
        put: dict[str, Any] = {}
        if isinstance(parent, Span) and parent.is_recording():
            above = attributes_of(parent)
            put.update(inherited(above))
        else:
            above = {}
        own = attributes_of(span)
        if self._feature_rules is not None and not has_context(put, FEATURE):
            feature = self._feature_rules.feature_of(above) or self._feature_rules.feature_of(own)
            if feature is not None:
                put[FEATURE] = feature
        put.update(current_attributes(parent_context))
        scope = span.instrumentation_scope
        is_ours = is_genai_span(own, ()) or (scope is not None and becomes_genai_span(scope.name))
        if is_ours:
            for attributes in (posthog_attributes(), accepted(parent_context, self._accepted)):
                put.update(
                    [(name, value) for name, value in attributes.items() if not has_context(put, name)]
                )
        if put:  # first of all: it may ask for privacy
            span.set_attributes({name: value for name, value in put.items() if not has_context(own, name)})
        sampled = is_sampled(span)
        nearest = self._open.add(span, parent, is_sent=is_ours and sampled)
        if not is_ours:
            return
        context = span.get_span_context()
        if span.parent is not None and PARENT_ID not in own:
            span.set_attribute(PARENT_ID, nearest or format(context.trace_id, "032x"))
        if sampled:
            span_id = format(context.span_id, "016x")
            self.forwarder.start(CallStart(span_id, weakref.ref(span), self._open.around(span)))

    def _end(self, span: ReadableSpan) -> bool:
        """Queue the span, or hold it for the span around it. Return whether it is a GenAI span."""
        ancestor = self._open.ancestor_of(span)
        if self.forwarder.durable or self._closed:  # on disk before the application goes on: no waiting
            self._open.remove(span, None)
            return self.forwarder.end(span, ancestor)
        packed = pack(span, ancestor)
        ready = self._open.remove(span, packed)
        if ready:
            self.forwarder.end_together(ready)
        return packed is not None
