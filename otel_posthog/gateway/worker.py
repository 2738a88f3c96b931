"""One worker of a gateway: its parts put together, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from uvicorn.config import STARTUP_FAILURE

from otel_posthog.assembly import forwarder
from otel_posthog.gateway import logs
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.intake import Intake
from otel_posthog.gateway.limits import Limits
from otel_posthog.gateway.reception import Reception
from otel_posthog.gateway.settings import Settings, SettingsError

__all__ = ["application"]

THREADS = 16
"""Requests that one worker sends to PostHog side by side."""
THREADS_THAT_WAIT = 128
"""The same where most of them wait for a trace to be complete."""

_log = logging.getLogger("otel_posthog.gateway")


def application(settings: Settings, rpc_address: str | None) -> Gateway:
    """The application of this worker; where there is none, the process ends and the gateway with it."""
    logs.set_up()
    _end_with_parent()
    try:
        made = _application(settings, rpc_address)
    except Exception as error:  # noqa: BLE001  # any other exit status would have the parent try for ever
        what = f": {error}" if isinstance(error, SettingsError) else f" ({type(error).__name__})"
        _log.error("the gateway cannot start%s", what)
        sys.exit(STARTUP_FAILURE)
    _spare_the_collector()
    return made


def _spare_the_collector() -> None:
    """Have Python's collector run seldom: a request's spans are many objects and none of them in a cycle.

    With its defaults it walks over them again and again, a third of the time of a large request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _application(settings: Settings, rpc_address: str | None) -> Gateway:
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

    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        try:
            async with _rpc(settings, rpc_address, reception, executor):
                yield
        finally:
            await asyncio.get_running_loop().run_in_executor(None, finish)

    return Gateway(reception, executor, life=life, token=settings.token)


@contextlib.asynccontextmanager
async def _rpc(
    settings: Settings, address: str | None, reception: Reception, executor: ThreadPoolExecutor
) -> AsyncIterator[None]:
    """Serve gRPC, if that is wanted, until the worker is told to end and what is under way is done."""
    if address is None:
        yield
        return
    from otel_posthog.gateway.rpc import Certificates, start_rpc

    chain = settings.tls_cert
    certificates = None
    if chain is not None:
        certificates = Certificates(chain, settings.tls_key or chain, settings.client_ca)
    try:
        server = await start_rpc(
            address, reception, executor, token=settings.token, certificates=certificates
        )
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"cannot serve gRPC at {address}: {error}") from None
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    _when_told(lambda: loop.call_soon_threadsafe(told.set))

    async def stop() -> None:
        await told.wait()
        await server.stop(settings.shutdown_seconds)

    stopping = asyncio.ensure_future(stop())
    try:
        yield
    finally:
        told.set()
        await stopping


def _when_told(do: Callable[[], object]) -> None:
    """Have something done as soon as the process is told to end, beside what the server does then."""
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def told(number: int, frame: Any, before: Any = before) -> None:
            do()
            if callable(before):
                before(number, frame)

        signal.signal(number, told)


def _end_with_parent() -> None:
    """Have this process end as it would be told to when its parent is no more."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="otel-posthog-parent", daemon=True).start()
