"""`otel-posthog consume` against a real Apache Kafka: nothing lost, nothing twice by uuid."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.delivery.capture_server import Answer, CaptureServer, capture_server
from tests.gateway.kafka.topics import (
    PER_MESSAGE,
    arrived,
    as_json,
    committed,
    consuming,
    headers,
    protobuf,
    read_all,
    request,
    write,
    write_calls,
)
from tests.support.kafka_broker import Broker
from tests.support.waiting import free_ports, until


@pytest.fixture
def posthog() -> Iterator[CaptureServer]:
    with capture_server() as server:
        yield server


@pytest.mark.parametrize(
    ("encoding", "encode"), [("otlp_proto", protobuf), ("otlp_json", as_json)], ids=["proto", "json"]
)
def test_both_encodings_arrive_and_sigterm_commits(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path, encoding: str, encode: object
) -> None:
    assert callable(encode)
    topic = kafka.topic(2)
    write(kafka, topic, [encode(first) for first in range(0, 100, PER_MESSAGE)])
    with consuming(kafka, topic, posthog, tmp_path / "log", "--encoding", encoding) as consumer:
        until(lambda: len(arrived(posthog)) == 100)
        assert consumer.stop() == 0
    assert committed(kafka, topic, 2) == [10, 10]
    assert "stopped: nothing is left here" in consumer.log


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_after_one_of_two_is_killed_the_other_does_all(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path, protocol: str
) -> None:
    topic = kafka.topic(4)
    posthog.delay = 0.05
    config = ("--config", f"group.protocol={protocol}", "--group", protocol)
    sent = write_calls(kafka, topic, 100)
    with (
        consuming(kafka, topic, posthog, tmp_path / "one", *config) as one,
        consuming(kafka, topic, posthog, tmp_path / "other", *config) as other,
    ):
        one.wait_for_log("assigned: otlp")
        other.wait_for_log("assigned: otlp")
        sent |= write_calls(kafka, topic, 400, first=1_000)
        until(lambda: len(posthog.events) > 700)
        one.kill()
        sent |= write_calls(kafka, topic, 100, first=10_000)
        until(lambda: arrived(posthog) == sent)
        assert other.stop() == 0
    assert sum(committed(kafka, topic, 4, protocol)) == 600


def test_a_second_consumer_in_the_middle_takes_its_share(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(4)
    posthog.delay = 0.1
    sent = write_calls(kafka, topic, 200)
    with consuming(kafka, topic, posthog, tmp_path / "one") as one:
        one.wait_for_log("assigned: otlp")
        with consuming(kafka, topic, posthog, tmp_path / "other") as other:
            sent |= write_calls(kafka, topic, 200, first=2_000)
            one.wait_for_log("revoked: otlp")
            other.wait_for_log("assigned: otlp")
            sent |= write_calls(kafka, topic, 200, first=4_000)
            until(lambda: arrived(posthog) == sent)
            assert other.stop() == 0
        assert one.stop() == 0
    assert committed(kafka, topic, 4) == [150] * 4
    assert len(posthog.events) == len(sent), "both consumers sent the messages of a moved partition"


def test_a_broker_that_is_killed_and_comes_back(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(4)
    sent = write_calls(kafka, topic, 100)
    with consuming(kafka, topic, posthog, tmp_path / "log") as consumer:
        until(lambda: len(arrived(posthog)) > 100)
        kafka.restart()
        sent |= write_calls(kafka, topic, 100, first=1_000)
        until(lambda: arrived(posthog) == sent)
        assert consumer.stop() == 0
    assert committed(kafka, topic, 4) == [50] * 4


def test_an_unreadable_message_is_a_dead_letter_and_the_others_arrive(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    write(kafka, topic, [protobuf(0), b"no protobuf", None], headers=[("tenant", b"blue")])
    write(kafka, topic, [protobuf(PER_MESSAGE)])
    with consuming(kafka, topic, posthog, tmp_path / "log") as consumer:
        until(lambda: len(arrived(posthog)) == 2 * PER_MESSAGE)
        first, second = read_all(kafka, f"{topic}.dead-letter", 2)
        assert consumer.stop() == 0
    assert committed(kafka, topic, 1) == [4]
    assert (first.value(), second.value()) == (b"no protobuf", None)
    values = headers(first)
    assert values.pop("otel-posthog.reason").startswith("the body is no OTLP request")
    assert values == {
        "tenant": "blue",
        "otel-posthog.topic": topic,
        "otel-posthog.partition": "0",
        "otel-posthog.offset": "1",
        "otel-posthog.group": "otel-posthog",
    }
    assert headers(second)["otel-posthog.reason"] == "the message has no value"


def test_the_readable_part_of_a_message_is_delivered(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    partly = request(0)
    partly.resource_spans[0].scope_spans[0].spans[0].span_id = b""
    write(kafka, topic, [partly.SerializeToString()])
    with consuming(kafka, topic, posthog, tmp_path / "log") as consumer:
        until(lambda: arrived(posthog) == {"1", "2", "3", "4"})
        [letter] = read_all(kafka, f"{topic}.dead-letter", 1)
        assert consumer.stop() == 0
    assert letter.value() == partly.SerializeToString()
    reason = headers(letter)["otel-posthog.reason"]
    assert reason.startswith("a part is unreadable, the rest is delivered: ")


def test_without_a_dead_letter_topic_nothing_is_committed_and_the_log_says_so(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    write(kafka, topic, [b"no protobuf", protobuf(0)])
    no_topic = ("--dead-letter-topic", "no topic has such a name!")
    with consuming(kafka, topic, posthog, tmp_path / "log", *no_topic) as consumer:
        consumer.wait_for_log("create it, or allow writing to it")
        assert consumer.stop() == 0
    assert committed(kafka, topic, 1) == [0]
    assert not posthog.events


def test_a_dead_letter_too_large_for_its_topic_is_written_without_its_value(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    kafka.topic(1, f"{topic}.small", {"max.message.bytes": "1000"})
    write(kafka, topic, [b"no protobuf" * 200])
    small = ("--dead-letter-topic", f"{topic}.small")
    with consuming(kafka, topic, posthog, tmp_path / "log", *small) as consumer:
        [letter] = read_all(kafka, f"{topic}.small", 1)
        assert consumer.stop() == 0
    assert letter.value() is None
    assert headers(letter)["otel-posthog.left-out"].startswith("the value, of 2200 bytes")
    assert committed(kafka, topic, 1) == [1]


def test_while_posthog_is_away_nothing_is_fetched_or_committed(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(2)
    posthog.faults.extend([Answer(503)] * 10_000)
    sent = write_calls(kafka, topic, 20)
    with consuming(kafka, topic, posthog, tmp_path / "log", timeout="2") as consumer:
        consumer.wait_for_log('"paused:')
        assert committed(kafka, topic, 2) == [0, 0]
        sent |= write_calls(kafka, topic, 20, first=1_000)
        posthog.faults.clear()
        until(lambda: arrived(posthog) == sent)
        consumer.wait_for_log('"resumed"')
        assert consumer.stop() == 0
    assert committed(kafka, topic, 2) == [20, 20]


def test_sigterm_while_posthog_is_away_ends_in_time_and_commits_nothing(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    posthog.faults.extend([Answer(503)] * 10_000)
    write_calls(kafka, topic, 20)
    with consuming(kafka, topic, posthog, tmp_path / "log", timeout="2") as consumer:
        consumer.wait_for_log('"paused:')
        assert consumer.stop(25) == 0
    assert committed(kafka, topic, 1) == [0]


def test_sigterm_while_the_broker_is_away_ends_in_time(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    with consuming(kafka, topic, posthog, tmp_path / "log") as consumer:
        consumer.wait_for_log("assigned: otlp")
        posthog.delay = 1.0
        sent = write_calls(kafka, topic, 20)
        until(lambda: bool(posthog.requests))
        kafka.kill()
        try:
            assert consumer.stop(29) == 0  # Kubernetes kills after 30
        finally:
            kafka.start()
    with consuming(kafka, topic, posthog, tmp_path / "next"):
        until(lambda: committed(kafka, topic, 1) == [20])
    assert arrived(posthog) == sent


def test_lag_and_counts_are_served_for_prometheus(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(2)
    posthog.faults.extend([Answer(503)] * 10_000)
    write_calls(kafka, topic, 20)
    port = free_ports(1)[0]
    metrics = ("--metrics-port", str(port))

    def served() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def lags() -> list[str]:
        return re.findall(r"^otel_posthog_consume_lag{.*} (\S+)$", served(), re.MULTILINE)

    with consuming(kafka, topic, posthog, tmp_path / "log", *metrics, timeout="2") as consumer:
        until(lambda: lags() == ["10.0", "10.0"])
        assert re.search(r"^otel_posthog_consume_messages_total{.*} 20.0$", served(), re.MULTILINE)
        consumer.wait_for_log("lag 20 messages; messages 20,")


def test_with_a_spool_messages_on_disk_are_committed(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(1)
    posthog.faults.extend([Answer(503)] * 10_000)
    sent = write_calls(kafka, topic, 20)
    spool = {"spool_dir": str(tmp_path / "spool"), "timeout": "2"}
    with consuming(kafka, topic, posthog, tmp_path / "log", **spool) as consumer:
        until(lambda: committed(kafka, topic, 1) == [20])
        consumer.kill()
    posthog.faults.clear()
    with consuming(kafka, topic, posthog, tmp_path / "next", **spool):
        until(lambda: arrived(posthog) == sent)


@pytest.mark.parametrize("events", [501, 700])
def test_after_a_kill_at_any_time_nothing_undelivered_is_committed(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path, events: int
) -> None:
    topic = kafka.topic(2)
    with consuming(kafka, topic, posthog, tmp_path / "log") as consumer:
        write_calls(kafka, topic, 100)
        until(lambda: sum(committed(kafka, topic, 2)) == 100)
        posthog.delay = 0.1
        for first in range(500, 1_500, 20 * PER_MESSAGE):
            write_calls(kafka, topic, 20, first=first)
            if len(posthog.events) >= events:
                break
        until(lambda: len(posthog.events) >= events)
        consumer.kill()
    there = arrived(posthog)
    for partition, offset in enumerate(committed(kafka, topic, 2)):
        for message in range(offset):
            first = (message * 2 + partition) * PER_MESSAGE
            assert {str(number) for number in range(first, first + PER_MESSAGE)} <= there


def test_consumers_one_after_the_other_send_nothing_twice(
    kafka: Broker, posthog: CaptureServer, tmp_path: Path
) -> None:
    topic = kafka.topic(2)
    posthog.delay = 0.1
    sent: set[str] = set()
    for turn in range(4):
        with consuming(kafka, topic, posthog, tmp_path / f"log{turn}") as consumer:
            consumer.wait_for_log("assigned: otlp")
            posthog.requests.clear()
            sent |= write_calls(kafka, topic, 100, first=turn * 1_000)
            until(lambda: bool(posthog.requests))
            assert consumer.stop() == 0
    with consuming(kafka, topic, posthog, tmp_path / "log"):
        until(lambda: arrived(posthog) == sent)
    assert len(posthog.events) == len(sent)
