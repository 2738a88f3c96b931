"""The limits of a request in bytes and seconds, and the error that rejects a request."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MIB", "Budget", "Limits", "RequestRejectedError", "Reservation", "overloaded"]

MIB = 1024 * 1024


class Limits(NamedTuple):
    """Limits of one worker. Sizes in bytes, times in seconds."""

    body: int = 64 * MIB
    """Bytes of one request, as sent and again as inflated. A Collector's default batch has 8,192 spans; at
    2.2 KB each these are 18 MB."""
    in_flight: int = 128 * MIB
    """Bytes of all requests that are being read, converted or sent."""
    connections: int = 2048
    """Connections that are open at once."""
    head: int = 64 * 1024
    """Bytes of a request's line and headers."""
    head_seconds: float = 10.0
    """Time for a request's line and headers to arrive; on a new connection, also for the first byte."""
    chunk_seconds: float = 10.0
    """Time between two chunks of a body."""
    body_seconds: float = 60.0
    """Time for a whole body to arrive."""
    idle_seconds: float = 75.0
    """Time that a connection stays open between two requests."""


class RequestRejectedError(Exception):
    """The request is rejected; `str()` is one sentence for the people who run the sender.

    `status` is the status of HTTP. A Collector retries after 429, 502, 503 and 504, and drops otherwise.
    """

    def __init__(self, status: int, sentence: str, *, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after
        """Seconds until a retry; None if a retry cannot help."""


def overloaded(sentence: str) -> RequestRejectedError:
    """Return the error that rejects a request for now."""
    return RequestRejectedError(503, sentence, retry_after=1.0)


class Budget:
    """The bytes that requests in flight may have together. Safe to share by threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self.used = 0

    def reserve(self, size: int) -> None:
        """Reserve bytes.

        Raises:
            RequestRejectedError: the limit would be exceeded.
        """
        with self._lock:
            if self.used + size > self.limit:
                raise overloaded("too many bytes in flight: send again, or run more gateways")
            self.used += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.used -= size

    @contextlib.contextmanager
    def reservation(self) -> Iterator[Reservation]:
        """Yield the reservation of one request, and release its bytes at the end."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.release(reservation.size)


class Reservation:
    """The bytes that one request has reserved."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        """Reserve more bytes.

        Raises:
            RequestRejectedError: the limit of all requests would be exceeded.
        """
        self._budget.reserve(size)
        self.size += size
