"""The v1 wire: required headers, and a result for each event instead of all or nothing.

It follows `rust/capture/src/v1`: a fault of the request, or of a uuid that tells results apart, refuses the
request; a fault of one event drops that event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_posthog.local import timestamps
from otel_posthog.local.capture_limits import (
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
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REQUIRED = (
    "posthog-sdk-info",
    "posthog-attempt",
    "posthog-request-id",
    "posthog-request-timestamp",
    "content-type",
    "user-agent",
)

# By field of an event: the property it goes back to.
_LIFTED_FIELDS = {"session_id": "$session_id", "window_id": "$window_id"}

_ILLEGAL_DISTINCT_IDS = frozenset(
    (
        "0",
        "00000000-0000-0000-0000-000000000000",
        "[object object]",
        "anonymous",
        "anonymous-user",
        "backend",
        "distinct_id",
        "distinctid",
        "email",
        "false",
        "guest",
        "id",
        "nan",
        "none",
        "not_authenticated",
        "null",
        "system",
        "true",
        "undefined",
        "user",
    )
)


def read(wire: Wire, headers: Mapping[str, str], body: bytes) -> Accepted:
    """Return the events of a v1 request and a result for each, or raise `RefusalError`."""
    _check_headers(headers)
    data = parse(unpack(wire, body, headers.get("content-encoding", "").lower()))
    batch = data.get("batch") if isinstance(data, dict) else None
    if (
        not isinstance(data, dict)
        or not isinstance(batch, list)
        or not isinstance(data.get("created_at"), str)
    ):
        raise RefusalError(400, "request_parsing_error", "the body needs `created_at` and `batch`")
    if not batch:
        raise RefusalError(400, "empty_batch", "request batch is empty")
    if not isinstance(data.get("historical_migration", False), bool):
        raise RefusalError(400, "request_parsing_error", "`historical_migration` is not a boolean")
    lib, _, version = headers["posthog-sdk-info"].rpartition("/")
    injected = {"$lib": lib.strip(), "$lib_version": version.strip()} if lib and version else {}
    kept: list[Event] = []
    results: dict[str, dict[str, str]] = {}
    for raw in batch:
        event = _check_types(raw)
        if event["uuid"] in results:
            raise RefusalError(400, "duplicate_event_uuid", f"duplicate event uuid: {event['uuid']}")
        fault = _fault_of(wire, event)
        if fault is None:
            kept.append(_as_v0(event, injected))
        results[event["uuid"]] = {"result": "drop", "details": fault} if fault else {"result": "ok"}
    return Accepted(kept, {"results": results})


def _check_headers(headers: Mapping[str, str]) -> None:
    if "authorization" not in headers:
        raise RefusalError(401, "missing_authorization", "the Authorization header is missing")
    missing = [name for name in _REQUIRED if name not in headers]
    if missing:
        raise RefusalError(
            400, "missing_required_headers", f"request is missing headers: {', '.join(missing)}"
        )
    scheme, _, token = headers["authorization"].partition(" ")
    if scheme.lower() != "bearer":
        raise RefusalError(400, "invalid_header_value", "Authorization must use Bearer scheme")
    check_token(token.strip())
    if headers["content-type"].partition(";")[0].strip().lower() != "application/json":
        raise RefusalError(415, "unsupported_content_type", "the content type must be application/json")
    for name, is_right in _HEADER_FORMS.items():
        if not is_right(headers[name]):
            raise RefusalError(
                400, "invalid_header_value", f"{name} has a wrong form: {headers[name][:50]!r}"
            )


def _is_uuid(text: str) -> bool:
    try:
        return bool(parse_uuid(text))
    except RefusalError:
        return False


def _is_zoned_time(text: str) -> bool:
    moment = timestamps.parse(text)
    return moment is not None and moment.tzinfo is not None


_HEADER_FORMS: dict[str, Callable[[str], bool]] = {
    "posthog-request-id": _is_uuid,
    "posthog-attempt": lambda text: text.isdecimal() and text.strip("0") != "",
    "posthog-request-timestamp": _is_zoned_time,
}


def _check_types(raw: Any) -> Event:
    """Return the event with its ids trimmed; refuse the request if a field has a wrong type."""
    if not isinstance(raw, dict):
        raise RefusalError(400, "request_parsing_error", "an event is not an object")
    wrong = [
        name for name in ("event", "uuid", "distinct_id", "timestamp") if not isinstance(raw.get(name), str)
    ]
    wrong += [name for name in _LIFTED_FIELDS if not isinstance(raw.get(name), str | None)]
    if wrong:
        raise RefusalError(400, "request_parsing_error", f"an event has no text in: {', '.join(wrong)}")
    return {**raw, "uuid": parse_uuid(raw["uuid"].strip()), "distinct_id": raw["distinct_id"].strip()}


def _fault_of(wire: Wire, event: Event) -> str | None:
    """Return why this one event is dropped, in PostHog's words, or None."""
    name, distinct_id = event["event"], event["distinct_id"]
    too_big = "ai_event_too_big" if ceiling_for(wire, name) == wire.max_ai_event else "event_too_big"
    faults = (
        (not name, "missing_event_name"),
        (len(name) > MAX_NAME_LENGTH, "event_name_too_long"),
        (not distinct_id, "missing_distinct_id"),
        (len(distinct_id) > MAX_NAME_LENGTH, "distinct_id_too_large"),
        (distinct_id.lower() in _ILLEGAL_DISTINCT_IDS, "malformed_distinct_id"),
        (not _is_zoned_time(event["timestamp"]), "invalid_event_timestamp"),
        (not isinstance(event.get("properties", {}), dict), "malformed_event_properties"),
        (_options_of(event) is None, "invalid_options"),
        (size_of(event) > ceiling_for(wire, name), too_big),
    )
    return next((fault for is_so, fault in faults if is_so), None)


def _as_bool(value: object) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int | float) else None


def _as_text(value: object) -> str | None:
    return value if isinstance(value, str) else str(value) if type(value) is int else None


# By option: the property it goes back to, and how its value is read.
_OPTIONS: dict[str, tuple[str, Callable[[object], object]]] = {
    "cookieless_mode": ("$cookieless_mode", _as_bool),
    "disable_skew_correction": ("$ignore_sent_at", _as_bool),
    "process_person_profile": ("$process_person_profile", _as_bool),
    "product_tour_id": ("$product_tour_id", _as_text),
}


def _options_of(event: Event) -> Event | None:
    """Return the options as properties; None if one cannot be read."""
    options = event.get("options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        return None
    properties = {
        name: convert(options[option])
        for option, (name, convert) in _OPTIONS.items()
        if options.get(option) is not None
    }
    return None if None in properties.values() else properties


def _as_v0(event: Event, injected: Event) -> Event:
    """Return the event in the shape of v0: the fields that v1 lifts out of the properties go back there."""
    lifted = {name: event[field] for field, name in _LIFTED_FIELDS.items() if event.get(field) is not None}
    properties = {**event.get("properties", {}), **(_options_of(event) or {}), **lifted, **injected}
    kept = {name: event[name] for name in ("event", "uuid", "distinct_id", "timestamp")}
    return {**kept, "properties": properties}
