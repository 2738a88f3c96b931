"""Calls wait for the spans above them for the length of the window, and once a trace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from otel_posthog.conversion.spans.span_view import ContextSpan
from otel_posthog.gateway.trace_window import TraceWindow
from tests.gateway.support import Gate, body_of, gate
from tests.support.spans import CHAT, PARENT_ID, SPAN_ID, make_view, sdk_span

TRACE, CHILD, PARENT, ROOT = "1" * 32, "c" * 16, "b" * 16, "a" * 16
LONG = 60.0


def call(parent: str | None = PARENT, span: str = CHILD, trace: str = TRACE, **attributes: Any) -> Any:
    return make_view(attributes, trace_id=trace, span_id=span, parent_id=parent)


def other(span: str, parent: str | None = None, trace: str = TRACE, **attributes: Any) -> ContextSpan:
    return ContextSpan(trace, span, parent, attributes)


class Clock:
    """A clock that the test moves; the window reads it when something changes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def waiting() -> Iterator[Callable[[Callable[[], Any]], Callable[[], Any]]]:
    """Return a function that starts work on a thread, and returns a function that waits for the result."""
    threads: list[threading.Thread] = []

    def begin(work: Callable[[], Any]) -> Callable[[], Any]:
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(work()))
        thread.start()
        threads.append(thread)

        def result() -> Any:
            thread.join(30)
            return results[0]

        return result

    yield begin
    for thread in threads:
        thread.join(30)


def _is_waited_for(window: TraceWindow, spans: int) -> None:
    """Wait until the window holds so many spans, those of waiting requests included."""
    with window._changed:
        assert window._changed.wait_for(lambda: len(window) >= spans, 30)


def test_spans_of_earlier_requests_are_above(waiting: Any) -> None:
    window = TraceWindow(LONG)
    window.above([], [other(PARENT, ROOT), other(ROOT, feature="meme")])
    assert window.above([call()], []) == [other(PARENT, ROOT), other(ROOT, feature="meme")]


def test_a_call_waits_for_all_that_is_above_it(waiting: Any) -> None:
    window = TraceWindow(LONG)
    result = waiting(lambda: window.above([call()], []))
    _is_waited_for(window, 1)
    window.above([], [other(PARENT, ROOT)])
    window.above([], [other(ROOT, feature="meme")])
    assert result() == [other(PARENT, ROOT), other(ROOT, feature="meme")]


def test_a_call_at_the_top_or_with_all_above_it_does_not_wait() -> None:
    window = TraceWindow(LONG)
    assert window.above([call(parent=None)], []) == []
    assert window.above([call(span="d" * 16)], [other(PARENT, None)]) == [other(PARENT, None)]


def test_calls_inherit_from_calls_in_other_requests() -> None:
    window = TraceWindow(LONG)
    window.above([call(parent=None, span=PARENT, feature="agent", prompt="secret")], [])
    assert window.above([call()], []) == [
        ContextSpan(TRACE, PARENT, None, {"feature": "agent"}, is_genai=True)
    ]


def test_spans_of_another_trace_are_not_above() -> None:
    window = TraceWindow(0.01)
    window.above([], [other(PARENT, None, trace="2" * 32, feature="of another")])
    assert window.above([call()], []) == []


def test_a_cycle_of_parents_ends() -> None:
    window = TraceWindow(LONG)
    assert len(window.above([call()], [other(PARENT, ROOT), other(ROOT, PARENT)])) == 2


def test_after_the_window_the_call_continues_and_its_trace_is_not_awaited_again() -> None:
    window = TraceWindow(0.01)
    assert window.above([call()], []) == []
    window._seconds = LONG
    assert window.above([call(span="d" * 16)], []) == []


def test_spans_older_than_the_window_expire() -> None:
    clock = Clock()
    window = TraceWindow(LONG, clock=clock)
    window.above([], [other(ROOT)])
    clock.now = LONG + 1
    window.above([], [other(PARENT, ROOT)])
    assert len(window) == 1


def test_the_number_of_spans_in_the_window_is_limited() -> None:
    window = TraceWindow(LONG, max_spans=10)
    window.above([], [other(format(number, "016x")) for number in range(100)])
    assert len(window) == 10


def test_the_number_of_bytes_in_the_window_is_limited() -> None:
    window = TraceWindow(LONG, max_bytes=10_000)
    window.above([], [other(format(number, "016x"), user="u" * 4000) for number in range(100)])
    window.above([], [other(format(99, "016x"), user="u" * 4000)] * 100)  # a repeated span counts once
    assert len(window) == 2
    window.above([], [other(ROOT, user=["u" * 20_000])])
    assert len(window) == 0


def test_a_long_chain_of_parents_is_walked_once() -> None:
    window = TraceWindow(0.01)
    ids = [format(number, "016x") for number in range(1, 20_002)]
    began = time.process_time()
    chain = [call(parent, span) for span, parent in pairwise(ids)]
    assert len(window.above(chain, [])) == 19_999
    assert time.process_time() - began < 5  # it took a minute, and four for twice as many


def test_after_close_no_request_waits(waiting: Any) -> None:
    window = TraceWindow(LONG)
    result = waiting(lambda: window.above([call()], []))
    _is_waited_for(window, 1)
    window.close()
    assert result() == []
    assert window.above([call(span="d" * 16, trace="2" * 32)], []) == []


def test_attributes_of_feature_rules_are_kept() -> None:
    window = TraceWindow(LONG, frozenset({"http.route"}))
    window.above([make_view({"http.route": "/memes", "x": 1}, trace_id=TRACE, span_id=PARENT)], [])
    assert window.above([call()], [])[0].attributes == {"http.route": "/memes"}


# --- through the gateway -----------------------------------------------------------------------------

ROOT_SPAN = sdk_span({"user.id": "u-1", "http.route": "/memes"}, span_id=PARENT_ID, parent=False)


def _posted(gateway: Gate, *spans: Any) -> int:
    return gateway.client.post(body_of(*spans)).status


def test_a_call_inherits_the_user_of_a_later_root(waiting: Any) -> None:
    with gate(window_seconds=LONG, features={"http.route": {"/memes": "meme"}}) as gateway:
        window = gateway.request_handler.projects.by_name[""]._window
        assert window is not None
        status = waiting(lambda: _posted(gateway, sdk_span()))
        _is_waited_for(window, 1)
        assert gateway.server.requests == []  # nothing is acknowledged, nothing sent
        assert _posted(gateway, ROOT_SPAN) == 200
        assert status() == 200
    [event] = gateway.server.events
    assert event["distinct_id"] == "u-1"
    assert event["properties"]["feature"] == "meme"


def test_without_a_window_nothing_is_inherited_across_requests() -> None:
    with gate() as gateway:
        assert [_posted(gateway, ROOT_SPAN), _posted(gateway, sdk_span())] == [200, 200]
    assert gateway.server.events[0]["distinct_id"] != "u-1"


def test_the_privacy_of_a_later_root_is_inherited(waiting: Any) -> None:
    root = sdk_span({"posthog.privacy_mode": True}, span_id=PARENT_ID, parent=False)
    content = {**CHAT, "gen_ai.prompt.0.content": "canary", "gen_ai.prompt.0.role": "user"}
    with gate(window_seconds=LONG) as gateway:
        window = gateway.request_handler.projects.by_name[""]._window
        assert window is not None
        status = waiting(lambda: _posted(gateway, sdk_span(content, span_id=SPAN_ID)))
        _is_waited_for(window, 1)
        _posted(gateway, root)
        assert status() == 200
    assert len(gateway.server.events) == 1
    assert "canary" not in str(gateway.server.requests)
