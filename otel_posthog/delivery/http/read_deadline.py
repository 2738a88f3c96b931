"""Answers that must be read within the time of their request, however slowly they come.

A socket's time-out is that of each read: a server that sends a byte now and then would hold a request for
ever.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import Any


class _Timed(io.RawIOBase):
    """The bytes of an answer, until a moment."""

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
    """An answer that has the time-out of its socket, as it is now, for all of itself."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        seconds = sock.gettimeout()
        if seconds is not None:
            reader: Any = self.fp
            self.fp = io.BufferedReader(_Timed(reader.detach(), sock, seconds))


def time_answers(pool: Any) -> None:
    """Have the connections of a urllib3 pool read answers that way."""
    plain = pool.ConnectionCls
    if getattr(plain, "response_class", None) is not TimedResponse:
        pool.ConnectionCls = type(plain.__name__, (plain,), {"response_class": TimedResponse})
