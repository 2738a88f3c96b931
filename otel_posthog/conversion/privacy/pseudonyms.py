"""Distinct ids: which name nobody, how long ones are cut, and the pseudonyms that replace them."""

from __future__ import annotations

import hashlib
import hmac

from otel_posthog.conversion.model_call import ModelCall

__all__ = ["is_nobody", "pseudonym", "pseudonymize_call", "short_id"]

MAX_DISTINCT_ID = 200
"""Characters (PostHog rust/capture); longer ids are rejected there."""

_BLANK = " \t\r\n\v\f\0\u00a0\u200b\u200c\u200d\u2060\ufeff"
"""Characters that nobody sees."""

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
"""PostHog merges nobody under these: they are what bugs send (nodejs person state, isDistinctIdIllegal)."""


def short_id(distinct_id: str) -> str:
    """The id as PostHog takes it; a long one ends in a hash, so that two long ids stay two."""
    if len(distinct_id) <= MAX_DISTINCT_ID:
        return distinct_id
    digest = hashlib.sha256(distinct_id.encode(errors="replace")).hexdigest()
    return f"{distinct_id[: MAX_DISTINCT_ID - 65]}-{digest}"


def pseudonym(distinct_id: str, key: bytes) -> str:
    """What stands for the id of a user: HMAC-SHA-256 of it; for that of nobody the same id."""
    if is_nobody(distinct_id):
        return distinct_id
    return hmac.new(key, distinct_id.encode(errors="replace"), hashlib.sha256).hexdigest()


def pseudonymize_call(call: ModelCall, key: bytes) -> ModelCall:
    """The call with a pseudonym for its user, HMAC-SHA-256 of the distinct id, and without a name."""
    context = call.context
    if context.distinct_id is None and context.username is None:
        return call
    distinct_id = None if context.distinct_id is None else pseudonym(context.distinct_id, key)
    own = context.own
    if own is not None:  # of what the application said the same
        own = own._replace(distinct_id=distinct_id if own.distinct_id is not None else None, username=None)
    return call._replace(context=context._replace(distinct_id=distinct_id, username=None, own=own))


def is_nobody(distinct_id: str) -> bool:
    """Whether PostHog takes the id for one that names nobody."""
    return distinct_id.strip(_BLANK).lower() in _ILLEGAL_IDS
