"""What a gateway is told on its command line, and what of that cannot work."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otel_posthog.gateway.project_file import ProjectTable, read_projects

__all__ = ["DEFAULT_PORT", "Settings", "SettingsError", "add_arguments", "settings_of"]

DEFAULT_PORT = 4318
"""OTLP/HTTP's."""
TOKEN_VARIABLE = "OTEL_POSTHOG_GATEWAY_TOKEN"  # noqa: S105  # the name of one
MAX_WINDOW = 10.0
"""Seconds: a Collector waits 30 for an answer, and delivering takes up to 10 of them."""
MIN_TOKEN = 16
"""Characters: a token of less is guessed."""


class SettingsError(ValueError):
    """The gateway cannot run so; the text is one sentence that says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where a gateway listens, and to whom."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    grpc_port: int | None = None
    workers: int = 1
    token: str | None = field(default=None, repr=False)
    """One, or several, one a line: while senders go from one to the next."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    """Certificates of who may send (mTLS)."""
    trace_window: float = 0.0
    """Seconds that a call waits for the spans above it, which may come in other requests."""
    projects: ProjectTable | None = None
    """None: one project, as the environment says."""
    shutdown_seconds: float = 15.0
    """For what is under way when the process is told to end."""
    max_body_bytes: int = 64 * 1024 * 1024
    max_in_flight_bytes: int = 128 * 1024 * 1024
    max_connections: int = 2048

    def tls(self) -> ssl.SSLContext | None:
        """What TLS needs, read from the files.

        Raises:
            SettingsError: they cannot be used.
        """
        if self.tls_cert is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"the certificates of --tls-cert, --tls-key, --client-ca cannot be used: {error}"
            ) from None
        return context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the gateway's options; each is a field of `Settings`."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    add("--port", type=_port, default=DEFAULT_PORT, help="OTLP/HTTP port (%(default)s; 0 takes a free one)")
    add("--grpc-port", type=_port, metavar="PORT", help="OTLP/gRPC port, usually 4317 (not listened on)")
    add("--workers", type=_count, default=1, metavar="N", help="processes (%(default)s)")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"a file of bearer tokens, one a line; senders must have one of them (or {TOKEN_VARIABLE})",
    )
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM: listen with TLS")
    add("--tls-key", type=Path, metavar="FILE", help="its key, PEM (in the file of --tls-cert)")
    add("--client-ca", type=Path, metavar="FILE", help="senders must have a certificate of this one (mTLS)")
    add("--insecure", action="store_true", help="listen beyond this machine with neither token nor mTLS")
    add(
        "--trace-window",
        type=_window,
        default=0.0,
        metavar="SECONDS",
        help=f"so long a request with calls waits for the spans above them (0, at most {MAX_WINDOW:g}):"
        " user, feature and chat of a span reach calls that were sent in other requests",
    )
    add(
        "--projects",
        type=Path,
        metavar="FILE",
        help="several PostHog projects: a TOML file of keys, and of where a request names its project",
    )
    add("--shutdown-seconds", type=_seconds, default=15.0, metavar="N", help="for requests at SIGTERM (15)")
    add(
        "--max-body-bytes",
        type=_count,
        default=64 << 20,
        metavar="N",
        help="of one request, inflated (64 MiB)",
    )
    add(
        "--max-in-flight-bytes", type=_count, default=128 << 20, metavar="N", help="of all requests (128 MiB)"
    )
    add("--max-connections", type=_count, default=2048, metavar="N", help="at a time (%(default)s)")


def settings_of(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that arguments and the environment give.

    Raises:
        SettingsError: they do not go together.
    """
    if args.tls_cert is None and (args.tls_key or args.client_ca):
        raise SettingsError("--tls-key and --client-ca need --tls-cert")
    token = _token(args.token_file, environ)
    if not (args.insecure or token or args.client_ca or _is_loopback(args.host)):
        raise SettingsError(
            f"{args.host} can be reached from other machines: ask for a token (--token-file or the variable"
            f" {TOKEN_VARIABLE}) or for certificates (--client-ca), or say --insecure if a network of yours"
            " protects it"
        )
    if args.workers > 1 and args.trace_window:
        raise SettingsError(
            "--trace-window needs --workers 1, since workers share no memory: run several gateways behind a"
            " Collector's load-balancing exporter, which keeps traces together"
        )
    if args.max_in_flight_bytes < args.max_body_bytes:
        raise SettingsError("--max-in-flight-bytes must be at least --max-body-bytes")
    found = Settings(
        host=args.host,
        port=args.port,
        grpc_port=args.grpc_port,
        workers=args.workers,
        token=token,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        client_ca=args.client_ca,
        trace_window=args.trace_window,
        projects=_projects(args.projects),
        shutdown_seconds=args.shutdown_seconds,
        max_body_bytes=args.max_body_bytes,
        max_in_flight_bytes=args.max_in_flight_bytes,
        max_connections=args.max_connections,
    )
    found.tls()
    return found


def _token(file: Path | None, environ: Mapping[str, str]) -> str | None:
    try:
        token = environ.get(TOKEN_VARIABLE, "") if file is None else file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError(f"--token-file cannot be read: {error}") from None
    tokens = [line.strip() for line in token.splitlines() if line.strip()]
    if not tokens and file is None:
        return None
    if not tokens or not all(_is_token(each) for each in tokens):
        raise SettingsError(
            f"a token must have {MIN_TOKEN} characters or more, ASCII without spaces; one a line"
        )
    return "\n".join(tokens)


def _is_token(text: str) -> bool:
    return len(text) >= MIN_TOKEN and text.isascii() and text.isprintable() and " " not in text


def _projects(file: Path | None) -> ProjectTable | None:
    if file is None:
        return None
    try:
        return read_projects(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"--projects: {file.name}: it is no text in UTF-8") from None
    except OSError as error:
        raise SettingsError(f"--projects: {file.name}: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"--projects: {file.name}: {error}") from None


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535 is expected")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _window(text: str) -> float:
    found = 0.0 if text.strip("0.") == "" else _seconds(text)
    if found > MAX_WINDOW:
        raise argparse.ArgumentTypeError(f"{text} seconds are too long: {MAX_WINDOW:g} at most")
    return found


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return found
