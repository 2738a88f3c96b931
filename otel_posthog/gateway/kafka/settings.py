"""Settings of the Kafka client: what is ours, what a person may add, and from where."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ENCODINGS", "ConsumeSettings", "add_arguments", "for_consumer", "for_producer", "settings_of"]

ENCODINGS = {"otlp_proto": "application/x-protobuf", "otlp_json": "application/json"}
"""What a Collector's kafka exporter calls an encoding, and the content type of the same over HTTP."""

_FETCHED_KILOBYTES = 8 * 1024
"""Fetched messages that may wait in the client; its own default is 64 MiB."""

_OURS: Mapping[str, str] = {
    "enable.auto.commit": "an offset is committed when its events are delivered",
    "enable.auto.offset.store": "an offset is committed when its events are delivered",
    "bootstrap.servers": "use --brokers",
    "metadata.broker.list": "use --brokers",
    "group.id": "use --group",
}
"""Settings that are not to be had, with the reason."""

_SECRETS = ("password", "secret", "key.pem", "sasl.jaas", "assertion.private")
_SHARED = (
    "security.", "ssl.", "sasl.", "enable.ssl.", "enable.sasl.", "https.", "client.", "broker.address.",
    "socket.",
)  # fmt: skip
"""Beginnings of the names of settings that producers have as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeSettings:
    """What is read, as whom, and where the rest goes."""

    brokers: str
    topic: str
    group: str
    encoding: str
    dead_letter_topic: str
    metrics_host: str
    metrics_port: int | None
    """None: no metrics are served."""
    client: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further settings of librdkafka; secrets may be among them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `otel-posthog consume`."""
    add = parser.add_argument
    add("--brokers", default="localhost:9092", metavar="HOST:PORT,...", help="of Kafka (%(default)s)")
    add("--topic", default="otlp_spans", help="the Collector's topic of traces (%(default)s)")
    add("--group", default="otel-posthog", help="consumer group; its members share the work (%(default)s)")
    add("--encoding", choices=ENCODINGS, default="otlp_proto", help="as in the Collector (%(default)s)")
    add("--dead-letter-topic", metavar="TOPIC", help="for messages that cannot be read (TOPIC.dead-letter)")
    add(
        "--config",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of librdkafka, such as security.protocol=SASL_SSL; may be given several times",
    )
    add(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="such settings, one a line; the place for passwords",
    )
    add("--metrics-port", type=_port, metavar="PORT", help="serve /metrics for Prometheus (not served)")
    add("--metrics-host", default="127.0.0.1", help="at this address (%(default)s: this machine only)")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535 is expected")
    return int(text)


def settings_of(args: argparse.Namespace) -> ConsumeSettings:
    """The settings that arguments give.

    Raises:
        ValueError: they cannot be used; the text is one sentence that says what to change.
    """
    try:
        client = read_settings(args.config_file, args.config)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config-file cannot be read: {error}") from None
    dead_letter_topic = args.dead_letter_topic or f"{args.topic}.dead-letter"
    if dead_letter_topic == args.topic:
        raise ValueError("--dead-letter-topic is the topic that is read: unreadable messages would come back")
    return ConsumeSettings(
        brokers=args.brokers,
        topic=args.topic,
        group=args.group,
        encoding=args.encoding,
        dead_letter_topic=dead_letter_topic,
        metrics_host=args.metrics_host,
        metrics_port=args.metrics_port,
        client=client,
    )


def read_settings(file: Path | None, pairs: Iterable[str]) -> dict[str, str]:
    """Settings by name: those of a file of `name=value` lines, and pairs like these, which go before.

    Raises:
        ValueError: a line or pair is not usable, or a secret is among the pairs; the text is one sentence.
        OSError: the file cannot be read.
    """
    found: dict[str, str] = {}
    if file is not None:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                found.update([_pair(line, f"{file.name}, line {number}")])
    for text in pairs:
        name, value = _pair(text, "--config")
        if any(part in name for part in _SECRETS):
            raise ValueError(
                f"{name} would be seen by all who list processes: put it in a file, --config-file"
            )
        found[name] = value
    return found


def _pair(text: str, where: str) -> tuple[str, str]:
    name, is_pair, value = (part.strip() for part in text.partition("="))
    if not is_pair or not name:
        raise ValueError(
            f"{where}: NAME=VALUE is expected, a setting of librdkafka"
        )  # may be a secret: not shown
    if name in _OURS:
        raise ValueError(f"{where}: {name} cannot be set: {_OURS[name]}")
    return name, value


def for_consumer(settings: ConsumeSettings) -> dict[str, Any]:
    """What a consumer is made with whose offsets are committed by hand."""
    defaults: dict[str, Any] = {
        "auto.offset.reset": "earliest",  # a new group begins with what is there
        "queued.max.messages.kbytes": _FETCHED_KILOBYTES,
        "client.id": "otel-posthog",
    }
    if settings.client.get("group.protocol", "classic") == "classic":
        # Only partitions that move are taken away; in the newer protocol the broker sees to that.
        defaults["partition.assignment.strategy"] = "cooperative-sticky"
    return {
        **defaults,
        **settings.client,
        "bootstrap.servers": settings.brokers,
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }


def for_producer(settings: ConsumeSettings) -> dict[str, Any]:
    """What a producer is made with that reaches the same brokers in the same way."""
    shared = {name: value for name, value in settings.client.items() if name.startswith(_SHARED)}
    return {"client.id": "otel-posthog", **shared, "bootstrap.servers": settings.brokers}
