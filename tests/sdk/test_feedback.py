"""Scores and feedback that the application gives: on the current trace or a named one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog import (
    PostHogSpanExporter,
    PostHogSpanProcessor,
    ai_context,
    capture_feedback,
    capture_metric,
    current_trace_id,
)
from otel_posthog.local import Inbox
from tests.support.spans import CHAT


@pytest.fixture
def processor(inbox: Inbox) -> Iterator[PostHogSpanProcessor]:
    processor = PostHogSpanProcessor(api_key="phc_test", endpoint=inbox.url)
    yield processor
    processor.shutdown()


def sent(inbox: Inbox, processor: PostHogSpanProcessor) -> dict[str, Any]:
    assert processor.force_flush()
    [event] = inbox.events()
    assert isinstance(event, dict)
    return event


@pytest.mark.parametrize(("value", "shown"), [(0.5, 0.5), (3, 3.0), (True, 1.0), ("rude", "rude")])
def test_a_metric_is_on_the_named_trace(
    inbox: Inbox, processor: PostHogSpanProcessor, value: Any, shown: Any
) -> None:
    assert capture_metric("tone", value, trace_id="support-ticket-17", generation_id="ab" * 8)
    event = sent(inbox, processor)
    properties = event["properties"]
    assert event["event"] == "$ai_metric"
    assert (properties["$ai_metric_name"], properties["$ai_metric_value"]) == ("tone", shown)
    assert (properties["$ai_trace_id"], properties["$ai_span_id"]) == ("support-ticket-17", "ab" * 8)
    assert properties["$process_person_profile"] is False


def test_feedback_has_the_context_in_force(inbox: Inbox, processor: PostHogSpanProcessor) -> None:
    with ai_context(user_id="u1", feature="smart_reply", groups={"company": "acme"}, trace_id="t1"):
        assert capture_feedback("Spot on", properties={"stars": 5})
    event = sent(inbox, processor)
    assert (event["event"], event["distinct_id"]) == ("$ai_feedback", "u1")
    expected = {
        "$ai_feedback_text": "Spot on",
        "$ai_trace_id": "t1",
        "feature": "smart_reply",
        "$groups": {"company": "acme"},
        "stars": 5,
    }
    assert event["properties"].items() >= expected.items()


def test_by_default_the_current_trace_is_meant_and_a_front_end_can_be_given_it(
    inbox: Inbox, processor: PostHogSpanProcessor
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    with provider.get_tracer("app").start_as_current_span("chat", attributes={**CHAT, "user_id": "u2"}):
        handle = current_trace_id()
        assert capture_metric("relevance", 1)
    assert handle is not None
    assert capture_feedback("thanks", trace_id=handle, user_id="u3")
    assert processor.force_flush()
    traces = {event["event"]: event["properties"]["$ai_trace_id"] for event in inbox.events()}
    assert {*traces.values()} == {handle}
    assert {"$ai_metric", "$ai_feedback", "$ai_generation"} <= {*traces}
    whose = {event["event"]: event["distinct_id"] for event in inbox.events()}
    assert (whose["$ai_metric"], whose["$ai_feedback"]) == ("u2", "u3")


def test_each_is_an_event_of_its_own(inbox: Inbox, processor: PostHogSpanProcessor) -> None:
    for _ in range(3):
        capture_feedback("again", trace_id="t1")
    assert processor.force_flush()
    assert len({event["uuid"] for event in inbox.events()}) == 3


def test_they_go_through_an_exporter_alone_and_its_hook(inbox: Inbox) -> None:
    exporter = PostHogSpanExporter(
        api_key="phc_test", endpoint=inbox.url, before_send=lambda event: event | {"distinct_id": "masked"}
    )
    assert capture_metric("tone", "kind", trace_id="t1")
    exporter.shutdown()
    [event] = inbox.events("$ai_metric")
    assert event["distinct_id"] == "masked"


GIVE: list[Callable[[], bool]] = [lambda: capture_metric("tone", 1), lambda: capture_feedback("hm")]


@pytest.mark.parametrize("give", GIVE)
def test_without_a_trace_the_log_says_what_to_do(
    processor: PostHogSpanProcessor, caplog: pytest.LogCaptureFixture, give: Callable[[], bool]
) -> None:
    assert current_trace_id() is None
    assert not give()
    [warning] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "no trace is under way: give trace_id=" in warning


@pytest.mark.parametrize("give", GIVE)
def test_if_nothing_sends_the_log_says_what_to_do(
    caplog: pytest.LogCaptureFixture, give: Callable[[], bool]
) -> None:
    assert not give()
    assert "call configure() or attach PostHogSpanProcessor()" in caplog.text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), object(), [1], 10**400])
def test_a_value_that_is_no_score_is_refused_and_raises_nothing(
    value: Any, inbox: Inbox, processor: PostHogSpanProcessor
) -> None:
    assert capture_metric("tone", value, trace_id="t1") is False
    assert capture_feedback("  ", trace_id="t1") is False
    assert processor.force_flush()
    assert inbox.events() == []
