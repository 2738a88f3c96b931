"""`otel-posthog consume`: from a Kafka topic that a Collector writes, to PostHog, as one of a group."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from confluent_kafka import KafkaException

from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.forwarder.forwarder import forwarder
from otel_posthog.gateway import json_log, memory_tuning
from otel_posthog.gateway.decode import JSON, RejectedSpans, spans_of
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.kafka import metrics
from otel_posthog.gateway.kafka.batch_delivery import Deliverer, UnreadableError
from otel_posthog.gateway.kafka.dead_letters import DeadLetterTopic
from otel_posthog.gateway.kafka.group import Group
from otel_posthog.gateway.kafka.lag import LagWatch
from otel_posthog.gateway.kafka.settings import ENCODINGS, ConsumeSettings, for_consumer, for_producer
from otel_posthog.gateway.limits import RequestRejectedError
from otel_posthog.gateway.startup_checks import delivery_options
from otel_posthog.runtime.log import RateLimitedLog

__all__ = ["ConsumeError", "reader", "run"]

_logger = logging.getLogger("otel_posthog.consume")


class ConsumeError(Exception):
    """It cannot go on; the text is one sentence that says what to do."""


def run(settings: ConsumeSettings) -> None:
    """Consume until SIGTERM or SIGINT; then finish what is under way and commit it.

    Raises:
        ConsumeError: there is no project key, an option is wrong, or Kafka lets nothing be read.
    """
    memory_tuning.keep_one_heap()
    json_log.set_up()
    try:
        delivery_options(os.environ)
    except ValueError as error:
        raise ConsumeError(str(error)) from None
    ours = forwarder({}, spool_drops_oldest=False)
    ingest = ProjectIngest(ours)

    def stats() -> dict[str, int]:
        return {**group.stats(), **deliverer.counts}

    def tell(lag: int) -> None:
        counts = ", ".join(f"{name} {number}" for name, number in stats().items() if number)
        _logger.info("lag %d messages; %s", lag, counts)

    client_log = {"logger": _client_logger()}
    try:
        letters = DeadLetterTopic(
            for_producer(settings) | client_log, settings.dead_letter_topic, settings.group
        )
        deliverer = Deliverer(
            reader(ENCODINGS[settings.encoding], ingest.extra_attributes), ingest.ingest, letters.write
        )
        config = for_consumer(settings) | client_log
        group = Group(config, settings.topic, deliverer.deliver)
        lag = LagWatch(config, group.partitions, tell)
    except KafkaException as error:
        raise ConsumeError(f"Kafka's client does not take the settings: {error.args[0].str()}") from None

    end_metrics = _metrics(settings, stats, lag)
    told = _told_by_signals()
    _logger.info("reading %s from %s as %s", settings.topic, settings.brokers, settings.group)
    lag.start()
    memory_tuning.collect_rarely()
    try:
        group.run(lambda: bool(told))
    except KafkaException as error:
        raise ConsumeError(f"Kafka: {error.args[0].str()}") from None
    finally:
        lag.stop()
        end_metrics()
        safe = ours.outbox.close(ours.config.timeout)
    _logger.info("ended; %s", "nothing is left here" if safe else "the rest will be read again")


def reader(
    kind: str, extra_attributes: frozenset[str]
) -> Callable[[bytes], tuple[list[SpanView | ContextSpan], str | None]]:
    """What makes spans of the value of a message, in the encoding of that content type."""

    def read(value: bytes) -> tuple[list[SpanView | ContextSpan], str | None]:
        rejected = RejectedSpans()
        if kind == JSON and value.startswith(b"["):  # rotel writes what should be in `resourceSpans` alone
            value = b'{"resourceSpans":%b}' % value
        try:
            return [*spans_of(kind, value, extra_attributes, rejected)], rejected.reason
        except RequestRejectedError as error:
            raise UnreadableError(str(error)) from None
        except Exception as error:
            # Whatever it is, it would come again with the same message, and hold up all after it.
            raise UnreadableError(f"a fault of ours, please report it: {type(error).__name__}") from error

    return read


def _client_logger() -> logging.Logger:
    """Return the logger of librdkafka, which without a broker repeats itself twenty times a second.

    A line begins with the word for its problem.
    """
    problems = RateLimitedLog(time.monotonic)
    logger = _logger.getChild("librdkafka")
    logger.addFilter(lambda record: problems.is_due(record.getMessage().partition(" ")[0]))
    return logger


def _metrics(
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


def _told_by_signals() -> list[int]:
    """A list that has something in it once SIGTERM or SIGINT came; a second one ends the process at once."""
    told: list[int] = []

    def tell(number: int, _: FrameType | None) -> None:
        told.append(number)
        signal.signal(number, signal.SIG_DFL)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, tell)
    return told
