"""The check of a sender's bearer token, if the gateway has tokens."""

from __future__ import annotations

import hmac

from otel_posthog.gateway.limits import RequestRejectedError

__all__ = ["check_token"]


def check_token(tokens: bytes | None, authorization: str) -> None:
    """Compare the header Authorization with `tokens`, one a line, in constant time.

    Raises:
        RequestRejectedError: it has none of them.
    """
    if tokens is None:
        return
    scheme, _, credentials = authorization.partition(" ")
    sent = credentials.strip().encode()
    matches = [hmac.compare_digest(sent, token) for token in tokens.splitlines()]  # all, for constant time
    if scheme.lower() != "bearer" or not any(matches):
        raise RequestRejectedError(401, "the header Authorization must be Bearer and a token of this gateway")
