from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.events.message_rendering import render_messages
from otel_posthog.conversion.privacy.media import replace_media, storing
from otel_posthog.conversion.span_reader import read_call
from tests.support.spans import make_view

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
    assert replace_media(value) == cleaned


@given(data=st.binary(min_size=600, max_size=2000), depth=st.integers(0, 30), uri=st.booleans())
def test_no_base64_stays_however_deep_it_is(data: bytes, depth: int, uri: bool) -> None:
    text = base64.b64encode(data).decode()
    value: Any = f"data:image/png;base64,{text}" if uri else text
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    assert text not in json.dumps(replace_media(value))


def test_a_structure_without_end_is_cut() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    assert "[nested too deeply]" in json.dumps(replace_media(deep))


def test_the_value_is_not_changed_in_place() -> None:
    value = {"a": ["data:image/png;base64,AAAA"]}
    replace_media(value)
    assert value == {"a": ["data:image/png;base64,AAAA"]}


PNG = b"\x89PNG" + bytes(range(256)) * 4
BASE64 = base64.b64encode(PNG).decode()


class Shelf:
    """A store that keeps media and returns their URLs."""

    def __init__(self, answer: str | None = "https://media.example/{}") -> None:
        self.given: list[tuple[bytes, str | None]] = []
        self.answer = answer

    def __call__(self, data: bytes, mime_type: str | None) -> str | None:
        self.given.append((data, mime_type))
        return None if self.answer is None else self.answer.format(len(self.given))


IMAGE_SHAPES = [
    pytest.param(
        {"type": "blob", "mime_type": "image/png", "modality": "image", "content": BASE64}, id="blob"
    ),
    pytest.param(
        {"type": "uri", "modality": "image", "uri": f"data:image/png;base64,{BASE64}"}, id="data uri"
    ),
    pytest.param({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}, id="openai"),
    pytest.param(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
        id="anthropic",
    ),
    pytest.param({"inline_data": {"mime_type": "image/png", "data": BASE64}}, id="gemini"),
    pytest.param({"type": "file", "mediaType": "image/png", "data": BASE64}, id="vercel"),
    pytest.param(
        {"type": "image", "mimeType": "image/png", "image": {"type": "Buffer", "data": [*PNG]}}, id="buffer"
    ),
    pytest.param(
        {"type": "image", "mimeType": "image/png", "image": {str(at): byte for at, byte in enumerate(PNG)}},
        id="octets by number",
    ),
]


@pytest.mark.parametrize("part", IMAGE_SHAPES)
def test_a_function_gets_the_media_of_any_shape_and_its_url_stands_there(part: dict[str, Any]) -> None:
    shelf = Shelf()
    [message] = read_call(make_view({"gen_ai.input.messages": [{"role": "user", "parts": [part]}]})).input
    [shown] = render_messages([message], media=storing(shelf))
    assert shelf.given == [(PNG, "image/png")]
    assert shown["content"] == [{"type": "image", "image": "https://media.example/1"}]


@pytest.mark.parametrize("part", IMAGE_SHAPES)
def test_media_stays_whole_without_a_replacer(part: dict[str, Any]) -> None:
    [message] = read_call(make_view({"gen_ai.input.messages": [{"role": "user", "parts": [part]}]})).input
    [shown] = render_messages([message], media=None)
    assert shown["content"] == [{"type": "image", "image": f"data:image/png;base64,{BASE64}"}]


def test_the_same_media_is_given_once() -> None:
    shelf = Shelf()
    replace = storing(shelf)
    assert {replace("image/png", BASE64, None) for _ in range(3)} == {"https://media.example/1"}
    assert len(shelf.given) == 1


def test_only_the_latest_media_are_remembered() -> None:
    shelf = Shelf()
    replace = storing(shelf, remembered=2)
    for data in (b"a", b"b", b"c", b"a"):
        replace("image/png", data, None)
    assert len(shelf.given) == 4


def test_media_that_nobody_keeps_is_a_placeholder() -> None:
    assert storing(Shelf(answer=None))("image/png", BASE64, None) == f"[image: image/png, {len(PNG)} bytes]"


def test_a_url_stands_in_the_place_of_data_within_json() -> None:
    value = {"a": [f"see data:image/png;base64,{BASE64} there"]}
    assert replace_media(value, storing(Shelf())) == {"a": ["see https://media.example/1 there"]}
    assert replace_media({"mime_type": "audio/wav", "data": BASE64}, storing(Shelf()))["data"] == (
        "https://media.example/1"
    )


def test_a_long_text_of_no_known_kind_is_not_given_away() -> None:
    shelf = Shelf()
    assert replace_media(LONG, storing(shelf)) == "[base64: 1024 bytes]"
    assert shelf.given == []
