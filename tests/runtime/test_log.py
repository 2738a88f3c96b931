"""What is said of problems, and how often."""

from __future__ import annotations

import pytest

from otel_posthog.runtime.notices import INTERVAL_SECONDS, MAX_PROBLEMS, RateLimitedLog


def test_each_problem_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seconds = [0.0]
    notices = RateLimitedLog(lambda: seconds[0])
    assert [notices.warn("a", "%s", "a"), notices.warn("b", "%s", "b"), notices.warn("a", "%s", "a")] == [
        True,
        True,
        False,
    ]
    seconds[0] = INTERVAL_SECONDS
    assert notices.warn("a", "%s", "a")
    assert caplog.messages == ["a", "b", "a"]


def test_no_more_problems_are_remembered_than_so_many() -> None:
    notices = RateLimitedLog(lambda: 0.0)
    for number in range(3 * MAX_PROBLEMS):
        assert notices.warn(f"a sender {number}", "A sender is wrong.")
        assert not notices.warn(f"a sender {number}", "A sender is wrong.")
    assert len(notices._said) <= MAX_PROBLEMS
