"""The delivery client over a scripted transport, on a clock that only sleeping moves."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.delivery import DeliveryClient
from otel_posthog.delivery.http.routes import AI, EVENTS
from otel_posthog.delivery.http.transport import Response, TransportError
from tests.delivery.support import (
    KEY,
    Clock,
    Posted,
    ScriptedTransport,
    answer,
    delivery,
    event,
    events_in,
    options,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_events_go_by_route_with_the_key_and_the_time() -> None:
    transport = ScriptedTransport()
    ai, other = event(), event("llm_completion_success")
    assert send(delivery(transport, Clock()), [ai, other])
    assert [posted.url for posted in transport.posted] == [
        "http://posthog.test/i/v0/ai/batch/",
        "http://posthog.test/batch/",
    ]
    assert transport.posted[0].body == {
        "api_key": KEY,
        "sent_at": "2026-11-20T12:00:00+00:00",
        "batch": [ai],
    }
    assert transport.posted[0].headers["Content-Type"] == "application/json"
    assert transport.posted[0].headers["User-Agent"].startswith("otel-posthog/")
    assert "Content-Encoding" not in transport.posted[0].headers


def test_no_events_make_no_request() -> None:
    transport = ScriptedTransport()
    assert send(delivery(transport, Clock()), [])
    assert transport.posted == []


def test_a_historical_import_is_marked() -> None:
    transport = ScriptedTransport()
    send(delivery(transport, Clock(), historical_migration=True), [event()])
    assert transport.posted[0].body["historical_migration"] is True


def test_a_retry_renews_sent_at_and_nothing_else() -> None:
    transport = ScriptedTransport([answer(503), TransportError("ConnectionError")])
    sent = delivery(transport, Clock())
    original = event()
    assert send(sent, [original])
    assert [posted.body["sent_at"] for posted in transport.posted] == [
        "2026-11-20T12:00:00+00:00",
        "2026-11-20T12:00:01+00:00",
        "2026-11-20T12:00:03+00:00",
    ]
    assert [posted.body["batch"] for posted in transport.posted] == [[original]] * 3
    assert sent.stats()["retried"] == {"$ai_generation": 2}


@pytest.mark.parametrize(
    ("random", "waits"), [(1.0, [1, 2, 4, 8, 16, 30, 30]), (0.5, [0.5, 1, 2, 4, 8, 15, 15])]
)
def test_back_off_doubles_to_30_seconds_with_full_jitter(random: float, waits: list[float]) -> None:
    clock = Clock()
    transport = ScriptedTransport([answer(503)] * 7)
    assert send(delivery(transport, clock, random=random), [event()])
    assert clock.slept == waits


def test_retry_after_is_the_shortest_wait() -> None:
    clock = Clock()
    transport = ScriptedTransport([answer(429, retry_after="20"), answer(429, retry_after="20")])
    assert send(delivery(transport, clock, random=0.25), [event()])
    assert clock.slept == [20.25, 20.5]


def test_at_the_deadline_everything_is_unsent() -> None:
    clock = Clock()
    transport = ScriptedTransport(otherwise=lambda _: answer(503))
    sent = delivery(transport, clock, max_batch_events=1)
    events = [event(), event()]
    report = sent.deliver(events, clock() + 10)
    assert events_in(report.unsent) == events
    assert not report.complete
    assert clock.seconds <= 1010
    assert len(transport.posted) == 4
    assert sent.stats()["unsent"] == {"$ai_generation": {"deadline": 2}}


def test_without_a_deadline_it_retries_for_max_retry_seconds() -> None:
    clock = Clock()
    transport = ScriptedTransport(otherwise=lambda _: answer(503))
    assert not send(delivery(transport, clock, max_retry_seconds=100), [event()])
    assert 1060 < clock.seconds <= 1100


def test_a_deadline_in_the_past_sends_nothing() -> None:
    transport = ScriptedTransport()
    original = event()
    assert events_in(delivery(transport, Clock()).deliver([original], 999).unsent) == [original]
    assert transport.posted == []


def test_an_attempt_gets_no_more_time_than_is_left() -> None:
    transport = ScriptedTransport()
    sent = delivery(transport, Clock(), timeout=10)
    send(sent, [event()], 1003)
    send(sent, [event()], 1030)
    assert [posted.timeout for posted in transport.posted] == [3, 10]


def test_a_route_that_is_down_leaves_time_for_the_other() -> None:
    transport = ScriptedTransport(otherwise=lambda posted: answer(503 if "/ai/" in posted.url else 200))
    ai, other = event(), event("llm_completion_success")
    clock = Clock()
    report = delivery(transport, clock, max_retry_seconds=100).deliver([ai, other])
    assert clock.seconds <= 1050
    assert events_in(report.unsent) == [ai]
    assert report.delivered == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404, 302, 204])
def test_an_answer_that_only_a_person_can_mend_halts_and_keeps_the_events(status: int) -> None:
    clock = Clock()
    transport = ScriptedTransport([answer(status)])
    sent = delivery(transport, clock)
    first, second = event("llm_completion_failed"), event("llm_completion_failed")
    assert events_in(sent.deliver([first]).unsent) == [first]
    clock.seconds += 299
    assert events_in(sent.deliver([second]).unsent) == [second]
    assert len(transport.posted) == 1
    assert sent.halted_for() == 1
    clock.seconds += 1
    assert send(sent, [first, second])
    assert clock.slept == []
    assert sent.stats()["unsent"] == {"llm_completion_failed": {f"status_{status}": 1, "halted": 1}}


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_any_bad_events_are_rejected_alone_and_all_others_are_delivered_once(
    case: tuple[int, set[int]],
) -> None:
    count, poisoned = case
    events = [event() for _ in range(count)]
    poison = {events[at]["uuid"] for at in poisoned}
    accepted: list[dict[str, Any]] = []

    def serve(posted: Posted) -> Response:
        if poison & set(posted.uuids):
            return answer(400)
        accepted.extend(posted.body["batch"])
        return answer(200)

    sent = delivery(ScriptedTransport(otherwise=serve), Clock())
    report = sent.deliver(events)
    assert accepted == [each for each in events if each["uuid"] not in poison]
    assert events_in(each for each, _ in report.rejected) == [
        each for each in events if each["uuid"] in poison
    ]
    assert {reason for _, reason in report.rejected} <= {"invalid"}
    assert report.delivered == len(accepted) == sent.stats()["delivered"].get("$ai_generation", 0)
    assert report.complete == (not poison)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_an_event_at_which_the_server_fails_costs_no_other(case: tuple[int, int]) -> None:
    count, at = case
    events = [event() for _ in range(count)]
    poison = events.pop(at)
    transport = ScriptedTransport(
        otherwise=lambda posted: answer(500 if poison["uuid"] in posted.uuids else 200)
    )
    sent = delivery(transport, Clock(), random=0.5, max_retry_seconds=10_000)
    report = sent.deliver([*events[:at], poison, *events[at:]])
    assert report.delivered == len(events)
    assert report.unsent == ([] if events else report.unsent)
    assert events_in(each for each, _ in report.rejected) == ([poison] if events else [])


def test_a_server_that_fails_at_everything_costs_nothing() -> None:
    transport = ScriptedTransport(otherwise=lambda _: answer(500))
    report = delivery(transport, Clock(), max_retry_seconds=10_000).deliver([event(), event()])
    assert (len(report.unsent), report.rejected) == (2, [])


def test_a_lone_event_that_is_too_large_is_halved_until_it_fits() -> None:
    transport = ScriptedTransport([answer(413), answer(413)])
    sent = delivery(transport, Clock())
    assert send(sent, [event(text="x" * 100_000)])
    lengths = [len(posted.body["batch"][0]["properties"]["text"]) for posted in transport.posted]
    assert lengths[0] == 100_000
    assert lengths[1] < 50_100
    assert lengths[2] < 25_100
    assert sent.stats()["cut"] == {"$ai_generation": 1}


def test_a_small_event_that_is_too_large_is_rejected() -> None:
    transport = ScriptedTransport(otherwise=lambda _: answer(413))
    original = event(text="x" * 10_000)
    [(rejected, reason)] = delivery(transport, Clock()).deliver([original]).rejected
    assert (events_in([rejected]), reason) == ([original], "too_large")
    assert len(transport.posted) == 2


def test_a_missing_ai_route_is_tried_again_after_ten_minutes() -> None:
    clock = Clock()
    has_route = False

    def serve(posted: Posted) -> Response:
        return answer(404 if "/ai/" in posted.url and not has_route else 200)

    transport = ScriptedTransport(otherwise=serve)
    sent = delivery(transport, clock, max_batch_events=1)
    assert send(sent, [event(text="x" * 2_000_000), event(text="y" * 2_000_000)])
    has_route = True
    clock.seconds += 599
    assert send(sent, [event()])
    clock.seconds += 1
    assert send(sent, [event()])
    paths = [posted.url.removeprefix("http://posthog.test") for posted in transport.posted]
    assert paths == ["/i/v0/ai/batch/", "/batch/", "/batch/", "/batch/", "/i/v0/ai/batch/"]
    for posted in transport.posted[1:3]:
        assert len(str(posted.body["batch"][0])) < 983_040
    assert sent.stats()["cut"] == {"$ai_generation": 2}


def test_no_more_than_500_events_go_in_one_request() -> None:
    transport = ScriptedTransport()
    assert send(delivery(transport, Clock()), [event() for _ in range(1001)])
    assert [len(posted.body["batch"]) for posted in transport.posted] == [500, 500, 1]


def test_requests_and_bytes_are_counted() -> None:
    transport = ScriptedTransport([answer(503)])
    sent = delivery(transport, Clock())
    send(sent, [event()])
    stats = sent.stats()
    assert stats["requests"] == 2
    assert stats["bytes"] == stats["wire_bytes"] > 400
    assert stats["delivered"] == {"$ai_generation": 1}


def test_closing_with_abort_ends_a_back_off_at_once() -> None:
    waiting = threading.Event()

    class Down(ScriptedTransport):
        def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
            waiting.set()
            return super().post(url, body, headers, timeout)

    transport = Down(otherwise=lambda _: answer(503, retry_after="60"))
    sent = DeliveryClient(options(), transport=transport)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(send(sent, [event()])))
    thread.start()
    assert waiting.wait(10)
    sent.close(abort=True)
    thread.join(10)
    assert results == [False]
    assert transport.closed == 1
    assert sent.stats()["unsent"] == {"$ai_generation": {"closed": 1}}


def test_closing_without_abort_leaves_sending_possible() -> None:
    transport = ScriptedTransport()
    sent = delivery(transport, Clock())
    sent.close()
    assert send(sent, [event()])


def test_a_forked_child_starts_afresh() -> None:
    transport = ScriptedTransport()
    sent = delivery(transport, Clock())
    send(sent, [event()])
    sent.close(abort=True)
    sent.reset_after_fork()
    assert transport.resets == 1
    assert sent.stats()["requests"] == 0
    assert send(sent, [event()])


def test_a_problem_is_logged_once_a_minute_with_advice(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    sent = delivery(ScriptedTransport(otherwise=lambda _: answer(401)), clock)
    for seconds in (0, 59, 300):
        clock.seconds += seconds
        send(sent, [event("llm_completion_failed")])
    warning = (
        "PostHog at posthog.test takes no events (status_401): check the project API key (phc_...)."
        " Nothing is sent for 5 minutes, then it is tried again."
    )
    assert [record.getMessage() for record in caplog.records] == [warning] * 2


def test_a_host_that_is_not_known_is_logged_with_advice(caplog: pytest.LogCaptureFixture) -> None:
    send(delivery(ScriptedTransport([TransportError("NameResolutionError")]), Clock()), [event()])
    assert caplog.messages[0] == (
        "PostHog at posthog.test cannot take events now (NameResolutionError): no such host is known,"
        " check the endpoint (POSTHOG_HOST); trying again."
    )


def test_a_problem_of_one_of_several_projects_names_it(caplog: pytest.LogCaptureFixture) -> None:
    sent = delivery(ScriptedTransport(otherwise=lambda _: answer(401)), Clock(), project="acme")
    send(sent, [event()])
    [warning] = caplog.messages
    assert warning.startswith("PostHog at posthog.test (project acme) takes no events (status_401): check")


AGAIN = "PostHog at posthog.test takes events again."


@pytest.mark.parametrize("status", [401, 503])
def test_that_events_are_accepted_again_is_logged_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    sent = delivery(ScriptedTransport([answer(200), answer(status), answer(status)]), clock)
    for _ in range(5):
        send(sent, [event()])
        clock.seconds += 301
    levels = [(record.levelname, record.getMessage() == AGAIN) for record in caplog.records]
    warnings = 2 if status == 401 else 1
    assert levels == [("WARNING", False)] * warnings + [("INFO", True)]


@pytest.mark.parametrize("first", [AI.path, EVENTS.path])
def test_recovery_is_logged_only_when_all_routes_accept_events(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    down = {AI.path, EVENTS.path}
    transport = ScriptedTransport(
        otherwise=lambda posted: answer(
            503 if posted.url.removeprefix("http://posthog.test") in down else 200
        )
    )
    sent = delivery(transport, clock)
    for up in (set(), {first}):
        down -= up
        assert not send(sent, [event(), event("llm_completion_failed")], clock() + 20)
        assert AGAIN not in caplog.text
    assert len(transport.accepted) == 1
    down.clear()
    assert send(sent, [event(), event("llm_completion_failed")])
    assert caplog.records[-1].getMessage() == AGAIN


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 408, 413, 429, 500])
def test_neither_key_nor_content_is_logged(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = f"{KEY} secret words".encode()
    sent = delivery(ScriptedTransport(otherwise=lambda _: answer(status, body)), Clock())
    send(sent, [event(text="secret words")])
    assert "secret" not in caplog.text
    assert KEY not in caplog.text


def test_the_key_is_not_in_the_repr_of_the_options() -> None:
    assert KEY not in repr(options())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compression", "brotli"),
        ("capture_mode", "v2"),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("max_batch_bytes", 0),
        ("max_batch_bytes", 20_000_000),
        ("max_batch_events", 0),
        ("max_retry_seconds", -1),
    ],
)
def test_an_invalid_option_raises_with_its_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        options(**{name: value})
