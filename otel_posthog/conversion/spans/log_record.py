"""A log record in one shape, whether OTLP brought it as protobuf or as JSON, and the events that are read.

Most log records of an application are no events of a model call: they are recognised by name and passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT
from otel_posthog.conversion.spans.span_view import SpanEvent

__all__ = ["DETAILS_EVENT", "MESSAGE_EVENTS", "LogContent", "LogRecord", "digest", "event_name"]

DETAILS_EVENT = "gen_ai.client.inference.operation.details"
"""The conventions' event with the content of a call, and since 1.37 all else about it."""
MESSAGE_EVENTS = frozenset(
    {
        "gen_ai.system.message",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        "gen_ai.tool.message",
        "gen_ai.choice",
        "gen_ai.content.prompt",
        "gen_ai.content.completion",
    }
)
"""The conventions' events of one message each, to 1.36."""

_CONVENTION_EVENTS = MESSAGE_EVENTS | {DETAILS_EVENT, EVALUATION_EVENT}
_CLIS = ("claude_code.", "codex.", "gemini_cli.", "qwen-code.")
_SHORT = {"com.anthropic.claude_code": "claude_code."}
"""Scopes whose `event.name` lacks the prefix that the body has."""
_LONGEST = 100
"""Characters of an event's name; a body may be as long as a request."""


class LogRecord(NamedTuple):
    """A log record, as far as a call may be read from it."""

    event: str
    """The name of the event, with the prefix of who wrote it."""
    time_ns: int
    """After 1970; 0 if neither the record nor who observed it names a time."""
    trace_id: str
    span_id: str
    """The id of the current span; empty if there was none."""
    body: Any
    attributes: dict[str, Any]
    scope: str | None
    scope_version: str | None
    resource: dict[str, Any]


class LogContent(NamedTuple):
    """An event of a span that came as a log record: content of the call that the span counts."""

    trace_id: str
    span_id: str
    event: SpanEvent
    resource: Mapping[str, Any]


def event_name(written: str, body: Any, attributes: Mapping[str, Any], scope: str | None) -> str | None:
    """Return the name of a record's event; None if it is none that is read.

    The name has had three places: the attribute `event.name`, a body that is nothing else, and a field.
    """
    for candidate in (written, attributes.get("event.name"), body):
        if not isinstance(candidate, str) or len(candidate) > _LONGEST:
            continue
        if candidate in _CONVENTION_EVENTS or candidate.startswith(_CLIS):
            return candidate
    short = attributes.get("event.name")
    if isinstance(short, str) and scope is not None and len(short) <= _LONGEST:
        for start, prefix in _SHORT.items():
            if scope.startswith(start):
                return prefix + short
    return None


def digest(*parts: Any, size: int = 8) -> str:
    """Return an id in hex that is the same for the same content, so that a record sent again is the same."""
    content = repr(parts).encode(errors="backslashreplace")
    return hashlib.blake2b(content, digest_size=size, person=b"log record").hexdigest()
