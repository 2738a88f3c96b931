from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.readers import attribute_values
from otel_posthog.conversion.readers.providers import provider_name

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
READERS = [
    attribute_values.boolean,
    attribute_values.count,
    attribute_values.finish_reasons,
    attribute_values.number,
    attribute_values.parse_json,
    attribute_values.seconds,
    attribute_values.text,
    attribute_values.texts,
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@given(value=ANYTHING)
def test_a_reader_never_raises(reader: Any, value: Any) -> None:
    reader(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12, 12),
        (0, 0),
        ("12", 12),
        (12.0, 12),
        (True, None),
        (-1, None),
        (1.5, None),
        ("many", None),
        ("", None),
        (2**60, None),
        (math.nan, None),
        (math.inf, None),
        (None, None),
        ([12], None),
    ],
)
def test_a_count(value: Any, expected: int | None) -> None:
    assert attribute_values.count(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.5),
        ("0.5", 0.5),
        (40.0, 40),
        (1, 1),
        (False, None),
        ("nan", None),
        (b"1", None),
        (10**400, None),
    ],
)
def test_a_number(value: Any, expected: float | None) -> None:
    assert attribute_values.number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.25, 0.25), (0, 0.0), (-0.1, None), (40_000_000, None), ("1.5", 1.5)]
)
def test_a_duration(value: Any, expected: float | None) -> None:
    assert attribute_values.seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), ("", None), (7, "7"), (7.0, "7"), (0.5, "0.5"), (True, None), (None, None), (["a"], None)],
)
def test_a_text(value: Any, expected: str | None) -> None:
    assert attribute_values.text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["stop"], ["stop"]),
        ("stop", ["stop"]),
        ('["stop", "length"]', ["stop", "length"]),
        (["tool_calls"], ["tool_call"]),
        (["STOP"], ["stop"]),
        (["FinishReason.MAX_TOKENS"], ["length"]),
        (["SAFETY"], ["content_filter"]),
        (["end_turn", "tool_use"], ["stop", "tool_call"]),
        (["FINISH_REASON_UNSPECIFIED"], None),
        (["something_new"], ["something_new"]),
        ([], None),
        (3, None),
    ],
)
def test_finish_reasons_are_in_the_words_of_the_conventions(value: Any, expected: list[str] | None) -> None:
    assert attribute_values.finish_reasons(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('["\\ud800"]', ["\ud800"]),
        ("[NaN, 1]", "a list"),
        ("no json", "no json"),
        ("[" * 100_000, "[" * 100_000),
        ({"a": 1}, {"a": 1}),
        (None, None),
    ],
)
def test_json_is_parsed_and_other_values_stay(value: Any, expected: Any) -> None:
    parsed = attribute_values.parse_json(value)
    if expected == "a list":
        assert math.isnan(parsed[0])
    else:
        assert parsed == expected


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("gemini", "google"),
        ("gcp.gemini", "google"),
        ("gcp.gen_ai", "google"),
        ("gcp.vertex_ai", "vertex"),
        ("azure.ai.openai", "azure"),
        ("aws.bedrock", "bedrock"),
        ("somebody new", "somebody new"),
        ("", None),
        (None, None),
    ],
)
def test_a_provider_goes_by_one_name(reported: str | None, name: str | None) -> None:
    assert provider_name(reported) == name
