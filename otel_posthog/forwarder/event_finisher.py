"""The last steps of an event: the client's properties, `before_send`, the mask, the limit of a property.

The process that wrote an event to disk has finished it. Before it leaves, it passes what this process hides
beyond that (`EventFinisher.again`). Its entry says what was hidden (`EventFinisher.kind`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.privacy.allow_list import CONTENT, Event
from otel_posthog.conversion.privacy.redaction import redact_json, redactor
from otel_posthog.conversion.privacy.stored_events import hide_event_content, pseudonymize_event, redact_event
from otel_posthog.delivery.encoding.truncation import cut_value
from otel_posthog.delivery.spool.entries import EVENT
from otel_posthog.runtime.log import warn_once

__all__ = ["BeforeSend", "Event", "EventFinisher"]

BeforeSend = Callable[[Event], "Event | None"]

_ENVELOPE = ("event", "uuid", "distinct_id", "timestamp", "properties")
_OF_PERSON = ("$set", "$set_once")
"""Names that PostHog reads beside the properties as well as in them."""


class EventFinisher:
    """The application's own properties, hooks and mask, applied to events."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        super_properties: dict[str, Any],
        hooks: Iterable[BeforeSend],
        mask: Callable[[Event], Event] | None,
        max_field_bytes: int | None,
        drop: Callable[[str], None],
    ) -> None:
        """Make a finisher; `drop` is called with the reason for which an event is not sent."""
        self._pipeline = pipeline
        self._super_properties: dict[str, Any] = redact_json(super_properties, pipeline.redact or redactor())
        self._hooks = [*hooks]
        self._mask = mask
        self._max_field_bytes = max_field_bytes
        self._drop = drop
        self.changes = bool(self._hooks or self._super_properties or mask or max_field_bytes)
        """Whether it may change an event."""
        hides = _hides(pipeline)
        if max_field_bytes is not None:
            hides["max_content_bytes"] = max_field_bytes
        if mask is not None or pipeline.redact is not None:
            # The random name differs in every process: another process may mask or redact otherwise.
            hides["by"] = secrets.token_hex(8)
        self.kind = f"{EVENT} {_text(hides)}" if hides else EVENT
        """The kind of entries with events finished here: it says what was hidden, and holds no secret."""

    @property
    def hides_content(self) -> bool:
        """Whether events differ from their spans in more than length."""
        return bool(self._hooks or self._super_properties) or self._mask is not None

    def __call__(self, event: Event) -> Event | None:
        """Return the event as it leaves; None if it must not leave.

        A hook that fails may have been meant to remove something, so its event is not sent. The mask is last:
        it sees everything that leaves.
        """
        if self._super_properties:
            event = {**event, "properties": {**event["properties"], **self._super_properties}}
        for hook in self._hooks:
            answer = self._hooked(hook, event)
            if answer is None:
                return None
            event = answer
        return self._masked_and_cut(event)

    def is_done(self, kind: str) -> bool:
        """Whether events in entries of this kind may leave as they are."""
        return self.kind in (kind, EVENT)

    def again(self, event: Event, kind: str) -> Event | None:
        """Return an event of an entry of this kind as it may leave; None if it must not leave.

        The client's properties and `before_send` are not applied again. A pseudonym stays, whatever its key:
        it names nobody. The mask may see an event again that it saw in another process.
        """
        then, now = _of_kind(kind), _hides(self._pipeline)
        properties = event.get("properties")
        if not isinstance(properties, dict):
            properties = {}
        event = {name: event[name] for name in _ENVELOPE if name in event} | {"properties": properties}
        if not _hid_as_much(then, now) and not self._shows(properties):
            event = hide_event_content(event)
        key = self._pipeline.pseudonym_key
        if key is not None and not then.get("pseudonyms"):
            event = pseudonymize_event(event, key)
        if self._pipeline.redact is not None:
            event = redact_event(event, self._pipeline.redact)
        return self._masked_and_cut(event)

    def _shows(self, properties: dict[str, Any]) -> bool:
        feature, trace_id = properties.get("feature"), properties.get("$ai_trace_id")
        feature = feature if isinstance(feature, str) else None
        return self._pipeline.shows_content((feature,), trace_id if isinstance(trace_id, str) else None)

    def _hooked(self, hook: BeforeSend, event: Event) -> Event | None:
        name = event["event"]
        try:
            answer = hook(event)
        except BaseException as error:  # noqa: BLE001  # the application's code
            warn_once(
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
        # Restore what the hook left out of the envelope: without it the event would stop its batch.
        finished = {**event, "properties": {}, **answer}
        if not (isinstance(finished["event"], str) and finished["event"]):
            self._drop("before_send failed")
            return None
        return _in_envelope(finished)

    def _masked_and_cut(self, event: Event) -> Event | None:
        if self._mask is not None:
            try:
                event = self._mask(event)
            except Exception as error:  # noqa: BLE001  # values of the application's, which compare as they like
                warn_once("mask", "An event could not be masked (%s) and is not sent.", type(error).__name__)
                self._drop("mask failed")
                return None
        return event if self._max_field_bytes is None else _with_cut_fields(event, self._max_field_bytes)


def _in_envelope(event: Event) -> Event:
    """Return the event with PostHog's names only beside its properties, so that a mask sees everything."""
    if len(event) == len(_ENVELOPE):
        return event
    properties = event["properties"]
    if isinstance(properties, dict):
        more = {name: event[name] for name in _OF_PERSON if name in event}
        event = {**event, "properties": {**properties, **more}}
    return {name: event[name] for name in _ENVELOPE if name in event}


def _with_cut_fields(event: Event, limit: int) -> Event:
    """Return the event with its content cut to `limit` bytes a property."""
    properties = event["properties"]
    if not isinstance(properties, dict):
        return event
    content = [(name, properties[name]) for name in CONTENT if name in properties]
    cut = {name: shorter for name, value in content if (shorter := cut_value(value, limit)) is not value}
    return {**event, "properties": {**properties, **cut}} if cut else event


# --- what was hidden -----------------------------------------------------------------------------------

_OF_CONTENT = ("content", "private_features", "content_sample_rate")


def _hides(pipeline: Pipeline) -> dict[str, Any]:
    hidden_parts: dict[str, Any] = {}
    if not pipeline.content:
        hidden_parts["content"] = False
    if pipeline.private_features:
        hidden_parts["private_features"] = sorted(pipeline.private_features)
    if pipeline.content_sample_rate < 1:
        hidden_parts["content_sample_rate"] = pipeline.content_sample_rate
    if pipeline.pseudonym_key is not None:
        hidden_parts["pseudonyms"] = True
    return hidden_parts


def _hid_as_much(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the process that made the event hid at least what this process hides of content."""
    return then.get("content") is False or all(then.get(name) == now.get(name) for name in _OF_CONTENT)


def _text(hides: dict[str, Any]) -> str:
    return orjson.dumps(hides, option=orjson.OPT_SORT_KEYS).decode()


def _of_kind(kind: str) -> dict[str, Any]:
    """Return what was hidden, by the kind of the entry; nothing if the kind does not say."""
    try:
        hidden_parts = orjson.loads(kind.removeprefix(EVENT))
    except ValueError:
        return {}
    return hidden_parts if isinstance(hidden_parts, dict) else {}
