"""The configurations with Kafka: the real Collector, a real Kafka, our consumer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.test_configs import spans
from tests.delivery.capture_server import CaptureServer, capture_server
from tests.gateway.kafka.topics import arrived, consuming
from tests.support.collector import Backend, collector, send, spans_of
from tests.support.kafka_broker import Broker
from tests.support.spans import CHAT, sdk_span
from tests.support.waiting import free_ports, until

pytestmark = pytest.mark.usefixtures("_real_collector")


@pytest.fixture
def posthog() -> Iterator[CaptureServer]:
    with capture_server() as server:
        yield server


def read(kafka: Broker, topic: str, wanted: int) -> list[Message]:
    """Return the messages of a topic, once they have so many spans."""
    reader = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([topic])
    messages: list[Message] = []

    def all_read() -> bool:
        message = reader.poll(0.2)
        if message is not None and message.error() is None:
            messages.append(message)
        return sum(len(spans_of(request_of(each))) for each in messages) >= wanted

    until(all_read, "all messages are there")
    reader.close()
    return messages


def request_of(message: Message) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(message.value() or b"")


def test_spans_that_the_collector_writes_reach_posthog(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(4)
    numbered = [
        sdk_span({**CHAT, "posthog.property.number": str(n)}, trace_id=n, span_id=n) for n in range(1, 501)
    ]
    with (
        collector(tmp_path, "kafka-producer.yaml", KAFKA_BROKERS=kafka.address, KAFKA_TOPIC=topic) as running,
        consuming(kafka, topic, posthog, tmp_path / "consumer.log"),
    ):
        send(running, numbered)
        until(lambda: len(arrived(posthog)) == 500, "all events arrive")


def test_messages_are_small_and_a_trace_stays_in_one_partition(kafka: Broker, tmp_path: Path) -> None:
    topic = kafka.topic(4)
    content = "x" * 4_500  # with which 1,000 spans of one trace would be 4.6 MB
    sent = [
        sdk_span({**CHAT, "gen_ai.prompt": content}, trace_id=1 + n // 1000, span_id=n + 1)
        for n in range(2_000)
    ]
    with collector(
        tmp_path, "kafka-producer.yaml", KAFKA_BROKERS=kafka.address, KAFKA_TOPIC=topic
    ) as running:
        for first in range(0, 2_000, 500):
            send(running, sent[first : first + 500])
        messages = read(kafka, topic, 2_000)
        assert "exceeds max" not in running.output
    assert max(len(message.value() or b"") for message in messages) < 1_000_000
    partitions: dict[bytes, set[int]] = {}
    for message in messages:
        traces = {span.trace_id for span in spans_of(request_of(message))}
        assert len(traces) == 1
        partitions.setdefault(traces.pop(), set()).add(message.partition() or 0)
    assert {len(each) for each in partitions.values()} == {1}


def test_a_message_is_read_again_until_the_gateway_has_it(kafka: Broker, tmp_path: Path) -> None:
    topic = kafka.topic(2)
    [port] = free_ports(1)
    names = {"KAFKA_BROKERS": kafka.address, "KAFKA_TOPIC": topic}
    (tmp_path / "writes").mkdir()
    (tmp_path / "reads").mkdir()
    with (
        collector(tmp_path / "writes", "kafka-producer.yaml", **names) as writer,
        collector(
            tmp_path / "reads",
            "kafka-consumer.yaml",
            OTEL_POSTHOG_GATEWAY=f"http://127.0.0.1:{port}",
            **names,
        ) as reader,
    ):
        send(writer, spans(50))
        until(lambda: "connection refused" in reader.output, "the Collector notices that the gateway is down")
        reader.kill()
        reader.start()
        with Backend(port) as backend:
            until(lambda: len({span.name for span in backend.spans}) == 50, "all spans arrive")
