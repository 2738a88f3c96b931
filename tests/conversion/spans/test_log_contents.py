"""Content that came as log records joins the span of its call, within bounds."""

from __future__ import annotations

import pytest

from otel_posthog.conversion.spans.log_contents import MAX_EVENTS, LogContents
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView
from tests.support.spans import CHAT, make_view

HELLO = SpanEvent("gen_ai.user.message", 1, {"body": {"content": "hello"}})
VIEW: SpanView = make_view(CHAT)


def content(event: SpanEvent = HELLO, view: SpanView = VIEW) -> LogContent:
    return LogContent(view.trace_id, view.span_id, event, {})


def test_content_joins_its_span() -> None:
    contents = LogContents()
    contents.remember(content(), 0.0)
    assert contents.joined(VIEW, 1.0).events == [HELLO]


def test_content_joins_no_other_span() -> None:
    contents = LogContents()
    contents.remember(content(), 0.0)
    other = VIEW._replace(span_id="0" * 15 + "1")
    assert contents.joined(other, 1.0) is other


def test_content_joins_no_span_of_another_owner() -> None:
    contents = LogContents()
    contents.remember(content(), 0.0, "a")
    assert contents.joined(VIEW, 1.0, "b") is VIEW


def test_content_that_is_sent_again_is_there_once() -> None:
    contents = LogContents()
    for _ in range(2):
        contents.remember(content(), 0.0)
    assert contents.joined(VIEW, 1.0).events == [HELLO]


def test_a_span_that_is_sent_again_gets_its_content_again() -> None:
    contents = LogContents()
    contents.remember(content(), 0.0)
    assert contents.joined(VIEW, 1.0) == contents.joined(VIEW, 2.0)


def test_a_span_with_messages_of_its_own_gets_no_others() -> None:
    contents = LogContents()
    contents.remember(content(), 0.0)
    own = VIEW._replace(events=[SpanEvent("gen_ai.user.message", 1, {"content": "hello"})])
    assert contents.joined(own, 1.0) is own


@pytest.mark.parametrize(("age", "is_there"), [(59.0, True), (61.0, False)])
def test_content_waits_for_a_minute(age: float, is_there: bool) -> None:
    contents = LogContents()
    contents.remember(content(), 0.0)
    assert bool(contents.joined(VIEW, age).events) is is_there


def test_what_waits_for_one_span_is_bounded() -> None:
    contents = LogContents()
    for number in range(MAX_EVENTS + 1):
        contents.remember(content(SpanEvent("gen_ai.user.message", number, {})), 0.0)
    assert len(contents.joined(VIEW, 1.0).events) == MAX_EVENTS


def test_what_waits_is_bounded_in_bytes() -> None:
    contents = LogContents(max_bytes=100_000)
    for number in range(1000):
        event = SpanEvent("gen_ai.user.message", number, {"body": "x" * 1000})
        contents.remember(content(event, VIEW._replace(span_id=format(number, "016x"))), 0.0)
    assert 20 < len(contents) < 100
