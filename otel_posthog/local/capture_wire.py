"""PostHog's capture wires: a request goes in, events or a refusal come out. Pure.

Paths, limits and status codes follow PostHog's `rust/capture` as far as a sender notices them, without quotas
and restrictions. Events of either wire come out in one shape, that of `/batch/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_posthog.local import capture_v0, capture_v1
from otel_posthog.local.capture_limits import (
    AI_BATCH,
    BATCH,
    SINGLE,
    V1,
    Accepted,
    Event,
    RefusalError,
    Wire,
    check_length,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "WIRES",
    "Accepted",
    "Event",
    "RefusalError",
    "Wire",
    "check_length",
    "read",
    "too_large",
    "wire_at",
]

# By path without its trailing slash; both spellings are served.
WIRES: dict[str, Wire] = {
    "/batch": BATCH,
    "/i/v0/e": SINGLE,
    "/e": SINGLE,
    "/capture": SINGLE,
    "/i/v0/ai/batch": AI_BATCH,
    "/i/v1/analytics/events": V1,
}


def wire_at(path: str) -> Wire:
    """Return the wire at `path` (without query string); refuse an unknown path with 404."""
    wire = WIRES.get(path.rstrip("/"))
    if wire is None:
        raise RefusalError(404, "not_found", f"no such path; capture is at {', '.join(WIRES)}")
    return wire


def read(wire: Wire, headers: Mapping[str, str], body: bytes) -> Accepted:
    """Return the events of a request, or raise `RefusalError`. Header names are in lower case."""
    check_length(wire, len(body))
    reader = capture_v1.read if wire.v1 else capture_v0.read
    return reader(wire, headers, body)
