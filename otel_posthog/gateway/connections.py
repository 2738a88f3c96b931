"""Connections as uvicorn serves them, with what it leaves open: how many, how slow, how large a head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_posthog.gateway.limits import Limits

__all__ = ["Connection"]

PATIENCE = 1.0
"""Seconds for the last bytes of a connection that is closed since the gateway ends."""


class Connection(HttpToolsProtocol):
    """A connection that says what it wants in time and in few words, or is closed.

    Its limits are those of the application (`Gateway.limits`): a class goes to other processes, a bound one
    does not.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
        self._stop_waiting()
        super().on_headers_complete()

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
