"""The ASGI application: OTLP/HTTP at /v1/traces, and what an orchestrator asks for."""

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
from otel_posthog.gateway.otlp_response import accepted_body, refusal_body
from otel_posthog.gateway.request_handler import OtlpRequest, RequestHandler
from otel_posthog.gateway.settings import SettingsError

__all__ = ["Gateway"]

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = dict[str, str]

TRACES = "/v1/traces"
_TEXT = "text/plain; charset=utf-8"


class HttpResponse(NamedTuple):
    """An answer over HTTP."""

    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Gateway:
    """The application. What is slow runs on threads of `executor`."""

    def __init__(
        self,
        request_handler: RequestHandler,
        executor: Executor,
        *,
        life: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext,
        token: str | None = None,
        metrics: Callable[[], str] | None = None,
    ) -> None:
        """Make the application; with a `token` only those who bear it may send spans or read metrics.

        `life` is entered before the first request and left after the last answer; the server does not start
        where that fails.
        """
        self.limits = request_handler.limits
        self._request_handler = request_handler
        self._executor = executor
        self._life = life
        self._token = None if token is None else token.encode()
        self._metrics = metrics
        self.connections: Collection[object] = ()
        """Those that are open, as the server says."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or live through the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers = _headers(scope["headers"])
        path, method = scope["path"].rstrip("/") or "/", scope["method"]
        if path == TRACES:
            peer = (scope.get("client") or ("an unknown address",))[0]
            reply = await self._traces(method, headers, receive, peer)
            self._request_handler.answered("http", str(reply.status))
        else:
            reply = await self._other(path, method, headers)
        # What is left of a body that is not read would be taken for the next request.
        rest = (("connection", "close"),) if reply.status in _BEFORE_THE_END else ()
        fields = [
            ("content-type", reply.kind),
            ("content-length", str(len(reply.body))),
            *reply.headers,
            *rest,
        ]
        await send(
            {
                "type": "http.response.start",
                "status": reply.status,
                "headers": [(name.encode(), value.encode()) for name, value in fields],
            }
        )
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._life())
            except SettingsError as error:
                await send(
                    {"type": "lifespan.startup.failed", "message": f"the gateway cannot start: {error}"}
                )
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _traces(self, method: str, headers: Headers, receive: Receive, peer: str) -> HttpResponse:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        said = kind if kind in READERS else PROTOBUF
        try:
            if method != "POST":
                return HttpResponse(405, _TEXT, b"spans come by POST\n", (("allow", "POST"),))
            check_token(self._token, headers.get("authorization", ""))
            if kind not in READERS:
                raise RequestRejectedError(415, f"Content-Type must be {PROTOBUF} or {JSON}")
            with self._request_handler.budget.reservation() as reservation:
                body = await self._body(headers, receive, reservation)
                encoding = headers.get("content-encoding", "").strip().lower()
                request = OtlpRequest(kind, body, encoding, headers, peer)
                del body
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(
                    self._executor, self._request_handler.handle, request, reservation
                )
        except RequestRejectedError as refusal:
            return self._refused(said, peer, refusal)
        except (asyncio.CancelledError, RuntimeError):
            # The server waits no longer, or its threads have ended: of itself it would answer 500.
            return self._refused(said, peer, overloaded("the gateway ends; send again"))
        if answer.safe:
            return HttpResponse(200, kind, accepted_body(kind, answer.rejected, answer.reason))
        body = refusal_body(kind, 503, answer.reason or "")
        return HttpResponse(503, kind, body, (_retry_after(answer.retry_after),))

    def _refused(self, said: str, peer: str, refusal: RequestRejectedError) -> HttpResponse:
        self._request_handler.refused(refusal, peer)
        again = () if refusal.retry_after is None else (_retry_after(refusal.retry_after),)
        return HttpResponse(refusal.status, said, refusal_body(said, refusal.status, str(refusal)), again)

    async def _body(self, headers: Headers, receive: Receive, reservation: Reservation) -> bytes:
        """All of the body, as sent, within the limits of bytes and time."""
        limits = self.limits
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limits.body:
            raise _too_large(limits)
        pieces: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.body_seconds
        while True:
            patience = min(limits.chunk_seconds, deadline - loop.time())
            try:
                message = await asyncio.wait_for(receive(), max(patience, 0.0))
            except asyncio.TimeoutError:
                raise RequestRejectedError(
                    503, f"the body stopped after {size:,} bytes: send it again", retry_after=1
                ) from None
            if message["type"] == "http.disconnect":
                raise RequestRejectedError(400, f"the sender hung up after {size:,} bytes of the body")
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > limits.body:
                raise _too_large(limits)
            reservation.grow(len(piece))
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces) if len(pieces) > 1 else piece

    async def _other(self, path: str, method: str, headers: Headers) -> HttpResponse:
        if method not in ("GET", "HEAD"):
            return HttpResponse(404 if path not in _PAGES else 405, _TEXT, b"spans go to POST /v1/traces\n")
        if path == "/healthz":
            return HttpResponse(200, _TEXT, b"ok\n")
        if path == "/readyz":
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(None, self._request_handler.projects.readiness)
            text = "; ".join(["ready"] * found.ready + found.troubles)
            return HttpResponse(200 if found.ready else 503, _TEXT, f"{text}\n".encode())
        if path == "/metrics" and self._metrics is not None:
            try:
                check_token(self._token, headers.get("authorization", ""))
            except RequestRejectedError as refusal:
                return HttpResponse(401, _TEXT, f"{refusal}\n".encode())
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(None, self._metrics)
            return HttpResponse(200, METRICS_KIND, text.encode())
        return HttpResponse(404, _TEXT, b"spans go to POST /v1/traces\n")


_BEFORE_THE_END = (401, 405, 413, 415, 503)
_PAGES = ("/healthz", "/readyz", "/metrics")
METRICS_KIND = "text/plain; version=0.0.4; charset=utf-8"


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers by name in lower case; of several of a name the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def _retry_after(seconds: float) -> tuple[str, str]:
    return ("retry-after", str(max(math.ceil(seconds), 1)))


def _too_large(limits: Limits) -> RequestRejectedError:
    return RequestRejectedError(
        413, f"a body may have {limits.body:,} bytes: lower the sender's send_batch_max_size"
    )
