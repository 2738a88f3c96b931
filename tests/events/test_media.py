from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.events.media import clean

LONG = base64.b64encode(bytes(range(256)) * 4).decode()
WRAPPED = "\r\n".join(LONG[start : start + 76] for start in range(0, len(LONG), 76))


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("plain text", "plain text"),
        ("see data:image/png;base64,iVBORw0K and more", "see [image: image/png, 6 bytes] and more"),
        ("data:application/pdf;name=a.pdf;base64,AAAA", "[file: application/pdf, 3 bytes]"),
        ("data:;base64,AAAA", "[file: text/plain, 3 bytes]"),
        (LONG, "[base64: 1024 bytes]"),
        (
            {"mime_type": "audio/wav", "data": LONG},
            {"mime_type": "audio/wav", "data": "[audio: audio/wav, 1024 bytes]"},
        ),
        ([{"url": "data:image/gif;base64,AAAA"}], [{"url": "[image: image/gif, 3 bytes]"}]),
        (b"\x00\x01", "[base64: 2 bytes]"),
        (f"this is {LONG} they said", "this is [base64: 1024 bytes] they said"),
        (WRAPPED, "[base64: 1024 bytes]"),
        (json.dumps({"a": WRAPPED})[:-40], '{"a": "[base64: 997 bytes]'),
        (f'{{"image": "{LONG}"', '{"image": "[base64: 1024 bytes]"'),
        (f"DATA:IMAGE/PNG;BASE64,{LONG}", "[image: image/png, 1024 bytes]"),
        ({LONG: 1}, {"[base64: 1024 bytes]": 1}),
        ("x" * 10_000, "x" * 10_000),
        ("testing" * 1000, "testing" * 1000),
        ("https://a.io/" + "b/" * 200, "https://a.io/" + "b/" * 200),
        ("a" * 100, "a" * 100),
        (" ".join(["word"] * 500), " ".join(["word"] * 500)),
        (5, 5),
        (None, None),
    ],
)
def test_base64_becomes_kind_type_and_size(value: Any, cleaned: Any) -> None:
    assert clean(value) == cleaned


@given(data=st.binary(min_size=600, max_size=2000), depth=st.integers(0, 30), uri=st.booleans())
def test_no_base64_stays_however_deep_it_is(data: bytes, depth: int, uri: bool) -> None:
    text = base64.b64encode(data).decode()
    value: Any = f"data:image/png;base64,{text}" if uri else text
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    assert text not in json.dumps(clean(value))


def test_a_structure_without_end_is_cut() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    assert "[nested too deeply]" in json.dumps(clean(deep))


def test_what_is_cleaned_is_not_changed_in_place() -> None:
    value = {"a": ["data:image/png;base64,AAAA"]}
    clean(value)
    assert value == {"a": ["data:image/png;base64,AAAA"]}
