"""Gateways as processes, between the senders of a test and a PostHog on loopback."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.delivery.capture_server import CaptureServer, capture_server
from tests.support.paths import ROOT
from tests.support.spans import CHAT, otlp_request, sdk_span
from tests.support.waiting import PATIENCE, until

KEY = "phc_the_key_nobody_may_read"

_LISTENS = re.compile(r"Listening for OTLP(/gRPC)? at (\S+), port (\d+)\.\n")
_STARTED = "Application startup complete."


def some_spans(count: int, *, first: int = 1, **attributes: Any) -> ExportTraceServiceRequest:
    """Return an OTLP request of `count` chats, with span ids from `first` on."""
    spans = (
        sdk_span({**CHAT, **attributes}, span_id=number, parent=False)
        for number in range(first, first + count)
    )
    return otlp_request(*spans)


def span_ids(posthog: CaptureServer) -> list[int]:
    """Return the span ids of all generations that arrived, in order."""
    events = [event for event in posthog.events if event["event"] == "$ai_generation"]
    return sorted(int(event["properties"]["$ai_span_id"], 16) for event in events)


class GatewayProcess:
    """A gateway in a process of its own."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "otel_posthog.cli", "gateway", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.host = ""
        self.port = 0
        self.grpc_port = 0

    @property
    def url(self) -> str:
        """The address for OTLP/HTTP."""
        return f"http://{self.host}:{self.port}"

    @property
    def grpc_target(self) -> str:
        """The address for OTLP/gRPC."""
        return f"{self.host}:{self.grpc_port}"

    def wait_until_it_listens(self, *, workers: int, grpc: bool) -> None:
        """Read the lines with the addresses, and wait for all workers."""
        assert self.process.stdout is not None
        for _ in range(1 + grpc):
            line = self.process.stdout.readline()
            match = _LISTENS.fullmatch(line)
            assert match is not None, line + self.text()
            if match[1]:
                self.grpc_port = int(match[3])
            else:
                self.host, self.port = match[2], int(match[3])
        self.wait_for_line(_STARTED, times=workers)

    def wait_for_line(self, message: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Return the lines of the log with `message`, once there are so many."""

        def enough_lines() -> list[dict[str, Any]] | None:
            assert self.process.poll() is None or len(matching()) >= times, self.text()
            lines = matching()
            return lines if len(lines) >= times else None

        def matching() -> list[dict[str, Any]]:
            return [line for line in self.lines() if message in line["message"]]

        lines: list[dict[str, Any]] = until(enough_lines, f"{times} times {message!r} in the log")
        return lines

    def text(self) -> str:
        """All of standard error."""
        return self._log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log so far, one JSON object a line, without a line that is being written."""
        whole, _, _ = self.text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = PATIENCE) -> int:
        """Send SIGTERM unless it has ended, and return its exit status."""
        if self.process.poll() is None:
            self.send_signal()
        return self.process.wait(seconds)

    def clean_up(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class StartGateway(Protocol):
    """Starts a gateway with arguments of its command line and options of delivery."""

    def __call__(
        self, *arguments: str, key: str = KEY, environ: dict[str, str] | None = None, **options: str
    ) -> GatewayProcess:
        """Return the gateway once it accepts spans."""
        ...


@pytest.fixture
def posthog() -> Iterator[CaptureServer]:
    """Run a PostHog on loopback."""
    with capture_server() as server:
        yield server


def environment(to: str, key: str = KEY, **options: str) -> dict[str, str]:
    """Return the environment of a gateway: its key, AI events only, and the address of PostHog."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "POSTHOG_API_KEY": key,
        "POSTHOG_HOST": to,
        "OTEL_EXPORTER_POSTHOG_EVENTS": "ai",
        **{f"OTEL_EXPORTER_POSTHOG_{name.upper()}": value for name, value in options.items()},
    }


def run_gateway(
    *arguments: str, missing: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a gateway that cannot start, because of `missing`, a module, or its settings."""
    code = "import sys; from otel_posthog.cli import main; sys.exit(main(sys.argv[1:]))"
    if missing is not None:
        code = f"import sys; sys.modules[{missing!r}] = None; {code}"
    return subprocess.run(
        [sys.executable, "-c", code, "gateway", *arguments],
        env={**environment("http://127.0.0.1:9"), **environ},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


class CertificateFiles(NamedTuple):
    """PEM files of a certificate for server and client, and of the authority `ca` that signed it."""

    chain: Path
    key: Path
    ca: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """Return the files of a server and a client at 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("certificates"), ec.SECP256R1())


def make_certificate(directory: Path, curve: ec.EllipticCurve) -> CertificateFiles:
    """Create a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a gateway of a test")])
    now = datetime.now(timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = directory / "chain.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return CertificateFiles(chain, directory / "key.pem", chain)


@pytest.fixture
def start_gateway(posthog: CaptureServer, tmp_path: Path) -> Iterator[StartGateway]:
    """Return a function that starts gateways at free ports; they are killed at the end of the test."""
    started: list[GatewayProcess] = []

    def start(
        *arguments: str, key: str = KEY, environ: dict[str, str] | None = None, **options: str
    ) -> GatewayProcess:
        gateway = GatewayProcess(
            ("--port", "0", *arguments),
            {**environment(posthog.url, key, **options), **(environ or {})},
            tmp_path / f"gateway-{len(started)}.log",
        )
        started.append(gateway)
        workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
        gateway.wait_until_it_listens(workers=workers, grpc="--grpc-port" in arguments)
        return gateway

    yield start
    for gateway in started:
        gateway.clean_up()
