"""The inbox over HTTP: the capture wires in, `/_events` and a plain page out.

HTTP/1.1 with keep-alive, a thread for each connection. Closed, the server leaves no connection and no thread.
"""

from __future__ import annotations

import contextlib
import html
import http.server
import ipaddress
import socket
import socketserver
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qs, urlsplit

import orjson

from otel_posthog.local import capture_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE = 60.0
"""Seconds that a connection may stay silent, in a request or between two."""

_MAX_DISCARDED = 256 * 1024 * 1024
"""Bytes of a body that is too large: so many are read and discarded, so that the sender sees the 413 and no
broken pipe. Beyond it the connection is cut."""

_PIECE = 64 * 1024

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>otel-posthog inbox</title>
<p>This is the inbox; events: {events}; see <a href="/_events">/_events</a>.</p>
</html>
"""


class EventStore(Protocol):
    """The inbox behind the server, as far as the server uses it."""

    def keep(self, path: str, accepted: capture_wire.Accepted) -> None:
        """Store the events of a request, all or none."""

    def refuse(self, path: str, refusal: capture_wire.RefusalError) -> None:
        """Count a request that was refused."""

    def stream(self, event: str | None = None, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the events stored after the id `after`, all or those called `event`."""

    def counts(self) -> dict[str, int]:
        """Return the number of events, duplicates and refused requests."""


class Server(http.server.ThreadingHTTPServer):
    """A server that listens from construction on; `serve_forever()` answers, with the events of `inbox`."""

    # server_close() waits for the threads of the connections, which it has ended before.
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, inbox: EventStore, host: str, port: int) -> None:
        self.inbox = inbox
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without looking up a name."""
        # HTTPServer looks the host's name up, which can take seconds without DNS.
        socketserver.TCPServer.server_bind(self)

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection while it is served."""
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, end the connections and wait for their threads."""
        with self._connections_lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: clients hang up every day, and the handler answers its own errors."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "otel-posthog-inbox"
    sys_version = ""
    timeout = SILENCE
    # Head and body of an answer leave together: two small packets would wait for each other's ACK.
    wbufsize = _PIECE
    disable_nagle_algorithm = True

    @property
    def _server(self) -> Server:
        return cast("Server", self.server)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the signature is the base class's
        """Log nothing: the inbox prints what arrives."""

    def handle_expect_100(self) -> bool:
        """Answer a sender that waits for 100 Continue, past the buffer."""
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def do_POST(self) -> None:
        """Take events."""
        path = self.path.partition("?")[0]
        inbox = self._server.inbox
        is_v1 = False
        try:
            try:
                way = capture_wire.wire_at(path)
                is_v1 = way.v1
            except capture_wire.RefusalError:
                self._body(0)
                raise
            accepted = capture_wire.read(way, _lower(self.headers), self._body(way.max_body))
            try:
                inbox.keep(path, accepted)
            except sqlite3.Error as error:
                # Nothing of the request is kept, so that the sender may send it again.
                raise capture_wire.RefusalError(
                    503, "service_unavailable", f"cannot be kept: {error}"
                ) from None
        except capture_wire.RefusalError as refusal:
            inbox.refuse(path, refusal)
            self._answer_refusal(refusal, is_v1=is_v1)
        else:
            self._answer(200, orjson.dumps(accepted.answer), "application/json")

    def do_GET(self) -> None:
        """Serve the page and the events."""
        path, _, query = self.path.partition("?")
        inbox = self._server.inbox
        if self._server.is_private and not _is_safe_host(self.headers.get("Host", "")):
            # A web page elsewhere could point its own name at this machine and read the prompts.
            self._answer(403, b"this inbox answers to localhost only\n", "text/plain")
        elif path == "/":
            page = _PAGE.format(events=html.escape(str(inbox.counts()["events"])))
            self._answer(200, page.encode(), "text/html; charset=utf-8")
        elif path == "/_events":
            self._answer_events(parse_qs(query))
        elif path.rstrip("/") in capture_wire.WIRES:
            self._answer(405, b"capture takes POST\n", "text/plain")
        else:
            self._answer(404, b"no such path; see /_events\n", "text/plain")

    def _answer_events(self, query: dict[str, list[str]]) -> None:
        after = query.get("after", ["0"])[-1]
        if not after.isdecimal() or len(after) > 18:
            self._answer(400, b"`after` is the id of an event, a whole number\n", "text/plain")
            return
        events = self._server.inbox.stream(event=query.get("event", [None])[-1], after=int(after))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        chunked = self.request_version != "HTTP/1.0"
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        self.end_headers()
        for event in events:
            text = orjson.dumps(event) + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text) if chunked else text)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _answer_refusal(self, refusal: capture_wire.RefusalError, *, is_v1: bool) -> None:
        if not is_v1:
            self._answer(refusal.status, f"{refusal}\n".encode(), "text/plain; charset=utf-8")
            return
        about = {
            "error": refusal.tag,
            "error_description": str(refusal),
            "error_uri": "https://posthog.com/docs/api",
        }
        self._answer(refusal.status, orjson.dumps(about), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _body(self, limit: int) -> bytes:
        """Return the body, of at most `limit` bytes; a larger one is read, discarded and refused with 413.

        With a limit of 0, for a path that does not exist, the body is discarded as well: on a connection that
        is kept, the next request begins behind it.
        """
        kept, seen = bytearray(), 0
        try:
            for piece in self._pieces():
                seen += len(piece)
                if seen <= limit:
                    kept += piece
                elif seen > _MAX_DISCARDED:
                    self.close_connection = True
                    break
        except TimeoutError:
            self.close_connection = True
            raise capture_wire.RefusalError(
                408, "body_read_timeout", f"the body stalled after {seen:,} bytes"
            ) from None
        except (ValueError, EOFError) as error:
            self.close_connection = True
            raise capture_wire.RefusalError(
                400, "request_decoding_error", f"the body cannot be read: {error}"
            ) from None
        if limit and seen > limit:
            raise capture_wire.too_large(
                f"the body has more than the {limit:,} bytes that are allowed on the wire"
            )
        return bytes(kept)

    def _pieces(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline(_PIECE).partition(b";")[0], 16):
                yield from self._exactly(size)
                self.rfile.readline(_PIECE)
            while self.rfile.readline(_PIECE).strip():
                pass  # trailers
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            raise ValueError("Content-Length is no number")
        yield from self._exactly(int(length))

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.rfile.read(min(size, _PIECE))
            if not piece:
                raise EOFError("it ends early")
            size -= len(piece)
            yield piece


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _is_safe_host(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith((".localhost", ".docker.internal")):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
