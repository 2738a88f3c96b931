from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest

from otel_posthog.delivery.outcome import (
    Delivered,
    Invalid,
    Outcome,
    Refused,
    Retry,
    TooLarge,
    judge,
    retry_after,
)
from tests.delivery.support import START


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Delivered()),
        (400, Invalid()),
        (413, TooLarge()),
        *[(status, Retry(None, f"status_{status}")) for status in (408, 429, 500, 501, 502, 503, 504, 599)],
    ],
)
def test_a_status_means(status: int, outcome: Outcome) -> None:
    assert judge(status, {}, b"", START) == outcome


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 308, 401, 402, 403, 404, 405, 415, 422])
def test_a_status_that_is_final(status: int) -> None:
    outcome = judge(status, {}, b"", START)
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.reason) == (status, f"status_{status}")
    assert outcome.advice


@pytest.mark.parametrize("body", [b'{"status":"Ok"}', b'{"status":1}', b"{}", b"", b"1"])
def test_200_is_delivered_with(body: bytes) -> None:
    assert judge(200, {}, body, START) == Delivered()


def test_a_web_page_is_not_posthog() -> None:
    outcome = judge(200, {}, b"\n<!doctype html>", START)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "not_posthog"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("0", 0.0),
        ("1", 1.0),
        ("2.5", 2.5),
        ("-5", 0.0),
        ("3600", 60.0),
        ("inf", 60.0),
        (format_datetime(START + timedelta(seconds=20), usegmt=True), 20.0),
        (format_datetime(START + timedelta(hours=9), usegmt=True), 60.0),
        (format_datetime(START - timedelta(seconds=20), usegmt=True), 0.0),
        ("Fri, 20 Nov 2026 12:00:07 -0000", 7.0),
        ("Fri, 99 Nov 2026 12:00:07 GMT", None),
    ],
)
def test_retry_after_reads(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, START) == seconds


def test_retry_after_is_read_on_a_503() -> None:
    assert judge(503, {"retry-after": "7"}, b"", START) == Retry(7.0, "status_503")
