"""Request bodies, an application that sends to a capture server, and a client of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from otel_posthog.forwarder import forwarder
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.decode import JSON, PROTOBUF
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.limits import Limits
from otel_posthog.gateway.projects import Projects
from otel_posthog.gateway.request_handler import RequestHandler
from tests.delivery.capture_server import CaptureServer, capture_server
from tests.support.otlp_json import otlp_json
from tests.support.spans import otlp_request

KEY = "phc_the_key_nobody_may_read"
TRACES = "/v1/traces"


def body_of(*spans: ReadableSpan, kind: str = PROTOBUF) -> bytes:
    """Return the spans as the body of a request."""
    request = otlp_request(*spans)
    return json.dumps(otlp_json(request)).encode() if kind == JSON else request.SerializeToString()


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Calls an application as a server would."""

    def __init__(self, app: Gateway) -> None:
        self.app = app

    def post(self, *pieces: bytes, kind: str = PROTOBUF, path: str = TRACES, **headers: str) -> Response:
        """Send a body in pieces."""
        return self.send("POST", path, {"content-type": kind, **headers}, pieces)

    def send(
        self,
        method: str,
        path: str = TRACES,
        headers: Mapping[str, str] | None = None,
        pieces: tuple[bytes, ...] = (),
        then: dict[str, Any] | None = None,
    ) -> Response:
        """Send a request in pieces, then the message `then`, if there is one, and nothing more."""
        messages = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
            for number, piece in enumerate(pieces or (b"",), 1)
        ]
        if then is not None:
            messages[-1]["more_body"] = True
            messages += [then] if then else []
        return asyncio.run(self._send(method, path, headers or {}, messages))

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], messages: list[dict[str, Any]]
    ) -> Response:
        sent: list[dict[str, Any]] = []
        remaining = iter(messages)

        async def receive() -> dict[str, Any]:
            message = next(remaining, None)
            if message is None:
                await asyncio.Event().wait()  # for ever
            return message or {}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in _real(headers).items()],
        }
        await self.app(scope, receive, send)
        start, body = sent
        values = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(values["content-length"]) == len(body["body"]) or method == "HEAD"
        return Response(start["status"], values, body["body"])


def _real(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Gate(NamedTuple):
    client: Client
    request_handler: RequestHandler
    server: CaptureServer


@contextmanager
def gate(
    *,
    limits: Limits | None = None,
    token: str | None = None,
    window_seconds: float = 0.0,
    spool: Path | None = None,
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> Iterator[Gate]:
    """Yield an application whose events go to a capture server."""
    with capture_server() as server, ThreadPoolExecutor(4) as executor:
        project_forwarder = forwarder(
            {"api_key": KEY, "endpoint": server.url, "events": "ai", "spool_dir": spool, **options},
            environ={},
            spool_drops_oldest=False,
        )
        clocked: dict[str, Any] = {} if clock is None else {"clock": clock}
        ingest = ProjectIngest(project_forwarder, window_seconds=window_seconds, **clocked)
        request_handler = RequestHandler(Projects.only(ingest), limits or Limits())
        app = Gateway(request_handler, executor, token=token)
        try:
            yield Gate(Client(app), request_handler, server)
        finally:
            ingest.close()
            project_forwarder.close(1)
