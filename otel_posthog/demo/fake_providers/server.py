"""The server: OpenAI's and Gemini's protocols on loopback, streaming included."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from otel_posthog.demo.fake_providers.canned import JSON, Reply
from otel_posthog.demo.fake_providers.gemini import METHODS, camel_case
from otel_posthog.demo.fake_providers.openai import ENDPOINTS, read_form

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self


def _route(path: str, request: JSON) -> Reply:
    path = path.partition("?")[0].strip("/")
    if match := re.search(r"models/([^/:]+):(\w+)$", path):
        model, method = match.groups()
        if method in METHODS:
            return METHODS[method](model, camel_case(request))
    elif path.startswith("v1/") and (answer := ENDPOINTS.get(path[3:])):
        return answer(request)
    return Reply(
        {"error": {"code": 404, "message": f"No such path: /{path}", "status": "NOT_FOUND"}}, status=404
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # many small chunks: without it each would wait for an ACK
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Stay silent: the demo's output is the demo's."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.on_request is not None:
            self.server.on_request(self.path, dict(self.headers.items()), body)
        kind = self.headers.get("content-type") or ""
        try:
            request = read_form(body) if kind.startswith("multipart/") else json.loads(body or b"{}")
        except ValueError:
            request = None
        if not isinstance(request, dict):
            error = {"code": 400, "message": "Invalid JSON payload received.", "status": "INVALID_ARGUMENT"}
            self._send(Reply({"error": error}, status=400))
            return
        reply = _route(self.path, request)
        time.sleep(self.server.wait_for(body))
        try:
            self._send(reply)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client left early; that is its right

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        # Neither client shall spend the demo's time on retries of a failure that is meant.
        self.send_header("x-should-retry", "false")
        self.send_header("x-request-id", "req_standin")
        if reply.events is None:
            body = json.dumps(reply.body).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for name, data in reply.events:
            text = data if isinstance(data, str) else json.dumps(data)
            line = (f"event: {name}\n" if name else "") + f"data: {text}\n\n"
            raw = line.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            time.sleep(self.server.chunk_pause)
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    chunk_pause: float
    latency: tuple[float, float]
    on_request: Callable[[str, dict[str, str], bytes], None] | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that its client has dropped in peace; anything else is a fault of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def wait_for(self, body: bytes) -> float:
        """Pick a latency within the range that depends on the request alone, so that two runs look alike."""
        low, high = self.latency
        return low + (high - low) * zlib.crc32(body) / 0xFFFFFFFF


class FakeProviders:
    """OpenAI's and Gemini's protocols on loopback, ready when constructed; a context manager.

    `latency` is how long an answer takes in seconds: one number, or a range to pick from by request.
    `chunk_pause` is the pause after each streamed chunk in seconds. `on_request` is shown each
    request's path, headers and body.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float | tuple[float, float] = (0.02, 0.15),
        chunk_pause: float = 0.004,
        *,
        on_request: Callable[[str, dict[str, str], bytes], None] | None = None,
    ) -> None:
        self._server = _Server((host, port), _Handler)
        self._server.latency = latency if isinstance(latency, tuple) else (latency, latency)
        self._server.chunk_pause = chunk_pause
        self._server.on_request = on_request
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="standin", daemon=True
        )
        self._thread.start()

    @property
    def openai_base_url(self) -> str:
        """The address for `OpenAI(base_url=...)`."""
        return f"{self.gemini_base_url}/v1"

    @property
    def gemini_base_url(self) -> str:
        """The address for `genai.Client(http_options=HttpOptions(base_url=...))`."""
        return f"http://{self.host}:{self.port}"

    def close(self) -> None:
        """Stop serving and free the port. Calling it again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
