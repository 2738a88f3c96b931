"""The names under which a span carries whose call it is and for what, so that they survive OTLP.

Each piece of context has one name that we write, `posthog.*`, and others that are read as well: bare
names, OpenTelemetry's and OpenInference's.
"""

from __future__ import annotations

__all__ = ["CONTEXT", "FLAG", "GROUP", "PARENT_ID", "PROPERTY"]

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
