from __future__ import annotations

import json

import pytest

from otel_posthog.delivery.batch import Item, batches
from otel_posthog.delivery.fit import escaped_size
from otel_posthog.delivery.lanes import AI, EVENTS, FALLBACK_SECONDS, Lanes
from tests.delivery.support import Clock, event


def items(*lengths: int) -> list[Item]:
    made = [Item(event(), EVENTS, None) for _ in lengths]
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
    assert Lanes(Clock()).for_event(name).path == path


def test_a_missing_ai_lane_is_remembered_for_ten_minutes() -> None:
    clock = Clock()
    lanes = Lanes(clock)
    lanes.ai_is_missing()
    clock.seconds += FALLBACK_SECONDS - 0.001
    assert lanes.for_event("$ai_span") is EVENTS
    clock.seconds += 0.001
    assert lanes.for_event("$ai_span") is AI


def test_an_item_is_cut_to_what_its_lane_measures() -> None:
    quotes = event(text='"' * 400_000)  # 800 kB as JSON, 1.6 MB in PostHog's message
    assert not Item(quotes, AI, None).cut
    item = Item(quotes, EVENTS, None)
    assert item.cut
    assert escaped_size(item.data) <= 983_040


def test_the_own_bound_counts_where_it_is_smaller() -> None:
    assert len(Item(event(text="x" * 100_000), AI, 50_000).data) <= 50_000


def test_a_second_cut_counts_from_the_whole() -> None:
    item = Item(event(text="x" * 100_000), AI, 50_000)
    assert item.halve()
    start, note = json.loads(item.data)["properties"]["text"].split("…")
    assert note == f"[cut: {100_000 - len(start)} characters]"
    assert len(item.data) <= 25_000


def test_a_small_item_is_not_halved() -> None:
    assert not Item(event(), AI, None).halve()
