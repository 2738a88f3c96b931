"""The process of a gateway: sockets, workers, signals."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import logging
import os
import shutil
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from otel_posthog.delivery import destination_of
from otel_posthog.gateway import json_log, memory_tuning
from otel_posthog.gateway.http_protocol import Connection
from otel_posthog.gateway.settings import Settings, SettingsError
from otel_posthog.gateway.startup_checks import delivery_options
from otel_posthog.gateway.worker import application
from otel_posthog.runtime.install_hint import install_hint

__all__ = ["run"]

HEALTH_SECONDS = 30
"""A worker that does not answer its parent for this long is replaced; until then it counts as busy."""

_log = logging.getLogger("otel_posthog.gateway")


def run(settings: Settings, report: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight.

    `report` is called with one sentence for each address that the gateway listens on.

    Raises:
        SettingsError: there is no project key, an option is invalid, or it cannot listen on an address.
    """
    memory_tuning.keep_one_heap()
    json_log.set_up()
    try:
        config = delivery_options(os.environ, needs_key=settings.projects is None)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if settings.projects is not None and config.spool_dir is not None:
        for name, key in settings.projects.keys.items():
            _log.info("project %s is %s in the spool", name, destination_of(key))
    http_socket = _listen(settings.host, settings.port, "--port")
    grpc_socket = None if settings.grpc_port is None else _reserve(settings.host, settings.grpc_port)
    peer_directory = _peer_directory(config.spool_dir) if settings.workers > 1 else None
    uvicorn_config = uvicorn.Config(
        functools.partial(
            application, settings, None if grpc_socket is None else _address(grpc_socket), peer_directory
        ),
        factory=True,
        interface="asgi3",
        lifespan="on",
        http=Connection,
        ws="none",
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=functools.partial(_tls, settings) if settings.tls_cert else None,
        timeout_keep_alive=int(settings.limits.idle_seconds),
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
        timeout_worker_healthcheck=HEALTH_SECONDS,
    )
    report("Listening for OTLP at {}, port {}.".format(*http_socket.getsockname()))
    if grpc_socket is not None:
        report("Listening for OTLP/gRPC at {}, port {}.".format(*grpc_socket.getsockname()))
    # uvicorn raises the signal again after its shutdown, which is all that it asked for: ignore it then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        _serve(settings, uvicorn_config, http_socket, peer_directory)
    finally:
        # Another signal while the interpreter ends would kill it, and the exit status would not be 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def _serve(
    settings: Settings,
    uvicorn_config: uvicorn.Config,
    http_socket: socket.socket,
    peer_directory: Path | None,
) -> None:
    if settings.workers == 1:
        server = uvicorn.Server(uvicorn_config)
        with contextlib.suppress(SystemExit):  # uvicorn exits if it cannot start
            server.run([http_socket])
        started = server.started
    else:
        parent = _WorkerSupervisor(uvicorn_config, [http_socket])
        try:
            parent.run()
        finally:
            if peer_directory is not None:
                shutil.rmtree(peer_directory, ignore_errors=True)
        started = all(each.exitcode != STARTUP_FAILURE for each in parent.processes)
    if not started:
        raise SettingsError("the gateway could not start: see the log")


class _WorkerSupervisor(Multiprocess):
    """uvicorn's supervisor, which also notices at once a worker that dies during a health check."""

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have died."""
        for process in self.processes:
            process.child_conn.close()  # our copy would keep the pipe open after the worker's death
        super().keep_subprocess_alive()


def _peer_directory(spool: Path | None) -> Path | None:
    """Return a new directory for the workers' sockets; None if no directory can be written to."""
    for directory in (None, "/dev/shm", spool):  # noqa: S108  # a new directory is created in it
        try:
            return Path(tempfile.mkdtemp(prefix="otel-posthog-", dir=directory))
        except OSError:  # noqa: PERF203  # a handful
            continue
    _log.warning("/metrics shows one worker at a time: no directory is writable, not even /tmp")
    return None


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} is in use: choose another with {option}") from None
        raise SettingsError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None


def _reserve(host: str, port: int) -> socket.socket:
    """Return a socket that reserves the port while each worker listens on it by itself.

    gRPC does not accept a socket that is already open.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its lines are not JSON, as those of our log are
    if importlib.util.find_spec("grpc") is None:
        raise SettingsError(f"--grpc-port needs grpcio, which is not installed: {install_hint('grpc')}")
    with _listen(host, port, "--grpc-port") as probe:  # fails if any other process has the port
        family, address = probe.family, probe.getsockname()
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(address)
    return reserved


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if bound.family == socket.AF_INET6 else f"{host}:{port}"


def _tls(settings: Settings, _: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = settings.tls()
    if context is None:
        raise SettingsError("TLS needs a certificate: pass --tls-cert")
    return context
