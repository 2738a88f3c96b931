"""One worker of a gateway: its parts put together, and an end that loses nothing."""

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

from otel_posthog.forwarder.forwarder import Forwarder, forwarder
from otel_posthog.gateway import json_log, memory_tuning
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.limits import Limits
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
"""Requests that one worker sends to PostHog side by side."""
THREADS_THAT_WAIT = 128
"""The same where most of them wait for a trace to be complete."""

_log = logging.getLogger("otel_posthog.gateway")


def application(settings: Settings, rpc_address: str | None, peer_directory: Path | None) -> Gateway:
    """The application of this worker; `peer_directory` is a directory where several find each other.

    Where there is no application, the process ends and the gateway with it.
    """
    memory_tuning.keep_one_heap()
    json_log.set_up()
    _end_with_parent()
    try:
        made = _application(settings, rpc_address, peer_directory)
    except Exception as error:  # noqa: BLE001  # any other exit status would have the parent try for ever
        what = f": {error}" if isinstance(error, SettingsError) else f" ({type(error).__name__})"
        _log.error("the gateway cannot start%s", what)
        sys.exit(STARTUP_FAILURE)
    memory_tuning.look_for_cycles_seldom()
    return made


def _application(settings: Settings, rpc_address: str | None, peer_directory: Path | None) -> Gateway:
    limits = Limits(
        body=settings.max_body_bytes,
        in_flight=settings.max_in_flight_bytes,
        connections=settings.max_connections,
    )
    metrics = Metrics()
    forwarders = _forwarders(settings.projects)
    ingests = {
        name: ProjectIngest(ours, window_seconds=settings.trace_window, took=metrics.took)
        for name, ours in forwarders.items()
    }
    request_handler = RequestHandler(_projects(ingests, settings.projects), limits)
    threads = THREADS_THAT_WAIT if settings.trace_window else THREADS
    executor = ThreadPoolExecutor(threads, thread_name_prefix="otel-posthog-gateway")

    def finish() -> None:
        request_handler.projects.close()
        executor.shutdown(wait=True, cancel_futures=True)
        safe = _closed(forwarders.values())
        waiting = _waiting(forwarders.values())
        found = [] if safe else ["something is not delivered"]
        found += [f"{waiting:,} entries wait in the spool for a gateway to start"] if waiting else []
        _log.info("ended: %s", ", and ".join(found) or "nothing that was accepted is left")

    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        rpc = await _rpc(settings, rpc_address, request_handler, executor)

        async def end() -> None:
            await told.wait()
            request_handler.projects.close()
            if rpc is not None:
                await rpc.stop(settings.shutdown_seconds)

        ending = asyncio.ensure_future(end())
        _when_told(lambda: loop.call_soon_threadsafe(told.set))
        try:
            yield
        finally:
            told.set()
            await ending
            await loop.run_in_executor(None, finish)

    gateway = Gateway(
        request_handler,
        executor,
        life=life,
        token=settings.token,
        metrics=_metrics_text(metrics, peer_directory, is_alone=settings.workers == 1),
    )
    metrics.watch(request_handler, lambda: gateway.connections)
    return gateway


def _forwarders(table: ProjectTable | None) -> dict[str, Forwarder]:
    """A forwarder for each project; all have the same spool, where each has its own entries."""
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
    """Close all, side by side; whether everything is safe."""
    with ThreadPoolExecutor(len(forwarders)) as closing:
        return all([*closing.map(lambda each: each.outbox.close(each.config.timeout), forwarders)])


def _waiting(forwarders: Collection[Forwarder]) -> int:
    """How many entries are in the spool, whoever wrote them."""
    found = 0
    for backlog in {each.config.api_key: each.backlog for each in forwarders}.values():
        found += backlog.stats().get("entries", 0)
        backlog.close()
    return found


def _metrics_text(metrics: Metrics, peer_directory: Path | None, *, is_alone: bool) -> Callable[[], str]:
    """What says all numbers, those of other workers as well; where those cannot meet none has a number."""
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


async def _rpc(
    settings: Settings, address: str | None, request_handler: RequestHandler, executor: ThreadPoolExecutor
) -> grpc.aio.Server | None:
    """The server of gRPC, if that is wanted."""
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


def _when_told(do: Callable[[], object]) -> None:
    """Have something done as soon as the process is told to end, beside what the server does then."""
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def told(number: int, frame: Any, before: Any = before) -> None:
            signal.signal(number, before)  # once is enough, however many follow
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
