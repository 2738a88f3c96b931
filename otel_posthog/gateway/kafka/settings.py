"""The command line options of `otel-posthog consume`, and the settings of the Kafka client."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otel_posthog.config.arguments import port

__all__ = [
    "ENCODINGS",
    "ConsumeSettings",
    "add_arguments",
    "consumer_config",
    "producer_config",
    "settings_of",
]

ENCODINGS = {"otlp_proto": "application/x-protobuf", "otlp_json": "application/json"}
"""Encodings as the Collector's kafka exporter names them, with their content types over HTTP."""

_FETCHED_KILOBYTES = 8 * 1024
"""The limit of prefetched messages in the client; its own default is 64 MiB."""

_RESERVED: Mapping[str, str] = {
    "enable.auto.commit": "an offset is committed when its events are delivered",
    "enable.auto.offset.store": "an offset is committed when its events are delivered",
    "bootstrap.servers": "use --brokers",
    "metadata.broker.list": "use --brokers",
    "group.id": "use --group",
}
"""Settings that cannot be set, with the reason or the option to use."""

_SECRETS = ("password", "secret", "key.pem", "sasl.jaas", "assertion.private")
_SHARED = (
    "security.", "ssl.", "sasl.", "enable.ssl.", "enable.sasl.", "https.", "client.", "broker.address.",
    "socket.",
)  # fmt: skip
"""Prefixes of settings that apply to producers as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeSettings:
    """The settings of a consumer; `add_arguments` has their defaults."""

    brokers: str
    topic: str
    group: str
    encoding: str
    dead_letter_topic: str
    metrics_host: str
    metrics_port: int | None
    """None: metrics are not served."""
    client: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further settings of librdkafka, perhaps secret ones."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `otel-posthog consume`."""
    add = parser.add_argument
    add("--brokers", default="localhost:9092", metavar="HOST:PORT,...", help="Kafka's brokers (%(default)s)")
    add("--topic", default="otlp_spans", help="topic that the Collector writes traces to (%(default)s)")
    add("--group", default="otel-posthog", help="consumer group; its members share the work (%(default)s)")
    add(
        "--encoding",
        choices=ENCODINGS,
        default="otlp_proto",
        help="encoding of the Collector's exporter (%(default)s)",
    )
    add("--dead-letter-topic", metavar="TOPIC", help="topic for unreadable messages (TOPIC.dead-letter)")
    add(
        "--config",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="setting of librdkafka, such as security.protocol=SASL_SSL; repeatable",
    )
    add(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="file of such settings, one a line; passwords belong here",
    )
    add(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="port of /metrics for Prometheus (default: not served)",
    )
    add(
        "--metrics-host",
        metavar="HOST",
        default="127.0.0.1",
        help="address of /metrics (%(default)s: only this machine)",
    )


def settings_of(args: argparse.Namespace) -> ConsumeSettings:
    """Return the settings from parsed arguments.

    Raises:
        ValueError: they are invalid; the text is one sentence that says what to change.
    """
    try:
        client = read_settings(args.config_file, args.config)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config-file cannot be read: {error}") from None
    dead_letter_topic = args.dead_letter_topic or f"{args.topic}.dead-letter"
    if dead_letter_topic == args.topic:
        raise ValueError("--dead-letter-topic must differ from --topic: unreadable messages would come back")
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
    """Return the settings in a file of `name=value` lines and in `pairs`, which win.

    Raises:
        ValueError: a line or pair is invalid, or a pair holds a secret; the text is one sentence.
        OSError: the file cannot be read.
    """
    client: dict[str, str] = {}
    if file is not None:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                client.update([_pair(line, f"{file.name}, line {number}")])
    for text in pairs:
        name, value = _pair(text, "--config")
        if any(word in name for word in _SECRETS):
            raise ValueError(
                f"the list of processes would show {name} to every user: put it in a file, --config-file"
            )
        client[name] = value
    return client


def _pair(text: str, source: str) -> tuple[str, str]:
    name, is_pair, value = (word.strip() for word in text.partition("="))
    if not is_pair or not name:
        raise ValueError(
            f"{source}: NAME=VALUE is expected, a setting of librdkafka"
        )  # may be a secret: not shown
    if name in _RESERVED:
        raise ValueError(f"{source}: {name} cannot be set: {_RESERVED[name]}")
    return name, value


def consumer_config(settings: ConsumeSettings) -> dict[str, Any]:
    """Return the configuration of a consumer that commits its offsets itself."""
    defaults: dict[str, Any] = {
        "auto.offset.reset": "earliest",  # a new group starts with the oldest message
        "queued.max.messages.kbytes": _FETCHED_KILOBYTES,
        "client.id": "otel-posthog",
    }
    if settings.client.get("group.protocol", "classic") == "classic":
        # A rebalance revokes only partitions that move; in the newer protocol the broker ensures that.
        defaults["partition.assignment.strategy"] = "cooperative-sticky"
    return {
        **defaults,
        **settings.client,
        "bootstrap.servers": settings.brokers,
        "group.id": settings.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }


def producer_config(settings: ConsumeSettings) -> dict[str, Any]:
    """Return the configuration of a producer for the same brokers, with the same security settings."""
    shared = {name: value for name, value in settings.client.items() if name.startswith(_SHARED)}
    return {"client.id": "otel-posthog", **shared, "bootstrap.servers": settings.brokers}
