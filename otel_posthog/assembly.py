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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from otel_posthog import config as options
from otel_posthog.delivery import Delivery, DeliveryOptions, Transport, ingestion_host
from otel_posthog.events import PriceBook, own_prices
from otel_posthog.pipeline import Pipeline
from otel_posthog.spans.view import SpanView

__all__ = ["Forwarder", "forwarder"]

_log = logging.getLogger("otel_posthog")

Event = dict[str, Any]
Hook = Callable[[Event], "Event | None"]

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
    # Both are said already, by whoever wrote them or just now.
    switched_off = getattr(found.client, "disabled", False) or not _ADDRESS.isdisjoint(wrong)
    if found.api_key is None and not switched_off:
        say_once(
            "api_key",
            "No PostHog project key, so nothing is sent: set POSTHOG_API_KEY to your key, phc_...",
        )
    return Forwarder(found, transport)


class Forwarder:
    """Turns views of spans into events, and sees that they reach PostHog. Safe to share by threads."""

    def __init__(self, found: options.Config, transport: Transport | None = None) -> None:
        self.config = found
        self.enabled = found.api_key is not None
        client = found.client
        self._super_properties: dict[str, Any] = dict(getattr(client, "super_properties", None) or {})
        self._hooks: list[Hook] = [
            hook for hook in (getattr(client, "before_send", None), found.before_send) if hook is not None
        ]
        self.pipeline = Pipeline(
            families=found.events,
            content=found.capture_content,
            full_media=found.media == "full",
            prices=PriceBook(_read_prices(found)) if found.cost == "client" else None,
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

    def convert(
        self, views: Iterable[SpanView], convert: Callable[[SpanView], Iterable[Event]]
    ) -> Iterator[Event]:
        """The events of the views, one after the other, ready to be sent.

        A view that cannot be converted is counted and said, and takes nothing else with it.
        """
        finish = self._finish if self._hooks or self._super_properties else None
        for view in views:
            try:
                events = convert(view)
            except Exception as error:  # noqa: BLE001  # a fault of ours must not cost the neighbours
                self._failed(error)
                continue
            for event in events:
                self._converted += 1
                finished = event if finish is None else finish(event)
                if finished is not None:
                    yield finished

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
            except Exception as error:  # noqa: BLE001  # the application's code
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


def _read_prices(found: options.Config) -> Any:
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
