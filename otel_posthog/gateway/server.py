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
from otel_posthog.gateway.limits import Limits
from otel_posthog.gateway.settings import Settings, SettingsError
from otel_posthog.gateway.startup_checks import delivery_options
from otel_posthog.gateway.worker import application
from otel_posthog.runtime.install_hint import install_hint

__all__ = ["run"]

HEALTH_SECONDS = 30
"""So long a worker that does not answer its parent is taken for busy, not for dead."""

_log = logging.getLogger("otel_posthog.gateway")


def run(settings: Settings, said: Callable[[str], object]) -> None:
    """Listen until SIGTERM or SIGINT; then finish what is under way.

    `said` hears what is listened on.

    Raises:
        SettingsError: there is no project key, an option is wrong, or an address cannot be listened on.
    """
    memory_tuning.keep_one_heap()
    json_log.set_up()
    try:
        told = delivery_options(os.environ, needs_key=settings.projects is None)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if settings.projects is not None and told.spool_dir is not None:
        for name, key in settings.projects.keys.items():
            _log.info("project %s stands in the spool as %s", name, destination_of(key))
    listening = _listen(settings.host, settings.port, "--port")
    rpc = None if settings.grpc_port is None else _reserve(settings.host, settings.grpc_port)
    peer_directory = _peer_directory(told.spool_dir) if settings.workers > 1 else None
    uvicorn_config = uvicorn.Config(
        functools.partial(application, settings, None if rpc is None else _address(rpc), peer_directory),
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
        timeout_keep_alive=int(Limits().idle_seconds),
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
        timeout_worker_healthcheck=HEALTH_SECONDS,
    )
    said("Listening for OTLP at {}, port {}.".format(*listening.getsockname()))
    if rpc is not None:
        said("Listening for OTLP/gRPC at {}, port {}.".format(*rpc.getsockname()))
    # uvicorn gives a signal on when it has finished: for us it was the order to do so.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        _serve(settings, uvicorn_config, listening, peer_directory)
    finally:
        # One more, while the interpreter ends, would have it die of the signal and not exit with 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def _serve(
    settings: Settings, uvicorn_config: uvicorn.Config, listening: socket.socket, peer_directory: Path | None
) -> None:
    if settings.workers == 1:
        server = uvicorn.Server(uvicorn_config)
        with contextlib.suppress(SystemExit):  # so it ends where it cannot start
            server.run([listening])
        started = server.started
    else:
        parent = _WorkerSupervisor(uvicorn_config, [listening])
        try:
            parent.run()
        finally:
            if peer_directory is not None:
                shutil.rmtree(peer_directory, ignore_errors=True)
        started = all(each.exitcode != STARTUP_FAILURE for each in parent.processes)
    if not started:
        raise SettingsError("the gateway could not start: the log says why")


class _WorkerSupervisor(Multiprocess):
    """As uvicorn's, but a worker that dies while it is asked whether it lives is noticed at once."""

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are no more."""
        for process in self.processes:
            process.child_conn.close()  # while we hold it as well, its other end never ends
        super().keep_subprocess_alive()


def _peer_directory(spool: Path | None) -> Path | None:
    """A directory of our own where workers find each other; None where nothing can be written."""
    for directory in (None, "/dev/shm", spool):  # noqa: S108  # a directory of our own in it
        try:
            return Path(tempfile.mkdtemp(prefix="otel-posthog-", dir=directory))
        except OSError:  # noqa: PERF203  # a handful
            continue
    _log.warning("/metrics shows one worker at a time: no directory can be written to, not even /tmp")
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
    """A port that is ours for as long as this socket is; the workers, each by itself, listen on it.

    Sockets cannot be given to gRPC.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its lines would stand between those of our log
    if importlib.util.find_spec("grpc") is None:
        raise SettingsError(f"--grpc-port needs grpcio, which is not installed: {install_hint('grpc')}")
    with _listen(host, port, "--grpc-port") as alone:
        family, address = alone.family, alone.getsockname()
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(address)
    return found


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if bound.family == socket.AF_INET6 else f"{host}:{port}"


def _tls(settings: Settings, _: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = settings.tls()
    if context is None:
        raise SettingsError("there is no certificate")
    return context
