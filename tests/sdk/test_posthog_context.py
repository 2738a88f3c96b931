"""The contexts of the real `posthog` package are read if `ai_context` sets nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import posthog
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from otel_posthog import PostHogSpanProcessor, ai_context, capture_metric
from otel_posthog.local import Inbox
from tests.support.spans import CHAT


@pytest.fixture
def provider(inbox: Inbox) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(PostHogSpanProcessor(api_key="phc_test", endpoint=inbox.url))
    yield provider
    provider.shutdown()


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("tests")


def generations(inbox: Inbox, provider: TracerProvider) -> list[dict[str, Any]]:
    assert provider.force_flush()
    return [event for event in inbox.events("$ai_generation") if isinstance(event, dict)]


def test_user_session_and_tags_are_on_every_event(
    inbox: Inbox, provider: TracerProvider, tracer: Tracer
) -> None:
    with posthog.new_context():
        posthog.identify_context("u1")
        posthog.set_context_session("replay-1")
        posthog.tag("plan", "pro")
        posthog.tag("nested", {"a": 1})
        tracer.start_span("chat", attributes=CHAT).end()
        capture_metric("tone", 1, trace_id="t1")
    assert provider.force_flush()
    assert {event["distinct_id"] for event in inbox.events()} == {"u1"}
    for event in inbox.events():
        assert event["properties"]["$session_id"] == "replay-1"
        assert event["properties"]["plan"] == "pro"
        assert "nested" not in event["properties"]


def test_the_inner_context_counts_and_outside_there_is_none(
    inbox: Inbox, provider: TracerProvider, tracer: Tracer
) -> None:
    with posthog.new_context():
        posthog.identify_context("outer")
        with posthog.new_context():
            posthog.identify_context("inner")
            tracer.start_span("chat", attributes=CHAT).end()
    tracer.start_span("chat", attributes=CHAT).end()
    [first, second] = generations(inbox, provider)
    assert first["distinct_id"] == "inner"
    assert second["properties"]["$process_person_profile"] is False


def test_ai_context_and_the_span_itself_come_first(
    inbox: Inbox, provider: TracerProvider, tracer: Tracer
) -> None:
    with posthog.new_context():
        posthog.identify_context("of posthog")
        with ai_context(user_id="of ai_context"):
            tracer.start_span("chat", attributes=CHAT).end()
        tracer.start_span("chat", attributes={**CHAT, "user.id": "of the span"}).end()
    assert [event["distinct_id"] for event in generations(inbox, provider)] == [
        "of ai_context",
        "of the span",
    ]


def test_no_request_sees_the_user_of_another(inbox: Inbox, provider: TracerProvider, tracer: Tracer) -> None:
    async def request(number: int) -> None:
        with posthog.new_context():
            posthog.identify_context(f"user-{number}")
            await asyncio.sleep(0)
            with tracer.start_as_current_span("chat", attributes={**CHAT, "chat_id": f"chat-{number}"}):
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(request(number) for number in range(300)))

    asyncio.run(all_of_them())
    users = {event["properties"]["chat_id"]: event["distinct_id"] for event in generations(inbox, provider)}
    assert users == {f"chat-{number}": f"user-{number}" for number in range(300)}
