"""The messages that rotel, a Collector in Rust, writes to a Kafka topic are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collector.test_configs import spans
from tests.delivery.capture_server import capture_server
from tests.gateway.kafka.topics import committed, consuming
from tests.support.collector import Program, rotel_agent, send
from tests.support.kafka_broker import Broker
from tests.support.waiting import free_ports, until


@pytest.mark.usefixtures("_rotel")
@pytest.mark.parametrize(("theirs", "ours"), [("protobuf", "otlp_proto"), ("json", "otlp_json")])
def test_messages_of_rotel_are_read(kafka: Broker, tmp_path: Path, theirs: str, ours: str) -> None:
    topic = kafka.topic(2)
    http, grpc = free_ports(2)
    words = [
        rotel_agent(), "start",
        "--pid-file", tmp_path / "rotel.pid", "--log-file", tmp_path / "rotel-agent.log",
        "--otlp-http-endpoint", f"127.0.0.1:{http}",
        "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        "--exporter", "kafka",
        "--kafka-exporter-brokers", kafka.address,
        "--kafka-exporter-traces-topic", topic,
        "--kafka-exporter-format", theirs,
    ]  # fmt: skip
    rotel = Program(words, {}, http, tmp_path / "rotel.log")
    with (
        capture_server() as posthog,
        consuming(kafka, topic, posthog, tmp_path / "log", "--encoding", ours) as consumer,
    ):
        rotel.start()
        try:
            send(rotel, spans(50))
            until(lambda: len({event["uuid"] for event in posthog.events}) == 50)
        finally:
            rotel.end()
        assert consumer.stop() == 0
    assert sum(committed(kafka, topic, 2)) > 0
