"""The real Collector and rotel as processes on loopback, with backends and senders for them."""

from __future__ import annotations

import gzip
import importlib.util
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from typing_extensions import Self

from tests.support.waiting import PATIENCE, free_ports, until

__all__ = [
    "CONFIGS",
    "ROOT",
    "AcceptedRequest",
    "Backend",
    "GrpcBackend",
    "MissingCollectorError",
    "Program",
    "attributes_of",
    "binary",
    "collector",
    "free_ports",
    "rotel",
    "rotel_agent",
    "send",
    "until",
]

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "collector-config"
_GIVEN = os.environ.get("OTEL_POSTHOG_COLLECTOR")  # read now: tests run with no such variables


class MissingCollectorError(Exception):
    """There is no Collector on this machine; the text says how to install one."""


def binary() -> Path:
    """Return the path of the Collector: from the environment, or as built."""
    if _GIVEN:
        path = Path(_GIVEN)
    else:
        build = ROOT / ".ci" / "collector" / "build"
        output = subprocess.run([build, "--path"], capture_output=True, text=True, check=True).stdout
        path = Path(output.strip())
    if not os.access(path, os.X_OK):
        raise MissingCollectorError(
            "no OpenTelemetry Collector here: .ci/collector/build makes one (with Go 1.25, in some minutes),"
            " or OTEL_POSTHOG_COLLECTOR names one"
        )
    return path


def rotel_agent() -> Path:
    """Return the path of the installed rotel."""
    module = importlib.util.find_spec("rotel")
    if module is None or module.origin is None:
        raise MissingCollectorError("no rotel here: PyPI has it for Linux on x86-64 up to Python 3.13")
    return Path(module.origin).parent / "rotel-agent"


def answers(port: int) -> bool:
    """Whether a process listens at the port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Program:
    """A process that listens, and can be killed and started again with the same arguments."""

    def __init__(self, words: Sequence[object], environ: Mapping[str, str], port: int, log: Path) -> None:
        self._words = [str(word) for word in words]
        self._environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environ}
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """Everything that it wrote."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start, and wait until it listens."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._words, env=self._environ, stdout=log, stderr=log)
        self._process = process
        until(lambda: process.poll() is not None or answers(self.port), f"{self._words[0]} listens")
        assert process.poll() is None, self.output[-4000:]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def kill(self) -> None:
        """Kill it."""
        self.end(signal.SIGKILL)

    def clean_up(self) -> None:
        """Kill it if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


@contextmanager
def _run(program: Program) -> Iterator[Program]:
    program.start()
    try:
        yield program
    finally:
        program.clean_up()


@contextmanager
def collector(place: Path, config: str, **environ: str) -> Iterator[Program]:
    """Run the real Collector with a file of `collector-config/`; `url` is its address for OTLP over HTTP."""
    http, grpc_port, health, metrics = free_ports(4)
    program = Program(
        [binary(), "--config", CONFIGS / config],
        {
            "COLLECTOR_HTTP": f"127.0.0.1:{http}",
            "COLLECTOR_GRPC": f"127.0.0.1:{grpc_port}",
            "COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "COLLECTOR_METRICS_PORT": str(metrics),
            "COLLECTOR_STORAGE": str(place / "storage"),
            "RETRY_FIRST": "200ms",
            "RETRY_MOST": "1s",
            **environ,
        },
        # The port that opens last: receivers start after all else. A Kafka consumer receives no OTLP.
        metrics if config == "kafka-consumer.yaml" else http,
        place / "collector.log",
    )
    with _run(program):
        yield program


@contextmanager
def rotel(place: Path, to: str, token: str = "") -> Iterator[Program]:
    """Run the other Collector, which sends to the base address `to`."""
    http, grpc_port = free_ports(2)
    program = Program(
        [
            rotel_agent(), "start",
            "--pid-file", place / "rotel.pid", "--log-file", place / "rotel-agent.log",
            "--otlp-http-endpoint", f"127.0.0.1:{http}",
            "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}",
            "--exporter", "otlp",
            "--otlp-exporter-protocol", "http",
            "--otlp-exporter-endpoint", to,
            "--otlp-exporter-retry-initial-backoff", "200ms",
            "--otlp-exporter-retry-max-backoff", "1s",
            # Longer than a gateway waits for PostHog.
            "--otlp-exporter-request-timeout", "30s",
            "--otlp-exporter-custom-headers", f"authorization=Bearer {token}",
        ],
        {},
        http,
        place / "rotel.log",
    )  # fmt: skip
    with _run(program):
        yield program


class AcceptedRequest(NamedTuple):
    """A request that a backend accepted."""

    path: str
    headers: dict[str, str]
    spans: list[Span]


class Backend(ThreadingHTTPServer):
    """Accepts OTLP over HTTP, or answers `status` if that is not 200."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.accepted: list[AcceptedRequest] = []
        self.status = 200
        self.rejected = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Span]:
        """All spans that arrived."""
        return [span for request in list(self.accepted) for span in request.spans]

    @property
    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status = self.server.status
        if status == 200:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.accepted.append(
                AcceptedRequest(self.path, headers, spans_of(ExportTraceServiceRequest.FromString(body)))
            )
        else:
            self.server.rejected += 1
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


class GrpcBackend(trace_service_pb2_grpc.TraceServiceServicer):
    """Accepts OTLP over gRPC."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Span] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802 - gRPC's name
        self.spans += spans_of(request)
        return ExportTraceServiceResponse()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """Return all spans of a request."""
    return [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


def attributes_of(span: Span) -> dict[str, Any]:
    """Return the scalar attributes of a span."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value")
        for each in span.attributes
    }


def send(to: Program, spans: Iterable[ReadableSpan]) -> None:
    """Send spans in one request with the real exporter, and check that it succeeds."""
    exporter = OTLPSpanExporter(endpoint=f"{to.url}/v1/traces")
    try:
        assert exporter.export(list(spans)) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
