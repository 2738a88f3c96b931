"""One worker process of a gateway: its parts put together, and a shutdown that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvicorn.config import STARTUP_FAILURE

from otel_posthog.forwarder import Forwarder, forwarder
from otel_posthog.gateway import json_log, memory_tuning
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.metrics import SPOOL_FAMILIES, Metrics
from otel_posthog.gateway.project_file import ProjectTable
from otel_posthog.gateway.projects import Projects
from otel_posthog.gateway.request_handler import RequestHandler
from otel_posthog.gateway.settings import Settings, SettingsError
from otel_posthog.gateway.worker_peers import WorkerPeers, merged

if TYPE_CHECKING:  # an extra of its own
    import grpc

__all__ = ["application"]

THREADS = 16
"""Requests that one worker delivers in parallel."""
WINDOW_THREADS = 128
"""Requests with a trace window, most of which wait for their parent spans."""

_log = logging.getLogger("otel_posthog.gateway")


def application(settings: Settings, grpc_address: str | None, peer_directory: Path | None) -> Gateway:
    """Return the application of this worker; without one, exit with the status that ends the gateway.

    `peer_directory` has the sockets over which several workers exchange their metrics.
    """
    memory_tuning.keep_one_heap()
    json_log.set_up()
    _end_with_parent()
    try:
        app = _application(settings, grpc_address, peer_directory)
    except Exception as error:  # noqa: BLE001  # after any other exit status the parent restarts it for ever
        reason = f": {error}" if isinstance(error, SettingsError) else f" ({type(error).__name__})"
        _log.error("the gateway cannot start%s", reason)
        sys.exit(STARTUP_FAILURE)
    memory_tuning.collect_rarely()
    return app


def _application(settings: Settings, grpc_address: str | None, peer_directory: Path | None) -> Gateway:
    metrics = Metrics()
    forwarders = _forwarders(settings.projects)
    ingests = {
        name: ProjectIngest(ours, window_seconds=settings.trace_window, on_duration=metrics.record_duration)
        for name, ours in forwarders.items()
    }
    request_handler = RequestHandler(_projects(ingests, settings.projects), settings.limits)
    threads = WINDOW_THREADS if settings.trace_window else THREADS
    executor = ThreadPoolExecutor(threads, thread_name_prefix="otel-posthog-gateway")

    def finish() -> None:
        request_handler.projects.close()
        executor.shutdown(wait=True, cancel_futures=True)
        safe = _closed(forwarders.values())
        entries = _spool_entries(forwarders.values())
        remainders = [] if safe else ["some events were not delivered"]
        remainders += [f"{entries:,} entries wait in the spool for the next gateway"] if entries else []
        _log.info("stopped: %s", " and ".join(remainders) or "everything that was accepted is delivered")

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        must_stop = asyncio.Event()
        grpc_server = await _grpc_server(settings, grpc_address, request_handler, executor)

        async def stop() -> None:
            await must_stop.wait()
            request_handler.projects.close()
            if grpc_server is not None:
                await grpc_server.stop(settings.shutdown_seconds)

        stopping = asyncio.ensure_future(stop())
        _on_stop_signal(lambda: loop.call_soon_threadsafe(must_stop.set))
        try:
            yield
        finally:
            must_stop.set()
            await stopping
            await loop.run_in_executor(None, finish)

    gateway = Gateway(
        request_handler,
        executor,
        lifespan=lifespan,
        token=settings.token,
        metrics=_metrics_text(metrics, peer_directory, is_alone=settings.workers == 1),
    )
    metrics.watch(request_handler, lambda: gateway.connections)
    return gateway


def _forwarders(table: ProjectTable | None) -> dict[str, Forwarder]:
    """Return a forwarder by project; they share a spool, in which each has its own entries."""
    if table is None:
        return {"": forwarder({}, spool_drops_oldest=False)}
    return {
        name: forwarder({"api_key": key}, spool_drops_oldest=False, project=name)
        for name, key in table.keys.items()
    }


def _projects(ingests: dict[str, ProjectIngest], table: ProjectTable | None) -> Projects:
    if table is None:
        return Projects.only(ingests[""])
    return Projects(
        ingests,
        header=table.header,
        resource_attribute=table.resource_attribute,
        default=table.default,
    )


def _closed(forwarders: Collection[Forwarder]) -> bool:
    """Close all in parallel, and return whether every event is delivered or on disk."""
    with ThreadPoolExecutor(len(forwarders)) as closing:
        return all([*closing.map(lambda each: each.close(each.timeout), forwarders)])


def _spool_entries(forwarders: Collection[Forwarder]) -> int:
    """Return the number of entries in the spool, including those of other processes."""
    by_project = {each.project_id: each for each in forwarders}
    return sum(each.spool_entries() for each in by_project.values())


def _metrics_text(metrics: Metrics, peer_directory: Path | None, *, is_alone: bool) -> Callable[[], str]:
    """Return the function that renders `/metrics`; it includes the other workers if they can be reached."""
    if is_alone:
        return lambda: merged({"0": metrics.text()}, SPOOL_FAMILIES)
    if peer_directory is None:
        return metrics.text
    try:
        peers = WorkerPeers(peer_directory, functools.partial(metrics.text, spool=False))
    except OSError as error:
        _log.warning("/metrics shows one worker at a time: %s", error.strerror or error)
        return metrics.text

    def text() -> str:
        texts = {str(peers.number): metrics.text(), **peers.others()}
        return merged(dict(sorted(texts.items())), SPOOL_FAMILIES)

    return text


async def _grpc_server(
    settings: Settings, address: str | None, request_handler: RequestHandler, executor: ThreadPoolExecutor
) -> grpc.aio.Server | None:
    """Start gRPC at `address`, if there is one."""
    if address is None:
        return None
    from otel_posthog.gateway.grpc_service import Certificates, start_rpc

    chain = settings.tls_cert
    certificates = None
    if chain is not None:
        certificates = Certificates(chain, settings.tls_key or chain, settings.client_ca)
    try:
        return await start_rpc(
            address, request_handler, executor, token=settings.token, certificates=certificates
        )
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"cannot serve gRPC at {address}: {error}") from None


def _on_stop_signal(callback: Callable[[], object]) -> None:
    """Call `callback` at the first SIGTERM or SIGINT, and then the server's own handler."""
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def handle(number: int, frame: Any, previous: Any = previous) -> None:
            signal.signal(number, previous)  # further signals are the server's alone
            callback()
            if callable(previous):
                previous(number, frame)

        signal.signal(number, handle)


def _end_with_parent() -> None:
    """Send this process a SIGTERM when its parent dies."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="otel-posthog-parent", daemon=True).start()
