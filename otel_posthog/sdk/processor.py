"""`PostHogSpanProcessor`: context onto spans at their start, every finished span handed over at once.

What a span costs the application: at its start a few attributes, at its end a look at its attributes'
names and an entry in a queue. Converting, encoding and sending happen on a thread of our own.
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from typing_extensions import Unpack

from otel_posthog.assembly import call_after_fork, say_once
from otel_posthog.attributes import PARENT_ID
from otel_posthog.delivery import ByteBoundedQueue
from otel_posthog.sdk.context import current_attributes, inherited_attributes
from otel_posthog.sdk.exporter import PostHogSpanExporter, is_sampled
from otel_posthog.spans.view import MARKERS, PackedSpan, SpanView, attributes_of, of_sdk_span, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.context import Context

    from otel_posthog.config import Options

__all__ = ["PostHogSpanProcessor"]

STARTED_BYTES = 300
"""What the news of a start takes in memory, measured on CPython 3.11."""
MAX_TAKEN = 500
"""Spans that are converted and sent together."""
ENOUGH_BYTES = 1024 * 1024
"""So much waiting is sent without waiting for more."""

MAX_OPEN_SPANS = 100_000
"""Spans under way that are remembered; of older ones the parent or the announcement may be told anew."""


class _Started(NamedTuple):
    """A call that began. Read when its turn comes: some instrumentors name the model after the start."""

    span_id: int
    span: weakref.ref[Span]


class _Ended(NamedTuple):
    span_id: int
    packed: PackedSpan


class PostHogSpanProcessor(SpanProcessor):
    """Attach it to a `TracerProvider`: spans of model calls, agents and tools become PostHog events.

    - at the start of a span: `ai_context` and the context of the span above go onto it, and a model call
      sends `llm_completion_requested`;
    - at its end: it is handed over at once, however many end in a burst, and sent from a thread of our own.

    Every argument is optional, keyword only, and has an environment variable; the README lists them.
    `exporter` is an existing `PostHogSpanExporter` to send through, instead of options.

    Raises:
        ValueError: an argument is wrong; the text names it.
    """

    def __init__(self, exporter: PostHogSpanExporter | None = None, **options: Unpack[Options]) -> None:
        if exporter is not None and options:
            raise ValueError("exporter: give either an exporter or options, not both")
        self.exporter = exporter if exporter is not None else PostHogSpanExporter(**options)
        PostHogSpanExporter.has_processor = True
        self._forwarder = self.exporter.forwarder
        config = self._forwarder.config
        self._flush_interval = config.flush_interval
        self._max_taken = MAX_TAKEN
        self._queue: ByteBoundedQueue[_Started | _Ended] = ByteBoundedQueue(config.max_queue_bytes)
        self._requested: dict[str, None] = {}
        """Span ids whose `llm_completion_requested` is sent, until they end. Only the worker touches it."""
        self._nearest: dict[int, str] = {}
        """For every open span that is or has an AI span above it: the id of the nearest one."""
        self._worker: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False
        call_after_fork(self._reset_after_fork)

    # --- on the application's threads --------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put context onto the span; hand a model call over, so that its start is known."""
        if not self._forwarder.enabled or self._closed:
            return
        try:
            self._start(span, parent_context)
        except Exception as error:  # noqa: BLE001  # never into the application
            say_once(
                "on_start",
                "A span's context could not be read (%s); please report this.",
                type(error).__name__,
            )

    def on_end(self, span: ReadableSpan) -> None:
        """Hand the span over."""
        context = span.get_span_context()
        if context is None or not self._forwarder.enabled:
            return
        self._nearest.pop(context.span_id, None)
        if not context.trace_flags.sampled:
            return
        try:
            packed = pack(span)
        except Exception as error:  # noqa: BLE001  # never into the application
            say_once("on_end", "A span could not be read (%s); please report this.", type(error).__name__)
            return
        if packed is None:
            return
        if self._closed:
            say_once("closed", "A span ended after shutdown and is not sent.")
            return
        try:
            self._hand_over(_Ended(context.span_id, packed), packed.size)
        except RuntimeError as error:  # no thread could be started now; the next span tries again
            say_once("worker start", "No thread could be started to send from (%s).", type(error).__name__)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Whether everything handed over so far is accepted by PostHog, within the time."""
        if not self._forwarder.enabled:
            return True
        ticket = self._queue.ticket()
        self._queue.flush()
        return self._queue.wait_done(ticket, timeout_millis / 1000)

    def shutdown(self, timeout_millis: float | None = None) -> None:
        """Send what waits, within the time (by default the option `timeout`), and stop."""
        if self._closed:
            return
        self._closed = True
        if timeout_millis is None:  # a process that ends calls this: it is not to hang for long
            timeout_millis = self._forwarder.config.timeout * 1000
        flushed = self.force_flush(timeout_millis)
        if not flushed:
            say_once(
                "shutdown",
                "Shut down before PostHog accepted everything; the rest is lost (%d spans still waited).",
                len(self._queue),
            )
        self._queue.flush()
        self.exporter.forwarder.delivery.close(abort=True)

    def stats(self) -> dict[str, Any]:
        """As `PostHogSpanExporter.stats`, and what waits or was dropped here."""
        return {
            **self.exporter.stats(),
            "queue": {
                "spans": len(self._queue),
                "bytes": self._queue.bytes,
                "dropped": self._queue.dropped(),
            },
        }

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
                self._flush_interval = value / 1000
            elif value > 0:
                self._max_taken = value

    def _start(self, span: Span, parent_context: Context | None) -> None:
        parent = trace.get_current_span(parent_context)
        put: dict[str, Any] = {}
        if isinstance(parent, Span) and parent.is_recording():
            above = attributes_of(parent)
            put.update(inherited_attributes(above))
        else:
            above = {}
        put.update(current_attributes(parent_context))
        own = attributes_of(span)
        of_concern = not MARKERS.isdisjoint(own)
        if put:  # first of all: it may ask for privacy
            span.set_attributes({name: value for name, value in put.items() if name not in own})
        place = self._place(span, parent, above, of_concern=of_concern)
        if place is not None and PARENT_ID not in own:
            span.set_attribute(PARENT_ID, place)
        if of_concern and is_sampled(span):
            self._hand_over(_Started(span.get_span_context().span_id, weakref.ref(span)), STARTED_BYTES)

    def _place(self, span: Span, parent: Any, above: Any, *, of_concern: bool) -> str | None:
        """The nearest AI span above, which alone PostHog will know as a parent, else the trace."""
        context, upper = span.get_span_context(), parent.get_span_context()
        nearest: str | None = None
        if upper.is_valid and not upper.is_remote:
            nearest = self._nearest.get(upper.span_id)
            if nearest is None and not MARKERS.isdisjoint(above):  # it showed what it is after its start
                nearest = format(upper.span_id, "016x")
        place: str | None = None
        if of_concern:
            if span.parent is not None:
                place = nearest or format(context.trace_id, "032x")
            self._nearest[context.span_id] = format(context.span_id, "016x")
        elif nearest is not None:
            self._nearest[context.span_id] = nearest
        _forget_oldest(self._nearest)
        return place

    def _hand_over(self, item: _Started | _Ended, size: int) -> None:
        self._queue.put(item, size)
        if self._worker is None:
            self._start_worker()

    def _start_worker(self) -> None:
        with self._starting:
            if self._worker is None:
                worker = threading.Thread(target=self._work, name="otel-posthog", daemon=True)
                worker.start()
                self._worker = worker

    def _reset_after_fork(self) -> None:
        """In a child: its own thread when it first needs one; what waited is the parent's to send."""
        self._starting = threading.Lock()
        self._worker = None
        self._requested = {}
        self._queue.reset_after_fork()

    # --- on our own thread -------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._queue.wait_for_batch(0.0 if self._closed else self._flush_interval, enough=ENOUGH_BYTES)
            while taken := self._queue.take(self._max_taken):
                delivered = False
                try:
                    delivered = self._send(taken)
                except BaseException as error:  # noqa: BLE001  # the thread must live
                    say_once("worker", "Sending failed (%s); please report this.", type(error).__name__)
                finally:
                    self._queue.done(len(taken), delivered=delivered)
            if self._closed:
                return

    def _send(self, taken: list[_Started | _Ended]) -> bool:
        ended = [item for item in taken if isinstance(item, _Ended)]
        over = {item.span_id for item in ended}
        # One that ended meanwhile sends both at once.
        began = [item for item in taken if isinstance(item, _Started) and item.span_id not in over]
        announced: list[str] = []
        delivered = self._forwarder.send(chain(self._starts(began, announced), self._ends(ended)))
        if not delivered:  # then the finished span says it once more; the uuid is the same
            for span_id in announced:
                self._requested.pop(span_id, None)
        return delivered

    def _ends(self, ended: Iterable[_Ended]) -> Iterator[dict[str, Any]]:
        pipeline = self._forwarder.pipeline
        announced: set[str] = set()

        def views() -> Iterator[SpanView]:
            for item in ended:
                view = unpack(item.packed)
                if view.span_id in self._requested:
                    del self._requested[view.span_id]
                    announced.add(view.span_id)
                yield view

        return self._forwarder.convert(views(), partial(pipeline.finished, announced=announced))

    def _starts(self, began: Iterable[_Started], announced: list[str]) -> Iterator[dict[str, Any]]:
        def announce(*views: SpanView) -> list[dict[str, Any]]:
            made = []
            for view in views:
                if events := self._forwarder.pipeline.started(view):
                    # Also where `before_send` drops it: then it is to stay dropped.
                    announced.append(view.span_id)
                    self._requested[view.span_id] = None
                    _forget_oldest(self._requested)
                    made += events
            return made

        running = (of_sdk_span(span) for item in began if (span := item.span()) is not None)
        return self._forwarder.convert((view for view in running if view is not None), announce)


def _forget_oldest(open_spans: dict[Any, Any]) -> None:
    """Spans that never end must not fill the memory."""
    while len(open_spans) > MAX_OPEN_SPANS:
        open_spans.pop(next(iter(open_spans)), None)
