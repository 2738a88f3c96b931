"""A deadline for reading a whole answer.

A socket's time-out is for each read alone, so a server that sends a byte now and then would hold a request
for ever.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import Any


class _TimedBytes(io.RawIOBase):
    """The bytes of an answer, readable until a deadline."""

    def __init__(self, raw: io.RawIOBase, sock: Any, seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took longer than its request may")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._sock.settimeout(self._seconds)  # for the next request on this connection
            self._raw.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """An answer that must be read whole within the present time-out of its socket."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        seconds = sock.gettimeout()
        if seconds is not None:
            reader: Any = self.fp
            self.fp = io.BufferedReader(_TimedBytes(reader.detach(), sock, seconds))


def limit_answers(pool: Any) -> None:
    """Give the answers on the connections of a urllib3 pool that deadline."""
    plain = pool.ConnectionCls
    if getattr(plain, "response_class", None) is not TimedResponse:
        pool.ConnectionCls = type(plain.__name__, (plain,), {"response_class": TimedResponse})
