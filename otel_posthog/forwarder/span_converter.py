"""Loads become events: converted, finished by hooks, and counted.

A load is a model call that began (`CallStart`) or a finished span (`FinishedSpan`). It waits in the queue as
it is, in the spool as an entry, and becomes events on a thread of ours.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import orjson

from otel_posthog.conversion import traces
from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.privacy.redaction import may_hold_credentials
from otel_posthog.conversion.spans.inheritance import inherit_context
from otel_posthog.conversion.spans.packed_span import PackedSpan, spool_entry, unpack, view_of_spool_entry
from otel_posthog.conversion.spans.sdk_span import Ancestor, set_parent_id, view_of_sdk_span
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.delivery import EncodedEvent, Entry
from otel_posthog.forwarder.event_finisher import BeforeSend, Event, EventFinisher
from otel_posthog.runtime.log import warn_once

__all__ = ["CallStart", "FinishedSpan", "QueuedSpan", "SpanConverter"]

TOGETHER = 32
"""Calls whose events are made together: enough for the processor's caches (see `Pipeline.events`)."""
RESOLVED_TOGETHER = 1024
"""Spans that are resolved together."""
MAX_OPEN_CALLS = 100_000
"""Calls in progress that are remembered; an older one may be announced again when it ends."""

SPAN = "span"
"""The kind of an entry that holds a finished span."""
_PRIVATE = b'privacy_mode"'
"""The end of the attribute names that ask for privacy, in any dialect."""


class CallStart(NamedTuple):
    """A model call that began. It is read later: some instrumentors name the model after the start."""

    span_id: str
    span: weakref.ref[Any]
    within: weakref.ref[Any] | None = None
    """The span around it that may show the same call."""


class FinishedSpan(NamedTuple):
    """A finished span."""

    packed: PackedSpan
    announced: bool = False
    """Whether its `llm_completion_requested` was queued as an event of its own."""
    inner: tuple[PackedSpan, ...] = ()
    """Spans inside it that may show the same call, and waited for it."""


QueuedSpan = CallStart | FinishedSpan


class DecodedSpan(NamedTuple):
    """A finished span that is converted at once, or comes from the spool, maybe of another process."""

    view: SpanView
    announced: bool
    recipe: bytes
    """The settings by which the process that wrote it would have converted it."""

    @property
    def size(self) -> int:
        """The bytes that it takes in memory, about."""
        texts = sum(len(value) for value in self.view.attributes.values() if isinstance(value, str | bytes))
        return 2048 + 128 * len(self.view.attributes) + texts


def drain(views: list[SpanView]) -> Iterator[SpanView]:
    """Yield the views in order and let go of each: the views of a large request take much memory."""
    views.reverse()
    while views:
        yield views.pop()


def _each_alone(loads: Iterable[QueuedSpan | DecodedSpan]) -> Iterator[QueuedSpan | DecodedSpan]:
    """Yield the loads one by one, also spans that waited for each other: on disk each is an entry."""
    for load in loads:
        if isinstance(load, FinishedSpan) and load.inner:
            yield from (FinishedSpan(packed) for packed in load.inner)
            yield load._replace(inner=())
        else:
            yield load


