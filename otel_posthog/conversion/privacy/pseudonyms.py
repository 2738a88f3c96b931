"""Distinct ids: those that identify nobody, the length limit, and the pseudonyms that replace them."""

from __future__ import annotations

import hashlib
import hmac

from otel_posthog.conversion.model_call import ModelCall

__all__ = ["is_nobody", "pseudonym", "pseudonymize_call", "short_id"]

MAX_DISTINCT_ID = 200
"""Characters (PostHog rust/capture); longer ids are rejected there."""

_BLANK = " \t\r\n\v\f\0\u00a0\u200b\u200c\u200d\u2060\ufeff"
"""Invisible characters."""

_ILLEGAL_IDS = frozenset(
    {
        "",
        "anonymous",
        "null",
        "undefined",
        "none",
        "system",
        "user",
        "backend",
        "guest",
        "id",
        "email",
        "true",
        "false",
        "0",
        "nan",
        "[object object]",
        "not_authenticated",
        "distinct_id",
        "distinctid",
    }
)
"""Ids that bugs send; PostHog merges no persons under them (nodejs person state, isDistinctIdIllegal)."""


def short_id(distinct_id: str) -> str:
    """Return the id in at most `MAX_DISTINCT_ID` characters; a long one ends in a hash and stays unique."""
    if len(distinct_id) <= MAX_DISTINCT_ID:
        return distinct_id
    digest = hashlib.sha256(distinct_id.encode(errors="replace")).hexdigest()
    return f"{distinct_id[: MAX_DISTINCT_ID - 65]}-{digest}"


def pseudonym(distinct_id: str, key: bytes) -> str:
    """Return HMAC-SHA-256 of the id in hexadecimal digits; an id that identifies nobody stays as it is."""
    if is_nobody(distinct_id):
        return distinct_id
    return hmac.new(key, distinct_id.encode(errors="replace"), hashlib.sha256).hexdigest()


def pseudonymize_call(call: ModelCall, key: bytes) -> ModelCall:
    """Return the call with the pseudonym of its user, and without a username."""
    context = call.context
    if context.distinct_id is None and context.username is None:
        return call
    distinct_id = None if context.distinct_id is None else pseudonym(context.distinct_id, key)
    own = context.own
    if own is not None:
        own = own._replace(distinct_id=distinct_id if own.distinct_id is not None else None, username=None)
    return call._replace(context=context._replace(distinct_id=distinct_id, username=None, own=own))


def is_nobody(distinct_id: str) -> bool:
    """Whether PostHog treats the id as one that identifies nobody."""
    return distinct_id.strip(_BLANK).lower() in _ILLEGAL_IDS
