"""Gateways as processes of their own, between senders of a test and a PostHog on loopback."""

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
    """An OTLP request of so many chats, with span ids from `first` on."""
    spans = (
        sdk_span({**CHAT, **attributes}, span_id=number, parent=False)
        for number in range(first, first + count)
    )
    return otlp_request(*spans)


def span_ids(posthog: CaptureServer) -> list[int]:
    """Of all generations that arrived, in order."""
    events = [event for event in posthog.events if event["event"] == "$ai_generation"]
    return sorted(int(event["properties"]["$ai_span_id"], 16) for event in events)


class GatewayProcess:
    """A gateway that runs, or did."""

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
        """Where it takes OTLP/HTTP."""
        return f"http://{self.host}:{self.port}"

    @property
    def grpc_target(self) -> str:
        """Where it takes OTLP/gRPC."""
        return f"{self.host}:{self.grpc_port}"

    def wait_until_it_listens(self, *, workers: int, grpc: bool) -> None:
        """Read the lines that say where, and wait for all workers."""
        assert self.process.stdout is not None
        for _ in range(1 + grpc):
            line = self.process.stdout.readline()
            found = _LISTENS.fullmatch(line)
            assert found is not None, line + self.text()
            if found[1]:
                self.grpc_port = int(found[3])
            else:
                self.host, self.port = found[2], int(found[3])
        self.wait_for_line(_STARTED, times=workers)

    def wait_for_line(self, message: str, *, times: int = 1) -> list[dict[str, Any]]:
        """Those lines of the log whose message has this in it, once there are so many."""

        def found() -> list[dict[str, Any]] | None:
            assert self.process.poll() is None or len(matching()) >= times, self.text()
            lines = matching()
            return lines if len(lines) >= times else None

        def matching() -> list[dict[str, Any]]:
            return [line for line in self.lines() if message in line["message"]]

        lines: list[dict[str, Any]] = until(found, f"{times} times {message!r} in the log")
        return lines

    def text(self) -> str:
        """All of standard error."""
        return self._log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The log so far: each line is one JSON object; one that is being written is left out."""
        whole, _, _ = self.text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = PATIENCE) -> int:
        """Tell it to end, if nobody did, and return its exit status."""
        if self.process.poll() is None:
            self.tell()
        return self.process.wait(seconds)

    def clean_up(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class StartGateway(Protocol):
    """Starts a gateway with these arguments of the command line; options are those of delivery."""

    def __call__(
        self, *arguments: str, key: str = KEY, environ: dict[str, str] | None = None, **options: str
    ) -> GatewayProcess:
        """Return it once it takes spans."""
        ...


@pytest.fixture
def posthog() -> Iterator[CaptureServer]:
    """A PostHog on loopback that got nothing yet."""
    with capture_server() as server:
        yield server


def environment(to: str, key: str = KEY, **options: str) -> dict[str, str]:
    """What a gateway of a test is told: AI events only, and where they go."""
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
    """Run a gateway that cannot start, for want of a module or what it is told."""
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
    """PEM files of one who is trusted by those who trust `ca`, as server and as client."""

    chain: Path
    key: Path
    ca: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """Those of a server and a client at 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("certificates"), ec.SECP256R1())


def make_certificate(directory: Path, curve: ec.EllipticCurve) -> CertificateFiles:
    """A certificate for 127.0.0.1, which vouches for itself."""
    key = ec.generate_private_key(curve)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a gateway of a test")])
    now = datetime.now(timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = directory / "chain.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
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
    """Starts gateways that send to `posthog`, at free ports; they are killed at the end of the test."""
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
