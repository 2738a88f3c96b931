"""OTLP over gRPC: the same request_handler in gRPC's words.

grpcio hands a message over when all of it is there, and its older versions inflate it without a limit: so it
is told to leave it as it came, and messages that are still coming are counted here. What is to be sent again
gets UNAVAILABLE with the pause in a RetryInfo: so the OTLP specification wants it, and a Collector heeds both
(RESOURCE_EXHAUSTED it sends again only with a RetryInfo, which gRPC's own refusals do not have).
"""

from __future__ import annotations

import asyncio
import contextlib
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
from otel_posthog.gateway.otlp_response import CODES, accepted_body, refusal_body, retry_info
from otel_posthog.gateway.request_handler import OtlpRequest, RequestHandler

__all__ = ["Certificates", "start_rpc"]

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

READING = 32
"""Messages that are read at a time, or wait for that."""
UNSEEN = 4
"""So many times the bytes that may be worked on may be on their way: a message is not seen before all of it
is there, so the number of those that are read at a time bounds them."""
IN_TIME = 1.0
"""Seconds after which a message that is still coming makes room for another one."""
STREAMS = 100
"""Requests on one connection; what is more waits at the sender."""
CONNECTION_SECONDS = 600
"""Then a sender is asked to connect anew, so that it finds other workers and gateways."""
PING_SECONDS = 10
"""A sender that asks more often whether we are alive is sent away: the shortest time that clients allow."""
LOST_SECONDS = 60
"""So often a connection is asked whether it is alive."""

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x78", "deflate"))
"""How compressed messages begin; a request in protobuf begins with its first field's tag, 0x0A."""

_log = logging.getLogger("otel_posthog.gateway")


class Certificates(NamedTuple):
    """PEM files for TLS."""

    chain: Path
    key: Path
    client_ca: Path | None
    """Of those who may send; None: anybody may."""

    def credentials(self) -> grpc.ServerCredentials:
        """What a server is given."""
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
    """Serve at HOST:PORT, which other processes may serve as well.

    Raises:
        OSError, RuntimeError: the certificates or the address cannot be used.
    """
    server = grpc.aio.server(options=_options(request_handler.limits))
    server.add_generic_rpc_handlers((_Traces(request_handler, executor, token),))
    if certificates is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, certificates.credentials())
    await server.start()
    return server


def _options(limits: Limits) -> list[tuple[str, int]]:
    """Source of the names: grpc/impl/channel_arg_names.h."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.body),
        ("grpc.per_message_decompression", 0),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", _ms(limits.head_seconds)),
        ("grpc.max_connection_idle_ms", _ms(limits.idle_seconds)),
        ("grpc.max_connection_age_ms", _ms(CONNECTION_SECONDS)),
        ("grpc.keepalive_time_ms", _ms(LOST_SECONDS)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(PING_SECONDS)),
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


class _Traces(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """The service of traces, the only one."""

    def __init__(self, request_handler: RequestHandler, executor: Executor, token: str | None) -> None:
        self._request_handler = request_handler
        self._executor = executor
        self._token = None if token is None else token.encode()
        self._readers = _Readers(request_handler.limits)
        # On the wire a stream of one message is a message; but nothing of it is read before we ask for it.
        self._handler = grpc.stream_unary_rpc_method_handler(self._export)

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """The handler of a method, None for one that is not there."""
        return self._handler if handler_call_details.method == EXPORT else None

    async def _export(self, _: object, context: Any) -> bytes:
        """Answer one request; what ends well ends with an answer, all else with a status."""
        try:
            answer = await self._answer(context)
            if answer.safe:
                self._request_handler.answered("grpc", "OK")
                return accepted_body(PROTOBUF, answer.rejected, answer.reason)
            refusal = RequestRejectedError(503, answer.reason or "", retry_after=answer.retry_after)
        except asyncio.CancelledError:
            self._request_handler.answered("grpc", "CANCELLED")
            raise
        except RequestRejectedError as error:
            refusal = _without_frames(error)
        except Exception as error:  # noqa: BLE001  # what is answered UNKNOWN a Collector drops
            _log.exception("a request could not be answered: please report this")
            refusal = RequestRejectedError(
                503, f"a fault of the gateway ({type(error).__name__})", retry_after=30
            )
        self._request_handler.refused(refusal, _host_of(context.peer()))
        code = _STATUS[CODES.get(refusal.status, _UNKNOWN)]
        self._request_handler.answered("grpc", code.name)
        await context.abort(code, str(refusal), _details(refusal))
        raise AssertionError  # abort does not return

    async def _answer(self, context: Any) -> IngestResult:
        headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        check_token(self._token, headers.get("authorization", ""))
        body = await self._readers.read(context)
        with contextlib.ExitStack() as stack:
            reservation = stack.enter_context(self._request_handler.budget.reservation())
            reservation.grow(len(body))
            request = OtlpRequest(PROTOBUF, body, _encoding(body), headers, _host_of(context.peer()))
            del body
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._executor, self._request_handler.handle, request, reservation)
            # A sender that hangs up does not end the work, so its bytes are given back when that is done.
            done = stack.pop_all().close
            work.add_done_callback(lambda _: done())
        return await asyncio.shield(work)


def _without_frames(refusal: RequestRejectedError) -> RequestRejectedError:
    """The refusal without the frames that it came through: they hold the message, and each other."""
    refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
    return refusal


def _host_of(peer: str) -> str:
    """The address in gRPC's name of a peer: `ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else kind


_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_UNKNOWN = 2


def _details(refusal: RequestRejectedError) -> tuple[tuple[str, bytes], ...]:
    """Trailers of a refusal: its status as Go's clients read it, and the pause as Python's exporter does."""
    status = refusal_body(PROTOBUF, refusal.status, str(refusal), refusal.retry_after)
    found = (("grpc-status-details-bin", status),)
    if refusal.retry_after is None:
        return found
    return (*found, ("google.rpc.retryinfo-bin", retry_info(refusal.retry_after)))


def _encoding(body: bytes) -> str:
    return next((name for magic, name in _MAGIC if body.startswith(magic)), "")


class _Readers:
    """Messages on their way, of which one that does not get on makes room for another."""

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.body_seconds
        self._at_once = min(max(UNSEEN * limits.in_flight // limits.body, 1), READING)
        self._waiting = 0
        self._since: dict[asyncio.Task[bytes], float] = {}
        """The oldest first."""

    async def read(self, context: Any) -> bytes:
        """The message of a request.

        Raises:
            RequestRejectedError: there are too many on their way, or it does not come in time.
        """
        await self._room()
        task: asyncio.Task[Any] = asyncio.ensure_future(context.read())
        self._since[task] = asyncio.get_running_loop().time()
        try:
            await asyncio.wait((task,), timeout=self._seconds)
            if not task.done() or task.cancelled():
                raise overloaded("the message did not come in time; send again")
            message = task.result()
        finally:
            task.cancel()
            self._since.pop(task, None)
        if not isinstance(message, bytes):  # the end of the stream
            raise RequestRejectedError(400, "the request has no message")
        return message

    async def _room(self) -> None:
        """Wait until one more may be read, for which the oldest is given up after a while."""
        if self._waiting + len(self._since) >= READING:
            raise overloaded("too many messages are on their way; send again, or run more gateways")
        self._waiting += 1
        try:
            while len(self._since) >= self._at_once:
                oldest, since = next(iter(self._since.items()))
                left = since + IN_TIME - asyncio.get_running_loop().time()
                if left <= 0:
                    oldest.cancel()
                    del self._since[oldest]
                else:
                    await asyncio.wait(self._since, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting -= 1
