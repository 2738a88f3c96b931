"""The process of a gateway: sockets, workers, signals, and an end that loses nothing."""

from __future__ import annotations

import errno
import functools
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from otel_posthog.assembly import forwarder
from otel_posthog.gateway import logs
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.connections import Connection
from otel_posthog.gateway.intake import Intake
from otel_posthog.gateway.limits import Limits
from otel_posthog.gateway.reception import Reception
from otel_posthog.gateway.settings import Settings, SettingsError

__all__ = ["run"]

THREADS = 16
"""Requests that one worker sends to PostHog side by side."""
THREADS_THAT_WAIT = 128
"""The same where most of them wait for a trace to be complete."""
HEALTH_SECONDS = 30
"""So long a worker that does not answer its parent is taken for busy, not for dead."""

_log = logging.getLogger("otel_posthog.gateway")


def run(settings: Settings, said: Callable[[str, int], object]) -> None:
    """Listen until SIGTERM or SIGINT; then finish what is under way.

    `said` hears the host and port that are listened on.

    Raises:
        SettingsError: there is no project key, or an address cannot be listened on.
    """
    logs.set_up()
    if not forwarder({}).enabled:
        raise SettingsError("there is no PostHog project key: set POSTHOG_API_KEY=phc_...")
    listening = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        functools.partial(_application, settings),
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
    said(*listening.getsockname()[:2])
    # uvicorn gives a signal on when it has finished: for us it was the order to do so.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    if settings.workers == 1:
        server = uvicorn.Server(config)
        server.run([listening])
        started = server.started
    else:
        parent = Multiprocess(config, [listening])
        parent.run()
        started = all(each.exitcode != STARTUP_FAILURE for each in parent.processes)
    if not started:
        raise SettingsError("the gateway could not start: the log says why")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} is in use: choose another with --port") from None
        raise SettingsError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None


def _tls(settings: Settings, _: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = settings.tls()
    if context is None:
        raise SettingsError("there is no certificate")
    return context


def _application(settings: Settings) -> Gateway:
    """The application of one worker."""
    logs.set_up()
    ours = forwarder({}, spool_drops_oldest=False)
    limits = Limits(
        body=settings.max_body_bytes,
        in_flight=settings.max_in_flight_bytes,
        connections=settings.max_connections,
    )
    intake = Intake(ours, window_seconds=settings.trace_window)
    reception = Reception(intake, limits)
    threads = THREADS_THAT_WAIT if settings.trace_window else THREADS
    executor = ThreadPoolExecutor(threads, thread_name_prefix="otel-posthog-gateway")

    def finish() -> None:
        intake.close()
        executor.shutdown(wait=True, cancel_futures=True)
        safe = ours.outbox.close(ours.config.timeout)
        _log.info("ended: %s", "all is delivered or on disk" if safe else "something is not delivered")

    return Gateway(reception, executor, finish=finish, token=settings.token)
