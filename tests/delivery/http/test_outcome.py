from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest

from otel_posthog.delivery.http.outcome import (
    Delivered,
    Dropped,
    Halted,
    Invalid,
    Missing,
    Outcome,
    Partial,
    Retry,
    TooLarge,
    judge,
    judge_v1,
    retry_after,
)
from tests.delivery.support import START, answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Delivered()),
        (400, Invalid()),
        (404, Missing()),
        (413, TooLarge()),
        *[(status, Retry(None, f"status_{status}")) for status in (408, 429, 500, 501, 502, 503, 504, 599)],
    ],
)
def test_a_status_means(status: int, outcome: Outcome) -> None:
    assert judge(answer(status), START) == outcome
    if status != 200:
        assert judge_v1(answer(status), START) == outcome


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 308, 401, 402, 403, 405, 415, 422])
def test_a_status_that_only_a_person_can_mend(status: int) -> None:
    outcome = judge(answer(status), START)
    assert isinstance(outcome, Halted)
    assert outcome.reason == f"status_{status}"
    assert outcome.advice


@pytest.mark.parametrize("body", [b'{"status":"Ok"}', b'{"status":1}', b"{}", b"", b"1"])
def test_200_is_delivered_with(body: bytes) -> None:
    assert judge(answer(200, body), START) == Delivered()


def test_a_web_page_is_not_posthog() -> None:
    outcome = judge(answer(200, b"\n<!doctype html>"), START)
    assert isinstance(outcome, Halted)
    assert outcome.reason == "not_posthog"


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b'{"status":"Ok","quota_limited":["events"]}', Dropped("quota_limited")),
        (b'{"status":"Ok","quota_limited":[]}', Delivered()),
        (b'{"status":"ok"}', Delivered()),
        (b"[1,2]", Delivered()),
        (b"not json", Delivered()),
    ],
)
def test_200_with_a_body_about_quota_is_dropped(body: bytes, outcome: Outcome) -> None:
    assert judge(answer(200, body), START) == outcome


@pytest.mark.parametrize("body", [b'{"status":0}', b'{"status":"Error"}', b'{"status":null}'])
def test_200_with_a_body_that_denies_success_halts(body: bytes) -> None:
    outcome = judge(answer(200, body), START)
    assert isinstance(outcome, Halted)
    assert outcome.reason == "not_accepted"


def results(**by_uuid: object) -> bytes:
    return json.dumps({"results": by_uuid}).encode()


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (results(), Delivered()),
        (results(a={"result": "ok"}, b={"result": "warning", "details": "x"}), Delivered()),
        (results(a={"result": "something new"}, b=None), Delivered()),
        (b"", Delivered()),
        (b"no json", Delivered()),
        (b'{"results": 1}', Delivered()),
        (results(a={"result": "retry"}), Partial(frozenset("a"), {}, frozenset(), None)),
        (
            results(a={"result": "drop", "details": "ai_byte_rate_limited"}),
            Partial(frozenset("a"), {}, frozenset(), None),
        ),
        (
            results(a={"result": "drop", "details": "ai_event_too_big"}),
            Partial(frozenset(), {}, frozenset("a"), None),
        ),
        (
            results(a={"result": "drop", "details": "billing_limit_exceeded"}, b={"result": "drop"}),
            Partial(frozenset(), {"a": "billing_limit_exceeded", "b": "dropped"}, frozenset(), None),
        ),
    ],
)
def test_v1_answers_for_each_event(body: bytes, outcome: Outcome) -> None:
    assert judge_v1(answer(200, body), START) == outcome


def test_v1_states_the_shortest_wait() -> None:
    outcome = judge_v1(answer(200, results(a={"result": "retry"}), retry_after="1"), START)
    assert isinstance(outcome, Partial)
    assert outcome.after == 1.0


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
    assert judge(answer(503, retry_after="7"), START) == Retry(7.0, "status_503")
