"""Stricter privacy for finished events on disk, whose writer may have hidden less than this process does.

A stored event no longer records which properties the application set. Anything not on the allow-list is
therefore dropped: never less than from a fresh event, sometimes more. `hide_event_content` and `redact_event`
are idempotent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from otel_posthog.conversion.privacy import value_checks
from otel_posthog.conversion.privacy.allow_list import CONTENT, FEATURE_FLAG, NESTED, Event, checks_of
from otel_posthog.conversion.privacy.json_redaction import is_remote, redact_json, redact_tool
from otel_posthog.conversion.privacy.personal_data import Redactor
from otel_posthog.conversion.privacy.pseudonyms import pseudonym, short_id

__all__ = ["hide_event_content", "pseudonymize_event", "redact_event"]

# --- the list ----------------------------------------------------------------------------------------


def hide_event_content(event: Event) -> Event:
    """Return the event with numbers, known words, identifiers and feedback only.

    A digest replaces a trace's name that is no identifier, so that the events of the trace stay together. A
    distinct id that is no identifier is dropped, and the event is personless.
    """
    properties = event["properties"]
    table = checks_of(event["event"])
    safe: dict[str, Any] = {}
    for name, value in properties.items():
        safe_value = _safe_value(name, value, table)
        if safe_value is not None:
            safe[name] = safe_value
    for name, inner_table in NESTED.items():
        if name in table and isinstance(properties.get(name), dict):
            inner = {key: _safe_value(key, value, inner_table) for key, value in properties[name].items()}
            inner = {key: value for key, value in inner.items() if value is not None}
            if inner:
                safe[name] = inner
    for text, kind in (("$ai_error", "$ai_error_type"), ("error_message", "error_type")):
        if safe.pop(text, None) is not None and kind in safe:
            safe[text] = safe[kind]
    if "$ai_span_name" in properties:
        safe["$ai_span_name"] = _span_name(safe)
    for name in ("$ai_trace_id", "$ai_parent_id"):
        if name in properties and name not in safe and properties[name] is not None:
            safe[name] = _digest(properties[name])
    if event["event"] == "$ai_feedback" and "$ai_feedback_text" in properties:  # people wrote it for PostHog
        safe["$ai_feedback_text"] = properties["$ai_feedback_text"]
    distinct_id = event.get("distinct_id")
    if value_checks.identifier(distinct_id) is None:
        distinct_id = safe.get("$ai_session_id") or safe.get("$ai_trace_id") or _digest(distinct_id)
        safe["$process_person_profile"] = False
    return {**event, "distinct_id": distinct_id, "properties": safe}


def _safe_value(name: str, value: Any, table: Mapping[str, value_checks.ValueCheck]) -> Any:
    if name.startswith(FEATURE_FLAG):
        return _word_or_id(value) if value_checks.identifier(name.removeprefix(FEATURE_FLAG)) else None
    if name == "$sample_rate":
        return value_checks.figure(value)
    check = None if name in NESTED else table.get(name)
    if check is None:
        return None
    return _word_or_id(value) if check is value_checks.as_is else check(value)


def _word_or_id(value: Any) -> Any:
    """Return a number, a flag, an identifier, or the identifiers among groups, no matter who set it."""
    if isinstance(value, dict):  # groups
        return {
            kind: key
            for kind, key in value.items()
            if value_checks.identifier(kind) and value_checks.identifier(key)
        }
    return (
        value
        if value_checks.figure(value) is not None or value_checks.flag(value) is not None
        else value_checks.identifier(value)
    )


def _span_name(properties: Mapping[str, Any]) -> Any:
    """Return a name of operation and model; model or type replaces a single word, which may be any text."""
    name = properties.get("$ai_span_name")
    return (
        name
        if isinstance(name, str) and " " in name
        else properties.get("$ai_model") or properties.get("$ai_span_type") or "span"
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(str(value).encode(errors="replace")).hexdigest()[:32]


# --- users -------------------------------------------------------------------------------------------


def pseudonymize_event(event: Event, key: bytes) -> Event:
    """Return the event without a username, and with the pseudonym that `pseudonymize_call` gives its user."""
    properties = {**event["properties"]}
    distinct_id, user = event.get("distinct_id"), properties.get("user_id")
    if isinstance(properties.get("metadata"), dict):
        properties["metadata"] = {
            name: value for name, value in properties["metadata"].items() if name != "username"
        }
    if isinstance(user, str):
        properties["user_id"] = pseudonym(user, key)
    if isinstance(user, str) and distinct_id == short_id(user):
        distinct_id = properties["user_id"]
    elif isinstance(distinct_id, str) and not _is_stand_in(distinct_id, properties):
        distinct_id = pseudonym(distinct_id, key)
    return {**event, "distinct_id": distinct_id, "properties": properties}


_STAND_INS = ("$session_id", "$ai_session_id", "chat_id", "$ai_trace_id")


def _is_stand_in(distinct_id: str, properties: Mapping[str, Any]) -> bool:
    """Whether the distinct id is a session, chat or trace instead of a user."""
    if properties.get("$process_person_profile") is False and _TRACE_ID.fullmatch(distinct_id):
        return True
    ids = [properties.get(name) for name in _STAND_INS]
    return distinct_id in [short_id(value) for value in ids if isinstance(value, str)]


_TRACE_ID = re.compile("[0-9a-f]{32}")


# --- texts -------------------------------------------------------------------------------------------

_AS_IS = frozenset(
    {"role", "id", "type", "call_id", "tool_call_id", "tool_use_id", "file_id", "mime_type", "modality"}
)
"""Keys of a message and its blocks whose values nobody wrote."""


def redact_event(event: Event, redact: Redactor) -> Event:
    """Return the event with redacted content, custom properties, username and labels of scores."""
    table = checks_of(event["event"])
    properties = {name: _redacted(name, value, table, redact) for name, value in event["properties"].items()}
    return {**event, "properties": properties}


def _redacted(name: str, value: Any, table: Mapping[str, value_checks.ValueCheck], redact: Redactor) -> Any:
    if name in table and name in NESTED and isinstance(value, dict):
        return {key: _redacted(key, inner, NESTED[name], redact) for key, inner in value.items()}
    if name in ("$ai_input", "$ai_output_choices") and isinstance(value, list):
        return [_message(each, redact) for each in value]
    if name == "$ai_tools" and isinstance(value, list):
        return [redact_tool(each, redact) for each in value]
    if name in _LABELS:
        return redact(value) if isinstance(value, str) else value
    if name in CONTENT or not (name in table or name.startswith(FEATURE_FLAG) or name == "$sample_rate"):
        return redact_json(value, redact)
    return value


_LABELS = frozenset({"username", "$ai_metric_value", "$ai_metric_label"})


def _message(value: Any, redact: Redactor) -> Any:
    if type(value) is not dict:
        return redact_json(value, redact)
    return {
        key: [_block(each, redact) for each in inner]
        if key in ("content", "tool_calls") and type(inner) is list
        else inner
        if key in _AS_IS
        else redact_json(inner, redact, 1)
        for key, inner in value.items()
    }


def _block(value: Any, redact: Redactor) -> Any:
    """Return a block of a message redacted, except for its ids and for data of media."""
    if type(value) is not dict or is_remote(value):
        return redact_json(value, redact)
    return {
        key: inner if key in _AS_IS or _is_data(key, inner) else redact_json(inner, redact, 1)
        for key, inner in value.items()
    }


def _is_data(key: str, value: Any) -> bool:
    data = value.get("file_data") if key == "file" and type(value) is dict else value
    return key in ("image", "file") and type(data) is str and data.startswith("data:") and " " not in data
