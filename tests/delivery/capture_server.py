"""A loopback server with the paths, limits and answers of PostHog's capture service.

Source of the limits: PostHog rust/capture, as noted in `routes.py` and `options.py`.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import sys
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIRE_LIMIT = 20_000_000
AI_EVENT_LIMIT = 8 * 1024 * 1024
EVENT_LIMIT = 983_040
MESSAGE_LIMIT = 1_000_000


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    peer: tuple[str, int]


@dataclass
class Answer:
    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


class CaptureServer(ThreadingHTTPServer):
    """A server that keeps accepted events in `events` and all requests in `requests`."""

    daemon_threads = True

    def __init__(self, *, has_ai_route: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.has_ai_route = has_ai_route
        self.requests: list[Request] = []
        self.events: list[dict[str, Any]] = []
        self.faults: deque[Answer | str | None] = deque()
        """Faults for the next requests, one each: an answer, or None, which closes the connection.

        `reset at once`, `reset in the body`: close before the request is read. `reset after taking it`:
        accept the events, but close without an answer. `silence`: no answer until the client is gone.
        """
        self.over = threading.Event()
        self.delay = 0.0
        """Seconds that every answer takes."""
        self.is_poison: Callable[[dict[str, Any]], bool] = lambda _: False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def connections(self) -> int:
        return len({request.peer for request in self.requests})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback if a client hangs up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def judge(self, request: Request) -> Answer:
        if request.path not in ("/batch/", "/i/v0/ai/batch/"):
            return Answer(404)
        is_ai = request.path == "/i/v0/ai/batch/"
        if is_ai and not self.has_ai_route:
            return Answer(404)
        if not request.body.get("api_key"):
            return Answer(401)
        batch = request.body["batch"]
        for event in batch:
            text = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
            if is_ai and len(text) > AI_EVENT_LIMIT:
                return Answer(413)
            if not is_ai and event["event"].startswith("$ai_") and len(text) > EVENT_LIMIT:
                return Answer(413)
            if not is_ai and len(json.dumps(text.decode(), ensure_ascii=False).encode()) > MESSAGE_LIMIT:
                return Answer(413)
        if any(self.is_poison(event) or not event["distinct_id"] for event in batch):
            return Answer(400)
        if is_ai and any(not event["event"].startswith("$ai_") for event in batch):
            return Answer(400)
        self.events += batch
        return Answer(200, b'{"status":"Ok"}')


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: CaptureServer

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        fault = self.server.faults[0] if self.server.faults else None
        if fault in ("reset at once", "reset in the body"):
            self.server.faults.popleft()
            self.rfile.read(0 if fault == "reset at once" else length // 2)
            self._reset()
            return
        raw = self.rfile.read(length)
        data = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
        request = Request(
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(data, parse_constant=_not_json),
            self.client_address,
        )
        self.server.requests.append(request)
        threading.Event().wait(self.server.delay)
        answer = self.server.faults.popleft() if self.server.faults else self.server.judge(request)
        if length > WIRE_LIMIT:
            answer = Answer(413)
        if answer == "silence":
            self.server.over.wait(10)
        if answer == "reset after taking it":
            self.server.judge(request)
        if answer is None or isinstance(answer, str):
            self._reset()
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        # By RFC 9110 a 204 has no body: a client would read one as the start of the next answer.
        body = b"" if answer.status == HTTPStatus.NO_CONTENT else answer.body
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.close_connection = True
        # Without a linger time, closing is a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def _not_json(token: str) -> None:
    raise ValueError(token)


@contextmanager
def capture_server(*, has_ai_route: bool = True) -> Iterator[CaptureServer]:
    with CaptureServer(has_ai_route=has_ai_route) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
