"""The processor against a real inbox: context at the start, announcements, bursts, flush, forks, shutdown."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_posthog import PostHogSpanExporter, PostHogSpanProcessor, ai_context
from otel_posthog.local import Inbox
from tests.support.spans import CHAT

Make = Callable[..., tuple[Any, PostHogSpanProcessor]]


def names(inbox: Inbox) -> dict[str, int]:
    return dict(Counter(event["event"] for event in inbox.events()))


def generation(inbox: Inbox) -> dict[str, Any]:
    [event] = inbox.events("$ai_generation")
    properties: dict[str, Any] = event["properties"]
    return properties


def test_a_call_is_one_generation_one_request_and_one_success(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    tracer.start_span("chat", attributes=CHAT).end()
    assert processor.force_flush()
    assert names(inbox) == {"$ai_generation": 1, "llm_completion_requested": 1, "llm_completion_success": 1}


def test_the_context_of_a_call_is_on_all_its_events(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    with ai_context(feature="smart_reply", user_id=7, groups={"company": "acme"}, properties={"plan": "pro"}):
        tracer.start_span("chat", attributes=CHAT).end()
    processor.force_flush()
    assert len(inbox.events()) == 3
    for event in inbox.events():
        assert event["distinct_id"] == "7"
        assert event["properties"]["feature"] == "smart_reply"
        assert event["properties"]["$groups"] == {"company": "acme"}
        assert event["properties"]["plan"] == "pro"


def test_what_is_set_on_a_span_wins_over_the_context_and_that_over_the_span_above(
    inbox: Inbox, attach: Make
) -> None:
    tracer, processor = attach()
    with tracer.start_as_current_span("GET /") as above:
        above.set_attribute("posthog.feature", "of the span above")
        above.set_attribute("posthog.chat_id", "of the span above")
        above.set_attribute("user.id", "of the span above")
        with ai_context(feature="of the context", chat_id="of the context"):
            tracer.start_span("chat", attributes={**CHAT, "posthog.feature": "of the span"}).end()
    processor.force_flush()
    properties = generation(inbox)
    assert properties["feature"] == "of the span"
    assert properties["chat_id"] == "of the context"
    assert properties["user_id"] == "of the span above"


def test_the_parent_of_a_generation_is_the_nearest_span_that_posthog_gets(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"}
    with (
        tracer.start_as_current_span("GET /"),
        tracer.start_as_current_span("invoke_agent bob", attributes=agent) as bob,
        tracer.start_as_current_span("SELECT"),
    ):
        tracer.start_span("chat", attributes=CHAT).end()
    processor.force_flush()
    assert generation(inbox)["$ai_parent_id"] == format(bob.get_span_context().span_id, "016x")
    assert [event["properties"]["$ai_span_name"] for event in inbox.events("$ai_trace")] == ["bob"]


def test_the_parent_may_show_what_it_is_after_its_start(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    with tracer.start_as_current_span("GET /"), tracer.start_as_current_span("agent") as agent:
        agent.set_attribute("gen_ai.operation.name", "invoke_agent")
        tracer.start_span("chat", attributes=CHAT).end()
    processor.force_flush()
    assert generation(inbox)["$ai_parent_id"] == format(agent.get_span_context().span_id, "016x")


def test_below_a_span_of_another_service_a_generation_hangs_from_the_trace(
    inbox: Inbox, attach: Make
) -> None:
    tracer, processor = attach()
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    tracer.start_span("chat", attributes=CHAT, context=set_span_in_context(NonRecordingSpan(remote))).end()
    processor.force_flush()
    assert generation(inbox)["$ai_parent_id"] == format(1, "032x")


def test_a_call_under_way_is_known_and_not_announced_twice(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    span = tracer.start_span("chat", attributes=CHAT)
    assert processor.force_flush()
    assert names(inbox) == {"llm_completion_requested": 1}
    span.end()
    assert processor.force_flush()
    assert names(inbox) == {"$ai_generation": 1, "llm_completion_requested": 1, "llm_completion_success": 1}
    [requested] = inbox.events("llm_completion_requested")
    assert requested["_inbox"]["copies"] == 1


def test_a_call_that_names_its_model_just_after_its_start_is_announced(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    span = tracer.start_span("openai.chat", attributes={"gen_ai.operation.name": "chat"})
    span.set_attribute("gen_ai.request.model", "gpt-5.1")
    processor.force_flush()
    [requested] = inbox.events("llm_completion_requested")
    assert requested["properties"]["model"] == "gpt-5.1"
    span.end()


def test_an_announcement_that_before_send_dropped_stays_dropped(inbox: Inbox, attach: Make) -> None:
    answers = iter([None])
    tracer, processor = attach(before_send=lambda event: next(answers, event), events="llm_completion")
    span = tracer.start_span("chat", attributes=CHAT)
    processor.force_flush()
    assert inbox.events() == []
    span.end()
    processor.force_flush()
    assert names(inbox) == {"llm_completion_success": 1}


def test_an_announcement_that_did_not_arrive_comes_with_the_end(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach(max_retry_seconds=3.0)
    inbox.close()
    span = tracer.start_span("chat", attributes=CHAT)
    assert processor.force_flush(1000) is False
    with Inbox(port=int(inbox.url.rpartition(":")[2])) as back:
        span.end()
        assert processor.force_flush()
        assert names(back)["llm_completion_requested"] == 1


def test_a_span_that_is_not_ours_or_not_sampled_sends_nothing(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    tracer.start_span("GET /", attributes={"http.route": "/"}).end()
    unsampled, other = attach(sampler=ALWAYS_OFF)
    unsampled.start_span("chat", attributes=CHAT).end()
    assert processor.force_flush()
    assert other.force_flush()
    assert inbox.events() == []


def test_twenty_thousand_spans_in_a_burst_all_arrive_once(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach(events="ai", timeout=120)  # a busy machine is slow to answer
    text = "A prompt of a usual length. " * 70
    threads = [
        threading.Thread(
            target=lambda: [
                tracer.start_span("chat", attributes={**CHAT, "gen_ai.input.messages": text}).end()
                for _ in range(2500)
            ]
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert processor.force_flush(300_000)
    events = inbox.events("$ai_generation")
    assert len(events) == 20_000
    assert {event["_inbox"]["copies"] for event in events} == {1}
    stats = processor.stats()
    assert (stats["queue"]["waiting"], stats["queue"]["bytes"]) == (0, 0)
    assert stats["spans"] == {
        "seen": 20_000,
        "not ours": 0,
        "converted": 20_000,
        "failed to convert": 0,
        "dropped": {},
    }
    assert stats["events"]["queued"] == stats["events"]["delivered"] == {"$ai_generation": 20_000}


def test_a_flush_that_cannot_deliver_returns_false_in_time(attach: Make) -> None:
    tracer, processor = attach(endpoint="http://127.0.0.1:9", timeout=0.2)
    tracer.start_span("chat", attributes=CHAT).end()
    assert processor.force_flush(300) is False
    processor.shutdown(1)


def test_shutdown_sends_the_queue_and_a_later_span_is_logged_once(
    inbox: Inbox, attach: Make, caplog: pytest.LogCaptureFixture
) -> None:
    tracer, processor = attach()
    tracer.start_span("chat", attributes=CHAT).end()
    processor.shutdown()
    assert names(inbox) == {"$ai_generation": 1, "llm_completion_requested": 1, "llm_completion_success": 1}
    for _ in range(3):
        tracer.start_span("chat", attributes=CHAT).end()
    processor.shutdown()
    assert [record.message for record in caplog.records] == ["A span ended after shutdown and is not sent."]


def test_shutdown_without_posthog_ends_in_time_and_logs_the_loss(
    attach: Make, caplog: pytest.LogCaptureFixture
) -> None:
    tracer, processor = attach(endpoint="http://127.0.0.1:9", timeout=0.2)
    tracer.start_span("chat", attributes=CHAT).end()
    processor.shutdown(200)
    assert any("lost" in record.message for record in caplog.records)


def test_a_child_process_sends_its_own_spans_and_not_its_parents(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach(events="ai")
    tracer.start_span("parent", attributes=CHAT).end()
    child = os.fork()
    if child == 0:
        tracer.start_span("child", attributes=CHAT).end()
        os._exit(0 if processor.force_flush(10_000) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert processor.force_flush()
    arrived = Counter(event["properties"]["$ai_span_name"] for event in inbox.events("$ai_generation"))
    assert arrived == {"parent": 1, "child": 1}


def test_without_a_key_one_warning_says_what_to_set_and_nothing_else_happens(
    inbox: Inbox, attach: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        tracer, processor = attach(api_key=None)
        tracer.start_span("chat", attributes=CHAT).end()
        assert processor.force_flush()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "POSTHOG_API_KEY" in record.message
    assert inbox.events() == []


def test_privacy_mode_of_a_context_keeps_content_in(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    attributes = {**CHAT, "gen_ai.input.messages": "a secret", "gen_ai.output.messages": "a secret"}
    with ai_context(privacy_mode=True):
        tracer.start_span("chat", attributes=attributes).end()
    processor.force_flush()
    assert "a secret" not in str(inbox.events())


def test_it_is_given_an_exporter_or_options_and_not_both() -> None:
    exporter = PostHogSpanExporter(api_key="phc_x")
    with pytest.raises(ValueError, match="exporter"):
        PostHogSpanProcessor(exporter, api_key="phc_y")
    exporter.shutdown()
