"""The span attributes that carry context (user, feature, chat ...), so that it survives OTLP.

We write each piece of context under one name, `posthog.*`, and read others as well: bare names,
OpenTelemetry's and OpenInference's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ARGUMENTS",
    "ARGUMENT_PREFIXES",
    "CONTEXT",
    "FEATURE",
    "FLAG",
    "GROUP",
    "PARENT_ID",
    "PROPERTY",
    "has_context",
    "inherited",
    "is_inherited",
]

GROUP = "posthog.group."
"""Prefix of `posthog.group.<type>`: the key of the group of that type."""
PROPERTY = "posthog.property."
"""Prefix of `posthog.property.<name>`: a property of every event of the call."""
FLAG = "posthog.flag."
"""Prefix of `posthog.flag.<key>`: the variant of a feature flag during the call."""
PARENT_ID = "posthog.parent_id"
"""The id of the nearest GenAI span above, or of the trace."""

CONTEXT: dict[str, tuple[str, ...]] = {
    "distinct_id": ("posthog.distinct_id", "user_id", "user.id", "enduser.id"),
    "feature": ("posthog.feature", "feature"),
    "chat_id": ("posthog.chat_id", "chat_id"),
    "ai_friend_id": ("posthog.ai_friend_id", "ai_friend_id"),
    "username": ("posthog.username", "username", "user.name"),
    "session_id": ("posthog.session_id",),
    "conversation_id": (
        "posthog.conversation_id",
        "gen_ai.conversation.id",
        "session.id",
        "conversation_id",
    ),
    "trace_name": ("posthog.trace_id",),
    "privacy_mode": ("posthog.privacy_mode",),
}
"""The attributes of each field of `model_call.CallContext`; we write the first."""

FEATURE = CONTEXT["feature"][0]

_FIELDS = {"user_id": "distinct_id", "trace_id": "trace_name"}
ARGUMENTS: dict[str, str] = {
    argument: CONTEXT[_FIELDS.get(argument, argument)][0]
    for argument in (
        *("feature", "chat_id", "user_id", "username", "ai_friend_id", "session_id", "conversation_id"),
        *("trace_id", "privacy_mode"),
    )
}
"""The attribute for each argument of `ai_context` that is a single value."""

ARGUMENT_PREFIXES = {"group.": GROUP, "property.": PROPERTY, "flag.": FLAG}
"""The arguments of `ai_context` that are mappings: the prefix of one entry's name, and of its attribute."""

_INHERITED = frozenset(name for names in CONTEXT.values() for name in names)
_PREFIXES = (GROUP, PROPERTY, FLAG)
_SYNONYMS: Mapping[str, frozenset[str]] = {
    name: frozenset(names)
    for field, names in CONTEXT.items()
    if field != "conversation_id"  # libraries invent ids of conversations, so the application's may differ
    for name in names
}
"""All attributes with the same meaning, by attribute."""


def is_inherited(name: str) -> bool:
    """Whether spans below inherit the attribute."""
    return name in _INHERITED or name.startswith(_PREFIXES)


def inherited(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that spans below inherit."""
    return {name: value for name, value in attributes.items() if is_inherited(name) and not _is_blank(value)}


def has_context(own: Mapping[str, Any], name: str) -> bool:
    """Whether a span's own attributes hold this piece of context under any name; a blank does not count."""
    if name in own and not _is_blank(own[name]):
        return True
    return any(not _is_blank(own[other]) for other in _SYNONYMS.get(name, ()) if other in own)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
