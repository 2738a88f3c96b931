"""The log of the Kafka client, as far as it reaches ours."""

from __future__ import annotations

import logging

from otel_posthog.gateway.kafka.consumer import _client_logger


def line(text: str) -> logging.LogRecord:
    return logging.LogRecord("rdkafka", logging.ERROR, "", 0, text, (), None)


def test_lines_that_begin_with_the_same_word_pass_once_a_minute() -> None:
    logger = _client_logger()
    [added] = logger.filters[-1:]
    try:
        assert logger.filter(line("FAIL [one] refused"))
        assert not logger.filter(line("FAIL [other] refused"))
        assert logger.filter(line("SESSTMOUT timed out"))
        assert not logger.filter(line("SESSTMOUT timed out again"))
    finally:
        logger.removeFilter(added)
