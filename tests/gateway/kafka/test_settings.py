"""The options of the consumer, and the errors of invalid ones."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from otel_posthog.gateway.kafka.settings import (
    ConsumeSettings,
    add_arguments,
    consumer_config,
    producer_config,
    settings_of,
)
from tests.support.paths import ROOT


def settings(*words: str) -> ConsumeSettings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_of(parser.parse_args(words))


def test_by_default_it_reads_the_collectors_topic_on_this_machine() -> None:
    parsed = settings()
    assert (parsed.brokers, parsed.topic, parsed.group) == ("localhost:9092", "otlp_spans", "otel-posthog")
    assert (parsed.encoding, parsed.dead_letter_topic) == ("otlp_proto", "otlp_spans.dead-letter")
    assert parsed.metrics_port is None


def test_a_file_and_options_configure_librdkafka(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("# ours\n\nsasl.password = a=b\nsecurity.protocol=SSL\n")
    parsed = settings("--config-file", str(file), "--config", "security.protocol=SASL_SSL")
    assert parsed.client == {"sasl.password": "a=b", "security.protocol": "SASL_SSL"}
    assert "a=b" not in repr(parsed)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--config", "sasl.password=x"],
            "the list of processes would show sasl.password to every user: put it in a file, --config-file",
        ),
        (["--config", "ssl.key.password=x"], "put it in a file, --config-file"),
        (["--config", "sasl.oauthbearer.client.secret=x"], "put it in a file, --config-file"),
        (["--config", "ssl.key.pem=x"], "put it in a file, --config-file"),
        (["--config", "hello"], "--config: NAME=VALUE is expected"),
        (["--config", "group.id=x"], "group.id cannot be set: use --group"),
        (["--config", "enable.auto.commit=true"], "an offset is committed when its events are delivered"),
        (["--config-file", "/no/such/file"], "--config-file cannot be read"),
        (["--topic", "a", "--dead-letter-topic", "a"], "unreadable messages would come back"),
    ],
)
def test_invalid_options_raise_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(*words)


def test_an_invalid_line_of_the_file_is_named_but_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("\nthe-secret\n")
    with pytest.raises(ValueError, match=r"client\.properties, line 2: NAME=VALUE is expected") as caught:
        settings("--config-file", str(file))
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "strategy"),
    [
        ([], "cooperative-sticky"),
        (["--config", "group.protocol=consumer"], None),
        (["--config", "partition.assignment.strategy=range"], "range"),
    ],
)
def test_partitions_move_one_by_one_by_default(words: list[str], strategy: str | None) -> None:
    assert consumer_config(settings(*words)).get("partition.assignment.strategy") == strategy


def test_the_producer_has_the_security_settings_and_none_of_the_consumers_alone(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("sasl.password=x\nsession.timeout.ms=6000\nssl.ca.location=/ca\n")
    config = producer_config(settings("--config-file", str(file), "--brokers", "b:1"))
    assert config == {
        "bootstrap.servers": "b:1",
        "client.id": "otel-posthog",
        "sasl.password": "x",
        "ssl.ca.location": "/ca",
    }


@pytest.mark.parametrize(
    ("key", "words", "sentence"),
    [
        ("", [], "there is no PostHog project key: set POSTHOG_API_KEY=phc_..."),
        ("phc_x", ["--config", "no.such=1"], 'No such configuration property: "no.such"'),
        (
            "phc_x",
            ["--metrics-host", "203.0.113.1", "--metrics-port", "9"],
            "choose another with --metrics-port",
        ),
    ],
)
def test_a_failed_start_ends_with_one_sentence(key: str, words: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "otel_posthog.cli", "consume", "--brokers", "127.0.0.1:9", *words],
        env={"PYTHONPATH": str(ROOT), "POSTHOG_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.partition(": ")[0]) == (1, "otel-posthog consume")
    assert sentence in last
