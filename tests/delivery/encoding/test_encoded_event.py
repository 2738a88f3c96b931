from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.delivery.encoding.encoded_event import EncodedEvent, batches
from otel_posthog.delivery.encoding.truncation import escaped_size
from otel_posthog.delivery.http.routes import AI, EVENTS, FALLBACK_SECONDS, Route, Routes
from tests.delivery.support import Clock, event


def events_of_length(*lengths: int) -> list[EncodedEvent]:
    encoded = [EncodedEvent.of_event(event()) for _ in lengths]
    for each, length in zip(encoded, lengths, strict=True):
        each.data = b"x" * length
    return encoded


@pytest.mark.parametrize(
    ("lengths", "grouped"),
    [
        ([], []),
        ([10], [[10]]),
        ([49, 49], [[49, 49]]),
        ([49, 50], [[49], [50]]),
        ([500], [[500]]),
        ([10, 500, 10], [[10], [500], [10]]),
        ([1, 1, 1, 1, 1, 1, 1], [[1, 1, 1], [1, 1, 1], [1]]),
    ],
)
def test_a_batch_ends_at_100_bytes_or_3_events(lengths: list[int], grouped: list[list[int]]) -> None:
    grouped_events = batches(events_of_length(*lengths), max_bytes=100, max_events=3)
    assert [[len(each.data) for each in batch] for batch in grouped_events] == grouped


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("$ai_generation", "/i/v0/ai/batch/"),
        ("$ai_anything_new", "/i/v0/ai/batch/"),
        ("llm_completion_success", "/batch/"),
        ("$aid", "/batch/"),
        ("$pageview", "/batch/"),
    ],
)
def test_an_event_goes_by_the_route_of_its_name(name: str, path: str) -> None:
    assert Routes(Clock()).for_event(name).path == path


def test_a_missing_ai_route_is_remembered_for_ten_minutes() -> None:
    clock = Clock()
    routes = Routes(clock)
    routes.ai_is_missing()
    clock.seconds += FALLBACK_SECONDS - 0.001
    assert routes.for_event("$ai_span") is EVENTS
    clock.seconds += 0.001
    assert routes.for_event("$ai_span") is AI


def fitted(original: dict[str, Any], route: Route) -> EncodedEvent:
    each = EncodedEvent.of_event(original)
    each.fit(route.max_event_bytes, route.size)
    return each


def test_an_event_is_cut_to_the_limit_of_its_route() -> None:
    quotes = event(text='"' * 400_000)  # 800 kB as JSON, 1.6 MB in PostHog's message
    assert not fitted(quotes, AI).cut
    each = fitted(quotes, EVENTS)
    assert each.cut
    assert escaped_size(each.data) <= 983_040


def test_a_second_cut_counts_from_the_whole() -> None:
    each = EncodedEvent.of_event(event(text="x" * 100_000))
    assert each.halve()
    assert each.halve()
    start, note = json.loads(each.data)["properties"]["text"].split("…")
    assert note == f"[cut: {100_000 - len(start)} characters]"
    assert len(each.data) <= 26_000


def test_a_small_event_is_not_halved() -> None:
    assert not EncodedEvent.of_event(event()).halve()


def test_an_event_is_read_back_from_its_bytes() -> None:
    each = EncodedEvent.of_event(event("llm_completion_failed"))
    again = EncodedEvent.of_bytes(each.data)
    assert (again.name, again.data, again.size) == (each.name, each.data, each.size)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"{}", b'{"event":1}', b"\xff"])
def test_bytes_that_are_no_event_are_rejected(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        EncodedEvent.of_bytes(data)
