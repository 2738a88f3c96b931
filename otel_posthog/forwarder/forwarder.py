"""The forwarder: options in, delivered events out.

Every front (exporter, processor, gateway, consumer, replay) uses one, so that the same span becomes the same
events by every way in. Fronts call its methods and never reach through it to its parts.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from otel_posthog.config.options import OPTIONS
from otel_posthog.config.resolve import Config, OptionProblem, resolve
from otel_posthog.config.unknown_variables import unknown_variables
from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pricing.rates import Rates
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.packed_span import PackedSpan, pack
from otel_posthog.conversion.spans.sdk_span import Ancestor
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.delivery import (
    EncodedEvent,
    Transport,
    destination_of,
)
from otel_posthog.forwarder.mask_hook import MaskHook
from otel_posthog.forwarder.parts import (
    build_backlog,
    build_client,
    build_converter,
    build_outbox,
    build_pipeline,
    open_spool,
    read_own_prices,
)
from otel_posthog.forwarder.span_converter import CallStart, FinishedSpan
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import warn_once

__all__ = ["ConvertedSpans", "DeliveryReport", "Forwarder", "active_forwarder", "forwarder"]

STARTED_BYTES = 300
"""Bytes that a started call takes in the queue, measured on CPython 3.11."""

_ADDRESS = frozenset(name for option in OPTIONS if option.name == "endpoint" for name in option.variables)


def forwarder(
    arguments: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    spool_drops_oldest: bool = True,
    project: str = "",
) -> Forwarder:
    """Return a forwarder for `arguments` and the environment. `project` names it in the log among several.

    If its spool is full, the oldest entries make room, or (not `spool_drops_oldest`) nothing more is kept.

    Raises:
        ValueError: an argument or the price file is wrong; the text says which and why.
    """
    wrong: list[str] = []

    def warn(problem: OptionProblem) -> None:
        wrong.append(problem.variable)
        warn_once(problem.variable, "%s", problem)

    environ = os.environ if environ is None else environ
    config = resolve(arguments, environ, warn)
    for variable, sentence in unknown_variables(environ).items():
        warn_once(variable, "%s", sentence)
    if config.api_key is None and _ADDRESS.isdisjoint(wrong):  # a bad address was logged already
        warn_once(
            "api_key",
            "No PostHog project key, so nothing is sent: set POSTHOG_API_KEY to your key, phc_...",
        )
    try:
        rates = read_own_prices(config)
    except ValueError as error:
        if arguments.get("prices") is not None:
            raise
        warn_once("prices", "%s; the built-in table is used", error)
        rates = None
    return Forwarder(config, transport, rates, spool_drops_oldest=spool_drops_oldest, project=project)


class DeliveryReport(NamedTuple):
    """The end of one delivery."""

    safe: bool
    """Whether every event that PostHog can ever accept is accepted, or on disk. If not, send all again."""
    rejected: list[tuple[EncodedEvent, str]]
    """Events that PostHog will never accept, each with the reason."""
    unsent: int
    """Events that PostHog did not take now."""


class ConvertedSpans(NamedTuple):
    """The events of some spans."""

    events: list[EncodedEvent]
    failed: int
    """Spans that could not be converted, which is a fault of ours."""


class Forwarder:
    """Turns spans into events and sees that they reach PostHog. Threads may share it."""

    def __init__(
        self,
        config: Config,
        transport: Transport | None = None,
        own_rates: Mapping[str, Rates] | None = None,
        *,
        spool_drops_oldest: bool = True,
        project: str = "",
    ) -> None:
        """Build the parts. `own_rates` are the application's prices; see `forwarder` for the rest."""
        self._config = config
        self._mask_hook = MaskHook(config.mask) if config.mask is not None else None
        self._pipeline = build_pipeline(config, own_rates)
        self._converter = build_converter(config, self._pipeline, self._mask_hook)
        self.count_spans = self._converter.count_spans  # for every span, so without a call between
        self._client = build_client(config, transport, project)
        spool = open_spool(config, drops_oldest=spool_drops_oldest) if self.enabled else None
        self._backlog = build_backlog(config, spool, self._client, self._converter)
        self.durable = config.durability == "always" and spool is not None
        """Whether everything is on disk before the application goes on."""
        self._outbox = build_outbox(config, self._client, self._converter, self._backlog, self.durable)
        self._closed = False
        self._follow_prices(at_once=True)
        follow_forks(self)
        _forwarders.append(weakref.ref(self))

    # --- settings of the fronts ---

    @property
    def enabled(self) -> bool:
        """Whether events are sent: there is a key, and a given client is not disabled."""
        return self._config.api_key is not None and not getattr(self._config.client, "disabled", False)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def timeout(self) -> float:
        """The option `timeout`, in seconds."""
        return self._config.timeout

    @property
    def project_id(self) -> str:
        """The name of the PostHog project in the spool, which does not tell the key."""
        return destination_of(self._config.api_key or "")

    @property
    def feature_rules(self) -> FeatureRules | None:
        """The option `features`."""
        return self._pipeline.features

    @property
    def feature_attributes(self) -> frozenset[str]:
        """The attributes of any span that the rules for features read."""
        rules = self._pipeline.features
        return frozenset() if rules is None else rules.names

    @property
    def baggage_sent(self) -> frozenset[str]:
        """The option `baggage_send`."""
        return self._config.baggage_send

    @property
    def baggage_accepted(self) -> frozenset[str]:
        """The option `baggage_accept`."""
        return self._config.baggage_accept

    def set_batching(self, *, flush_interval: float | None = None, max_spans: int | None = None) -> None:
        """Set the seconds that spans wait for others, and the most spans that are sent together."""
        if flush_interval is not None:
            self._outbox.flush_interval = flush_interval
        if max_spans is not None:
            self._outbox.max_taken = max_spans

    # --- spans that end one by one ---

    def start(self, call: CallStart) -> None:
        """Queue a model call that began. With `durability=always` its event is on disk at once."""
        if not self.durable:
            self._outbox.enqueue(call, STARTED_BYTES)
            return
        for event in self._converter.announce(call):
            self._outbox.enqueue(event, event.size)

    def end(self, span: Any, ancestor: Ancestor | None = None) -> bool:
        """Queue a finished span. Return whether it is a GenAI span.

        `ancestor` is its nearest GenAI ancestor, if known.
        """
        if self.durable and self._converter.hides_content:
            decoded = self._converter.decode(span, ancestor)
            if decoded is not None:
                self._outbox.enqueue(decoded, decoded.size)
            return decoded is not None
        packed = pack(span, ancestor)
        if packed is not None:
            self.end_together((packed,))
        return packed is not None

    def end_together(self, spans: tuple[PackedSpan, ...]) -> None:
        """Queue finished spans that may show one call, the outermost last."""
        *inner, packed = spans
        announced = self.durable and self._converter.is_announced(packed.span_id)
        size = packed.size if not inner else sum(each.size for each in spans)
        self._outbox.enqueue(FinishedSpan(packed, announced, tuple(inner)), size)

    def read(self, view: SpanView) -> ModelCall:
        """Return the call that a span shows."""
        return self._pipeline.read(view)

    def score(self, call: ModelCall) -> None:
        """Queue the scores of a call."""
        for event in self._converter.scores(call):
            self._outbox.enqueue(event, event.size)

    # --- spans that come together ---

    def export_spans(
        self, views: Iterable[SpanView], context_spans: Iterable[ContextSpan], seconds: float
    ) -> bool:
        """Send the events of finished spans. Return whether PostHog took all, or they are on disk, in time.

        Events that are neither stay in memory and are tried again.
        """
        events = self._converter.finished(views, others=context_spans)
        return self._outbox.send_now(events, seconds)

    def convert(self, views: Iterable[SpanView], context_spans: Iterable[ContextSpan]) -> ConvertedSpans:
        """Return the events of finished spans, which inherit from each other and from the context spans."""
        failures: list[Exception] = []
        events = [
            EncodedEvent.of_event(event)
            for event in self._converter.finished(views, others=context_spans, failures=failures)
        ]
        return ConvertedSpans(events, len(failures))

    def deliver(self, events: list[EncodedEvent], seconds: float) -> DeliveryReport:
        """Send events on this thread, within the time. Unsent ones stay with the caller, unless on disk."""
        safe, report = self._outbox.attempt(events, seconds)
        return DeliveryReport(safe, report.rejected, len(report.unsent))

    def keep(self, events: list[EncodedEvent]) -> bool:
        """Write events to the spool, to be sent later. Return whether they are there."""
        return self._outbox.keep(events)

    # --- state of the delivery ---

    @property
    def halted_for(self) -> float:
        """The seconds for which nothing is sent, since only a person can change PostHog's answer; or 0."""
        return self._client.halted_for()

    @property
    def halted_by(self) -> str:
        """The reason for that."""
        return self._client.halted_by()

    @property
    def has_spool(self) -> bool:
        """Whether there is a usable spool."""
        return self._backlog.is_there

    @property
    def spool_is_full(self) -> bool:
        """Whether the spool takes nothing more."""
        return self._backlog.is_full()

    def watch_spool(self) -> None:
        """Send from now on also the entries that other processes leave in the spool."""
        self._outbox.watch()

    def spool_entries(self) -> int:
        """Return the number of entries in the spool for this project, of other processes as well."""
        entries: int = self._backlog.stats().get("entries", 0)
        self._backlog.close()
        return entries

    # --- ends ---

    def flush(self, seconds: float) -> bool:
        """Send the queue. Return whether all of it is at PostHog or on disk, within the time."""
        return self._outbox.flush(seconds)

    def close(self, seconds: float) -> bool:
        """Send the queue, within the time, and stop. Return whether all of it is at PostHog or on disk."""
        self._closed = True
        return self._outbox.close(seconds)

    def rescue(self) -> None:
        """Write the queue to disk now: a signal ends the process during `close`."""
        self._outbox.rescue()

    def stats(self, *, spool: bool = True) -> dict[str, Any]:
        """Return the counts since the start; those of the `spool` take a query.

        `spans`: seen, not ours, converted, failed to convert, and `dropped` by reason. `events`: by name
        queued, delivered, retried (once for each further attempt) and cut; refused and unsent (to be tried
        later) by name and reason; dropped by reason (`sample_rate`: not in the sample). `queue`: spans and
        events in memory. `spool`: entries on disk, their bytes, the age of the oldest in seconds, dead
        letters, and entries dropped or dead-lettered by reason; empty without a spool. `requests`: attempts
        and their bytes. `fields`: properties left out because the mask did not return, by reason.
        """
        converted, sent = self._converter.stats(), self._client.stats()
        waiting = self._outbox.stats(spool=spool)
        queue: dict[str, Any] = waiting["queue"]
        requests = {name: sent.pop(name) for name in ("requests", "bytes", "wire_bytes")}
        return {
            "spans": {**converted["spans"], "dropped": queue.pop("dropped")},
            "events": {"queued": converted["made"], **sent, "dropped": converted["dropped"]},
            "queue": queue,
            "spool": waiting["spool"],
            "requests": requests,
            "fields": {"dropped": {} if self._mask_hook is None else self._mask_hook.stats()},
        }

    def after_fork_in_child(self) -> None:
        """Begin anew: all work in progress stays the parent's."""
        self._converter.reset_after_fork()
        if self._mask_hook is not None:
            self._mask_hook.reset_after_fork()
        self._client.reset_after_fork()
        self._follow_prices(at_once=False)  # the child has the prices that the parent fetched

    def _follow_prices(self, *, at_once: bool) -> None:
        wanted = self._config.price_updates
        if wanted and self.enabled and self._config.cost == "client":
            from otel_posthog.forwarder.price_updates import follow_updates

            follow_updates(wanted if isinstance(wanted, str) else None, at_once=at_once)


_forwarders: list[weakref.ref[Forwarder]] = []
"""All forwarders of this process, the latest last."""


def active_forwarder() -> Forwarder | None:
    """Return the forwarder through which the process sends: the latest one that is enabled and open."""
    _forwarders[:] = [each for each in _forwarders if each() is not None]
    for reference in reversed(_forwarders):
        candidate = reference()
        if candidate is not None and candidate.enabled and not candidate.closed:
            return candidate
    return None
