"""Who may send: those who bear a token of the gateway's, where it has any."""

from __future__ import annotations

import hmac

from otel_posthog.gateway.limits import RequestRejectedError

__all__ = ["check_token"]


def check_token(tokens: bytes | None, authorization: str) -> None:
    """Compare what a sender bears, in a time that tells nothing of the tokens, which stand one a line.

    Raises:
        RequestRejectedError: it is none of them.
    """
    if tokens is None:
        return
    scheme, _, given = authorization.partition(" ")
    held = given.strip().encode()
    same = [hmac.compare_digest(held, token) for token in tokens.splitlines()]
    if scheme.lower() != "bearer" or not any(same):
        raise RequestRejectedError(401, "the header Authorization must be Bearer and a token of this gateway")
