"""The names under which a span carries whose call it is and for what, so that they survive OTLP.

Each piece of context has one name that we write, `posthog.*`, and others that are read as well: bare
names, OpenTelemetry's and OpenInference's.
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
    "inherited",
    "is_inherited",
    "says",
]

GROUP = "posthog.group."
"""`posthog.group.<type>`: the key of the group of that type."""
PROPERTY = "posthog.property."
"""`posthog.property.<name>`: a property of every event of the call."""
FLAG = "posthog.flag."
"""`posthog.flag.<key>`: the variant of a feature flag that was in force."""
PARENT_ID = "posthog.parent_id"
"""The nearest span above that PostHog gets, or the trace id."""

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
"""Each field of `calls.CallContext`, and the attributes it is read from; the first is the one we write."""

FEATURE = CONTEXT["feature"][0]

_FIELDS = {"user_id": "distinct_id", "trace_id": "trace_name"}
ARGUMENTS: dict[str, str] = {
    argument: CONTEXT[_FIELDS.get(argument, argument)][0]
    for argument in (
        *("feature", "chat_id", "user_id", "username", "ai_friend_id", "session_id", "conversation_id"),
        *("trace_id", "privacy_mode"),
    )
}
"""The arguments of `ai_context` that are one value, and the attribute that carries each."""

ARGUMENT_PREFIXES = {"group.": GROUP, "property.": PROPERTY, "flag.": FLAG}
"""The arguments of `ai_context` that are mappings: the prefix of one entry's name, and of its attribute."""

_HANDED_DOWN = frozenset(name for names in CONTEXT.values() for name in names)
_PREFIXES = (GROUP, PROPERTY, FLAG)
_SAME: Mapping[str, frozenset[str]] = {
    name: frozenset(names)
    for field, names in CONTEXT.items()
    if field != "conversation_id"  # libraries make up ids of conversations; those of the application count
    for name in names
}
"""For each attribute of context: all that mean the same."""


def is_inherited(name: str) -> bool:
    """Whether a span shares the attribute with the spans below it."""
    return name in _HANDED_DOWN or name.startswith(_PREFIXES)


def inherited(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a span's attributes that the spans below it share."""
    return {name: value for name, value in attributes.items() if is_inherited(name) and not _is_blank(value)}


def says(own: Mapping[str, Any], name: str) -> bool:
    """Whether a span says itself what the attribute would, in whatever words; a blank says nothing."""
    if name in own and not _is_blank(own[name]):
        return True
    return any(not _is_blank(own[other]) for other in _SAME.get(name, ()) if other in own)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
