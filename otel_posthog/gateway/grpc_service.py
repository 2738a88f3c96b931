"""OTLP over gRPC, answered by the same request handler as HTTP.

grpcio delivers a message only when all of it has arrived, and its older versions inflate it without a limit.
Therefore we turn its decompression off, and count the messages that are still arriving. A request that the
sender should retry gets UNAVAILABLE with the pause in a RetryInfo, as the OTLP specification asks, and a
Collector heeds both. It retries RESOURCE_EXHAUSTED only with a RetryInfo, which gRPC's own rejections lack.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
import grpc.aio

from otel_posthog.gateway.auth import check_token
from otel_posthog.gateway.decode import PROTOBUF
from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.limits import Limits, RequestRejectedError, overloaded
from otel_posthog.gateway.otlp_response import CODES, accepted_body, rejection_body, retry_info
from otel_posthog.gateway.request_handler import OtlpRequest, RequestHandler

__all__ = ["Certificates", "start_rpc"]

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METHODS = {
    EXPORT: "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
"""The methods of OTLP, each with its signal."""

READING = 32
"""Messages that arrive at the same time, or wait for their turn to."""
UNSEEN = 4
"""The bytes that may be arriving, in multiples of `Limits.in_flight`. A message is invisible until all of it
has arrived, so the number of messages bounds these bytes."""
ARRIVAL_SECONDS = 1.0
"""After these, a message that is still arriving makes room for another one."""
STREAMS = 100
"""Requests at a time on one connection; further ones wait at the sender."""
CONNECTION_SECONDS = 600
"""The age at which a connection is closed, so that its sender finds other workers and gateways."""
PING_SECONDS = 10
"""The shortest interval of a sender's pings, below which its connection is closed; clients allow no less."""
KEEPALIVE_SECONDS = 60
"""The interval of our pings, which find connections that are dead."""

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x78", "deflate"))
"""The first bytes of compressed messages; an OTLP request in protobuf begins with its first tag, 0x0A."""

_log = logging.getLogger("otel_posthog.gateway")


