"""`max_content_bytes`: no property with content is longer, and a cut one states how much is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.delivery.encoding.truncation import cut_value
from tests.conversion.events.test_properties import JSON_LIKE
from tests.conversion.privacy.test_privacy import Wire, on_disk, running
from tests.support.spans import CHAT, sdk_span

LONG = "word " * 20_000


def messages(*texts: str) -> str:
    return json.dumps([{"role": "user", "content": text} for text in texts])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(LONG, id="text"),
        pytest.param('"' * 5000, id="quotes"),
        pytest.param("ü" * 5000, id="not ascii"),
        pytest.param([{"role": "user", "content": LONG}], id="message"),
        pytest.param([{"role": "user", "content": "short"}] * 500, id="many messages"),
        pytest.param({str(at): "x" * 100 for at in range(500)}, id="object"),
        pytest.param([{"type": "image", "image": "data:image/png;base64," + "A" * 9000}], id="image"),
        pytest.param({"deep": [[[LONG]]]}, id="deep"),
        pytest.param({LONG}, id="a set"),
        pytest.param(["\ud800" * 5000], id="lone surrogates"),
        pytest.param(list(range(5000)), id="numbers"),
    ],
)
@pytest.mark.parametrize("limit", [256, 1000, 4000])
def test_a_long_value_is_cut_to_its_limit_and_states_it(value: Any, limit: int) -> None:
    shorter = orjson.dumps(cut_value(value, limit))
    assert len(shorter) <= limit
    assert re.search(r"\[cut: \d+ (?:characters|items)\]|bytes, cut to fit", shorter.decode())


@given(value=JSON_LIKE | st.text(min_size=300), limit=st.integers(256, 600))
def test_any_value_fits_and_what_fitted_is_the_same_object(value: Any, limit: int) -> None:
    shorter = cut_value(value, limit)
    assert len(orjson.dumps(shorter)) <= limit
    if len(orjson.dumps(value)) <= limit:
        assert shorter is value


def test_each_field_has_the_limit_and_what_is_shorter_stays_whole() -> None:
    wire = Wire()
    attributes = {
        **CHAT,
        "gen_ai.input.messages": messages(LONG, "short question"),
        "gen_ai.output.messages": messages("x" * 900),
        "posthog.property.plan": "y" * 5000,
    }
    with running(wire, max_content_bytes=1000, events="ai") as forwarder:
        forwarder.end(sdk_span(attributes))
        assert forwarder.flush(60)
    [event] = json.loads(wire.bytes[-1])["batch"]
    properties = event["properties"]
    assert len(orjson.dumps(properties["$ai_input"])) <= 1000
    assert "[cut: " in properties["$ai_input"][0]["content"]
    assert properties["$ai_input"][1]["content"] == "short question"
    assert properties["$ai_output_choices"] == [{"role": "user", "content": "x" * 900}]
    assert properties["plan"] == "y" * 5000


def test_the_text_of_an_error_and_a_value_that_a_mask_lengthened_are_cut_too() -> None:
    wire = Wire()
    with running(
        wire, max_content_bytes=300, mask=lambda value, path, event: LONG if "error" in path else value
    ) as forwarder:
        forwarder.end(sdk_span({**CHAT, "error.type": "Oops", "gen_ai.input.messages": messages("hi")}))
        assert forwarder.flush(60)
    events = [event for body in wire.bytes[2::3] for event in json.loads(body)["batch"]]
    cut = [
        event["properties"].get("$ai_error") or event["properties"].get("error_message") for event in events
    ]
    assert [len(text) <= 300 and "[cut: " in text for text in cut if text] == [True, True]


def test_what_waits_on_disk_is_cut_when_it_is_sent(tmp_path: Path) -> None:
    wire = Wire(up=False)
    attributes = {**CHAT, "gen_ai.input.messages": messages(LONG)}
    with running(wire, spool_dir=tmp_path, durability="always", max_content_bytes=1000) as forwarder:
        forwarder.end(sdk_span(attributes))
    assert LONG[:2000].encode() in on_disk(tmp_path)
    wire = Wire()
    with running(wire, spool_dir=tmp_path, max_content_bytes=1000) as forwarder:
        assert forwarder.flush(60)
    sent = b"".join(wire.bytes)
    assert b"[cut: " in sent
    assert LONG[:1200].encode() not in sent


def test_no_event_is_limited_as_a_whole() -> None:
    wire = Wire()
    attributes = {**CHAT, **{f"posthog.property.p{at}": "z" * 100 for at in range(50)}}
    with running(wire, max_content_bytes=256, events="ai") as forwarder:
        forwarder.end(sdk_span({**attributes, "gen_ai.input.messages": messages("short")}))
        assert forwarder.flush(60)
    assert b"[cut: " not in b"".join(wire.bytes)
