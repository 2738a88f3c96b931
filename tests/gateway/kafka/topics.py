"""What the tests write to topics, what they run against them, and what the broker knows."""

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
    """Calls to a model, numbered from `first`, that everybody who makes them makes alike."""
    made = ExportTraceServiceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
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
    return made


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
    """Write messages of calls; the numbers of all calls that are to arrive."""
    numbers = range(first, first + messages * PER_MESSAGE)
    write(broker, topic, [protobuf(each) for each in numbers[::PER_MESSAGE]])
    return {str(number) for number in numbers}


def read_all(broker: Broker, topic: str, count: int) -> list[Message]:
    """The first messages of a topic."""
    reader = Consumer(
        {"bootstrap.servers": broker.address, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic])
    found: list[Message] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < count and time.monotonic() < deadline:
        message = reader.poll(0.5)
        if message is not None and message.error() is None:
            found.append(message)
    reader.close()
    return found


def committed(broker: Broker, topic: str, partitions: int, group: str = "otel-posthog") -> list[int]:
    """What a group has committed, by partition; 0 for nothing."""
    asked = Consumer({"bootstrap.servers": broker.address, "group.id": group, "log_level": 0})
    found: list[TopicPartition] = []

    def is_told() -> bool:
        nonlocal found
        try:
            found = asked.committed([TopicPartition(topic, each) for each in range(partitions)], timeout=30)
        except KafkaException:  # it has just started, and reads what groups it knows
            return False
        return True

    until(is_told)
    asked.close()
    return [max(each.offset, 0) for each in found]


def headers(message: Message) -> dict[str, str]:
    """The headers of a message, as text."""
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return {name: value.decode() if isinstance(value, bytes) else value or "" for name, value in pairs}


def arrived(server: CaptureServer) -> set[str]:
    """The numbers of the calls that are at PostHog; one that came twice came as the same event."""
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

    def says(self, words: str, seconds: float = SECONDS) -> None:
        """Wait until the log has the words."""
        until(lambda: words in self.log or self._process.poll() is not None, words, seconds)
        assert words in self.log, self.log

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = SECONDS) -> int:
        """Have it end in order; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)


@contextmanager
def consuming(
    broker: Broker, topic: str, server: CaptureServer, log: Path, *words: str, **options: str
) -> Iterator[Process]:
    """A consumer at work on a topic; who leaves early is ended."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "POSTHOG_API_KEY": "phc_test",
        "POSTHOG_HOST": server.url,
        "OTEL_EXPORTER_POSTHOG_EVENTS": "ai",
        **{f"OTEL_EXPORTER_POSTHOG_{name.upper()}": value for name, value in options.items()},
    }
    # A member that is gone is missed after six seconds, not after 45.
    quick = ["--config", "session.timeout.ms=6000", "--config", "heartbeat.interval.ms=500"]
    if "group.protocol=consumer" in words:  # there the broker says when
        quick = []
    process = Process(["--brokers", broker.address, "--topic", topic, *quick, *words], environment, log)
    try:
        yield process
    finally:
        process.kill()
