"""Connections as uvicorn serves them, with what it leaves open: how many, how slow, how large a head."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_posthog.gateway.limits import Limits

__all__ = ["Connection"]

PATIENCE = 1.0
"""Seconds for the last bytes of a connection that is closed since the gateway ends."""


class _Parser:
    """A parser to which a request that asks for another protocol is one that does not.

    Java's HttpClient asks for HTTP/2 with each first request. httptools takes what follows the head for the
    other protocol's, so a request would have no body, and its spans would be acknowledged and lost.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self._connection)
        with contextlib.suppress(AttributeError):  # as uvicorn does it; httptools before 0.6.3 cannot
            self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:
        """Parse what came, as httptools does."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self.asks_for_another():
                raise
            head = self._connection.head_without_upgrade()
            self._begin()
            self.feed_data(head + data[upgrade.args[0] :])

    def asks_for_another(self) -> bool:
        """Whether the request that is parsed now wants another protocol, and can do without."""
        return self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class Connection(HttpToolsProtocol):
    """A connection that says what it wants in time and in few words, or is closed.

    Its limits are those of the application (`Gateway.limits`): a class goes to other processes, a bound one
    does not.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser: Any = _Parser(self)
        self._limits: Limits = self.config.loaded_app.limits
        self._waiting: asyncio.TimerHandle | None = None
        self._head = 0
        """Bytes of a head that is not complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, if it is not one too many."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn says Transport
        self.config.loaded_app.connections = self.connections
        if len(self.connections) > self._limits.connections:
            self.transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that does not end is not taken any further."""
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        super().data_received(data)
        if self._waiting is not None:
            self._head += len(data)
            if self._head > self._limits.head:
                self._give_up()

    def on_headers_complete(self) -> None:
        """Begin the request."""
        if not self.parser.asks_for_another():  # else its head is parsed once more
            self._stop_waiting()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of the request is here."""
        if not self.parser.asks_for_another():
            super().on_message_complete()

    def head_without_upgrade(self) -> bytes:
        """The head of the request that is parsed now, which asks for no other protocol."""
        line = b"%b %b HTTP/%b\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%b%b\r\n" % (line, b"".join(fields))

    def shutdown(self) -> None:
        """Close, if no request is under way: TLS would have us wait half a minute for the other side to."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(PATIENCE, self.transport.abort)

    def _await_head(self) -> None:
        self._head = 0
        self._waiting = self.loop.call_later(self._limits.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.abort()