class Certificates(NamedTuple):
    """PEM files for TLS."""

    chain: Path
    key: Path
    client_ca: Path | None
    """The certificate authority of the senders; None: senders need no certificate."""

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a gRPC server."""
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.chain.read_bytes())],
            root_certificates=None if self.client_ca is None else self.client_ca.read_bytes(),
            require_client_auth=self.client_ca is not None,
        )


async def start_rpc(
    address: str,
    request_handler: RequestHandler,
    executor: Executor,
    *,
    token: str | None = None,
    certificates: Certificates | None = None,
) -> grpc.aio.Server:
    """Serve at `address`, HOST:PORT, together with other processes.

    Raises:
        OSError, RuntimeError: the certificates or the address cannot be used.
    """
    server = grpc.aio.server(options=_options(request_handler.limits))
    server.add_generic_rpc_handlers((_OtlpServices(request_handler, executor, token),))
    if certificates is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, certificates.credentials())
    await server.start()
    return server


def _options(limits: Limits) -> list[tuple[str, int]]:
    """Return gRPC's options; source of their names: grpc/impl/channel_arg_names.h."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.body),
        ("grpc.per_message_decompression", 0),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", _ms(limits.head_seconds)),
        ("grpc.max_connection_idle_ms", _ms(limits.idle_seconds)),
        ("grpc.max_connection_age_ms", _ms(CONNECTION_SECONDS)),
        ("grpc.keepalive_time_ms", _ms(KEEPALIVE_SECONDS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(PING_SECONDS)),
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


class _OtlpServices(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """OTLP's services, one for each signal."""

    def __init__(self, request_handler: RequestHandler, executor: Executor, token: str | None) -> None:
        self._request_handler = request_handler
        self._executor = executor
        self._token = None if token is None else token.encode()
        self._arriving = _ArrivingMessages(request_handler.limits)
        # On the wire a stream of one message equals a message, but gRPC reads nothing of it until we ask.
        self._handlers = {
            method: grpc.stream_unary_rpc_method_handler(functools.partial(self._export, signal))
            for method, signal in METHODS.items()
        }

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method; None if there is no such method."""
        return self._handlers.get(handler_call_details.method)

    async def _export(self, signal: str, _: object, context: Any) -> bytes:
        """Answer one request: a response if its spans are safe, else a status."""
        try:
            result = await self._handle(signal, context)
            if result.safe:
                self._request_handler.count_answer("grpc", "OK")
                return accepted_body(PROTOBUF, result.rejected, result.reason, signal)
            rejection = RequestRejectedError(503, result.reason or "", retry_after=result.retry_after)
        except asyncio.CancelledError:
            self._request_handler.count_answer("grpc", "CANCELLED")
            raise
        except RequestRejectedError as error:
            rejection = _without_frames(error)
        except Exception as error:  # noqa: BLE001  # after UNKNOWN a Collector drops
            _log.exception("a request could not be answered: please report this bug")
            rejection = RequestRejectedError(
                503, f"a bug in the gateway ({type(error).__name__})", retry_after=30
            )
        self._request_handler.log_rejection(rejection, _host_of(context.peer()))
        code = _STATUS[CODES.get(rejection.status, _UNKNOWN)]
        self._request_handler.count_answer("grpc", code.name)
        await context.abort(code, str(rejection), _trailers(rejection))
        raise AssertionError  # abort does not return

    async def _handle(self, signal: str, context: Any) -> IngestResult:
        headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        check_token(self._token, headers.get("authorization", ""))
        body = await self._arriving.read(context)
        with contextlib.ExitStack() as stack:
            reservation = stack.enter_context(self._request_handler.budget.reservation())
            reservation.grow(len(body))
            request = OtlpRequest(PROTOBUF, body, _encoding(body), headers, _host_of(context.peer()), signal)
            del body
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._executor, self._request_handler.handle, request, reservation)
            # The work goes on if the sender disconnects, so its bytes are released when it is done.
            release = stack.pop_all().close
            work.add_done_callback(lambda _: release())
        return await asyncio.shield(work)


def _without_frames(error: RequestRejectedError) -> RequestRejectedError:
    """Return the error without its frames, which would keep the message in memory in a reference cycle."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _host_of(peer: str) -> str:
    """Return the host in gRPC's name of a peer: `ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else kind


_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_UNKNOWN = 2


def _trailers(error: RequestRejectedError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailers of a rejection: its status for Go's clients, the pause for Python's exporter."""
    status = (
        "grpc-status-details-bin",
        rejection_body(PROTOBUF, error.status, str(error), error.retry_after),
    )
    if error.retry_after is None:
        return (status,)
    return (status, ("google.rpc.retryinfo-bin", retry_info(error.retry_after)))


def _encoding(body: bytes) -> str:
    return next((name for magic, name in _MAGIC if body.startswith(magic)), "")


class _ArrivingMessages:
    """Messages that are arriving; one that stalls makes room for another."""

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.body_seconds
        self._max_arriving = min(max(UNSEEN * limits.in_flight // limits.body, 1), READING)
        self._waiting = 0
        self._since: dict[asyncio.Task[bytes], float] = {}
        """The oldest first."""

    async def read(self, context: Any) -> bytes:
        """Return the message of a request.

        Raises:
            RequestRejectedError: too many messages are arriving, or this one does not arrive in time.
        """
        await self._make_room()
        task: asyncio.Task[Any] = asyncio.ensure_future(context.read())
        self._since[task] = asyncio.get_running_loop().time()
        try:
            await asyncio.wait((task,), timeout=self._seconds)
            if not task.done() or task.cancelled():
                raise overloaded("the message did not arrive in time: send again")
            message = task.result()
        finally:
            task.cancel()
            self._since.pop(task, None)
        if not isinstance(message, bytes):  # the end of the stream
            raise RequestRejectedError(400, "the request has no message")
        return message

    async def _make_room(self) -> None:
        """Wait until one more may arrive; cancel the oldest one after `ARRIVAL_SECONDS`."""
        if self._waiting + len(self._since) >= READING:
            raise overloaded("too many messages are arriving: send again, or run more gateways")
        self._waiting += 1
        try:
            while len(self._since) >= self._max_arriving:
                oldest, since = next(iter(self._since.items()))
                left = since + ARRIVAL_SECONDS - asyncio.get_running_loop().time()
                if left <= 0:
                    oldest.cancel()
                    del self._since[oldest]
                else:
                    await asyncio.wait(self._since, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting -= 1
