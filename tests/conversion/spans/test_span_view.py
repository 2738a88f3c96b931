from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind, StatusCode

from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.packed_span import pack, unpack
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span
from otel_posthog.conversion.spans.span_view import SpanView
from tests.support.spans import CHAT, START, otlp_request, sdk_span

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=10,
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1), VALUES, max_size=8).map(lambda drawn: {**CHAT, **drawn})


class Level(str, Enum):
    HIGH = "high"


def the_view(view: SpanView | None) -> SpanView:
    assert view is not None
    return view


def from_otlp(*spans: Any) -> list[SpanView]:
    return [view for view in views_of_request(otlp_request(*spans)) if isinstance(view, SpanView)]


@given(attributes=ATTRIBUTES)
def test_a_span_looks_the_same_from_the_sdk_from_otlp_and_after_waiting(attributes: dict[str, Any]) -> None:
    span = sdk_span(
        attributes,
        status=StatusCode.ERROR,
        message="no",
        events=(("exception", START + 5, {"exception.type": "X", "parts": ["a", "b"]}),),
        resource={"service.name": "chat-api", "hosts": ["a", "b"]},
    )
    view = the_view(view_of_sdk_span(span))
    assert from_otlp(span) == [view]
    packed = pack(span)
    assert packed is not None
    assert unpack(packed) == view


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (("a", "b"), ["a", "b"]),
        ({"a": ("b", {"c": 1})}, {"a": ["b", {"c": 1}]}),
        (Level.HIGH, "high"),
        ([Level.HIGH], ["high"]),
        (b"\x00\xff", b"\x00\xff"),
        (None, None),
        (True, True),
        (2**62, 2**62),
        (0.1, 0.1),
    ],
)
def test_a_value_arrives_in_plain_types(value: Any, expected: Any) -> None:
    span = sdk_span({**CHAT, "x": value})
    packed = pack(span)
    assert packed is not None
    for view in (the_view(view_of_sdk_span(span)), from_otlp(span)[0], unpack(packed)):
        assert view.attributes["x"] == expected
        assert type(view.attributes["x"]) is type(expected)


@pytest.mark.parametrize("odd", ["\ud800 lone surrogate", 2**80, {1: "number as key"}, float("inf")])
def test_a_span_with_a_value_that_json_cannot_hold_is_packed_all_the_same(odd: Any) -> None:
    packed = pack(sdk_span({**CHAT, "x": odd}))
    assert packed is not None
    assert unpack(packed).attributes["gen_ai.request.model"] == "gpt-5.1"


def test_kind_ids_resource_and_scope_are_in_the_view() -> None:
    view = the_view(view_of_sdk_span(sdk_span(kind=SpanKind.INTERNAL, end=None)))
    assert view.kind == "INTERNAL"
    assert view.end_ns is None
    assert view.trace_id == "1ccef0580a178f3612a542518f9fff59"
    assert view.span_id == "9e2bf42f9f53215a"
    assert view.parent_id == "3a341e0a2bbd6f7b"
    assert view.resource == {"service.name": "chat-api"}
    assert (view.scope, view.scope_version) == ("otel_posthog.openai", "0.1.0")


@pytest.mark.parametrize(
    "attributes", [{}, {"http.method": "GET"}, {"llm": 1}, {"gen_ai.conversation.id": "c"}]
)
def test_a_span_about_no_model_agent_or_tool_is_no_genai_span(attributes: dict[str, Any]) -> None:
    span = sdk_span(attributes)
    assert view_of_sdk_span(span) is None
    assert pack(span) is None
    assert from_otlp(span) == []


def test_a_packed_span_does_not_change_with_the_span() -> None:
    mutable = {"list": ["a"]}
    span = sdk_span({**CHAT, "x": mutable})
    packed = pack(span)
    mutable["list"].append("b")
    assert packed is not None
    assert unpack(packed).attributes["x"] == {"list": ["a"]}


def test_the_size_of_a_packed_span_grows_with_its_texts() -> None:
    small, large = pack(sdk_span()), pack(sdk_span({**CHAT, "gen_ai.input.messages": "x" * 100_000}))
    assert small is not None
    assert large is not None
    assert 100_000 <= large.size - small.size <= 110_000
