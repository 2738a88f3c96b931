"""The process of `otel-posthog consume`: one member of the group that reads the Collectors' topic."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from confluent_kafka import KafkaException

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.forwarder import forwarder as build_forwarder
from otel_posthog.gateway import json_log, memory_tuning
from otel_posthog.gateway.decode import JSON, RejectedSpans, spans_of
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.kafka import metrics
from otel_posthog.gateway.kafka.batch_delivery import Deliverer, ReadMessage, UnreadableError
from otel_posthog.gateway.kafka.dead_letters import DeadLetterTopic
from otel_posthog.gateway.kafka.group import Group
from otel_posthog.gateway.kafka.lag import LagWatch
from otel_posthog.gateway.kafka.settings import ENCODINGS, ConsumeSettings, consumer_config, producer_config
from otel_posthog.gateway.limits import RequestRejectedError
from otel_posthog.gateway.startup_checks import delivery_options
from otel_posthog.runtime.log import RateLimitedLog

__all__ = ["ConsumeError", "message_reader", "run"]

_logger = logging.getLogger("otel_posthog.consume")


class ConsumeError(Exception):
    """The consumer cannot run; the text is one sentence that says what to do."""


def run(settings: ConsumeSettings) -> None:
    """Consume until SIGTERM or SIGINT, then finish the batches in flight and commit them.

    Raises:
        ConsumeError: there is no project key, an option is invalid, or Kafka cannot be read.
    """
    memory_tuning.keep_one_heap()
    json_log.set_up()
    try:
        delivery_options(os.environ)
    except ValueError as error:
        raise ConsumeError(str(error)) from None
    forwarder = build_forwarder({}, spool_drops_oldest=False)
    ingest = ProjectIngest(forwarder)

    def stats() -> dict[str, int]:
        return {**group.stats(), **deliverer.counts}

    def log_lag(lag: int) -> None:
        counts = ", ".join(f"{name} {number}" for name, number in stats().items() if number)
        _logger.info("lag %d messages; %s", lag, counts)

    client_log = {"logger": _client_logger()}
    try:
        dead_letters = DeadLetterTopic(
            producer_config(settings) | client_log, settings.dead_letter_topic, settings.group
        )
        deliverer = Deliverer(
            message_reader(ENCODINGS[settings.encoding], ingest.extra_attributes),
            ingest.ingest,
            dead_letters.write,
        )
        config = consumer_config(settings) | client_log
        group = Group(config, settings.topic, deliverer.deliver)
        lag = LagWatch(config, group.partitions, log_lag)
    except KafkaException as error:
        raise ConsumeError(f"Kafka's client rejects its settings: {error.args[0].str()}") from None

    stop_metrics = _serve_metrics(settings, stats, lag)
    stop_signals = _stop_signals()
    _logger.info("reading %s from %s as %s", settings.topic, settings.brokers, settings.group)
    lag.start()
    memory_tuning.collect_rarely()
    try:
        group.run(lambda: bool(stop_signals))
    except KafkaException as error:
        raise ConsumeError(f"Kafka: {error.args[0].str()}") from None
    finally:
        lag.stop()
        stop_metrics()
        safe = forwarder.close(forwarder.timeout)
    _logger.info("stopped: %s", "nothing is left here" if safe else "the rest will be read again")


def message_reader(content_type: str, extra_attributes: frozenset[str]) -> ReadMessage:
    """Return the function that decodes the value of a message in an encoding, given by its content type."""

    def read(value: bytes) -> tuple[list[SpanView | ContextSpan], str | None]:
        rejected = RejectedSpans()
        if content_type == JSON and value.startswith(b"["):  # rotel writes the list in `resourceSpans` alone
            value = b'{"resourceSpans":%b}' % value
        try:
            return [*spans_of(content_type, value, extra_attributes, rejected)], rejected.reason
        except RequestRejectedError as error:
            raise UnreadableError(str(error)) from None
        except Exception as error:
            # Any error would recur each time that the message is read, and block those after it.
            raise UnreadableError(f"a bug of ours, please report it: {type(error).__name__}") from error

    return read


def _client_logger() -> logging.Logger:
    """Return the logger of librdkafka, which without a broker repeats itself twenty times a second.

    A line begins with the word for its problem.
    """
    problems = RateLimitedLog(time.monotonic)
    logger = _logger.getChild("librdkafka")
    logger.addFilter(lambda record: problems.is_due(record.getMessage().partition(" ")[0]))
    return logger


def _serve_metrics(
    settings: ConsumeSettings, stats: Callable[[], dict[str, int]], lag: LagWatch
) -> Callable[[], object]:
    if settings.metrics_port is None:
        return lambda: None
    try:
        return metrics.serve(settings.metrics_host, settings.metrics_port, stats, lambda: lag.lags)
    except OSError as error:
        raise ConsumeError(
            f"cannot listen on {settings.metrics_host}, port {settings.metrics_port}"
            f" ({error.strerror or error}): choose another with --metrics-port"
        ) from None


def _stop_signals() -> list[int]:
    """Return a list that SIGTERM and SIGINT are appended to; the same signal again kills the process."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, handle)
    return received
