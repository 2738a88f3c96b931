"""What of a Kafka client's chatter reaches the log."""

from __future__ import annotations

import logging

from otel_posthog.gateway.kafka.log import OncePerMinute


def record(text: str, **extra: str) -> logging.LogRecord:
    made = logging.LogRecord("name", logging.ERROR, "", 0, text, (), None)
    made.__dict__.update(extra)
    return made


def test_lines_about_one_problem_pass_once_a_minute() -> None:
    now = [0.0]
    seldom = OncePerMinute(by_first_word=True, clock=lambda: now[0])
    assert seldom.filter(record("FAIL [one] refused"))
    assert not seldom.filter(record("FAIL [other] refused"))
    assert seldom.filter(record("SESSTMOUT timed out"))
    now[0] = 60.0
    assert seldom.filter(record("FAIL [one] refused"))


def test_ours_are_told_apart_by_their_problem_and_pass_without_one() -> None:
    seldom = OncePerMinute(by_first_word=False)
    assert seldom.filter(record("Kafka: away", problem="_TRANSPORT"))
    assert not seldom.filter(record("Kafka: still away", problem="_TRANSPORT"))
    assert seldom.filter(record("resumed"))
    assert seldom.filter(record("resumed"))
