"""What both generations of the wire share: limits, refusals, unpacking a body. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from otel_posthog.runtime import decompression

Event = dict[str, Any]

_KB, _MB, _MIB = 1000, 1000 * 1000, 1024 * 1024

#: A distinct id is cut at this length by v0, refused above it by v1; an event name is refused by v1.
MAX_NAME_LENGTH = 200
AI_PREFIX = "$ai_"


@dataclass(frozen=True, slots=True)
class Wire:
    """One way in: what it takes and how much of it. Sizes in bytes."""

    name: str
    max_body: int
    """On the wire, as sent."""
    max_inflated: int
    max_ai_event: int
    """Above it the whole request is refused (v0) or the one event dropped (v1)."""
    max_event: int
    """The same for every other event."""
    ai_only: bool = False
    v1: bool = False


# 983,040 and 8 MiB are PostHog's limits for AI events; 1,000,000 stands for "about 1 MB, a Kafka message".
BATCH = Wire("batch", 20 * _MB, 100 * _MB, 983_040, 1000 * _KB)
SINGLE = Wire("single", 2 * _MB, 2 * _MB, 983_040, 1000 * _KB)
AI_BATCH = Wire("ai batch", 20 * _MB, 100 * _MB, 8 * _MIB, 8 * _MIB, ai_only=True)
V1 = Wire("v1", 10 * _MIB, 50 * _MIB, 8 * _MIB, 1000 * _KB, v1=True)


class RefusalError(Exception):
    """The request as a whole is refused.

    ``status`` is the HTTP status, ``tag`` PostHog's name for the reason (v1 sends it), ``str()`` a sentence.
    """

    def __init__(self, status: int, tag: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a request brought: the events to keep, and the answer to give once they are kept."""

    events: list[Event]
    answer: dict[str, Any]


def check_length(wire: Wire, length: int) -> None:
    """Refuse with 413 a body of ``length`` bytes that the wire would not take, before it is read."""
    if length > wire.max_body:
        raise too_large(f"the body has {length:,} bytes on the wire, {wire.max_body:,} are allowed")


def too_large(sentence: str) -> RefusalError:
    """Make the 413 of both wires."""
    return RefusalError(413, "payload_too_large", sentence)


def unpack(wire: Wire, body: bytes, encoding: str) -> bytes:
    """Inflate ``body`` within the wire's ceiling; 415 for an encoding that nobody here can read."""
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
    """Parse strict JSON: no NaN, no lone surrogates, as the server's parser has it."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusalError(400, "request_parsing_error", f"the body is not JSON: {error}") from None


def size_of(event: Event) -> int:
    """Give the event's size as compact JSON, in bytes: what the limits count."""
    try:
        return len(orjson.dumps(event))
    except orjson.JSONEncodeError:  # It came from JSON, so nesting is all that can be wrong.
        raise RefusalError(400, "request_parsing_error", "an event is nested too deeply") from None


def ceiling_for(wire: Wire, name: str) -> int:
    """Give the largest size of an event of this name, in bytes."""
    return wire.max_ai_event if name.startswith(AI_PREFIX) else wire.max_event


def check_token(token: object) -> None:
    """Refuse with 401 what cannot be a project key, a personal one by its name."""
    if not isinstance(token, str) or not token:
        raise RefusalError(401, "invalid_api_token", "event submitted without an api_key")
    if token.startswith("phx_"):
        raise RefusalError(
            401, "invalid_api_token", "this is a personal API key (phx_); use the project key (phc_)"
        )


def parse_uuid(value: object) -> str:
    """Normalise a UUID's text; 400 for anything else."""
    try:
        return str(uuid.UUID(value if isinstance(value, str) else ""))
    except ValueError:
        raise RefusalError(400, "request_parsing_error", f"not a UUID: {str(value)[:50]!r}") from None
