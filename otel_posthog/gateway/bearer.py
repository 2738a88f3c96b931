"""Who may send: those who bear the gateway's token, where it has one."""

from __future__ import annotations

import hmac

from otel_posthog.gateway.limits import RefusedError

__all__ = ["check_token"]


def check_token(token: bytes | None, authorization: str) -> None:
    """Compare what a sender bears, in a time that tells nothing of the token.

    Raises:
        RefusedError: it is not the token.
    """
    if token is None:
        return
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token):
        raise RefusedError(401, "the header Authorization must be Bearer and this gateway's token")
