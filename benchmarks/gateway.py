"""The throughput of a gateway: GenAI spans of a Collector's batches, decoded, converted, compressed.

    python -m benchmarks.gateway [COLLECTOR]

Three tables. First the CPU time of one span in this process, by stage, beside what a pass-through cannot do
without (inflate, parse, write, compress); stages take turns, figures are medians of the rounds. Then gateways
as processes of 1 and 2 workers, and, where its binary is given, a Collector that sends on by otlphttp, all
before the same sink: spans a second by the clock, and by the CPU time of the process that is measured, since
sender and sink share its cores. Last, the peak memory of one worker, by the size of the requests.

The spans are those of `benchmarks.export`; only AI events are made of them.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import itertools
import logging
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import main_or_help
from benchmarks.material import chat_spans, sink
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.delivery import EncodedEvent
from otel_posthog.delivery.http.transport import Response
from otel_posthog.forwarder import forwarder
from otel_posthog.gateway.decode import PROTOBUF, RejectedSpans, plain_body, spans_of
from otel_posthog.gateway.ingest import ProjectIngest

BATCH, ROUNDS = 2048, 11
SECONDS = 12.0
SENDERS = 4
CEILING = 1 << 30

BODIES = 12
"""Different requests that are sent in turn: a span that is known already takes longer to convert."""

Stage = Callable[[], object]


class _Accepts:
    """A PostHog that takes everything at once, without a socket."""

    def post(self, *_: object) -> Response:
        return Response(200, {}, b'{"status":"Ok"}')

    def close(self) -> None: ...

    def reset_after_fork(self) -> None: ...


def bodies(count: int, number: int) -> list[bytes]:
    """Requests of so many spans each, which differ in their ids."""
    spans = encode_spans(chat_spans(count))
    requests = []
    for _ in range(number):
        for scope in spans.resource_spans[0].scope_spans:
            for span in scope.spans:
                span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
                for pair in span.attributes:
                    if pair.key == "gen_ai.response.id":
                        pair.value.string_value = f"chatcmpl-{os.urandom(16).hex()}"
        requests.append(spans.SerializeToString())
    return requests


def stages(several: list[bytes]) -> dict[str, Stage]:
    """The measurements in this process, a request a turn."""
    ours = forwarder({"api_key": "phc_x", "events": "ai"}, environ={}, transport=_Accepts())
    ingest = ProjectIngest(ours)
    nothing: frozenset[str] = frozenset()
    packed = {body: gzip.compress(body, 1) for body in several}
    turns = {name: itertools.cycle(several) for name in ("inflate", "read", "convert", "send", "all", "pass")}

    def spans(body: bytes) -> Iterator[SpanView | ContextSpan]:
        return spans_of(PROTOBUF, body, nothing, RejectedSpans())

    read = {body: [span for span in spans(body) if isinstance(span, SpanView)] for body in several}
    items = {
        body: [EncodedEvent.of_event(event) for event in ours._converter.finished(views, others=[])]
        for body, views in read.items()
    }

    def inflated(turn: str) -> bytes:
        return plain_body(packed[next(turns[turn])], "gzip", CEILING)

    def converted() -> None:
        for event in ours._converter.finished(read[next(turns["convert"])], others=[]):
            EncodedEvent.of_event(event)

    def passed_through() -> bytes:
        message = ExportTraceServiceRequest.FromString(inflated("pass"))
        return gzip.compress(message.SerializeToString(), 1)

    return {
        "inflate": lambda: inflated("inflate"),
        "read the spans": lambda: [*spans(next(turns["read"]))],
        "convert and encode": converted,
        "compress and send": lambda: ours._outbox.attempt(items[next(turns["send"])], 10),
        "all of it": lambda: ingest.ingest(spans(inflated("all"))),
        "a pass-through in Python": passed_through,
    }


def cpu_of_stages(rows: dict[str, Stage]) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # as a worker has it
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(ROUNDS + 1):
        for name, run in rows.items():
            before = time.process_time()
            run()
            if turn:  # the first round warms up
                spent[name].append((time.process_time() - before) / BATCH * 1e6)
        print(f"\rround {turn} of {ROUNDS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    whole = spent["all of it"]
    print(f"{'us of CPU a span':<28}{'median':>8}{'best':>8}{'of all':>8}")
    for name, figures in spent.items():
        ratio = statistics.median(mine / its for mine, its in zip(figures, whole, strict=True))
        print(f"{name:<28}{statistics.median(figures):>8.1f}{min(figures):>8.1f}{ratio:>8.2f}")
    print(f"one core carries {1e6 / statistics.median(whole):,.0f} spans a second\n")


# --- processes ---------------------------------------------------------------------------------------


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def peak_mib(pids: list[int]) -> float:
    """Return the peak memory of the largest process, in MiB."""
    texts = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return max(int(match[1]) / 1024 for text in texts if (match := re.search(r"VmHWM:\s+(\d+)", text)))


@contextlib.contextmanager
def gateway(posthog: str, workers: int) -> Iterator[tuple[str, int]]:
    environment = {
        **os.environ,
        "POSTHOG_API_KEY": "phc_x",
        "POSTHOG_HOST": posthog,
        "OTEL_EXPORTER_POSTHOG_EVENTS": "ai",
    }
    command = [sys.executable, "-m", "otel_posthog.cli", "gateway", "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = re.findall(r"\d+", process.stdout.readline())[-1]
        try:
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def collector(binary: str, to: str) -> Iterator[tuple[str, int]]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(
            "receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:14318}}}}\n"
            f"exporters: {{otlphttp: {{endpoint: '{to}', sending_queue: {{enabled: false}}}}}}\n"
            "service: {telemetry: {metrics: {level: none}},"
            " pipelines: {traces: {receivers: [otlp], exporters: [otlphttp]}}}\n"
        )
        file.flush()
        with subprocess.Popen([binary, "--config", file.name], stderr=subprocess.DEVNULL) as process:
            try:
                yield "http://127.0.0.1:14318", process.pid
            finally:
                process.send_signal(signal.SIGTERM)


def wait_for(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens at {url}")


def load(url: str, packed: list[bytes], seconds: float) -> int:
    """Send requests in turn from several connections; how many were accepted."""
    accepted: list[int] = []
    until = time.monotonic() + seconds
    headers = {"content-type": PROTOBUF, "content-encoding": "gzip"}
    turns = itertools.cycle(packed)

    def send() -> None:
        with requests.Session() as session:
            while time.monotonic() < until:
                answer = session.post(f"{url}/v1/traces", next(turns), headers=headers, timeout=60)
                accepted.append(answer.status_code == 200)

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(accepted)


def through_processes(packed: list[bytes], binary: str | None) -> None:
    print(f"{'spans a second':<28}{'by clock':>10}{'by CPU':>10}{'peak MiB':>10}")
    with sink() as posthog:
        rows: dict[str, Callable[[], contextlib.AbstractContextManager[tuple[str, int]]]] = {
            "gateway, 1 worker": lambda: gateway(posthog, 1),
            "gateway, 2 workers": lambda: gateway(posthog, 2),
        }
        if binary:
            rows["Collector, otlphttp"] = lambda: collector(binary, posthog)
        for name, start in rows.items():
            with start() as (url, pid):
                wait_for(url)
                load(url, packed, 3.0)  # warm
                before, began = cpu_seconds(family(pid)), time.monotonic()
                spans = load(url, packed, SECONDS) * BATCH
                took, spent = time.monotonic() - began, cpu_seconds(family(pid)) - before
                peak = peak_mib(family(pid))
            print(f"{name:<28}{spans / took:>10,.0f}{spans / spent:>10,.0f}{peak:>10.0f}")
    print()


def memory() -> None:
    print(f"{'spans in a request':<28}{'peak MiB, 1 worker':>20}")
    with sink() as posthog:
        for count in (512, 2048, 8192):
            packed = [gzip.compress(body, 1) for body in bodies(count, BODIES)]
            with gateway(posthog, 1) as (url, pid):
                wait_for(url)
                load(url, packed, SECONDS)
                print(f"{count:<28,}{peak_mib(family(pid)):>20.0f}")


def main() -> None:
    logging.disable()
    several = bodies(BATCH, BODIES)
    packed = [gzip.compress(body, 1) for body in several]
    sizes = len(several[0]) / BATCH, len(packed[0]) / BATCH
    print(f"{BATCH:,} spans of {sizes[0]:,.0f} bytes, {sizes[1]:,.0f} compressed\n")
    cpu_of_stages(stages(several))
    through_processes(packed, sys.argv[1] if len(sys.argv) > 1 else None)
    memory()


if __name__ == "__main__":
    main_or_help(main, __doc__)
