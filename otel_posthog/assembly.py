"""The parts put together: options in, a `Forwarder` out that turns views of spans into delivered events.

Whatever stands at the front (an exporter, a processor, a gateway) uses one of these, so that the same
span becomes the same events by every way in.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from otel_posthog import config as options
from otel_posthog.delivery import Delivery, DeliveryOptions, Transport, ingestion_host
from otel_posthog.events import PriceBook, own_prices
from otel_posthog.events.cost import Rates
from otel_posthog.pipeline import Pipeline
from otel_posthog.spans.view import SpanView

__all__ = ["Forwarder", "forwarder"]

_log = logging.getLogger("otel_posthog")

Event = dict[str, Any]
Hook = Callable[[Event], "Event | None"]

TOGETHER = 32
"""Spans that are converted together: enough for the caches (see `Pipeline.finished`), little memory."""

_said: set[str] = set()
_ADDRESS = frozenset(
    name for option in options.OPTIONS if option.name == "endpoint" for name in option.variables
)


def say_once(key: str, sentence: str, *values: object) -> None:
    """Warn, the first time in this process that `key` comes up."""
    if key not in _said:
        _said.add(key)
        _log.warning(sentence, *values)


def forwarder(
    arguments: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    transport: Transport | None = None,
) -> Forwarder:
    """A forwarder as `arguments` and the environment say.

    Raises:
        ValueError: an argument or the price file is wrong; the text says which and why.
    """
    wrong: list[str] = []

    def warn(variable: str, sentence: str) -> None:
        wrong.append(variable)
        say_once(variable, "%s", sentence)

    found = options.resolve(arguments, os.environ if environ is None else environ, warn)
    if found.api_key is None and _ADDRESS.isdisjoint(wrong):  # of a wrong address that is said already
        say_once(
            "api_key",
            "No PostHog project key, so nothing is sent: set POSTHOG_API_KEY to your key, phc_...",
        )
    try:
        rates = _read_prices(found)
    except ValueError as error:
        if arguments.get("prices") is not None:
            raise
        say_once("prices", "%s; the built-in table is used", error)
        rates = None
    return Forwarder(found, transport, rates)


class Forwarder:
    """Turns views of spans into events, and sees that they reach PostHog. Safe to share by threads."""

    def __init__(
        self,
        found: options.Config,
        transport: Transport | None = None,
        own_rates: Mapping[str, Rates] | None = None,
    ) -> None:
        self.config = found
        client = found.client
        self._super_properties: dict[str, Any] = dict(getattr(client, "super_properties", None) or {})
        self._hooks: list[Hook] = [
            hook for hook in (getattr(client, "before_send", None), found.before_send) if hook is not None
        ]
        self.pipeline = Pipeline(
            families=found.events,
            content=found.capture_content,
            full_media=found.media == "full",
            prices=PriceBook(own_rates) if found.cost == "client" else None,
        )
        self.delivery = Delivery(
            DeliveryOptions(
                api_key=found.api_key or "",
                endpoint=ingestion_host(found.endpoint),
                timeout=found.timeout,
                compression=found.compression,
                max_batch_bytes=found.max_batch_bytes,
                max_event_bytes=found.max_content_bytes,
                max_retry_seconds=found.max_retry_seconds,
                historical_migration=bool(getattr(client, "historical_migration", False)),
            ),
            transport=transport,
        )
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._converted = 0
        call_after_fork(self.reset_after_fork)

    @property
    def enabled(self) -> bool:
        """Whether anything is sent: there is a key, and the client, if one was given, is not disabled."""
        return self.config.api_key is not None and not getattr(self.config.client, "disabled", False)

    def convert(self, views: Iterable[SpanView], convert: Callable[..., Iterable[Event]]) -> Iterator[Event]:
        """The events that `convert(*views)` makes, some views at a time, ready to be sent.

        A view that cannot be converted is counted and said, and takes nothing else with it.
        """
        finish = self._finish if self._hooks or self._super_properties else None
        rest = iter(views)
        while some := [*islice(rest, TOGETHER)]:
            for event in self._converted_events(some, convert):
                self._converted += 1
                finished = event if finish is None else finish(event)
                if finished is not None:
                    yield finished

    def _converted_events(
        self, views: list[SpanView], convert: Callable[..., Iterable[Event]]
    ) -> Iterable[Event]:
        try:
            return convert(*views)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not cost the neighbours
            if len(views) > 1:
                return [event for view in views for event in self._converted_events([view], convert)]
            self._failed(error)
            return ()

    def send(self, events: Iterable[Event], seconds: float | None = None) -> bool:
        """Whether PostHog took all the events, within so many seconds (None: as long as retries go on)."""
        deadline = None if seconds is None else time.monotonic() + seconds
        return self.delivery.send(events, deadline)

    def stats(self) -> dict[str, Any]:
        """What became of everything so far; see `Delivery.stats` for the delivery's part."""
        with self._lock:
            return {"converted": self._converted, **self._counts, **self.delivery.stats()}

    def reset_after_fork(self) -> None:
        """In a forked child: what the parent was doing stays the parent's."""
        self._lock = threading.Lock()
        self._counts = Counter()
        self._converted = 0
        self.delivery.reset_after_fork()

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _failed(self, error: Exception) -> None:
        kind = type(error).__name__
        self._count("failed to convert")
        say_once(f"convert {kind}", "A span could not be converted (%s): please report this.", kind)

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
            except (Exception, SystemExit) as error:  # noqa: BLE001  # the application's code
                say_once(
                    f"hook {name}",
                    "before_send raised %s: %s events it fails on are not sent.",
                    type(error).__name__,
                    name,
                )
                answer = None
                self._count("dropped: before_send failed")
            else:
                if answer is None:
                    self._count("dropped by before_send")
            if not isinstance(answer, dict):
                return None
            # What the hook left out of the envelope is restored: an event without it would stop its batch.
            event = {**event, "properties": {}, **answer}
        return event


def call_after_fork(method: Callable[[], None]) -> None:
    """Call the method in every child that this process forks, as long as its object lives."""
    if hasattr(os, "register_at_fork"):
        held = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (found := held()) and found())


def _read_prices(found: options.Config) -> Mapping[str, Rates] | None:
    if found.prices is None:
        return None
    try:
        text = found.prices.read_text(encoding="utf-8")
        return own_prices(_parse(text, toml=found.prices.suffix.lower() == ".toml"))
    except (OSError, ValueError) as error:
        raise ValueError(f"prices: {found.prices.name}: {error}") from None


def _parse(text: str, *, toml: bool) -> Any:
    if not toml:
        return json.loads(text)
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)
