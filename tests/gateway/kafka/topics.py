"""Messages for the topics of tests, consumers of them, and the offsets at the broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.delivery.capture_server import CaptureServer
from tests.support.kafka_broker import Broker
from tests.support.otlp_json import otlp_json
from tests.support.paths import ROOT
from tests.support.waiting import until

PER_MESSAGE = 5
SECONDS = 60.0
"""Within which everything here happens, also on a busy machine."""


def request(first: int, count: int = PER_MESSAGE) -> ExportTraceServiceRequest:
    """Calls to a model, numbered from `first`, the same whoever creates them."""
    export = ExportTraceServiceRequest()
    spans = export.resource_spans.add().scope_spans.add().spans
    for number in range(first, first + count):
        span = spans.add(
            trace_id=(number + 1).to_bytes(16, "big"),
            span_id=(number + 1).to_bytes(8, "big"),
            name="chat",
            start_time_unix_nano=1_790_000_000_000_000_000,
            end_time_unix_nano=1_790_000_001_000_000_000,
        )
        for name, value in {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5.1",
            "posthog.property.number": str(number),
        }.items():
            span.attributes.add(key=name).value.string_value = value
    return export


def protobuf(first: int) -> bytes:
    return request(first).SerializeToString()


def as_json(first: int) -> bytes:
    return orjson.dumps(otlp_json(request(first)))


def write(
    broker: Broker,
    topic: str,
    values: Sequence[bytes | None],
    *,
    headers: list[tuple[str, str | bytes | None]] | None = None,
) -> None:
    """Write messages, one partition after the other, and wait until they are there."""
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    partitions = len(producer.list_topics(topic, timeout=30).topics[topic].partitions)
    failed: list[object] = []
    for number, value in enumerate(values):
        producer.produce(
            topic,
            value,
            partition=number % partitions,
            headers=headers,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(SECONDS) == 0
    assert not failed


def write_calls(broker: Broker, topic: str, messages: int, first: int = 0) -> set[str]:
    """Write messages of calls, and return the numbers of all calls that are to arrive."""
    numbers = range(first, first + messages * PER_MESSAGE)
    write(broker, topic, [protobuf(each) for each in numbers[::PER_MESSAGE]])
    return {str(number) for number in numbers}


def read_all(broker: Broker, topic: str, count: int) -> list[Message]:
    """Return the first messages of a topic."""
    reader = Consumer(
        {"bootstrap.servers": broker.address, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic])
    messages: list[Message] = []
    deadline = time.monotonic() + SECONDS
    while len(messages) < count and time.monotonic() < deadline:
        message = reader.poll(0.5)
        if message is not None and message.error() is None:
            messages.append(message)
    reader.close()
    return messages


def committed(broker: Broker, topic: str, partitions: int, group: str = "otel-posthog") -> list[int]:
    """Return the offsets that a group has committed, by partition; 0 for nothing."""
    client = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 0})
    offsets: list[TopicPartition] = []

    def answers() -> bool:
        nonlocal offsets
        try:
            offsets = client.committed(
                [TopicPartition(topic, each) for each in range(partitions)], timeout=30
            )
        except KafkaException:  # it has just started, and loads its groups
            return False
        return True

    until(answers)
    client.close()
    return [max(each.offset, 0) for each in offsets]


def headers(message: Message) -> dict[str, str]:
    """Return the headers of a message, as text."""
    values = message.headers() or []
    pairs = values.items() if isinstance(values, dict) else values
    return {name: value.decode() if isinstance(value, bytes) else value or "" for name, value in pairs}


def arrived(server: CaptureServer) -> set[str]:
    """Return the numbers of the calls at PostHog; check that one that came twice came as the same event."""
    numbers = {event["uuid"]: event["properties"]["number"] for event in server.events}
    doubled = {number: count for number, count in Counter(numbers.values()).items() if count > 1}
    assert not doubled, doubled
    return {*numbers.values()}


class Process:
    """`otel-posthog consume` in a process of its own."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "otel_posthog.cli", "consume", *words], env=environment, stderr=file
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for_log(self, words: str, seconds: float = SECONDS) -> None:
        """Wait until the words are in the log."""
        until(lambda: words in self.log or self._process.poll() is not None, words, seconds)
        assert words in self.log, self.log

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = SECONDS) -> int:
        """Send SIGTERM, and return the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)


@contextmanager
def consuming(
    broker: Broker, topic: str, server: CaptureServer, log: Path, *words: str, **options: str
) -> Iterator[Process]:
    """Run a consumer of a topic; kill it at the end."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "POSTHOG_API_KEY": "phc_test",
        "POSTHOG_HOST": server.url,
        "OTEL_EXPORTER_POSTHOG_EVENTS": "ai",
        **{f"OTEL_EXPORTER_POSTHOG_{name.upper()}": value for name, value in options.items()},
    }
    # The broker misses a dead member after six seconds, not after 45.
    quick = ["--config", "session.timeout.ms=6000", "--config", "heartbeat.interval.ms=500"]
    if "group.protocol=consumer" in words:  # with this protocol the broker decides
        quick = []
    process = Process(["--brokers", broker.address, "--topic", topic, *quick, *words], environment, log)
    try:
        yield process
    finally:
        process.kill()