class SpanConverter:
    """A converter of loads into events, by one pipeline, the client's properties and the hooks."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        super_properties: dict[str, Any] | None = None,
        hooks: Iterable[BeforeSend] = (),
        mask: Callable[[Event], Event] | None = None,
        max_field_bytes: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.pipeline = pipeline
        self._finish = EventFinisher(
            pipeline,
            super_properties=super_properties or {},
            hooks=hooks,
            mask=mask,
            max_field_bytes=max_field_bytes,
            drop=self._drop,
        )
        self.event_kind = self._finish.kind
        self._now = now
        self._recipe = pipeline.recipe()
        # Content that must not leave must not be on disk either.
        self.hides_content = (
            pipeline.hides_content
            or pipeline.pseudonym_key is not None
            or pipeline.redact is not None
            or self._finish.hides_content
        )
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child: count from zero, and forget the calls of the parent."""
        self._lock = threading.RLock()  # a signal handler may ask for counts
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._announced: dict[str, None] = {}
        self._history = traces.SpanHistory()
        self._resolving = threading.RLock()

    # --- loads ---

    def events(self, loads: Iterable[QueuedSpan | DecodedSpan]) -> Iterator[Event]:
        """Yield the events of the loads, ready to send."""
        began: list[CallStart] = []
        ended: list[FinishedSpan] = []
        decoded: list[DecodedSpan] = []
        for load in loads:
            if isinstance(load, FinishedSpan):
                ended.append(load)
            elif isinstance(load, CallStart):
                began.append(load)
            else:
                decoded.append(load)
        over: dict[str, PackedSpan] = {}
        if began:  # a call that has ended sends both events at once
            over = {packed.span_id: packed for load in ended for packed in (load.packed, *load.inner)}
        yield from self._starts(began, over)
        yield from self._ends(ended)
        by_recipe: dict[bytes, list[DecodedSpan]] = {}
        for load in decoded:
            by_recipe.setdefault(load.recipe, []).append(load)
        for recipe, loads_of_it in by_recipe.items():
            pipeline = self.pipeline if recipe == self._recipe else self.pipeline.with_recipe(recipe)
            announced = {load.view.span_id for load in loads_of_it if load.announced}
            yield from self.finished(
                (load.view for load in loads_of_it), pipeline=pipeline, announced=announced
            )

    def entries(self, loads: Iterable[QueuedSpan | DecodedSpan]) -> list[Entry]:
        """Return entries for the spool: spans as they are, or events if a span would show too much."""
        now = self._now()
        kept: list[Entry] = []
        others: list[QueuedSpan | DecodedSpan] = []
        for load in _each_alone(loads):
            body = self._body(load) if isinstance(load, FinishedSpan) else None
            if body is None:
                others.append(load)
            else:
                kept.append(Entry(SPAN, body, now))
        for load in others:  # one entry each: a transaction of one is the cheapest
            events = [EncodedEvent.of_event(event).data for event in self.events([load])]
            if events:
                kept.append(Entry(self.event_kind, b"\n".join(events), now))
        return kept

    def load(self, entry: Entry) -> DecodedSpan | None:
        """Return the span of an entry; None if it cannot be read."""
        try:
            document = orjson.loads(entry.body)
            recipe = orjson.dumps(document["made_with"])
            self.pipeline.with_recipe(recipe)
            return DecodedSpan(view_of_spool_entry(document["span"]), bool(document["announced"]), recipe)
        except (ValueError, TypeError, LookupError, AttributeError):
            return None

    def stored(self, events: list[EncodedEvent], kind: str) -> list[EncodedEvent]:
        """Return the events of an entry of this kind, as they may leave now."""
        if self._finish.is_done(kind):
            return events
        finished = [self._finish.again(orjson.loads(event.data), kind) for event in events]
        return [EncodedEvent.of_event(event) for event in finished if event is not None]

    def decode(self, span: Any, ancestor: Ancestor | None = None) -> DecodedSpan | None:
        """Return a finished span for conversion at once; None if it is no GenAI span."""
        view = view_of_sdk_span(span)
        if view is not None and ancestor is not None:
            set_parent_id(view.attributes, span, ancestor)
        return None if view is None else DecodedSpan(view, self.is_announced(view.span_id), self._recipe)

    def announce(self, load: CallStart) -> list[EncodedEvent]:
        """Return `llm_completion_requested` of a call that begins; nothing as long as it names no model."""
        return [EncodedEvent.of_event(event) for event in self._starts([load], {})]

    def scores(self, call: ModelCall) -> list[EncodedEvent]:
        """Return the events of scores that the application gave."""
        dropped: Counter[str] = Counter()
        events = self.pipeline.score_events(call, dropped)
        self._drop_all(dropped)
        return [EncodedEvent.of_event(event) for event in self._ready(events)]

    def is_announced(self, span_id: str) -> bool:
        """Return whether the call was announced, and forget it: it has ended."""
        return self._announced.pop(span_id, self) is None

    def _body(self, load: FinishedSpan) -> bytes | None:
        if self.hides_content:
            return None
        document = spool_entry(load.packed)
        if document is None or _PRIVATE in document or may_hold_credentials(document):
            return None
        announced = load.announced or self.is_announced(load.packed.span_id)
        head = b'{"made_with":%b,"announced":%b,"span":' % (self._recipe, b"true" if announced else b"false")
        return head + document + b"}"

    def _starts(self, began: Iterable[CallStart], over: Mapping[str, PackedSpan]) -> Iterator[Event]:
        for load in began:
            ended = over.get(load.span_id)
            around = load.within() if load.within is not None else None
            if ended is not None and around is None:
                continue
            span = load.span() if ended is None else None
            view = (
                unpack(ended) if ended is not None else view_of_sdk_span(span) if span is not None else None
            )
            if view is not None:
                outer = view_of_sdk_span(around) if around is not None else None
                if ended is not None and outer is not None and outer.span_id in over:
                    continue  # neither span was announced
                if outer is not None and outer.span_id not in self._announced and outer.span_id not in over:
                    outer = None  # it named no model yet and announced nothing, whatever it shows now
                started = (view, outer, ended is not None)
                yield from self._ready(self._each(lambda call: self._announce(*call), [started]))

    def _announce(self, view: SpanView, outer: SpanView | None, is_over: bool) -> list[Event]:
        outer_announces = outer is not None and self.pipeline.is_announced_by(view, outer)
        # If the two may still be one call, the end decides: an event that is late is better than two.
        waits = outer is not None and not outer_announces and self.pipeline.may_become_one(view, outer)
        events = [] if outer_announces or waits or is_over else self.pipeline.started_events(view)
        if events or outer_announces:
            # Also if `before_send` drops the event: it must stay dropped.
            self._announced[view.span_id] = None
            while len(self._announced) > MAX_OPEN_CALLS:
                self._announced.pop(next(iter(self._announced)), None)
        return events

    def _ends(self, ended: Iterable[FinishedSpan]) -> Iterator[Event]:
        announced: set[str] = set()

        def views() -> Iterator[SpanView]:
            for load in ended:
                for packed in (*load.inner, load.packed):
                    view = unpack(packed)
                    if self.is_announced(view.span_id) or (load.announced and packed is load.packed):
                        announced.add(view.span_id)
                    yield view

        return self.finished(views(), announced=announced)

    # --- views ---

    def finished(
        self,
        views: Iterable[SpanView],
        *,
        pipeline: Pipeline | None = None,
        announced: Container[str] = (),
        others: Iterable[ContextSpan] | None = None,
        failures: list[Exception] | None = None,
    ) -> Iterator[Event]:
        """Yield the events of finished spans, ready to send.

        A span that cannot be converted is counted and logged, and affects no other. `others` are the other
        spans that came with them. If they are given, no processor of ours saw the spans begin, so the spans
        inherit here.
        """
        pipeline = self.pipeline if pipeline is None else pipeline
        parents: traces.Parents | None = None
        rest = iter(views)
        if others is not None:
            finished, others = [*rest], [*others]
            inherit_context(finished, others, pipeline.features)
            parents = {
                (other.trace_id, other.span_id): other.parent_id for other in others if not other.is_genai
            }
            rest = drain(finished)
        while some := [*islice(rest, RESOLVED_TOGETHER)]:
            calls = self._each(pipeline.read, some, failures)
            self.count("converted", len(calls))
            calls, announced_ids = self._resolve(calls, parents, announced, failures)
            for start in range(0, len(calls), TOGETHER):
                yield from self._ready(
                    self._events(pipeline, calls[start : start + TOGETHER], announced_ids, failures)
                )

    def _resolve(
        self,
        calls: list[ModelCall],
        parents: traces.Parents | None,
        announced: Container[str],
        failures: list[Exception] | None,
    ) -> tuple[list[ModelCall], Container[str]]:
        """Return the calls, each once, and the span ids of those that are announced by any of their spans."""
        try:
            with self._resolving:
                resolved = traces.resolve(calls, self._history, parents=parents)
                if len(resolved) == len(calls) or not announced:
                    return resolved, announced
                announced_calls = [call for call in calls if call.span_id in announced]
                known = [self._history.span(call.trace_id, call.span_id) for call in announced_calls]
                by = {each.sent_as for each in known if each is not None}
                return resolved, {call.span_id for call in announced_calls} | by
        except Exception as error:  # noqa: BLE001  # each is still worth sending as it is
            self._failed(error, failures)
            return calls, announced

    def _events(
        self,
        pipeline: Pipeline,
        calls: list[ModelCall],
        announced: Container[str],
        failures: list[Exception] | None,
    ) -> list[Event]:
        dropped: Counter[str] = Counter()
        try:
            events = pipeline.events(calls, announced, dropped)
            if dropped:
                self._drop_all(dropped)
            return events
        except Exception as error:  # noqa: BLE001  # a fault of ours must not cost the neighbours
            if len(calls) > 1:
                return [
                    event for call in calls for event in self._events(pipeline, [call], announced, failures)
                ]
            self._failed(error, failures)
            self.count("converted", -1)
            return []

    def _each(
        self,
        read: Callable[[Any], Any],
        views: Iterable[Any],
        failures: list[Exception] | None = None,
    ) -> list[Any]:
        results = []
        for view in views:
            try:
                result = read(view)
            except Exception as error:  # noqa: BLE001  # a fault of ours must not cost the neighbours
                self._failed(error, failures)
                continue
            results += result if isinstance(result, list) else [result]
        return results

    def _failed(self, error: Exception, failures: list[Exception] | None) -> None:
        kind = type(error).__name__
        if failures is not None:
            failures.append(error)
        self.count("failed to convert")
        warn_once(f"convert {kind}", "A span could not be converted (%s): please report this.", kind)

    def _ready(self, events: list[Event]) -> Iterator[Event]:
        """Yield the events as the application's properties and hooks leave them."""
        with self._lock:
            self._made.update([event["event"] for event in events])
        finish = self._finish if self._finish.changes else None
        for event in events:
            finished = event if finish is None else finish(event)
            if finished is not None:
                yield finished

    # --- counts ---

    def count(self, what: str, number: int = 1) -> None:
        """Count spans: `seen`, `not ours`, `converted` or `failed to convert`."""
        with self._lock:
            self._counts[what] += number

    def count_spans(self, *, seen: int = 0, not_ours: int = 0) -> None:
        """Count spans, and how many of them are no GenAI spans, for `stats`."""
        with self._lock:
            self._counts["seen"] += seen
            self._counts["not ours"] += not_ours

    def _drop(self, reason: str) -> None:
        with self._lock:
            self._dropped[reason] += 1

    def _drop_all(self, by_reason: Counter[str]) -> None:
        with self._lock:
            self._dropped.update(by_reason)

    def stats(self) -> dict[str, Any]:
        """Return counts: `spans` by their end, `made` events by name, `dropped` events by reason."""
        with self._lock:
            spans = {
                name: self._counts[name] for name in ("seen", "not ours", "converted", "failed to convert")
            }
            return {"spans": spans, "made": dict(self._made), "dropped": dict(self._dropped)}
