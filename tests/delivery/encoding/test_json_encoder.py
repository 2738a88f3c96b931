from __future__ import annotations

import enum
import json
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.delivery.encoding.json_encoder import MAX_DEPTH, encode


class Colour(enum.Enum):
    RED = "red"


class Opaque:
    def __repr__(self) -> str:
        raise RuntimeError


class Hostile(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError


@dataclass
class Point:
    x: int
    y: Any


@pytest.mark.parametrize(
    ("value", "read_back"),
    [
        ("text", "text"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("split \ud83d\ude00 pair", "split \N{GRINNING FACE} pair"),
        ("nul \0 é", "nul \ufffd é"),
        ("the six characters \\u0000", "the six characters \\u0000"),
        (float("nan"), None),
        (float("inf"), None),
        ([float("-inf"), b"x"], [None, "x"]),
        (2**64 - 1, 2**64 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        pytest.param(10**6000, "<int of 19932 bits>", id="beyond printing"),
        (b"text", "text"),
        (b"\xff\x00", "/wA="),
        (bytearray(b"text"), "text"),
        ((1, 2), [1, 2]),
        ({"b"}, ["b"]),
        (deque([1, b"2"]), [1, "2"]),
        (Colour.RED, "red"),
        (Decimal("1.5"), 1.5),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([UUID(int=1), b""], ["00000000-0000-0000-0000-000000000001", ""]),
        (datetime(2026, 1, 2, tzinfo=timezone.utc), "2026-01-02T00:00:00+00:00"),
        ([date(2026, 1, 2), b""], ["2026-01-02", ""]),
        (Point(1, b"y"), {"x": 1, "y": "y"}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({0: "a", None: "b", True: "c"}, {"0": "a", "null": "b", "true": "c"}),
        ({1: "a", "1": "b"}, {"1": "a", "1 #1": "b"}),
        ({(1, 2): "a", b"k": "b"}, {"<tuple>": "a", "k": "b"}),
        ({Colour.RED: "c", 0.5: "d"}, {"red": "c", "0.5": "d"}),
        ({"\ud800": 1}, {"\ufffd": 1}),
        (Opaque(), "<Opaque>"),
        (Opaque, "<type>"),
        (Hostile(a=b""), "<unreadable Hostile>"),
    ],
)  # fmt: skip
def test_a_value_is_read_back_as(value: Any, read_back: Any) -> None:
    assert json.loads(encode({"properties": {"it": value}}))["properties"]["it"] == read_back


def test_a_circular_reference_becomes_a_note() -> None:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    assert json.loads(encode({"properties": value}))["properties"] == {"list": ["<circular>"]}


def test_the_same_object_twice_is_not_circular() -> None:
    shared = [b"x"]
    assert json.loads(encode({"a": shared, "b": shared})) == {"a": ["x"], "b": ["x"]}


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 200, 5000])
def test_values_nested_deeper_than_the_server_reads_become_a_note(levels: int) -> None:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    data = encode({"properties": value})
    assert data.count(b"[") < MAX_DEPTH
    assert b"<nested too deep>" in data


def test_brackets_in_text_are_not_depth() -> None:
    event = {"properties": {"code": "[" * 1000, "nested": [[[1]]]}}
    assert json.loads(encode(event)) == event


foreign = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.decimals(allow_nan=True),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.times(),
    st.uuids(),
    st.just(object()),
    st.sampled_from(Colour),
)
keys = st.one_of(
    st.text(st.characters(exclude_categories=())), st.integers(), st.binary(), st.none(), st.floats()
)
trees = st.recursive(
    foreign,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@given(trees)
def test_anything_encodes_to_json_for_a_strict_reader(value: Any) -> None:
    data = encode({"event": "$ai_span", "properties": value})

    def fail(token: str) -> None:
        raise AssertionError(token)

    read = json.loads(data.decode(), parse_constant=fail)
    assert read["event"] == "$ai_span"
    json.dumps(read, ensure_ascii=False).encode()
    assert "\0" not in json.dumps(read, ensure_ascii=False)
