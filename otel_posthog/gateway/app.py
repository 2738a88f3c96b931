"""The ASGI application: OTLP/HTTP at /v1/traces, /v1/logs and /v1/metrics, health checks and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from otel_posthog.gateway.auth import check_token
from otel_posthog.gateway.decode import JSON, PROTOBUF, READERS
from otel_posthog.gateway.limits import Limits, RequestRejectedError, Reservation, overloaded
from otel_posthog.gateway.otlp_response import accepted_body, rejection_body
from otel_posthog.gateway.request_handler import SIGNALS, OtlpRequest, RequestHandler
from otel_posthog.gateway.settings import SettingsError

__all__ = ["Gateway"]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = dict[str, str]

_SIGNALS = {f"/v1/{signal}": signal for signal in SIGNALS}
"""The paths of OTLP."""
_TEXT = "text/plain; charset=utf-8"


class HttpResponse(NamedTuple):
    """An answer over HTTP."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Gateway:
    """The ASGI application. Slow work runs on threads of `executor`."""

    def __init__(
        self,
        request_handler: RequestHandler,
        executor: Executor,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
        token: str | None = None,
        metrics: Callable[[], str] | None = None,
    ) -> None:
        """Make the application; with a `token`, sending spans and reading metrics require it.

        `lifespan` is entered before the first request and left after the last answer; if it raises
        `SettingsError`, the server does not start.
        """
        self.limits = request_handler.limits
        self._request_handler = request_handler
        self._executor = executor
        self._lifespan = lifespan
        self._token = None if token is None else token.encode()
        self._metrics = metrics
        self.connections: Collection[object] = ()
        """The open connections; `http_protocol` sets it."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        headers = _headers(scope["headers"])
        path, method = scope["path"].rstrip("/") or "/", scope["method"]
        if path in _SIGNALS:
            peer = (scope.get("client") or ("an unknown address",))[0]
            response = await self._otlp(_SIGNALS[path], method, headers, receive, peer)
            self._request_handler.count_answer("http", str(response.status))
        else:
            response = await self._page(path, method, headers)
        # An unread rest of the body would be parsed as the next request.
        close = (("connection", "close"),) if response.status in _BODY_UNREAD else ()
        fields = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            *response.headers,
            *close,
        ]
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [(name.encode(), value.encode()) for name, value in fields],
            }
        )
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._lifespan())
            except SettingsError as error:
                await send(
                    {"type": "lifespan.startup.failed", "message": f"the gateway cannot start: {error}"}
                )
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _otlp(
        self, signal: str, method: str, headers: Headers, receive: Receive, peer: str
    ) -> HttpResponse:
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        answer_type = content_type if content_type in READERS else PROTOBUF
        try:
            if method != "POST":
                return HttpResponse(405, _TEXT, b"send spans with POST\n", (("allow", "POST"),))
            check_token(self._token, headers.get("authorization", ""))
            if content_type not in READERS:
                raise RequestRejectedError(415, f"Content-Type must be {PROTOBUF} or {JSON}")
            with self._request_handler.budget.reservation() as reservation:
                body = await self._body(headers, receive, reservation)
                encoding = headers.get("content-encoding", "").strip().lower()
                request = OtlpRequest(content_type, body, encoding, headers, peer, signal)
                del body
                loop = asyncio.get_running_loop()
                result = await loop.run_in_executor(
                    self._executor, self._request_handler.handle, request, reservation
                )
        except RequestRejectedError as error:
            return self._rejected(answer_type, peer, error)
        except (asyncio.CancelledError, RuntimeError):
            # The server stopped waiting, or its threads have ended; uvicorn would answer 500.
            return self._rejected(answer_type, peer, overloaded("the gateway is shutting down: send again"))
        if result.safe:
            return HttpResponse(
                200, content_type, accepted_body(content_type, result.rejected, result.reason, signal)
            )
        body = rejection_body(content_type, 503, result.reason or "")
        return HttpResponse(503, content_type, body, (_retry_after(result.retry_after),))

    def _rejected(self, answer_type: str, peer: str, error: RequestRejectedError) -> HttpResponse:
        self._request_handler.log_rejection(error, peer)
        headers = () if error.retry_after is None else (_retry_after(error.retry_after),)
        body = rejection_body(answer_type, error.status, str(error))
        return HttpResponse(error.status, answer_type, body, headers)

    async def _body(self, headers: Headers, receive: Receive, reservation: Reservation) -> bytes:
        """Return the whole body, as sent, within the limits of bytes and time."""
        limits = self.limits
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limits.body:
            raise _too_large(limits)
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.body_seconds
        while True:
            seconds = min(limits.chunk_seconds, deadline - loop.time())
            try:
                message = await asyncio.wait_for(receive(), max(seconds, 0.0))
            except asyncio.TimeoutError:
                raise RequestRejectedError(
                    503, f"the body stopped after {size:,} bytes: send it again", retry_after=1
                ) from None
            if message["type"] == "http.disconnect":
                raise RequestRejectedError(
                    400, f"the sender closed the connection after {size:,} bytes of the body"
                )
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limits.body:
                raise _too_large(limits)
            reservation.grow(len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks) if len(chunks) > 1 else chunk

    async def _page(self, path: str, method: str, headers: Headers) -> HttpResponse:
        loop = asyncio.get_running_loop()
        if method not in ("GET", "HEAD"):
            return HttpResponse(404 if path not in _PAGES else 405, _TEXT, _USAGE)
        if path == "/healthz":
            return HttpResponse(200, _TEXT, b"ok\n")
        if path == "/readyz":
            readiness = await loop.run_in_executor(None, self._request_handler.projects.readiness)
            text = "; ".join(["ready"] * readiness.ready + readiness.problems)
            return HttpResponse(200 if readiness.ready else 503, _TEXT, f"{text}\n".encode())
        if path == "/metrics" and self._metrics is not None:
            try:
                check_token(self._token, headers.get("authorization", ""))
            except RequestRejectedError as error:
                return HttpResponse(401, _TEXT, f"{error}\n".encode())
            text = await loop.run_in_executor(None, self._metrics)
            return HttpResponse(200, METRICS_TYPE, text.encode())
        return HttpResponse(404, _TEXT, _USAGE)


_BODY_UNREAD = (401, 405, 413, 415, 503)
"""Statuses that may be answered before the end of the body."""
_PAGES = ("/healthz", "/readyz", "/metrics")
_USAGE = b"send spans with POST /v1/traces\n"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers by name in lower case; the last one counts if a name occurs several times."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def _retry_after(seconds: float) -> tuple[str, str]:
    return ("retry-after", str(max(math.ceil(seconds), 1)))


def _too_large(limits: Limits) -> RequestRejectedError:
    return RequestRejectedError(
        413, f"the body is larger than {limits.body:,} bytes: lower the sender's send_batch_max_size"
    )
