"""PostHog's wires: the body and the headers of a request, and the reading of its answer.

v0 is `/batch/` and `/i/v0/ai/batch/`, v1 is `/i/v1/analytics/events`. Source: posthog-python 7.91 and
PostHog rust/capture.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from otel_posthog.delivery.encoding.compression import COMPRESSORS
from otel_posthog.delivery.http.outcome import Outcome, judge, judge_v1
from otel_posthog.runtime.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_posthog.delivery.encoding.encoded_event import EncodedEvent
    from otel_posthog.delivery.http.transport import Response
    from otel_posthog.delivery.options import DeliveryOptions


@dataclass(slots=True)
class Attempts:
    """The attempts at one request, as PostHog's v1 wire reports them."""

    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    number: int = 0
    first: datetime | None = None

    def next(self, now: datetime) -> None:
        """Count an attempt, made `now`."""
        self.number += 1
        self.first = self.first or now


class Payload(NamedTuple):
    """The body and headers of a POST."""

    body: bytes
    headers: Mapping[str, str]
    size: int
    """Bytes of the body before compression."""


class Wire(Protocol):
    """The format of a request and its answer."""

    def payload(self, events: Sequence[EncodedEvent], attempts: Attempts, now: datetime) -> Payload:
        """Return the payload of one attempt, made `now`."""
        ...

    def judge(self, answer: Response, now: datetime) -> Outcome:
        """Return the outcome of the answer."""
        ...


class V0Wire:
    """The v0 wire: one JSON object with the project key in it, gzip or not compressed."""

    def __init__(self, options: DeliveryOptions) -> None:
        self._start = b'{"api_key":' + orjson.dumps(options.api_key)
        if options.historical_migration:
            self._start += b',"historical_migration":true'
        # Only v1 accepts zstd.
        encoding = "gzip" if options.compression == "zstd" else options.compression
        self._compress = COMPRESSORS[encoding]
        self._headers = _headers(encoding)

    def payload(self, events: Sequence[EncodedEvent], attempts: Attempts, now: datetime) -> Payload:  # noqa: ARG002
        """Return the payload.

        `sent_at` is the time of this attempt: PostHog corrects every timestamp by the difference between it
        and its own clock.
        """
        head = self._start + b',"sent_at":"' + _stamp(now).encode() + b'","batch":['
        body = head + b",".join([event.data for event in events]) + b"]}"
        return Payload(self._compress(body), self._headers, len(body))

    def judge(self, answer: Response, now: datetime) -> Outcome:
        """Return the outcome of the answer."""
        return judge(answer, now)


_MOVED = {"$session_id": "session_id", "$window_id": "window_id"}
# Properties that are options on the v1 wire, and their types: one of another type fails the whole batch.
_OPTIONS: dict[str, tuple[str, type]] = {
    "$cookieless_mode": ("cookieless_mode", bool),
    "$ignore_sent_at": ("disable_skew_correction", bool),
    "$product_tour_id": ("product_tour_id", str),
    "$process_person_profile": ("process_person_profile", bool),
}
_INJECTED = ("$lib", "$lib_version")  # PostHog sets these from `PostHog-Sdk-Info`


class V1Wire:
    """The v1 wire: the project key and the attempt in headers, and a result for each event."""

    def __init__(self, options: DeliveryOptions) -> None:
        self._compress = COMPRESSORS[options.compression]
        self._headers = _headers(options.compression) | {
            "Authorization": f"Bearer {options.api_key}",
            "PostHog-Sdk-Info": f"otel-posthog/{__version__}",
        }
        self._historical = b',"historical_migration":true' if options.historical_migration else b""

    def payload(self, events: Sequence[EncodedEvent], attempts: Attempts, now: datetime) -> Payload:
        """Return the payload; `created_at` and the request id are the same in all attempts."""
        created = _stamp(attempts.first or now).encode()
        head = b'{"created_at":"' + created + b'"' + self._historical + b',"batch":['
        body = head + b",".join([v1_event(event.data) for event in events]) + b"]}"
        headers = self._headers | {
            "PostHog-Attempt": str(attempts.number),
            "PostHog-Request-Id": attempts.request_id,
            "PostHog-Request-Timestamp": _stamp(now),
        }
        return Payload(self._compress(body), headers, len(body))

    def judge(self, answer: Response, now: datetime) -> Outcome:
        """Return the outcome of the answer."""
        return judge_v1(answer, now)


def v1_event(data: bytes) -> bytes:
    """Return an encoded event in the v1 wire's shape: options and session stand beside the properties."""
    event: dict[str, Any] = orjson.loads(data)
    properties: dict[str, Any] = event.pop("properties", {})
    for name in ("$set", "$set_once"):
        if name in event:
            properties[name] = event.pop(name)
    for name in _INJECTED:
        properties.pop(name, None)
    for name, moved in _MOVED.items():
        if isinstance(properties.get(name), str):
            event[moved] = properties.pop(name)
    options = event["options"] = {}
    for name, (option, kind) in _OPTIONS.items():
        value = properties.pop(name, None)
        if isinstance(value, kind):
            options[option] = value
    return orjson.dumps({**event, "properties": properties})


def _headers(encoding: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": f"otel-posthog/{__version__}"}
    return headers if encoding == "none" else headers | {"Content-Encoding": encoding}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat()
