"""The parts put together: options in, a `Forwarder` out that turns views of spans into delivered events.

Whatever stands at the front (an exporter, a processor, a gateway) uses one of these, so that the same
span becomes the same events by every way in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from otel_posthog.config.options import OPTIONS
from otel_posthog.config.resolve import Config, OptionProblem, resolve
from otel_posthog.conversion.events import Sampling
from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.pricing.price_file import read_prices
from otel_posthog.conversion.pricing.rates import Rates
from otel_posthog.conversion.privacy.media import MediaReplacer, placeholder, storing
from otel_posthog.conversion.privacy.redaction import Redactor, redactor
from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.packed_span import PackedSpan, pack
from otel_posthog.conversion.spans.sdk_span import Ancestor
from otel_posthog.delivery import (
    Backlog,
    DeliveryClient,
    DeliveryOptions,
    Outbox,
    Transport,
    destination_of,
    ingestion_host,
)
from otel_posthog.forwarder.mask_hook import MaskHook
from otel_posthog.forwarder.span_converter import Ended, Event, SpanConverter, Started
from otel_posthog.runtime.forks import follow_forks
from otel_posthog.runtime.log import warn_once

__all__ = ["Forwarder", "forwarder", "warn_once"]

STARTED_BYTES = 300
"""What the news of a start takes in memory, measured on CPython 3.11."""
MIN_LEASE_SECONDS = 60.0
"""So long entries of the spool belong to the process that is sending them, at least."""

_ADDRESS = frozenset(name for option in OPTIONS if option.name == "endpoint" for name in option.variables)


def forwarder(
    arguments: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
    spool_drops_oldest: bool = True,
    project: str = "",
) -> Forwarder:
    """A forwarder as `arguments` and the environment say; `project` is what the log calls it among several.

    Where its spool is full, the oldest entries make room, or (not `spool_drops_oldest`) nothing more is kept.

    Raises:
        ValueError: an argument or the price file is wrong; the text says which and why.
    """
    wrong: list[str] = []

    def warn(problem: OptionProblem) -> None:
        wrong.append(problem.variable)
        warn_once(problem.variable, "%s", problem)

    found = resolve(arguments, os.environ if environ is None else environ, warn)
    if found.api_key is None and _ADDRESS.isdisjoint(wrong):  # of a wrong address that is said already
        warn_once(
            "api_key",
            "No PostHog project key, so nothing is sent: set POSTHOG_API_KEY to your key, phc_...",
        )
    try:
        rates = _read_prices(found)
    except ValueError as error:
        if arguments.get("prices") is not None:
            raise
        warn_once("prices", "%s; the built-in table is used", error)
        rates = None
    return Forwarder(found, transport, rates, spool_drops_oldest=spool_drops_oldest, project=project)


class Forwarder:
    """Turns spans into events, and sees that they reach PostHog. Safe to share by threads."""

    def __init__(
        self,
        found: Config,
        transport: Transport | None = None,
        own_rates: Mapping[str, Rates] | None = None,
        *,
        spool_drops_oldest: bool = True,
        project: str = "",
    ) -> None:
        self.config = found
        client = found.client
        rates = found.sample_rate
        is_sampled = min(rates.values()) < 1
        book = PriceBook(own_rates) if found.cost == "client" or is_sampled else None
        self.pipeline = Pipeline(
            families=found.events,
            content=found.capture_content,
            private_features=found.private_features,
            content_sample_rate=found.content_sample_rate,
            media=_media(found.media),
            features=FeatureRules(found.features) if found.features else None,
            pseudonym_key=found.hash_user_ids.encode() if found.hash_user_ids is not None else None,
            redact=_redact(found.redact),
            prices=book if found.cost == "client" else None,
            sampling=(
                Sampling(rates=rates, keep_cost=found.sample_keep_cost, prices=book) if is_sampled else None
            ),
        )
        self.masking = MaskHook(found.mask) if found.mask is not None else None
        self.conversion = SpanConverter(
            self.pipeline,
            super_properties=dict(getattr(client, "super_properties", None) or {}),
            hooks=[h for h in (getattr(client, "before_send", None), found.before_send) if h is not None],
            mask=self.masking,
            max_field_bytes=found.max_content_bytes,
        )
        endpoint = ingestion_host(found.endpoint)
        self.delivery = DeliveryClient(
            DeliveryOptions(
                api_key=found.api_key or "",
                endpoint=endpoint,
                timeout=found.timeout,
                compression=found.compression,
                capture_mode=found.capture_mode,
                max_batch_bytes=found.max_batch_bytes,
                max_retry_seconds=found.max_retry_seconds,
                historical_migration=bool(getattr(client, "historical_migration", False)),
                project=project,
            ),
            transport=transport,
        )
        patience = 2 * found.timeout  # a request on each of two lanes
        spool = None
        if found.spool_dir is not None and self.enabled:
            from otel_posthog.delivery.spool.spool import Spool

            spool = Spool(
                found.spool_dir,
                destination_of(found.api_key or ""),
                max_bytes=found.spool_max_bytes,
                lease_seconds=max(MIN_LEASE_SECONDS, 2 * patience),
                drops_oldest=spool_drops_oldest,
            )
        self.backlog = Backlog(
            spool,
            self.delivery,
            self.conversion,
            max_batch_bytes=found.max_batch_bytes,
            patience=patience,
            max_age=found.max_age,
        )
        self.durable = found.durability == "always" and spool is not None
        self.outbox = Outbox(
            self.delivery,
            self.conversion,
            self.backlog,
            max_queue_bytes=found.max_queue_bytes,
            max_batch_bytes=found.max_batch_bytes,
            flush_interval=found.flush_interval,
            always=self.durable,
        )
        self._follow_prices(at_once=True)
        follow_forks(self)

    def _follow_prices(self, *, at_once: bool) -> None:
        """Where it is asked for, keep the price table up to date."""
        wanted = self.config.price_updates
        if wanted and self.enabled and self.config.cost == "client":
            from otel_posthog.forwarder.price_updates import follow_updates

            follow_updates(wanted if isinstance(wanted, str) else None, at_once=at_once)

    @property
    def enabled(self) -> bool:
        """Whether anything is sent: there is a key, and the client, if one was given, is not disabled."""
        return self.config.api_key is not None and not getattr(self.config.client, "disabled", False)

    def started(self, load: Started) -> None:
        """Hand over a call that began; where every span is to be on disk at once, so is this."""
        if not self.durable:
            self.outbox.enqueue(load, STARTED_BYTES)
            return
        for item in self.conversion.announce(load):
            self.outbox.enqueue(item, item.size)

    def ended(self, span: Any, ancestor: Ancestor | None = None) -> bool:
        """Hand over a span that ended, where it stands if that is known; whether it is one of concern."""
        if self.durable and self.conversion.hides_content:
            made = self.conversion.restored(span, ancestor)
            if made is not None:
                self.outbox.enqueue(made, made.size)
            return made is not None
        packed = pack(span, ancestor)
        if packed is not None:
            self.ended_together((packed,))
        return packed is not None

    def ended_together(self, spans: tuple[PackedSpan, ...]) -> None:
        """Hand over spans that may show one call, the outermost last."""
        *inner, packed = spans
        announced = self.durable and self.conversion.is_announced(packed.span_id)
        size = packed.size if not inner else sum(each.size for each in spans)
        self.outbox.enqueue(Ended(packed, announced, tuple(inner)), size)

    def score(self, call: ModelCall) -> None:
        """Hand over what was said of a call."""
        for item in self.conversion.scores(call):
            self.outbox.enqueue(item, item.size)

    def send(self, events: Iterable[Event], seconds: float) -> bool:
        """Whether PostHog took all the events, or they are on disk, within so many seconds."""
        return self.outbox.send_now(events, seconds)

    def stats(self, *, spool: bool = True) -> dict[str, Any]:
        """What became of everything so far; what is in the `spool` takes a query.

        `spans`: seen, not ours, converted, failed to convert, and `dropped` by reason. `events`: by name
        queued (made), delivered, retried (once per further attempt) and cut; refused and unsent (handed back
        to be tried later) by name and reason; dropped by reason (`sample_rate`: not of the sample). `queue`:
        what waits in memory. `spool`: what waits on disk, its bytes, the age of the oldest in seconds, dead
        letters, and what was dropped or buried by reason; empty where there is none. `requests`: attempts,
        and their bytes. `fields`: what the mask did not answer for and was left out, by reason.
        """
        made, sent, waiting = self.conversion.stats(), self.delivery.stats(), self.outbox.stats(spool=spool)
        queue: dict[str, Any] = waiting["queue"]
        requests = {name: sent.pop(name) for name in ("requests", "bytes", "wire_bytes")}
        return {
            "spans": {**made["spans"], "dropped": queue.pop("dropped")},
            "events": {"queued": made["made"], **sent, "dropped": made["dropped"]},
            "queue": queue,
            "spool": waiting["spool"],
            "requests": requests,
            "fields": {"dropped": {} if self.masking is None else self.masking.stats()},
        }

    def after_fork_in_child(self) -> None:
        """What the parent was doing stays the parent's."""
        self.conversion.reset_after_fork()
        if self.masking is not None:
            self.masking.reset_after_fork()
        self.delivery.reset_after_fork()
        self._follow_prices(at_once=False)  # what the parent fetched is here


def _media(found: str | Callable[..., Any]) -> MediaReplacer | None:
    """What the option `media` means."""
    if isinstance(found, str):
        return None if found == "full" else placeholder

    def store(data: bytes, mime_type: str | None) -> str | None:
        try:
            url: str | None = found(data, mime_type)
        except Exception as error:  # noqa: BLE001  # the application's code
            warn_once("media", "media: the function raised %s: a placeholder is sent.", type(error).__name__)
            return None
        return url

    return storing(store)


def _redact(found: Mapping[str, str | None] | None) -> Redactor | None:
    """What the option `redact` means."""
    if found is None:
        return None
    own = {name: pattern for name, pattern in found.items() if pattern is not None}
    return redactor(found.keys() - own.keys(), own)


def _read_prices(found: Config) -> Mapping[str, Rates] | None:
    """The application's own prices.

    Raises:
        ValueError: the file cannot be read or is wrong; the text says why, and in which line.
    """
    if found.prices is None:
        return None
    try:
        text = found.prices.read_text(encoding="utf-8")
        return read_prices(text, toml=found.prices.suffix.lower() == ".toml")
    except (OSError, ValueError) as error:
        raise ValueError(f"prices: {found.prices.name}: {error}") from None
