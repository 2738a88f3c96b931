"""The v0 wires: the key in the body, and all or nothing.

It follows `rust/capture/src/v0_request.rs` and `common/types/src/event.rs`. The forms of posthog-js (base64,
LZ64, form fields) are not read: servers do not send them.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

from otel_posthog.local.capture_limits import (
    AI_PREFIX,
    MAX_NAME_LENGTH,
    Accepted,
    Event,
    RefusalError,
    Wire,
    ceiling_for,
    check_token,
    parse,
    parse_uuid,
    size_of,
    too_large,
    unpack,
)
from otel_posthog.runtime import decompression

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(wire: Wire, headers: Mapping[str, str], body: bytes) -> Accepted:
    """Return the events of a v0 request, or raise `RefusalError`.

    gzip is recognised by its first bytes, as by the server; headers do not matter.
    """
    del headers
    data = parse(unpack(wire, body, "gzip" if body.startswith(decompression.GZIP_MAGIC) else ""))
    raw = _events_of(data)
    check_token(_token_of(data, raw))
    if not raw:
        raise RefusalError(400, "empty_batch", "request holds no event")
    return Accepted([_event(wire, event) for event in raw], {"status": "Ok"})


def _events_of(data: Any) -> list[Any]:
    """Return the events, from any of the three shapes of v0: an array, a batch, one event."""
    if isinstance(data, list):
        return data
    if not isinstance(data, dict):
        raise RefusalError(400, "request_parsing_error", "the body is neither an object nor an array")
    if "batch" not in data:
        return [data]
    batch = data["batch"]
    if not isinstance(batch, list):
        raise RefusalError(400, "request_parsing_error", "`batch` is not an array")
    return batch


_TOKEN_NAMES = ("api_key", "token", "$token")


def _token_of(data: Any, raw: list[Any]) -> object:
    holders = [data] if isinstance(data, dict) else raw
    tokens = set()
    for holder in holders:
        if not isinstance(holder, dict):
            continue
        properties = holder.get("properties")
        places = [*(holder.get(name) for name in _TOKEN_NAMES)]
        places.append(properties.get("token") if isinstance(properties, dict) else None)
        tokens.add(next((place for place in places if isinstance(place, str)), None))
    tokens.discard(None)
    if len(tokens) > 1:
        raise RefusalError(401, "invalid_api_token", "batch submitted with inconsistent api_key values")
    return next(iter(tokens), None)


def _event(wire: Wire, raw: Any) -> Event:
    if not isinstance(raw, dict):
        raise RefusalError(400, "request_parsing_error", "an event is not an object")
    name, properties = raw.get("event"), raw.get("properties", {})
    if not isinstance(name, str) or not isinstance(properties, dict):
        raise RefusalError(400, "request_parsing_error", "`event` must be text and `properties` an object")
    if not name:
        raise RefusalError(400, "missing_event_name", "event submitted with an empty event name")
    if wire.ai_only and not name.startswith(AI_PREFIX):
        raise RefusalError(400, "non_ai_event", f"{name[:50]!r} is no AI event; this path takes only those")
    size, ceiling = size_of(raw), ceiling_for(wire, name)
    if size > ceiling:
        raise too_large(f"{name[:50]!r} has {size:,} bytes, an event here may have {ceiling:,}")
    given = {key: value for key, value in raw.items() if key not in {*_TOKEN_NAMES, "$distinct_id"}}
    return {
        **given,
        "uuid": parse_uuid(raw["uuid"]) if raw.get("uuid") else str(uuid.uuid4()),
        "distinct_id": _distinct_id(raw, properties),
        "properties": properties,
    }


def _distinct_id(raw: Event, properties: Event) -> str:
    places = (raw.get("distinct_id"), raw.get("$distinct_id"), properties.get("distinct_id"))
    value = next((place for place in places if place is not None), None)
    text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    if not text:
        raise RefusalError(400, "missing_distinct_id", "event submitted without a distinct_id")
    return text[:MAX_NAME_LENGTH]
