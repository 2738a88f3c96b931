"""OTLP over gRPC, with grpcio's own client."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import requests
import zstandard
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from otel_posthog.gateway.grpc_service import EXPORT, READING, Certificates, _host_of, start_rpc
from otel_posthog.gateway.limits import Limits
from otel_posthog.gateway.server import _address, _reserve
from otel_posthog.runtime.install_hint import install_hint
from tests.delivery.capture_server import Answer, CaptureServer
from tests.gateway.conftest import CertificateFiles, StartGateway, run_gateway, some_spans, span_ids
from tests.gateway.support import Gate, gate
from tests.support.waiting import until

TOKEN = "a token of twenty-four b"
MIB = 1024 * 1024


class RpcGate(NamedTuple):
    target: str
    gate: Gate

    @property
    def posthog(self) -> CaptureServer:
        return self.gate.server


@contextmanager
def rpc_gate(
    *, token: str | None = None, certificates: Certificates | None = None, **options: Any
) -> Iterator[RpcGate]:
    """Run a gRPC server that sends to a capture server, with its event loop on a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with gate(**options) as inner, ThreadPoolExecutor(4) as executor, _reserve("127.0.0.1", 0) as reserved:
        target = _address(reserved)
        server = asyncio.run_coroutine_threadsafe(
            start_rpc(target, inner.request_handler, executor, token=token, certificates=certificates), loop
        ).result(10)
        try:
            yield RpcGate(target, inner)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(1), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class Sent(NamedTuple):
    """The answer to a request."""

    code: grpc.StatusCode
    details: str
    pause: float | None
    """Seconds in the RetryInfo of the status."""
    response: ExportTraceServiceResponse


