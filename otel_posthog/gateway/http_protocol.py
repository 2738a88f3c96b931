"""uvicorn's HTTP connection, with the limits that it lacks: number, slow heads, large heads."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_posthog.gateway.limits import Limits

__all__ = ["Connection"]

CLOSE_SECONDS = 1.0
"""For the last bytes of a connection that is closed because the gateway shuts down."""


class _Parser:
    """An HTTP parser that ignores the header Upgrade.

    Java's HttpClient offers HTTP/2 in each first request. httptools then leaves the bytes after the head to
    the other protocol: the request would have no body, and its spans would be acknowledged and lost.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self._connection)
        with contextlib.suppress(AttributeError):  # as uvicorn does; httptools before 0.6.3 lacks it
            self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:
        """Parse received bytes, as httptools does."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self.offers_upgrade():
                raise
            head = self._connection.head_without_upgrade()
            self._begin()
            self.feed_data(head + data[upgrade.args[0] :])

    def offers_upgrade(self) -> bool:
        """Whether the request offers another protocol, and works without it."""
        return self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class Connection(HttpToolsProtocol):
    """A connection that is closed unless its head arrives in time and within its size.

    The limits are the application's (`Gateway.limits`): workers receive this class by its name, so it cannot
    carry any.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser: Any = _Parser(self)
        self._limits: Limits = self.config.loaded_app.limits
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0
        """Bytes of an incomplete head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, unless there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn declares Transport
        self.config.loaded_app.connections = self.connections
        if len(self.connections) > self._limits.connections:
            self.transport.abort()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of the head."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; close if the head grows beyond its limit."""
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()
        super().data_received(data)
        if self._timer is not None:
            self._head += len(data)
            if self._head > self._limits.head:
                self._abort()

    def on_headers_complete(self) -> None:
        """Start the request."""
        if not self.parser.offers_upgrade():  # otherwise its head is parsed once more
            self._stop_timer()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Finish the request."""
        if not self.parser.offers_upgrade():
            super().on_message_complete()

    def head_without_upgrade(self) -> bytes:
        """Return the head of the current request without the header Upgrade."""
        line = b"%b %b HTTP/%b\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%b%b\r\n" % (line, b"".join(fields))

    def shutdown(self) -> None:
        """Close if no request is in flight; TLS would otherwise wait half a minute for the other side."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _start_timer(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(self._limits.head_seconds, self._abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.abort()
