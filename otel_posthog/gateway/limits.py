"""What a request may take: bytes, parts, seconds; and how a request that is not taken is refused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Budget", "Limits", "RequestRejectedError", "overloaded"]

MIB = 1024 * 1024


class Limits(NamedTuple):
    """Bounds of the gateway. Sizes in bytes, times in seconds."""

    body: int = 64 * MIB
    """Of a request, as sent and again as inflated: a Collector's default batch of 8,192 spans of 2.2 KB has
    18 MB."""
    in_flight: int = 128 * MIB
    """Of all requests that are being read, converted or sent."""
    connections: int = 2048
    head: int = 64 * 1024
    """Of a request's line and headers."""
    head_seconds: float = 10.0
    """For a request's line and headers to arrive, and on a new connection for the first byte."""
    chunk_seconds: float = 10.0
    """Between two pieces of a body."""
    body_seconds: float = 60.0
    """For all of a body."""
    idle_seconds: float = 75.0
    """That a connection is kept between two requests."""


class RequestRejectedError(Exception):
    """A request that is not taken; `str()` is one sentence for whoever runs the sender.

    `status` is that of HTTP. A Collector sends again after 429, 502, 503 and 504, and drops after any other.
    """

    def __init__(self, status: int, sentence: str, *, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after
        """Seconds, where it makes sense to send it again."""


def overloaded(sentence: str) -> RequestRejectedError:
    """Refuse for now."""
    return RequestRejectedError(503, sentence, retry_after=1.0)


class Budget:
    """Bytes that requests share. Safe to share by threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self.used = 0

    def reserve(self, size: int) -> None:
        """Take so many bytes, or refuse the request."""
        with self._lock:
            if self.used + size > self.limit:
                raise overloaded("too many bytes are being worked on; send again, or run more gateways")
            self.used += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.used -= size

    @contextlib.contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """One request's bytes, which are given back at its end."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.release(reservation.size)


class Reservation:
    """What one request has of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        """Take more, or refuse the request."""
        self._budget.reserve(size)
        self.size += size
