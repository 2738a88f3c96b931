from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.delivery.encoding.encoded_event import EncodedEvent, batches
from otel_posthog.delivery.encoding.truncation import escaped_size
from otel_posthog.delivery.http.routes import AI, EVENTS, FALLBACK_SECONDS, Route, Routes
from tests.delivery.support import Clock, event


def items(*lengths: int) -> list[EncodedEvent]:
    made = [EncodedEvent.of_event(event()) for _ in lengths]
    for item, length in zip(made, lengths, strict=True):
        item.data = b"x" * length
    return made


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
    made = batches(items(*lengths), max_bytes=100, max_events=3)
    assert [[len(item.data) for item in batch] for batch in made] == grouped


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
def test_an_event_goes_by_the_lane_of_its_name(name: str, path: str) -> None:
    assert Routes(Clock()).for_event(name).path == path


def test_a_missing_ai_lane_is_remembered_for_ten_minutes() -> None:
    clock = Clock()
    routes = Routes(clock)
    routes.ai_is_missing()
    clock.seconds += FALLBACK_SECONDS - 0.001
    assert routes.for_event("$ai_span") is EVENTS
    clock.seconds += 0.001
    assert routes.for_event("$ai_span") is AI


def fitted(made: dict[str, Any], route: Route) -> EncodedEvent:
    item = EncodedEvent.of_event(made)
    item.fit(route.max_event_bytes, route.size)
    return item


def test_an_item_is_cut_to_what_its_lane_measures() -> None:
    quotes = event(text='"' * 400_000)  # 800 kB as JSON, 1.6 MB in PostHog's message
    assert not fitted(quotes, AI).cut
    item = fitted(quotes, EVENTS)
    assert item.cut
    assert escaped_size(item.data) <= 983_040


def test_a_second_cut_counts_from_the_whole() -> None:
    item = EncodedEvent.of_event(event(text="x" * 100_000))
    assert item.halve()
    assert item.halve()
    start, note = json.loads(item.data)["properties"]["text"].split("…")
    assert note == f"[cut: {100_000 - len(start)} characters]"
    assert len(item.data) <= 26_000


def test_a_small_item_is_not_halved() -> None:
    assert not EncodedEvent.of_event(event()).halve()


def test_an_item_is_read_back_from_its_bytes() -> None:
    item = EncodedEvent.of_event(event("llm_completion_failed"))
    again = EncodedEvent.of_bytes(item.data)
    assert (again.name, again.data, again.size) == (item.name, item.data, item.size)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"{}", b'{"event":1}', b"\xff"])
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        EncodedEvent.of_bytes(data)
