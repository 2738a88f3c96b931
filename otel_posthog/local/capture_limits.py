"""Limits, refusals and the unpacking of a body, shared by both generations of the wire. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from otel_posthog.runtime import decompression

Event = dict[str, Any]

_KB, _MB, _MIB = 1000, 1000 * 1000, 1024 * 1024

MAX_NAME_LENGTH = 200
"""Characters. v0 cuts a distinct id at this length; v1 refuses a longer one, and a longer event name."""
AI_PREFIX = "$ai_"


@dataclass(frozen=True, slots=True)
class Wire:
    """One way in, and its limits in bytes."""

    name: str
    max_body: int
    """On the wire, as sent."""
    max_inflated: int
    max_ai_event: int
    """Above it the whole request is refused (v0) or the one event dropped (v1)."""
    max_event: int
    """The same limit for every other event."""
    ai_only: bool = False
    v1: bool = False


# 983,040 and 8 MiB are PostHog's limits for AI events; 1,000,000 stands for "about 1 MB, a Kafka message".
BATCH = Wire("batch", 20 * _MB, 100 * _MB, 983_040, 1000 * _KB)
SINGLE = Wire("single", 2 * _MB, 2 * _MB, 983_040, 1000 * _KB)
AI_BATCH = Wire("ai batch", 20 * _MB, 100 * _MB, 8 * _MIB, 8 * _MIB, ai_only=True)
V1 = Wire("v1", 10 * _MIB, 50 * _MIB, 8 * _MIB, 1000 * _KB, v1=True)


class RefusalError(Exception):
    """A refusal of the whole request.

    `status` is the HTTP status, `tag` PostHog's name for the reason (v1 sends it), `str()` a sentence.
    """

    def __init__(self, status: int, tag: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Accepted:
    """The events of a request, and the answer to send once they are stored."""

    events: list[Event]
    answer: dict[str, Any]


def check_length(wire: Wire, length: int) -> None:
    """Refuse a body of `length` bytes with 413 if the wire does not take so many, before it is read."""
    if length > wire.max_body:
        raise too_large(f"the body has {length:,} bytes on the wire, {wire.max_body:,} are allowed")


def too_large(sentence: str) -> RefusalError:
    """Return the 413 of both wires."""
    return RefusalError(413, "payload_too_large", sentence)


def unpack(wire: Wire, body: bytes, encoding: str) -> bytes:
    """Return the body inflated, within the wire's limit; refuse an unknown encoding with 415."""
    if encoding in {"", "identity"}:
        return body
    codec = decompression.CODECS.get(encoding)
    if codec is None:
        have = ", ".join(decompression.CODECS)
        raise RefusalError(415, "unsupported_encoding", f"no codec for {encoding!r} here; there is {have}")
    try:
        return decompression.inflate(codec, body, wire.max_inflated)
    except decompression.TooMuchError as error:
        raise too_large(str(error)) from None
    except decompression.BrokenBodyError as error:
        raise RefusalError(400, "request_decoding_error", str(error)) from None


def parse(body: bytes) -> Any:
    """Return the parsed body. JSON is strict as at the server: no NaN, no lone surrogates."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusalError(400, "request_parsing_error", f"the body is not JSON: {error}") from None


def size_of(event: Event) -> int:
    """Return the bytes of the event as compact JSON, which the limits count."""
    try:
        return len(orjson.dumps(event))
    except orjson.JSONEncodeError:  # It came from JSON, so nesting is all that can be wrong.
        raise RefusalError(400, "request_parsing_error", "an event is nested too deeply") from None


def ceiling_for(wire: Wire, name: str) -> int:
    """Return the most bytes that an event of this name may have."""
    return wire.max_ai_event if name.startswith(AI_PREFIX) else wire.max_event


def check_token(token: object) -> None:
    """Refuse a token that cannot be a project key with 401; name a personal key as one."""
    if not isinstance(token, str) or not token:
        raise RefusalError(401, "invalid_api_token", "event submitted without an api_key")
    if token.startswith("phx_"):
        raise RefusalError(
            401, "invalid_api_token", "this is a personal API key (phx_); use the project key (phc_)"
        )


def parse_uuid(value: object) -> str:
    """Return the UUID in its usual spelling; refuse anything else with 400."""
    try:
        return str(uuid.UUID(value if isinstance(value, str) else ""))
    except ValueError:
        raise RefusalError(400, "request_parsing_error", f"not a UUID: {str(value)[:50]!r}") from None
