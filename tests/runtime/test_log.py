"""A problem is logged, and how often."""

from __future__ import annotations

import logging

import pytest

from otel_posthog.runtime.log import INTERVAL_SECONDS, MAX_PROBLEMS, RateLimitedLog, forget, warn_once


def test_a_warning_is_logged_once_for_each_key(caplog: pytest.LogCaptureFixture) -> None:
    for key in ("a", "b", "a"):
        warn_once(key, "problem %s", key)
    assert caplog.messages == ["problem a", "problem b"]
    forget()
    warn_once("a", "again")
    assert caplog.messages[2:] == ["again"]


def test_each_problem_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seconds = [0.0]
    problems = RateLimitedLog(lambda: seconds[0])
    assert [problems.warn("a", "%s", "a"), problems.warn("b", "%s", "b"), problems.warn("a", "%s", "a")] == [
        True,
        True,
        False,
    ]
    seconds[0] = INTERVAL_SECONDS
    assert problems.warn("a", "%s", "a")
    assert caplog.messages == ["a", "b", "a"]


def test_the_logger_can_be_another(caplog: pytest.LogCaptureFixture) -> None:
    problems = RateLimitedLog(lambda: 0.0, logging.getLogger("otel_posthog.consume"))
    problems.warn("a", "away")
    with caplog.at_level(logging.INFO):
        problems.info("back")
        problems.info("back")
    assert caplog.record_tuples == [
        ("otel_posthog.consume", logging.WARNING, "away"),
        ("otel_posthog.consume", logging.INFO, "back"),
        ("otel_posthog.consume", logging.INFO, "back"),
    ]


def test_the_number_of_remembered_problems_is_bounded() -> None:
    problems = RateLimitedLog(lambda: 0.0)
    for number in range(3 * MAX_PROBLEMS):
        assert problems.warn(f"a sender {number}", "A sender is wrong.")
        assert not problems.warn(f"a sender {number}", "A sender is wrong.")
    assert len(problems._logged_at) <= MAX_PROBLEMS
