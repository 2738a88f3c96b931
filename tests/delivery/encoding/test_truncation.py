from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.delivery.encoding.truncation import MIN_EVENT_BYTES, cut_text, escaped_size, fit
from tests.delivery.support import event

LIMIT = 20_000


def fitted(original: dict[str, Any], limit: int = LIMIT) -> dict[str, Any]:
    data = fit(orjson.dumps(original), limit)
    assert len(data) <= limit
    result: dict[str, Any] = json.loads(data)
    for name in ("event", "uuid", "distinct_id", "timestamp"):
        assert result[name] == original[name]
    return result


def test_an_event_at_its_limit_is_left_alone() -> None:
    data = orjson.dumps(event(text="x" * 30_000))
    assert fit(data, len(data)) is data


def test_one_byte_more_is_cut() -> None:
    data = orjson.dumps(event(text="x" * 30_000))
    assert len(fit(data, len(data) - 1)) <= len(data) - 1


def test_the_longest_string_is_cut_with_a_note_of_how_much() -> None:
    result = fitted(event(a="a" * 1000, b="b" * 50_000))["properties"]
    assert result["a"] == "a" * 1000
    start, note = result["b"].split("…")
    assert note == f"[cut: {50_000 - len(start)} characters]"
    assert len(start) > 18_000


def test_strings_are_cut_to_one_length() -> None:
    result = fitted(event(a="a" * 4000, b="b" * 40_000, c=[{"text": "c" * 70_000}]))["properties"]
    assert result["a"] == "a" * 4000
    assert abs(len(result["b"]) - len(result["c"][0]["text"])) < 4


@pytest.mark.parametrize("character", ["é", "\N{GRINNING FACE}", '"', "\\", "\n", "\x01", "\u2028"])
def test_a_cut_never_splits_a_character_or_an_escape(character: str) -> None:
    for limit in range(64, 80):
        text = cut_text(character * 1000, limit)
        assert len(orjson.dumps(text)) <= limit
        start, note = text.split("…")
        assert start == character * len(start)
        assert note == f"[cut: {1000 - len(start)} characters]"


def test_a_list_of_many_small_items_keeps_its_ends_and_notes_the_rest() -> None:
    items = fitted(event(items=list(range(100_000))))["properties"]["items"]
    gap = next(at for at, item in enumerate(items) if isinstance(item, str))
    assert items[gap] == f"…[cut: {100_000 - len(items) + 1} items]"
    assert items[:gap] == list(range(gap))
    assert items[-1] == 99_999
    assert len(items) > 1000


def test_a_list_of_middling_items_keeps_all_of_them_in_part() -> None:
    messages = [{"role": "user", "content": ["word"] * 500} for _ in range(50)]
    kept = fitted(event(messages=messages))["properties"]["messages"]
    assert [message["role"] for message in kept] == ["user"] * 50


def test_an_object_of_many_small_properties_keeps_those_of_posthog() -> None:
    original = event(**{f"p{number}": number for number in range(100_000)})
    original["properties"]["$ai_span_id"] = "the last, and longer than the others"
    result = fitted(original)["properties"]
    assert result["$ai_trace_id"] == "trace-1"
    assert result["$ai_span_id"] == "the last, and longer than the others"
    assert result["…"] == f"[cut: {100_002 - len(result) + 1} items]"


def test_a_huge_key_is_dropped_and_counted() -> None:
    result = fitted(event(**{"k" * 50_000: 1}))["properties"]
    assert result == {"$ai_trace_id": "trace-1", "…": "[cut: 1 items]"}


def test_a_huge_name_is_cut_and_the_ids_stay() -> None:
    original = event("n" * 50_000)
    result = json.loads(fit(orjson.dumps(original), MIN_EVENT_BYTES))
    assert result["uuid"] == original["uuid"]
    assert result["properties"] == original["properties"]
    assert result["event"].startswith("nnn")


def test_properties_that_are_no_object_are_cut_too() -> None:
    original = {**event(), "properties": "x" * 50_000}
    assert fitted(original)["properties"].endswith("characters]")


def test_quotes_count_twice_in_the_message_of_the_server() -> None:
    data = orjson.dumps(event(quotes='"' * 30_000, text="x" * 30_000))
    assert escaped_size(data) == len(orjson.dumps(data.decode())) - 2
    result = fit(data, 50_000, escaped_size)
    assert 40_000 < escaped_size(result) <= 50_000


def test_the_rest_may_have_more_quotes_than_the_part_that_was_cut() -> None:
    original = event(quotes=['"' * 200] * 100, text="x" * 1_000_000)
    for limit in range(40_000, 120_000, 10_000):
        result = fit(orjson.dumps(original), limit, escaped_size)
        assert limit // 4 < escaped_size(result) <= limit


@pytest.mark.parametrize(
    "properties",
    [
        {"one": "x" * 20_000_000},
        {"escapes": '"\n' * 5_000_000},
        {"many": ["y" * 200] * 100_000},
        {"many": {str(number): "y" * 200 for number in range(100_000)}},
        {"long": ["z" * 2_000] * 10_000},
        {"numbers": list(range(2_000_000))},
    ],
    ids=["one string", "escapes", "small strings", "small properties", "long strings", "numbers"],
)
def test_a_huge_event_is_cut_in_linear_time(properties: dict[str, Any]) -> None:
    data = orjson.dumps(event(**properties))
    started = time.perf_counter()
    result = fit(data, 983_040)
    # Linear is well under a second here; quadratic would be hours.
    assert time.perf_counter() - started < 20
    assert 900_000 < len(result) <= 983_040


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
long_texts = st.builds(lambda text, times: text * times, st.text(min_size=1), st.integers(1, 3000))
MAX_BYTES = 1_000_000


def repeated(item: Any, times: int) -> list[Any]:
    """Return the item repeated, as often as keeps the list small: repetitions within repetitions multiply."""
    return [item] * min(times, MAX_BYTES // len(orjson.dumps(item)) + 1)


json_values = st.recursive(
    scalars | st.text() | long_texts,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.text(), inner, max_size=8),
        st.builds(repeated, inner, st.integers(1, 40)),
    ),
    max_leaves=8,
)


@given(
    properties=st.dictionaries(st.text(), json_values),
    distinct_id=st.text() | st.text(min_size=1).map(lambda text: text * 3000),
    limit=st.integers(MIN_EVENT_BYTES, 30_000),
    size=st.sampled_from([len, escaped_size]),
)
@settings(deadline=None, max_examples=150)
def test_any_event_ends_within_its_limit_as_valid_json(
    properties: dict[str, Any], distinct_id: str, limit: int, size: Any
) -> None:
    original = {**event(), "distinct_id": distinct_id, "properties": properties}
    result = fit(orjson.dumps(original), limit, size)
    assert size(result) <= limit
    assert json.loads(result)["uuid"] == original["uuid"]


def image(size: int) -> str:
    return "data:image/png;base64," + "A" * size


def test_an_image_stays_whole_or_is_dropped_whole_the_largest_first() -> None:
    original = event(text="t" * 1000, images=[image(9_000), image(12_000), image(4_000)])
    result = fitted(original)["properties"]
    assert result["text"] == "t" * 1000
    assert result["images"] == [image(9_000), "[image/png: 9000 bytes, cut to fit]", image(4_000)]


def test_text_is_cut_only_when_no_image_is_left() -> None:
    result = fitted(event(text="t" * 30_000, image=image(12_000)))["properties"]
    assert result["image"] == "[image/png: 9000 bytes, cut to fit]"
    assert result["text"].startswith("t" * 15_000)
