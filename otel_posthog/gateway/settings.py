"""The command line options of `otel-posthog gateway`, and the check that they fit together."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otel_posthog.config.arguments import port
from otel_posthog.gateway.limits import MIB, Limits
from otel_posthog.gateway.project_file import ProjectTable, read_projects

__all__ = ["DEFAULT_PORT", "Settings", "SettingsError", "add_arguments", "settings_of"]

DEFAULT_PORT = 4318
"""The port of OTLP/HTTP."""
TOKEN_VARIABLE = "OTEL_POSTHOG_GATEWAY_TOKEN"  # noqa: S105  # the variable's name
MAX_WINDOW = 10.0
"""Seconds: a Collector waits 30 for an answer, and delivering takes up to 10 of them."""
MIN_TOKEN = 16
"""Characters: a shorter token can be guessed."""


class SettingsError(ValueError):
    """The gateway cannot run with these settings; the text is one sentence that says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a gateway; `add_arguments` has their defaults."""

    host: str
    port: int
    grpc_port: int | None
    """None: gRPC is not served."""
    workers: int
    token: str | None = field(repr=False)
    """The accepted tokens, one a line: several while senders change from one to the next."""
    tls_cert: Path | None
    tls_key: Path | None
    client_ca: Path | None
    """The certificate authority of the senders (mTLS)."""
    trace_window: float
    """Seconds that a call waits for its parent spans, which may arrive in other requests."""
    projects: ProjectTable | None
    """None: one project, named by the environment."""
    shutdown_seconds: float
    """Seconds that requests in flight have to finish after SIGTERM."""
    limits: Limits

    def tls(self) -> ssl.SSLContext | None:
        """Return a server's TLS context, read from the files; None without a certificate.

        Raises:
            SettingsError: the files cannot be used.
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
    """Add the gateway's options; each is a field of `Settings` or of its `Limits`."""
    add = parser.add_argument
    limits = Limits._field_defaults
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: only this machine)")
    add("--port", type=port, default=DEFAULT_PORT, help="OTLP/HTTP port (%(default)s; 0 takes a free one)")
    add("--grpc-port", type=port, metavar="PORT", help="OTLP/gRPC port, usually 4317 (default: no gRPC)")
    add("--workers", type=_count, default=1, metavar="N", help="number of worker processes (%(default)s)")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file of bearer tokens, one a line; senders need one of them (default: from {TOKEN_VARIABLE})",
    )
    add("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM; turns TLS on")
    add("--tls-key", type=Path, metavar="FILE", help="its key, PEM (default: in the file of --tls-cert)")
    add("--client-ca", type=Path, metavar="FILE", help="certificate authority of the senders (mTLS)")
    add(
        "--insecure",
        action="store_true",
        help="listen on addresses that other machines reach, without a token or mTLS",
    )
    add(
        "--trace-window",
        type=_window,
        default=0.0,
        metavar="SECONDS",
        help=f"seconds to hold a request until its parent spans arrive (0 to {MAX_WINDOW:g}), so that user,"
        " feature and chat are inherited across requests (0)",
    )
    add(
        "--projects",
        type=Path,
        metavar="FILE",
        help="TOML file of several PostHog projects: their keys, and how a request names its project",
    )
    add(
        "--shutdown-seconds",
        type=_seconds,
        default=15.0,
        metavar="N",
        help="seconds that requests in flight have to finish after SIGTERM (15)",
    )
    add(
        "--max-body-bytes",
        type=_count,
        default=limits["body"],
        metavar="N",
        help=f"largest request, as sent and inflated ({limits['body'] // MIB} MiB)",
    )
    add(
        "--max-in-flight-bytes",
        type=_count,
        default=limits["in_flight"],
        metavar="N",
        help=f"bytes of all requests in flight in a worker ({limits['in_flight'] // MIB} MiB)",
    )
    add(
        "--max-connections",
        type=_count,
        default=limits["connections"],
        metavar="N",
        help="open connections in a worker (%(default)s)",
    )


def settings_of(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings from parsed arguments and the environment.

    Raises:
        SettingsError: they do not fit together, or a file cannot be used.
    """
    if args.tls_cert is None and (args.tls_key or args.client_ca):
        raise SettingsError("--tls-key and --client-ca need --tls-cert")
    token = _token(args.token_file, environ)
    if not (args.insecure or token or args.client_ca or _is_loopback(args.host)):
        raise SettingsError(
            f"{args.host} can be reached from other machines: require a token (--token-file or the variable"
            f" {TOKEN_VARIABLE}) or client certificates (--client-ca), or pass --insecure if your network"
            " protects it"
        )
    if args.workers > 1 and args.trace_window:
        raise SettingsError(
            "--trace-window needs --workers 1, because workers share no memory: run several gateways behind a"
            " Collector's load-balancing exporter, which keeps traces together"
        )
    if args.max_in_flight_bytes < args.max_body_bytes:
        raise SettingsError("--max-in-flight-bytes must be at least --max-body-bytes")
    settings = Settings(
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
        limits=Limits(args.max_body_bytes, args.max_in_flight_bytes, args.max_connections),
    )
    settings.tls()
    return settings


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
            f"a token must have {MIN_TOKEN} characters or more, ASCII without spaces, one token a line"
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
        raise SettingsError(f"--projects: {file.name}: the file is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"--projects: {file.name}: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"--projects: {file.name}: {error}") from None


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104
    except OSError:
        return False
    return bool(addresses) and all(
        ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _window(text: str) -> float:
    seconds = 0.0 if text.strip("0.") == "" else _seconds(text)
    if seconds > MAX_WINDOW:
        raise argparse.ArgumentTypeError(f"{text} seconds is too long: {MAX_WINDOW:g} at most")
    return seconds


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
