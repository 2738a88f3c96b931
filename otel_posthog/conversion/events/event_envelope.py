"""The parts that all events share: uuid, timestamp, distinct id, person, groups, session, context."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from operator import itemgetter
from typing import Any

from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.privacy.allow_list import allowed_properties
from otel_posthog.conversion.privacy.pseudonyms import is_nobody, short_id
from otel_posthog.runtime.version import __version__

__all__ = [
    "LIB_PROPERTIES",
    "common_properties",
    "event_uuid",
    "make_event",
    "person_properties",
    "reported",
    "timestamp",
]

_LIB = "otel-posthog"
LIB_PROPERTIES = {"$ai_lib": _LIB, "$ai_lib_version": __version__}
_ORIGIN = {"$lib": _LIB, "$lib_version": __version__, "$is_server": True, "$geoip_disable": True}

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST_NS = 253_402_300_799 * 10**9
"""The end of the year 9999, the latest moment that a timestamp can express."""


def event_uuid(trace_id: str, span_id: str, event: str) -> str:
    """Return the uuid (version 5) of an event: the same for a span and event name everywhere, at any time."""
    digest = _SHA1.copy()
    digest.update(f"{trace_id}:{span_id}:{event}".encode())
    a, b, c, variant, d, e = _UUID_PIECES(digest.hexdigest())
    return f"{a}-{b}-5{c}-{_VARIANT[variant]}{d}-{e}"


# RFC 9562 requires SHA-1 for version 5; it protects nothing. A copy costs less than a new hash.
_NAMESPACE = bytes.fromhex("5b2f0c0e6f0a5f0e9d0c2f6b7f3c1a90")
_SHA1 = hashlib.sha1(_NAMESPACE, usedforsecurity=False)
_UUID_PIECES = itemgetter(slice(8), slice(8, 12), slice(13, 16), 16, slice(17, 20), slice(20, 32))
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def timestamp(ns: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC, to the microsecond."""
    seconds, rest = divmod(min(max(ns, 0), _LATEST_NS), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat("T", "seconds")[:19]


def reported(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties without those that are None, because they were not reported."""
    return {name: value for name, value in properties.items() if value is not None}


def person_properties(call: ModelCall) -> tuple[str, dict[str, Any]]:
    """Return the distinct id, and the properties on person, groups and session.

    The distinct id is the user if there is one, else the session, conversation, chat or trace. In the second
    case the event is personless: it makes no profile (`$process_person_profile` is false).
    """
    context = call.context
    properties: dict[str, Any] = {}
    distinct_id = context.distinct_id
    if distinct_id is None or is_nobody(distinct_id):
        distinct_id = context.session_id or context.conversation_id or context.chat_id or call.trace_key
        properties["$process_person_profile"] = False
    if context.groups:
        properties["$groups"] = dict(context.groups)
    if context.session_id is not None:
        properties["$session_id"] = context.session_id
    return short_id(distinct_id), properties


def common_properties(call: ModelCall) -> dict[str, Any]:
    """Return the properties of every event of a call: context, custom properties, flags, origin."""
    context = call.context
    properties = {**context.properties, **call.resource, **_ORIGIN}
    if context.feature is not None:
        properties["feature"] = context.feature
    if context.chat_id is not None:
        properties["chat_id"] = context.chat_id
    if context.distinct_id is not None:
        properties["user_id"] = context.distinct_id
    if context.ai_friend_id is not None:
        properties["ai_friend_id"] = context.ai_friend_id
    for key, variant in context.flags.items():
        properties[f"$feature/{key}"] = variant
    return properties


def make_event(
    name: str, call: ModelCall, at_ns: int, distinct_id: str, properties: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an event in the shape of PostHog's capture API; a private call has allowed properties only."""
    if call.context.privacy_mode:
        properties = allowed_properties(name.partition(":")[0], properties, call.context)
    return {
        "event": name,
        "uuid": event_uuid(call.trace_id, call.span_id, name),
        "distinct_id": distinct_id,
        "timestamp": timestamp(at_ns),
        "properties": properties,
    }
