"""A server that answers each request with the next response of a script, faults included."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self


class ScriptedResponse(NamedTuple):
    """A response; a `drop` closes the connection before its end, a `stall` never answers."""

    body: Any = None
    events: Sequence[Any] | None = None
    status: int = 200
    drop: bool = False
    stall: bool = False
    headers: Mapping[str, str] = {}
    first: Callable[[], Any] | None = None
    """Called between the request and the answer, while a call is under way."""


class ReceivedRequest(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen.append(ReceivedRequest(self.path, dict(self.headers.items()), body))
        reply = self.server.script.pop(0)
        self.close_connection = True
        if reply.first is not None:
            reply.first()
        if reply.stall:
            self.connection.recv(1)  # until the client goes away
            return
        self.send_response(reply.status)
        for name, value in ({"x-should-retry": "false"} | dict(reply.headers)).items():
            self.send_header(name, value)
        self.send_header("connection", "close")
        if reply.events is None:
            plain = isinstance(reply.body, bytes)
            raw = reply.body if plain else json.dumps(reply.body).encode()
            self.send_header("content-type", "text/plain" if plain else "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw[:5] if reply.drop else raw)
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in reply.events:
            data = event if isinstance(event, str) else json.dumps(event)
            raw = f"data: {data}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        if not reply.drop:
            self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        self.do_POST()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    script: list[ScriptedResponse]
    seen: list[ReceivedRequest]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves a stream early breaks the pipe; the tests look at the client's side."""


class Provider:
    """A scripted provider on loopback."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.script, self._server.seen = [], []
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def seen(self) -> list[ReceivedRequest]:
        return self._server.seen

    def play(self, *responses: ScriptedResponse) -> None:
        """Answer the next requests with these responses, in this order."""
        self._server.script[:] = responses
        self._server.seen.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
