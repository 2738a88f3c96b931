"""`otel-posthog consume` from a real Apache Kafka to a sink: spans a second, CPU time a span, peak memory.

    .ci/kafka/fetch && python -m benchmarks.consume

The topic is filled before, so that consumers have as much as they can take. Broker, sink and consumers share
the machine: CPU time a span is what tells how many processes a load needs. Starting up is not counted. The
first row is the work of a span alone, in this process: what it takes to read, convert and send it without
Kafka. Rows take turns, and figures are medians of the rounds.
"""

from __future__ import annotations

import gc
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from benchmarks import main_or_help
from benchmarks.material import chat_spans, sink
from otel_posthog.forwarder import forwarder
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.kafka.batch import BATCH_BYTES
from otel_posthog.gateway.kafka.consumer import message_reader
from otel_posthog.gateway.kafka.settings import ENCODINGS
from tests.support.kafka_broker import Broker, broker

SPANS, ROUNDS, PARTITIONS = 20_000, 3, 4
LARGE, SMALL = 400, 2
"""Spans of a message: 1 MB, which is what a Collector's producer takes at most; and those of one trace, of
which it makes a message with `partition_traces_by_id`."""
FIRST_PORT = 19_464
_TICKS = os.sysconf("SC_CLK_TCK")


class Measured(NamedTuple):
    seconds: float
    cpu: float
    """Seconds, of all consumers together."""
    peak: float
    """MiB, of the largest consumer."""


def messages(per_message: int) -> list[bytes]:
    """Return the messages of a topic: no two spans are alike."""
    request = encode_spans(chat_spans(per_message))
    spans = [span for each in request.resource_spans for scoped in each.scope_spans for span in scoped.spans]
    requests = []
    for _ in range(SPANS // per_message):
        for span in spans:
            span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
        requests.append(request.SerializeToString())
    return requests


def fill(to: Broker, topic: str, bodies: Sequence[bytes]) -> None:
    producer = Producer({"bootstrap.servers": to.address})
    for number, body in enumerate(bodies):
        producer.produce(topic, body, partition=number % PARTITIONS)
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker does not take the messages")


def cpu_and_peak(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(peak[1]) / 1024 if peak else 0.0


def metric(port: int, name: str) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            match = re.search(
                rf"^otel_posthog_consume_{name}{{.*}} (\S+)$", answer.read().decode(), re.MULTILINE
            )
    except OSError:  # it does not listen yet
        return 0.0
    return float(match[1]) if match else 0.0


def consume(at: Broker, topic: str, host: str, processes: int, group: str) -> Measured:
    environment = {
        "PATH": os.environ["PATH"],
        "POSTHOG_API_KEY": "phc_x",
        "POSTHOG_HOST": host,
        "OTEL_EXPORTER_POSTHOG_EVENTS": "ai",
    }
    ports = range(FIRST_PORT, FIRST_PORT + processes)
    command = [sys.executable, "-m", "otel_posthog.cli", "consume", "--brokers", at.address, "--group", group]
    running = [
        subprocess.Popen(
            [*command, "--topic", topic, "--metrics-port", str(port)],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for port in ports
    ]
    try:
        wait(ports, "partitions", PARTITIONS)
        before, base, done = time.monotonic(), total_cpu(running), spans_of(ports)
        wait(ports, "spans_total", SPANS)
        seconds = time.monotonic() - before
        share = 1 - done / (SPANS)
        peak = max(cpu_and_peak(each.pid)[1] for each in running)
        return Measured(seconds / share, (total_cpu(running) - base) / share, peak)
    finally:
        for each in running:
            each.terminate()
            each.wait()


def total_cpu(running: Sequence[subprocess.Popen[bytes]]) -> float:
    return sum(cpu_and_peak(each.pid)[0] for each in running)


def spans_of(ports: Sequence[int]) -> float:
    return sum(metric(port, "spans_total") for port in ports)


def wait(ports: Sequence[int], name: str, wanted: float) -> None:
    deadline = time.monotonic() + 120
    while sum(metric(port, name) for port in ports) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.05)


def alone(bodies: Sequence[bytes], host: str) -> Measured:
    """The same work without Kafka: as many messages at once as the consumer takes."""
    ingest = ProjectIngest(forwarder({"api_key": "phc_x", "endpoint": host, "events": "ai"}, environ={}))
    read = message_reader(ENCODINGS["otlp_proto"], ingest.extra_attributes)
    together = max(BATCH_BYTES // len(bodies[0]), 1)
    began, before = time.monotonic(), time.process_time()
    for start in range(0, len(bodies), together):
        ingest.ingest([span for body in bodies[start : start + together] for span in read(body)[0]])
    return Measured(time.monotonic() - began, time.process_time() - before, 0.0)


def main() -> None:
    large, small = messages(LARGE), messages(SMALL)
    print(f"{SPANS:,} spans of {sum(map(len, large)) / SPANS:,.0f} bytes, {PARTITIONS} partitions")
    with (
        tempfile.TemporaryDirectory() as place,
        broker(Path(place)) as running,
        sink() as near,
        sink(0.1) as far,
    ):
        of_large, of_small = running.topic(PARTITIONS), running.topic(PARTITIONS)
        fill(running, of_large, large)
        fill(running, of_small, small)
        rows: dict[str, Callable[[int], Measured]] = {
            "the work alone": lambda _: alone(large, near),
            "1 process": lambda turn: consume(running, of_large, near, 1, f"one {turn}"),
            "2 processes": lambda turn: consume(running, of_large, near, 2, f"two {turn}"),
            "1, PostHog answers in 100 ms": lambda turn: consume(running, of_large, far, 1, f"far {turn}"),
            f"1, {SMALL} spans a message": lambda turn: consume(running, of_small, near, 1, f"small {turn}"),
        }
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)  # as the consumer has it
        rounds: list[dict[str, Measured]] = []
        for turn in range(ROUNDS):
            rounds.append({name: run(turn) for name, run in rows.items()})
            print(f"\rround {turn + 1} of {ROUNDS}", end="", file=sys.stderr)
        print(file=sys.stderr)
    for name in rows:
        mine = [each[name] for each in rounds]
        cpu = statistics.median(each.cpu for each in mine)
        ratio = statistics.median(each[name].cpu / each["the work alone"].cpu for each in rounds)
        print(
            f"{name:30} {SPANS / statistics.median(each.seconds for each in mine):7,.0f} spans/s"
            f" {cpu / SPANS * 1e6:6.1f} us of CPU a span ({ratio:4.2f} of the work alone),"
            f" {SPANS / cpu:7,.0f} spans/s a core, peak {max(each.peak for each in mine):4.0f} MiB"
        )


if __name__ == "__main__":
    main_or_help(main, __doc__)
