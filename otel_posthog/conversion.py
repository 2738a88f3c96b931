"""Loads become events: what the SDK side hands over, converted, finished by hooks, and counted.

A load is a call that began (`Started`) or a span that ended (`Ended`). It waits in memory as it is, on disk
as an entry, and becomes events when its turn comes, on a thread of ours.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import orjson

from otel_posthog.delivery import Entry, Item
from otel_posthog.delivery.entries import EVENT
from otel_posthog.pipeline import Pipeline
from otel_posthog.spans.view import PackedSpan, SpanView, entry_of, of_entry, of_sdk_span, unpack

__all__ = ["Conversion", "Ended", "Event", "Hook", "Load", "Started", "say_once"]

_log = logging.getLogger("otel_posthog")

Event = dict[str, Any]
Hook = Callable[[Event], "Event | None"]

TOGETHER = 32
"""Spans that are converted together: enough for the caches (see `Pipeline.finished`), little memory."""
MAX_OPEN_CALLS = 100_000
"""Calls under way that are remembered; an older one may be announced anew when it ends."""

SPAN = "span"
"""The kind of an entry that holds a finished span."""
_PRIVATE = b'"posthog.privacy_mode"'

_said: set[str] = set()


def say_once(key: str, sentence: str, *values: object) -> None:
    """Warn, the first time in this process that `key` comes up."""
    if key not in _said:
        _said.add(key)
        _log.warning(sentence, *values)


class Started(NamedTuple):
    """A call that began. Read when its turn comes: some instrumentors name the model after the start."""

    span_id: str
    span: weakref.ref[Any]


class Ended(NamedTuple):
    """A span that ended."""

    packed: PackedSpan
    announced: bool = False
    """Its `llm_completion_requested` was handed over as an event of its own."""


Load = Started | Ended


class Restored(NamedTuple):
    """A span that does not wait: it is converted at once, or waited on disk, maybe of another process."""

    view: SpanView
    announced: bool
    recipe: bytes
    """How whoever wrote it would have converted it."""

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        texts = sum(len(value) for value in self.view.attributes.values() if isinstance(value, str | bytes))
        return 2048 + 128 * len(self.view.attributes) + texts


class Conversion:
    """Turns loads into events, as one pipeline, the client's own properties and the hooks say."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        super_properties: dict[str, Any] | None = None,
        hooks: Iterable[Hook] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.pipeline = pipeline
        self._super_properties = super_properties or {}
        self._hooks = [*hooks]
        self._now = now
        self._recipe = pipeline.recipe()
        # What may not leave as it is does not go to disk as it is either.
        self.discreet = not pipeline.content or bool(self._hooks) or bool(self._super_properties)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In a forked child: count from zero, and forget the calls of the parent."""
        self._lock = threading.RLock()  # a signal handler may ask for counts
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._announced: dict[str, None] = {}

    # --- loads ---

    def events(self, loads: Iterable[Load | Restored]) -> Iterator[Event]:
        """The events of the loads, ready to be sent."""
        began: list[Started] = []
        ended: list[Ended] = []
        restored: list[Restored] = []
        for load in loads:
            if isinstance(load, Ended):
                ended.append(load)
            elif isinstance(load, Started):
                began.append(load)
            else:
                restored.append(load)
        over = {load.packed.span_id for load in ended} if began else ()
        # One that ended meanwhile sends both at once.
        yield from self._starts(load for load in began if load.span_id not in over)
        yield from self._ends(ended)
        for load in restored:
            pipeline = self.pipeline if load.recipe == self._recipe else self.pipeline.by_recipe(load.recipe)
            announced = {load.view.span_id} if load.announced else ()
            yield from self.convert([load.view], partial(pipeline.finished, announced=announced))

    def entries(self, loads: Iterable[Load | Restored]) -> list[Entry]:
        """What is to be kept on disk: spans as they are, or events where a span would say too much."""
        now = self._now()
        kept: list[Entry] = []
        others: list[Load | Restored] = []
        for load in loads:
            body = self._body(load) if isinstance(load, Ended) else None
            if body is None:
                others.append(load)
            else:
                kept.append(Entry(SPAN, body, now))
        for load in others:  # one entry each: a transaction of one is the cheapest
            events = [Item.of_event(event).data for event in self.events([load])]
            if events:
                kept.append(Entry(EVENT, b"\n".join(events), now))
        return kept

    def load(self, entry: Entry) -> Restored | None:
        """The span that was kept; None if it cannot be read."""
        try:
            document = orjson.loads(entry.body)
            recipe = orjson.dumps(document["made_with"])
            self.pipeline.by_recipe(recipe)
            return Restored(of_entry(document["span"]), bool(document["announced"]), recipe)
        except (ValueError, TypeError, LookupError, AttributeError):
            return None

    def restored(self, span: Any) -> Restored | None:
        """A span that ended, to be made events at once; None where it is no concern of ours."""
        view = of_sdk_span(span)
        return None if view is None else Restored(view, self.is_announced(view.span_id), self._recipe)

    def announce(self, span: Any) -> list[Item]:
        """`llm_completion_requested` of a call that begins; nothing where it names no model yet."""
        view = of_sdk_span(span)
        if view is None:
            return []
        return [Item.of_event(event) for event in self.convert([view], self._announce)]

    def is_announced(self, span_id: str) -> bool:
        """Whether the call was announced; it ends now."""
        return self._announced.pop(span_id, self) is None

    def _body(self, load: Ended) -> bytes | None:
        if self.discreet:
            return None
        document = entry_of(load.packed)
        if document is None or _PRIVATE in document:
            return None
        announced = load.announced or self.is_announced(load.packed.span_id)
        head = b'{"made_with":%b,"announced":%b,"span":' % (self._recipe, b"true" if announced else b"false")
        return head + document + b"}"

    def _starts(self, began: Iterable[Started]) -> Iterator[Event]:
        running = (of_sdk_span(span) for load in began if (span := load.span()) is not None)
        return self.convert((view for view in running if view is not None), self._announce)

    def _announce(self, *views: SpanView) -> list[Event]:
        made = []
        for view in views:
            if events := self.pipeline.started(view):
                # Also where `before_send` drops it: then it is to stay dropped.
                self._announced[view.span_id] = None
                while len(self._announced) > MAX_OPEN_CALLS:
                    self._announced.pop(next(iter(self._announced)), None)
                made += events
        return made

    def _ends(self, ended: Iterable[Ended]) -> Iterator[Event]:
        announced: set[str] = set()

        def views() -> Iterator[SpanView]:
            for load in ended:
                view = unpack(load.packed)
                if load.announced or self.is_announced(view.span_id):
                    announced.add(view.span_id)
                yield view

        return self.convert(views(), partial(self.pipeline.finished, announced=announced))

    # --- views ---

    def convert(self, views: Iterable[SpanView], convert: Callable[..., Iterable[Event]]) -> Iterator[Event]:
        """The events that `convert(*views)` makes, some views at a time, ready to be sent.

        A view that cannot be converted is counted and said, and takes nothing else with it.
        """
        finish = self._finish if self._hooks or self._super_properties else None
        rest = iter(views)
        while some := [*islice(rest, TOGETHER)]:
            events = self._of_some(some, convert)
            with self._lock:
                self._made.update([event["event"] for event in events])
            for event in events:
                finished = event if finish is None else finish(event)
                if finished is not None:
                    yield finished

    def _of_some(self, views: list[SpanView], convert: Callable[..., Iterable[Event]]) -> list[Event]:
        try:
            made = [*convert(*views)]
        except Exception as error:  # noqa: BLE001  # a fault of ours must not cost the neighbours
            if len(views) > 1:
                return [event for view in views for event in self._of_some([view], convert)]
            kind = type(error).__name__
            self.count("failed to convert")
            say_once(f"convert {kind}", "A span could not be converted (%s): please report this.", kind)
            return []
        if convert != self._announce:  # a call that began is no span yet
            self.count("converted", len(views))
        return made

    def _finish(self, event: Event) -> Event | None:
        """The client's own properties, then what the application's hooks make of the event.

        A hook that fails may have been meant to take something out: its event is not sent.
        """
        name = event["event"]
        if self._super_properties:
            event = {**event, "properties": {**event["properties"], **self._super_properties}}
        for hook in self._hooks:
            try:
                answer = hook(event)
            except BaseException as error:  # noqa: BLE001  # the application's code
                say_once(
                    f"hook {name}",
                    "before_send raised %s: %s events it fails on are not sent.",
                    type(error).__name__,
                    name,
                )
                self._drop("before_send failed")
                return None
            if not isinstance(answer, dict):
                self._drop("before_send")
                return None
            # What the hook left out of the envelope is restored: an event without it would stop its batch.
            event = {**event, "properties": {}, **answer}
            if not (isinstance(event["event"], str) and event["event"]):
                self._drop("before_send failed")
                return None
        return event

    # --- counts ---

    def count(self, what: str, number: int = 1) -> None:
        """Count spans: `seen`, `not ours`, `converted` or `failed to convert`."""
        with self._lock:
            self._counts[what] += number

    def _drop(self, reason: str) -> None:
        with self._lock:
            self._dropped[reason] += 1

    def stats(self) -> dict[str, Any]:
        """`spans` by what became of them; `made`: events by name; `dropped`: events by reason."""
        with self._lock:
            spans = {
                name: self._counts[name] for name in ("seen", "not ours", "converted", "failed to convert")
            }
            return {"spans": spans, "made": dict(self._made), "dropped": dict(self._dropped)}
