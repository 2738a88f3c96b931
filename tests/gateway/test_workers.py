"""Gateways of several processes: their shutdown, and the death of some of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import requests
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from uvicorn.supervisors import multiprocess
from uvicorn.supervisors.multiprocess import Process

from otel_posthog.gateway.grpc_service import EXPORT
from otel_posthog.gateway.server import _WorkerSupervisor
from tests.delivery.capture_server import Answer, CaptureServer
from tests.gateway.conftest import (
    KEY,
    CertificateFiles,
    GatewayProcess,
    StartGateway,
    environment,
    make_certificate,
    run_gateway,
    some_spans,
    span_ids,
)
from tests.support.waiting import PATIENCE, until

PROTOBUF = {"Content-Type": "application/x-protobuf"}
_STARTED = re.compile(r"Started server process \[(\d+)\]")


def workers_of(gateway: GatewayProcess) -> list[int]:
    """Return the process ids of all workers that were started."""
    matches = (_STARTED.fullmatch(line["message"]) for line in gateway.lines())
    return [int(match[1]) for match in matches if match]


def runs(process: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send(gateway: GatewayProcess, first: int, count: int = 1) -> int:
    """Send spans on a new connection, and return the status, or 0 without an answer."""
    body = some_spans(count, first=first).SerializeToString()
    try:
        return requests.post(f"{gateway.url}/v1/traces", body, headers=PROTOBUF, timeout=30).status_code
    except requests.ConnectionError:
        return 0


def send_rpc(gateway: GatewayProcess, first: int) -> grpc.StatusCode:
    """Send a span over gRPC on a new connection, and return the status."""
    with grpc.insecure_channel(gateway.grpc_target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        body = some_spans(1, first=first).SerializeToString()
        call = channel.unary_unary(EXPORT).future(body, timeout=30, wait_for_ready=True)
        code: grpc.StatusCode = call.code()
        return code


def test_at_sigterm_all_workers_answer_the_requests_in_flight(
    start_gateway: StartGateway, posthog: CaptureServer
) -> None:
    gateway = start_gateway("--workers", "2", "--grpc-port", "0")
    posthog.delay = 1.0
    with ThreadPoolExecutor(16) as pool:
        http = [pool.submit(send, gateway, number) for number in range(1, 9)]
        rpc = [pool.submit(send_rpc, gateway, number) for number in range(9, 17)]
        until(lambda: len(posthog.requests) == 16, "all requests are in flight")
        gateway.send_signal()
        assert {each.result() for each in http} == {200}
        assert {each.result() for each in rpc} == {grpc.StatusCode.OK}
    assert gateway.end() == 0
    assert span_ids(posthog) == [*range(1, 17)]
    workers = workers_of(gateway)
    assert len(workers) == 2
    assert not any(runs(worker) for worker in workers)
    assert len(gateway.wait_for_line("stopped: everything that was accepted is delivered", times=2)) == 2
    assert [line for line in gateway.lines() if line["level"] != "info"] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_it_exits_with_0_however_many_signals_arrive(start_gateway: StartGateway, workers: int) -> None:
    gateway = start_gateway("--workers", str(workers))
    for _ in range(20_000):  # 40 s
        gateway.send_signal()
        with contextlib.suppress(subprocess.TimeoutExpired):
            gateway.process.wait(0.002)
            break
    assert gateway.end() == 0
    gateway.wait_for_line("stopped: everything that was accepted is delivered", times=workers)


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param((signal.SIGTERM,), id="after --shutdown-seconds"),
        pytest.param((signal.SIGINT, signal.SIGINT), id="at a second Ctrl-C"),
    ],
)
def test_requests_that_do_not_finish_in_time_are_rejected_for_now(
    start_gateway: StartGateway, posthog: CaptureServer, signals: tuple[signal.Signals, ...]
) -> None:
    gateway = start_gateway("--shutdown-seconds", "1", "--grpc-port", "0")
    posthog.delay = 3.0
    with ThreadPoolExecutor(2) as pool:
        http, rpc = pool.submit(send, gateway, 1), pool.submit(send_rpc, gateway, 2)
        until(lambda: len(posthog.requests) == 2, "both requests are in flight")
        for number in signals:
            gateway.send_signal(number)
            gateway.wait_for_line("Shutting down")
        assert http.result() == 503
        assert rpc.result() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert gateway.end() == 0


def test_a_worker_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(
    start_gateway: StartGateway, posthog: CaptureServer, tmp_path: Path
) -> None:
    spool = str(tmp_path / "spool")
    gateway = start_gateway("--workers", "2", "--grpc-port", "0", spool_dir=spool, timeout="1")
    posthog.faults.extend([Answer(503)] * 10_000)
    acknowledged: list[int] = []
    for first in range(1, 41):
        if first == 20:
            os.kill(workers_of(gateway)[0], signal.SIGKILL)
        if send(gateway, first) == 200 if first % 2 else send_rpc(gateway, first) is grpc.StatusCode.OK:
            acknowledged.append(first)
    assert len(acknowledged) >= 38  # without at most those of the killed worker
    gateway.wait_for_line("Application startup complete.", times=3)
    assert gateway.end() == 0
    posthog.faults.clear()
    start_gateway(spool_dir=spool)
    until(lambda: {*acknowledged} <= {*span_ids(posthog)}, "the acknowledged spans arrive")


class DiesInHealthCheck(Process):
    """A worker that reads the health check, and exits without an answer."""

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        self.child_conn.recv()


def test_a_worker_that_dies_during_a_health_check_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(multiprocess, "Process", DiesInHealthCheck)
    parent = _WorkerSupervisor(uvicorn.Config("nothing:here", workers=1, timeout_worker_healthcheck=3600), [])
    parent.init_processes()
    [first] = parent.processes
    check = threading.Thread(target=parent.keep_subprocess_alive, daemon=True)
    check.start()
    check.join(PATIENCE)
    parent.should_exit.set()
    [second] = parent.processes
    second.kill()
    assert second is not first


def test_workers_end_when_their_parent_is_killed(start_gateway: StartGateway, posthog: CaptureServer) -> None:
    gateway = start_gateway("--workers", "2", "--grpc-port", "0")
    workers = workers_of(gateway)
    assert all(runs(worker) for worker in workers)
    posthog.delay = 1.0
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(send, gateway, 1)
        until(lambda: posthog.requests, "a request is in flight")
        gateway.send_signal(signal.SIGKILL)
        assert in_flight.result() == 200
    until(lambda: not any(runs(worker) for worker in workers), "the workers end")
    assert len(gateway.wait_for_line("stopped: everything that was accepted is delivered", times=2)) == 2


def test_the_last_line_of_the_log_counts_the_entries_in_the_spool(
    start_gateway: StartGateway, posthog: CaptureServer, tmp_path: Path
) -> None:
    spool = str(tmp_path / "spool")
    posthog.faults.append(Answer(401))
    gateway = start_gateway(spool_dir=spool)
    assert send(gateway, 1, count=3) == 200
    assert gateway.end() == 0
    gateway.wait_for_line("stopped: 3 entries wait in the spool for the next gateway")
    gateway = start_gateway(spool_dir=spool)
    until(lambda: span_ids(posthog) == [1, 2, 3], "the events in the spool arrive")
    assert gateway.end() == 0
    gateway.wait_for_line("stopped: everything that was accepted is delivered")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_cannot_start_ends_the_gateway_with_one_sentence(tmp_path: Path, workers: str) -> None:
    # OpenSSL knows this curve, gRPC does not
    files: CertificateFiles = make_certificate(tmp_path, ec.SECP256K1())
    done = run_gateway(
        *("--port", "0", "--grpc-port", "0", "--workers", workers),
        *("--tls-cert", str(files.chain), "--tls-key", str(files.key)),
    )
    assert done.returncode == 1
    *log, last = done.stderr.splitlines()
    assert last == "otel-posthog gateway: the gateway could not start: see the log"
    assert any("the gateway cannot start: cannot serve gRPC at 127.0.0.1:" in line for line in log)
    assert "Traceback" not in done.stderr


def test_the_log_is_json_and_holds_no_key_no_token_and_no_prompt(
    start_gateway: StartGateway, posthog: CaptureServer
) -> None:
    token, prompt = "a-token-nobody-may-read", "a prompt that nobody may read"
    gateway = start_gateway(
        "--workers", "2", "--grpc-port", "0", environ={"OTEL_POSTHOG_GATEWAY_TOKEN": token}
    )
    posthog.is_poison = lambda event: event["properties"]["$ai_span_id"].endswith("2")
    url, bearer = f"{gateway.url}/v1/traces", {"Authorization": f"Bearer {token}"}

    def post(body: bytes, kind: str, **headers: str) -> int:
        all_headers = {"Content-Type": kind, **bearer, **headers}
        return requests.post(url, body, headers=all_headers, timeout=30).status_code

    spans = some_spans(3, text=prompt)
    spans.resource_spans[2].scope_spans[0].spans[0].span_id = b""
    assert post(spans.SerializeToString(), "application/x-protobuf") == 200
    assert post(prompt.encode(), "application/x-protobuf") == 400
    assert post(prompt.encode(), "application/json") == 400
    assert post(f'{{"resourceSpans": "{prompt}"}}'.encode(), "application/json") in (200, 400)
    assert post(prompt.encode(), "text/plain") == 415
    assert post(prompt.encode(), "application/json", **{"Content-Encoding": "gzip"}) == 400
    wrong = {"Authorization": f"Bearer {token}x"}
    assert requests.post(url, prompt, headers=wrong, timeout=30).status_code == 401
    posthog.faults.extend([Answer(401)])
    assert post(some_spans(1, text=prompt).SerializeToString(), "application/x-protobuf") == 503
    assert gateway.end() == 0
    lines = gateway.lines()
    assert {"info", "warning"} <= {line["level"] for line in lines}
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
    for secret in (KEY, token, prompt):
        assert secret not in gateway.text()


@pytest.mark.parametrize("how", ["terminal", "supervisor"])
def test_a_signal_to_all_processes_at_once_stops_a_gateway_in_order(how: str, posthog: CaptureServer) -> None:
    send_to_group: Callable[[int], None] = {
        "terminal": lambda group: os.killpg(group, signal.SIGINT),
        "supervisor": lambda group: os.killpg(group, signal.SIGTERM),
    }[how]
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_posthog.cli", "gateway", "--port", "0", "--workers", "2"],
        env=environment(posthog.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    started = 0
    while started < 2:
        line = process.stderr.readline()
        assert line
        started += "Application startup complete." in line
    send_to_group(process.pid)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert log.count("stopped: everything that was accepted is delivered") == 2
    assert "Traceback" not in log
