"""`PostHogSpanProcessor`: context onto spans at their start, every finished span handed over at once.

What a span costs the application: at its start a few attributes, at its end a look at its attributes'
names and an entry in a queue. Converting, encoding and sending happen on a thread of our own.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from typing_extensions import Unpack

from otel_posthog.conversion.context_attributes import FEATURE, PARENT_ID, has_context, inherited
from otel_posthog.conversion.spans.genai_detection import is_genai_span
from otel_posthog.conversion.spans.packed_span import pack
from otel_posthog.conversion.spans.sdk_span import attributes_of
from otel_posthog.forwarder.forwarder import forwarder
from otel_posthog.forwarder.metrics import measure
from otel_posthog.forwarder.span_converter import Started
from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.ai_context import current_attributes, send_as_baggage
from otel_posthog.sdk.context.baggage import accepted, attribute_names
from otel_posthog.sdk.context.posthog_sdk import posthog_attributes
from otel_posthog.sdk.exporter import PostHogSpanExporter, is_sampled
from otel_posthog.sdk.open_spans import FLUSH_WAIT_SECONDS, OpenSpans
from otel_posthog.sdk.shutdown import arm, finish_at_the_end

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_posthog.config.resolve import Options

__all__ = ["PostHogSpanProcessor"]


class PostHogSpanProcessor(SpanProcessor):
    """Attach it to a `TracerProvider`: spans of model calls, agents and tools become PostHog events.

    - at the start of a span: `ai_context` and the context of the span above go onto it, and a model call
      sends `llm_completion_requested`;
    - at its end: it is handed over at once, however many end in a burst, and sent from a thread of our own.

    Every argument is optional, keyword only, and has an environment variable: see `docs/configuration.md`.
    `exporter` is an existing `PostHogSpanExporter` to send through, instead of options.

    Raises:
        ValueError: an argument is wrong; the text names it.
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
        finish_at_the_end(self)

    # --- on the application's threads --------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put context onto the span; hand a model call over, so that its start is known."""
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
        """Hand the span over."""
        context = span.get_span_context()
        if context is None or not self.forwarder.enabled:
            return
        try:
            if not context.trace_flags.sampled:
                if ready := self._open.ended(span, None):
                    self.forwarder.end_together(ready)
                return
            self.forwarder.count_spans(seen=1)
            arm()
            if not self._end(span):
                self.forwarder.count_spans(not_ours=1)
        except Exception as error:  # noqa: BLE001  # never into the application
            warn_once("on_end", "A span could not be read (%s); please report this.", type(error).__name__)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Whether everything handed over so far is accepted by PostHog, or on disk, within the time."""
        if not self.forwarder.enabled:
            return True
        self._open.release(FLUSH_WAIT_SECONDS)
        return self.forwarder.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Send what waits, within the time (by default the option `timeout`), and stop.

        A process that ends calls this: it is not to hang for long. What is left is on disk where there is a
        spool, else lost, counted and said. A span that ends later is on disk, or dropped, counted and said.
        """
        if self._closed:
            return
        self._closed = True
        self._open.release()
        self.forwarder.close(self.forwarder.timeout if timeout_millis is None else timeout_millis / 1000)

    def finish(self, *, last: bool) -> None:
        """At the end of the process: send what waits, and stop."""
        self._open.release()
        if last and self._closed:
            self.forwarder.rescue()
        self.shutdown()

    def stats(self) -> dict[str, Any]:
        """Counts since the start; see `Forwarder.stats`."""
        return self.forwarder.stats()

    def follow_batch_settings(self, environ: Mapping[str, str]) -> None:
        """Heed `OTEL_BSP_SCHEDULE_DELAY` and `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, where they are set.

        `OTEL_BSP_MAX_QUEUE_SIZE` has no counterpart: the queue is bounded by `max_queue_bytes`.
        """
        for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"):
            try:
                value = int(environ.get(name) or 0)
            except ValueError:  # the SDK has said so already
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
        is_ours = is_genai_span(own, ())
        if is_ours:
            for found in (posthog_attributes(), accepted(parent_context, self._accepted)):
                put.update([(name, value) for name, value in found.items() if not has_context(put, name)])
        if put:  # first of all: it may ask for privacy
            span.set_attributes({name: value for name, value in put.items() if not has_context(own, name)})
        sampled = is_sampled(span)
        nearest = self._open.started(span, parent, is_sent=is_ours and sampled)
        if not is_ours:
            return
        context = span.get_span_context()
        if span.parent is not None and PARENT_ID not in own:
            span.set_attribute(PARENT_ID, nearest or format(context.trace_id, "032x"))
        if sampled:
            span_id = format(context.span_id, "016x")
            self.forwarder.start(Started(span_id, weakref.ref(span), self._open.around(span)))

    def _end(self, span: ReadableSpan) -> bool:
        """Hand the span over, or have it wait for the one around it; whether it is one of concern."""
        ancestor = self._open.ancestor_of(span)
        if self.forwarder.durable or self._closed:  # on disk before the application goes on: no waiting
            self._open.ended(span, None)
            return self.forwarder.end(span, ancestor)
        packed = pack(span, ancestor)
        ready = self._open.ended(span, packed)
        if ready:
            self.forwarder.end_together(ready)
        return packed is not None
