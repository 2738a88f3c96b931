"""A provider on loopback: OpenAI's and Gemini's wires, each request with tokens that no other has, and a log.

`POST /_scenario` names what the following requests belong to: a program runs its scenarios one by one.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, TypeAlias

from typing_extensions import Self

from tests.framework_matrix import gemini_wire, openai_wire
from tests.framework_matrix.answers import Ask, failure
from tests.framework_matrix.wire import Exchange, Stream, Usage, Whole

Kind: TypeAlias = Literal["chat", "embedding"]

# The models that answer when these are asked for: a dated name is what a provider gives back.
DATED = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
}
_GEMINI_PATH = re.compile(r"^/v1(?:beta)?/models/([^:/]+):(\w+)$")


@dataclass(frozen=True)
class Request:
    """One request as the provider logged it."""

    number: int
    scenario: str
    kind: Kind
    provider: Literal["openai", "gemini"]
    endpoint: str
    model: str
    stream: bool
    usage: Usage
    status: int = 200
    prompt: str = ""  # the last text of a user


@dataclass(frozen=True)
class _Endpoint:
    answer: Callable[[Exchange], Whole | Stream]
    ask: Callable[[dict[str, Any]], Ask]
    kind: Kind = "chat"


class Provider:
    """A server to open and close; `latency` is what passes before the first byte of an answer, in seconds."""

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.scenario = ""
        self.unknown: list[str] = []  # paths that nobody serves
        self._log: list[Request] = []
        self._lock = threading.Lock()
        self._openai: Mapping[str, _Endpoint] = {
            "/v1/chat/completions": _Endpoint(openai_wire.chat, openai_wire.chat_ask),
            "/v1/responses": _Endpoint(openai_wire.Responses(), openai_wire.responses_ask),
            "/v1/embeddings": _Endpoint(openai_wire.embeddings, _no_ask, "embedding"),
        }
        self._gemini: Mapping[str, _Endpoint] = {
            "generateContent": _Endpoint(gemini_wire.generate, gemini_wire.ask),
            "streamGenerateContent": _Endpoint(gemini_wire.stream, gemini_wire.ask),
            "embedContent": _Endpoint(gemini_wire.embed, _no_ask, "embedding"),
            "batchEmbedContents": _Endpoint(gemini_wire.embed_all, _no_ask, "embedding"),
        }
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where the provider is, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        """Return a copy of the log."""
        with self._lock:
            return list(self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, body: dict[str, Any]) -> tuple[int, Whole | Stream]:
        """Log a request and return the status and the answer. For the server's threads."""
        path = path.partition("?")[0]
        if path == "/_scenario":
            self.scenario = body["name"]
            return 200, {}
        gemini = _GEMINI_PATH.match(path)
        endpoint = self._gemini.get(gemini[2]) if gemini else self._openai.get(path)
        if endpoint is None:
            self.unknown.append(path)
            return 404, {"error": {"message": f"no such endpoint: {path}", "code": 404}}
        asked_model = gemini[1] if gemini else body.get("model", "")
        ask = endpoint.ask(body)
        status = failure(ask.text) or 200
        with self._lock:
            number = len(self._log) + 1
            request = Request(
                number=number,
                scenario=self.scenario,
                kind=endpoint.kind,
                provider="gemini" if gemini else "openai",
                endpoint=gemini[2] if gemini else path.rpartition("/v1/")[2],
                model=DATED.get(asked_model, asked_model),
                stream=bool(body.get("stream")) or bool(gemini and gemini[2].startswith("stream")),
                usage=Usage(number),
                status=status,
                prompt=next((turn.text for turn in reversed(ask.turns) if turn.role == "user"), ""),
            )
            self._log.append(request)
        time.sleep(self.latency)
        if status != 200:
            return status, _error(request)
        return 200, endpoint.answer(Exchange(number, body, request.model, request.usage))


def _no_ask(body: dict[str, Any]) -> Ask:
    """Return what an embedding asks of a chat model."""
    return Ask(())


def _error(request: Request) -> Whole:
    message = f"the provider was asked to fail with {request.status}"
    if request.provider == "gemini":
        return {"error": {"code": request.status, "message": message, "status": "INTERNAL"}}
    return {"error": {"message": message, "type": "server_error", "code": "asked_to_fail", "param": None}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: a client that leaves a stream early is part of the matrix."""


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, reply = provider.serve(self.path, json.loads(body or b"{}"))
            if isinstance(reply, dict):
                self._whole(status, reply)
                return
            self._head(status, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
            for name, each in reply:
                event = f"event: {name}\n" if name else ""
                line = each if isinstance(each, str) else json.dumps(each)
                self._chunk(f"{event}data: {line}\n\n".encode())
            self._chunk(b"")

        def do_GET(self) -> None:
            """Describe a model of Gemini: some frameworks ask how long its context is."""
            name = re.fullmatch(r"/v1beta/(models/[^:/]+)", self.path.partition("?")[0])
            if name is None:
                provider.unknown.append(self.path)
                self.send_error(404)
                return
            self._whole(200, {"name": name[1], "inputTokenLimit": 1_000_000, "outputTokenLimit": 64_000})

        def _head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            # The SDKs would try again by themselves.
            self.send_header("x-should-retry", "false")
            # Some frameworks keep a client, and its connections, beyond the loop of a scenario.
            self.send_header("Connection", "close")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def _whole(self, status: int, reply: Whole) -> None:
            data = json.dumps(reply).encode()
            self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data))})
            self.wfile.write(data)

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Print nothing."""

    return Handler