def send(
    target: str,
    body: bytes,
    *,
    method: str = EXPORT,
    credentials: grpc.ChannelCredentials | None = None,
    compression: grpc.Compression | None = None,
    **metadata: str,
) -> Sent:
    """Send a request on a connection of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    ) as channel:
        try:
            response = channel.unary_unary(method)(
                body, compression=compression, timeout=60, metadata=[*metadata.items()]
            )
        except grpc.RpcError as error:
            rejection = error
        else:
            return Sent(grpc.StatusCode.OK, "", None, ExportTraceServiceResponse.FromString(response))
    trailers = dict(rejection.trailing_metadata() or ())
    pause = None
    if "grpc-status-details-bin" in trailers:
        status = Status.FromString(trailers["grpc-status-details-bin"])
        assert (status.code, status.message) == (rejection.code().value[0], rejection.details())
        pause = _pause(status)
        info = trailers.get("google.rpc.retryinfo-bin")
        assert pause == (None if info is None else _seconds(RetryInfo.FromString(info)))
    return Sent(rejection.code(), rejection.details(), pause, ExportTraceServiceResponse())


def _pause(status: Status) -> float | None:
    if not status.details:
        return None
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    return _seconds(info)


def _seconds(info: RetryInfo) -> float:
    return float(info.retry_delay.ToMilliseconds() / 1000)


def test_opentelemetrys_own_stub_passes_spans_through() -> None:
    with rpc_gate(token=TOKEN) as served, grpc.insecure_channel(served.target) as channel:
        stub = TraceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        response = stub.Export(
            some_spans(3),
            metadata=(("authorization", f"Bearer {TOKEN}"),),
            compression=grpc.Compression.Gzip,
            timeout=30,
        )
        assert response == ExportTraceServiceResponse()
        assert span_ids(served.posthog) == [1, 2, 3]


@pytest.mark.parametrize(
    ("wrapped", "compression"),
    [
        (bytes, None),
        (bytes, grpc.Compression.Gzip),
        (bytes, grpc.Compression.Deflate),
        (gzip.compress, None),
        (zlib.compress, None),
        (zstandard.compress, None),
    ],
)
def test_a_message_is_inflated_by_its_own_compression(
    wrapped: Callable[[bytes], bytes], compression: grpc.Compression | None
) -> None:
    with rpc_gate() as served:
        body = some_spans(3).SerializeToString()
        sent = send(served.target, wrapped(body), compression=compression)
        assert sent == (grpc.StatusCode.OK, "", None, ExportTraceServiceResponse())
        assert span_ids(served.posthog) == [1, 2, 3]


def test_a_collectors_default_batch_is_accepted() -> None:
    spans = some_spans(8192, text=os.urandom(1000).hex())
    body = spans.SerializeToString()
    assert len(body) > 17_000_000
    with rpc_gate() as served:
        assert send(served.target, body).code is grpc.StatusCode.OK
        assert span_ids(served.posthog) == [*range(1, 8193)]


def test_an_empty_message_is_an_empty_request() -> None:
    with rpc_gate() as served:
        assert send(served.target, b"").code is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"\x0a\xff", "INVALID_ARGUMENT", "the body is no OTLP request in protobuf"),
        (b"no protobuf", "INVALID_ARGUMENT", "the body is no OTLP request in protobuf"),
        (b"\x1f\x8bno gzip", "INVALID_ARGUMENT", "the compressed body ends early"),
        (gzip.compress(b"\n\x00" * 600_000), "INVALID_ARGUMENT", "larger than 1,048,576 bytes: lower"),
        (b"\n\x00" * 600_000, "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_an_invalid_message_is_rejected_for_good_with_a_sentence(body: bytes, code: str, words: str) -> None:
    with rpc_gate(limits=Limits(body=MIB)) as served:
        sent = send(served.target, body)
        assert (sent.code.name, sent.pause) == (code, None)
        assert words in sent.details


def test_another_method_is_not_there() -> None:
    with rpc_gate() as served:
        sent = send(served.target, b"", method=EXPORT.replace("trace", "logs"))
        assert sent.code is grpc.StatusCode.UNIMPLEMENTED


def test_spans_that_cannot_be_read_are_counted_in_the_answer() -> None:
    spans = some_spans(3)
    spans.resource_spans[1].scope_spans[0].spans[0].span_id = b""
    with rpc_gate() as served:
        partial = send(served.target, spans.SerializeToString()).response.partial_success
        assert (partial.rejected_spans, partial.error_message) == (1, "a span has no trace id or span id")
        assert span_ids(served.posthog) == [1, 3]


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({}, "UNAUTHENTICATED"),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, "UNAUTHENTICATED"),
        ({"authorization": TOKEN}, "UNAUTHENTICATED"),
        ({"authorization": f"Bearer {TOKEN}"}, "OK"),
        ({"authorization": f"bearer  {TOKEN}"}, "OK"),
    ],
)
def test_only_senders_with_the_token_are_accepted(metadata: dict[str, str], code: str) -> None:
    with rpc_gate(token=TOKEN) as served:
        sent = send(served.target, some_spans(1).SerializeToString(), **metadata)
        assert sent.code.name == code
        assert span_ids(served.posthog) == [1] * (code == "OK")
        assert served.gate.request_handler.stats()["requests"] == {("grpc", code): 1}


def test_during_an_outage_the_sender_has_to_retry_after_a_pause() -> None:
    with rpc_gate(max_retry_seconds=0.01) as served:
        served.posthog.faults.extend([Answer(503)] * 8)
        sent = send(served.target, some_spans(1).SerializeToString())
        assert sent.code is grpc.StatusCode.UNAVAILABLE
        assert sent.pause == pytest.approx(5, abs=0.2)
        assert "send again later" in sent.details


def test_during_an_outage_the_spool_accepts_spans(tmp_path: Path) -> None:
    with rpc_gate(max_retry_seconds=0.01, spool=tmp_path) as served:
        served.posthog.faults.extend([Answer(503)] * 8)
        assert send(served.target, some_spans(1).SerializeToString()).code is grpc.StatusCode.OK


def test_a_message_beyond_the_budget_is_rejected_for_now() -> None:
    body = gzip.compress(some_spans(2, text="x" * 600_000).SerializeToString())
    with rpc_gate(limits=Limits(body=2 * MIB, in_flight=MIB)) as served:
        sent = send(served.target, body)
        assert (sent.code.name, sent.pause) == ("UNAVAILABLE", 1.0)
        assert "too many bytes" in sent.details
        assert served.gate.request_handler.budget.used == 0


def test_the_bytes_of_a_sender_that_disconnects_are_released_when_the_work_is_done() -> None:
    with rpc_gate() as served:
        served.posthog.delay = 0.5
        with grpc.insecure_channel(served.target) as channel:
            call = channel.unary_unary(EXPORT).future(some_spans(1).SerializeToString())
            until(lambda: served.posthog.requests)
            call.cancel()
            until(lambda: served.gate.request_handler.stats()["requests"] == {("grpc", "CANCELLED"): 1})
            assert served.gate.request_handler.budget.used > 0
            until(lambda: served.gate.request_handler.budget.used == 0)
        assert span_ids(served.posthog) == [1]


def _stalled(over: threading.Event) -> Iterator[bytes]:
    """Yield a message that does not arrive."""
    over.wait(60)
    yield b""


def test_stalled_senders_make_room_for_others() -> None:
    over = threading.Event()
    with rpc_gate() as served, grpc.insecure_channel(served.target) as channel:
        begun = [channel.stream_unary(EXPORT).future(_stalled(over)) for _ in range(READING + 8)]
        # Those beyond the limit are rejected at once.
        until(lambda: sum(call.done() for call in begun) >= 8)
        body = some_spans(1).SerializeToString()
        until(lambda: send(served.target, body).code is grpc.StatusCode.OK)
        over.set()
        assert {call.code().name for call in begun if call.done()} == {"UNAVAILABLE"}


def test_a_message_that_does_not_arrive_in_time_is_rejected_for_now() -> None:
    over = threading.Event()
    with rpc_gate(limits=Limits(body_seconds=0.2)) as served, grpc.insecure_channel(served.target) as channel:
        call = channel.stream_unary(EXPORT).future(_stalled(over))
        assert call.exception(timeout=20).code() is grpc.StatusCode.UNAVAILABLE
        over.set()


def test_a_request_without_a_message_is_rejected() -> None:
    with rpc_gate() as served, grpc.insecure_channel(served.target) as channel:
        call = channel.stream_unary(EXPORT).future(iter(()))
        assert call.exception(timeout=20).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_connections_are_limited() -> None:
    with rpc_gate(limits=Limits(connections=3)) as served:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(served.target, options) for _ in range(5)]
        calls = [channel.unary_unary(EXPORT).future(b"", timeout=5) for channel in channels]
        codes = [call.code().name for call in calls]
        for channel in channels:
            channel.close()
        assert 1 <= codes.count("OK") <= 3
        assert {*codes} == {"OK", "UNAVAILABLE"}


def test_tls_and_client_certificates(files: CertificateFiles) -> None:
    root, body = files.ca.read_bytes(), some_spans(1).SerializeToString()
    known = grpc.ssl_channel_credentials(root, files.key.read_bytes(), files.chain.read_bytes())
    unknown = grpc.ssl_channel_credentials(root)
    with rpc_gate(certificates=Certificates(files.chain, files.key, None)) as served:
        assert send(served.target, body, credentials=unknown).code is grpc.StatusCode.OK
        assert send(served.target, body).code is grpc.StatusCode.UNAVAILABLE
    with rpc_gate(certificates=Certificates(files.chain, files.key, files.ca)) as served:
        assert send(served.target, body, credentials=known).code is grpc.StatusCode.OK
        assert send(served.target, body, credentials=unknown).code is grpc.StatusCode.UNAVAILABLE
        assert span_ids(served.posthog) == [1]


# --- processes ---


def test_a_decompression_bomb_needs_little_memory(start_gateway: StartGateway) -> None:
    gateway = start_gateway("--grpc-port", "0")
    assert send(gateway.grpc_target, some_spans(1).SerializeToString()).code is grpc.StatusCode.OK
    before = _peak(gateway.process.pid)
    gibibyte = gzip.compress(bytes(64 * MIB)) * 16
    sent = send(gateway.grpc_target, gibibyte)
    assert sent.code is grpc.StatusCode.INVALID_ARGUMENT
    assert _peak(gateway.process.pid) - before < 64 * MIB


def _peak(process: int) -> int:
    """Return the peak memory of a process, in bytes."""
    [line] = [
        line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


def test_large_messages_at_once_need_bounded_memory(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        "--grpc-port", "0", "--max-body-bytes", str(24 * MIB), "--max-in-flight-bytes", str(24 * MIB)
    )
    before = _peak(gateway.process.pid)
    large = b"\x12" + b"\x80\x80\x80\x0a" + bytes(20 * MIB)  # an unknown field
    with ThreadPoolExecutor(32) as pool:
        codes = {sent.code.name for sent in pool.map(send, [gateway.grpc_target] * 32, [large] * 32)}
    assert codes <= {"OK", "UNAVAILABLE"}
    assert (
        _peak(gateway.process.pid) - before < 450 * MIB
    )  # it was 800 without the limit: twice the size of all messages


def test_a_gateway_serves_both_protocols_with_the_same_certificates(
    start_gateway: StartGateway, posthog: CaptureServer, files: CertificateFiles
) -> None:
    gateway = start_gateway(
        *("--grpc-port", "0", "--tls-cert", str(files.chain), "--tls-key", str(files.key)),
        *("--client-ca", str(files.ca)),
    )
    known = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.chain.read_bytes()
    )
    sent = send(gateway.grpc_target, some_spans(1).SerializeToString(), credentials=known)
    assert sent.code is grpc.StatusCode.OK
    answer = requests.post(
        f"https://{gateway.host}:{gateway.port}/v1/traces",
        some_spans(1, first=2).SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
        verify=str(files.ca),
        cert=(str(files.chain), str(files.key)),
        timeout=30,
    )
    assert answer.status_code == 200
    assert span_ids(posthog) == [1, 2]
    assert gateway.end(10) == 0  # also with a TLS connection whose client just left
    assert gateway.lines()  # nothing but JSON


def test_a_grpc_port_in_use_ends_the_start_with_one_sentence(start_gateway: StartGateway) -> None:
    first = start_gateway("--grpc-port", "0")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for port in (first.grpc_port, listening.getsockname()[1]):
            done = run_gateway("--port", "0", "--grpc-port", str(port))
            assert done.returncode == 1
            sentence = f"port {port} is in use: choose another with --grpc-port"
            assert done.stderr == f"otel-posthog gateway: {sentence}\n"


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [("uvicorn", (), "gateway"), ("httptools", (), "gateway"), ("grpc", ("--grpc-port", "0"), "grpc")],
)
def test_a_missing_extra_ends_the_start_with_one_sentence(
    missing: str, arguments: tuple[str, ...], extra: str
) -> None:
    done = run_gateway("--port", "0", *arguments, missing=missing)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith(f" not installed: {install_hint(extra)}")


def test_a_request_in_flight_at_sigterm_is_answered(
    start_gateway: StartGateway, posthog: CaptureServer
) -> None:
    gateway = start_gateway("--grpc-port", "0")
    posthog.delay = 1.0
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        call = channel.unary_unary(EXPORT).future(some_spans(3).SerializeToString())
        until(lambda: posthog.requests)
        gateway.send_signal()
        assert call.result(timeout=20) == b""
        assert gateway.end() == 0
    assert span_ids(posthog) == [1, 2, 3]
    assert gateway.lines()[-1]["level"] == "info"


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::1%eth0"),
        ("unix:", "unix"),
    ],
)
def test_the_log_has_the_host_of_a_peer(peer: str, host: str) -> None:
    assert _host_of(peer) == host
