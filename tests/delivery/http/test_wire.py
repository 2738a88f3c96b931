"""Both wires: the payload, and on v1 the events to retry."""

from __future__ import annotations

import json
from typing import Any

import pytest
import zstandard

from otel_posthog.delivery import DeliveryClient
from otel_posthog.delivery.http.transport import RequestsTransport, Response
from otel_posthog.delivery.http.wire import v1_event
from otel_posthog.local import Inbox
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


def v1(transport: ScriptedTransport, clock: Clock | None = None, **changes: Any) -> DeliveryClient:
    return delivery(transport, clock or Clock(), capture_mode="v1", **changes)


def results(**by_uuid: dict[str, str]) -> Response:
    return answer(200, json.dumps({"results": by_uuid}).encode())


def test_v1_has_the_key_and_the_attempt_in_headers() -> None:
    transport = ScriptedTransport([answer(503)])
    assert send(v1(transport), [event("llm_completion_success")])
    first, second = transport.posted
    assert first.url == second.url == "http://posthog.test/i/v1/analytics/events"
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.headers["PostHog-Sdk-Info"].startswith("otel-posthog/")
    assert [posted.headers["PostHog-Attempt"] for posted in (first, second)] == ["1", "2"]
    assert first.headers["PostHog-Request-Id"] == second.headers["PostHog-Request-Id"]
    assert first.headers["PostHog-Request-Timestamp"] < second.headers["PostHog-Request-Timestamp"]
    assert first.body["created_at"] == second.body["created_at"] == "2026-11-20T12:00:00+00:00"
    assert KEY not in json.dumps(first.body)


def test_v1_is_for_events_other_than_ai_events() -> None:
    """Its limit for an event is far below that of the AI route."""
    transport = ScriptedTransport()
    assert send(v1(transport), [event(), event("llm_completion_success")])
    assert [posted.url.removeprefix("http://posthog.test") for posted in transport.posted] == [
        "/i/v0/ai/batch/",
        "/i/v1/analytics/events",
    ]


def test_v1_takes_ai_events_if_there_is_no_ai_route() -> None:
    transport = ScriptedTransport(otherwise=lambda posted: answer(404 if "/ai/" in posted.url else 200))
    assert send(v1(transport), [event()])
    assert transport.posted[-1].url.endswith("/i/v1/analytics/events")


def test_a_historical_import_is_marked_on_v1() -> None:
    transport = ScriptedTransport()
    send(v1(transport, historical_migration=True), [event("x")])
    assert transport.posted[0].body["historical_migration"] is True


@pytest.mark.parametrize(
    ("properties", "beside", "options", "left"),
    [
        ({"a": 1}, {}, {}, {"a": 1}),
        ({"$session_id": "s", "$window_id": "w"}, {"session_id": "s", "window_id": "w"}, {}, {}),
        ({"$session_id": 7}, {}, {}, {"$session_id": 7}),
        ({"$process_person_profile": False}, {}, {"process_person_profile": False}, {}),
        ({"$process_person_profile": "no"}, {}, {}, {}),
        ({"$ignore_sent_at": True}, {}, {"disable_skew_correction": True}, {}),
        (
            {"$cookieless_mode": True, "$product_tour_id": "t"},
            {},
            {"cookieless_mode": True, "product_tour_id": "t"},
            {},
        ),
        ({"$lib": "otel-posthog", "$lib_version": "1"}, {}, {}, {}),
    ],
)
def test_v1_has_options_and_session_beside_the_properties(
    properties: dict[str, Any], beside: dict[str, Any], options: dict[str, Any], left: dict[str, Any]
) -> None:
    envelope = {"event": "x", "uuid": "u", "distinct_id": "d", "timestamp": "2026-11-20T12:00:00+00:00"}
    reshaped = json.loads(v1_event(json.dumps({**envelope, "properties": properties}).encode()))
    assert reshaped == {**envelope, **beside, "options": options, "properties": left}


def test_v1_has_person_properties_among_the_properties() -> None:
    reshaped = json.loads(v1_event(b'{"event":"x","$set":{"a":1},"properties":{"b":2}}'))
    assert reshaped["properties"] == {"b": 2, "$set": {"a": 1}}


def test_only_events_with_the_result_retry_are_retried() -> None:
    events = [{**event("x"), "uuid": name} for name in "abcd"]
    transport = ScriptedTransport(
        [
            results(a={"result": "ok"}, b={"result": "retry"}, c={"result": "drop", "details": "no"}),
            results(b={"result": "warning", "details": "person_processing_disabled"}),
        ]
    )
    sent = v1(transport)
    report = sent.deliver(events)
    assert [posted.uuids for posted in transport.posted] == [["a", "b", "c", "d"], ["b"]]
    assert report.delivered == 3
    assert [
        (each["uuid"], reason)
        for each, reason in zip(
            events_in(each for each, _ in report.rejected),
            [reason for _, reason in report.rejected],
            strict=True,
        )
    ] == [("c", "no")]
    assert sent.stats()["delivered"] == {"x": 3}
    assert sent.stats()["refused"] == {"x": {"no": 1}}


def test_events_to_retry_are_unsent_at_the_deadline() -> None:
    transport = ScriptedTransport(otherwise=lambda _: results(b={"result": "retry"}))
    report = v1(transport, max_retry_seconds=10).deliver([{**event("x"), "uuid": name} for name in "ab"])
    assert report.delivered == 1
    assert [each["uuid"] for each in events_in(report.unsent)] == ["b"]


def test_an_event_that_is_too_big_for_v1_is_cut() -> None:
    def serve(posted: Posted) -> Response:
        big = [each["uuid"] for each in posted.body["batch"] if len(json.dumps(each)) > 30_000]
        return results(**{uuid: {"result": "drop", "details": "ai_event_too_big"} for uuid in big})

    transport = ScriptedTransport(otherwise=serve)
    sent = v1(transport)
    assert send(sent, [event("x", text="x" * 100_000), event("x")])
    assert sent.stats()["cut"] == {"x": 1}
    assert [len(posted.body["batch"]) for posted in transport.posted] == [2, 1, 1]


def test_zstd_is_for_v1_and_gzip_for_the_rest() -> None:
    bodies: dict[str, tuple[str, bytes]] = {}

    class Seen(RequestsTransport):
        def post(self, url: str, body: bytes, headers: Any, timeout: float) -> Response:
            bodies[url.removeprefix("http://posthog.test")] = (headers["Content-Encoding"], body)
            return answer(200)

    chosen = options(capture_mode="v1", compression="zstd")
    send(DeliveryClient(chosen, transport=Seen()), [event(), event("x")])
    assert bodies["/i/v0/ai/batch/"][0] == "gzip"
    encoding, body = bodies["/i/v1/analytics/events"]
    assert encoding == "zstd"
    assert json.loads(zstandard.ZstdDecompressor().decompress(body))["batch"]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_an_inbox_that_reads_v1_as_posthog_does_accepts_it(compression: str) -> None:
    with Inbox() as inbox:
        sent = DeliveryClient(options(endpoint=inbox.url, capture_mode="v1", compression=compression))
        original = event("llm_completion_success", **{"$session_id": "s", "$process_person_profile": False})
        assert send(sent, [original, event()])
        sent.close()
        [stored] = inbox.events("llm_completion_success")
        assert stored["uuid"] == original["uuid"]
        assert len(inbox.events("$ai_generation")) == 1
