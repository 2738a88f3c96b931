"""Spans read one at a time from bytes are those that protobuf reads all at once."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.conversion.spans import otlp_stream
from otel_posthog.conversion.spans.otlp_json import views_of_json_request
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.otlp_stream import views_of_request_bytes
from otel_posthog.conversion.spans.span_view import SpanView
from tests.support.otlp_json import otlp_json
from tests.support.spans import CHAT, otlp_request, sdk_span

_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_SPANS = st.builds(
    lambda attributes, is_ours, span_id, status: sdk_span(
        {**attributes, **(CHAT if is_ours else {})}, span_id=span_id, message=status
    ),
    st.dictionaries(st.text(max_size=20) | st.just("posthog.feature"), _VALUES, max_size=6),
    st.booleans(),
    st.integers(1, 2**64 - 1),
    st.text(max_size=10),
)


@settings(deadline=None)
@given(st.lists(_SPANS, max_size=5))
def test_bytes_give_the_views_that_the_message_gives(spans: list[Any]) -> None:
    request = otlp_request(*spans)
    assert [*views_of_request_bytes(request.SerializeToString())] == [*views_of_request(request)]


@settings(deadline=None)
@given(st.lists(_SPANS, min_size=1, max_size=2), st.data())
def test_damaged_bytes_give_spans_or_a_decode_error(spans: list[Any], data: st.DataObject) -> None:
    body = bytearray(otlp_request(*spans).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    with contextlib.suppress(DecodeError):
        [*views_of_request_bytes(cut)]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_spans_or_a_decode_error(body: bytes) -> None:
    try:
        ours: list[Any] | None = [*views_of_request_bytes(body)]
    except DecodeError:
        ours = None
    try:
        theirs: list[Any] | None = [*views_of_request(ExportTraceServiceRequest.FromString(body))]
    except DecodeError:
        theirs = None
    # We do not look into unknown fields, so we may accept more; a request that protobuf reads, we read alike.
    assert theirs is None or ours == theirs


def _field(number: int, content: bytes) -> bytes:
    size, varint = len(content), bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes(varint) + bytes([size]) + content


def test_spans_have_the_resource_that_comes_after_them() -> None:
    group = otlp_request(sdk_span(resource={"service.name": "late"})).resource_spans[0]
    below = _field(2, group.scope_spans[0].SerializeToString())
    body = _field(1, below + _field(1, group.resource.SerializeToString()))
    [view] = views_of_request_bytes(body)
    assert isinstance(view, SpanView)
    assert view.resource == {"service.name": "late"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x0a", id="a field without its size"),
        pytest.param(b"\x0a\x05ab", id="a field longer than the request"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="a size that does not end"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x02\x00", id="a field with the number 0"),
        pytest.param(_field(1, _field(2, _field(2, b"\x0a\x03a"))), id="a span that is cut off"),
        pytest.param(_field(1, _field(2, _field(2, _field(5, b"\xff")))), id="a name that is no UTF-8"),
        pytest.param(b"not protobuf at all", id="text"),
    ],
)
def test_bytes_that_are_no_request_raise_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError):
        [*views_of_request_bytes(body)]


def test_too_many_spans_raise_a_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_stream, "MAX_SPANS", 2)
    body = otlp_request(*[sdk_span()] * 3).SerializeToString()
    with pytest.raises(DecodeError, match="2 spans at most"):
        [*views_of_request_bytes(body)]
    assert len([*views_of_request_bytes(otlp_request(*[sdk_span()] * 2).SerializeToString())]) == 2


def test_a_large_span_of_too_many_parts_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_stream, "SMALL", 100)
    monkeypatch.setattr(otlp_stream, "MAX_PARTS", 1000)
    empty_attributes = _field(9, b"") * 2000
    with pytest.raises(DecodeError, match="too many fields"):
        [*views_of_request_bytes(_field(1, _field(2, _field(2, empty_attributes))))]
    long_text = otlp_request(sdk_span({**CHAT, "gen_ai.prompt": "a, b " * 5000})).SerializeToString()
    assert len([*views_of_request_bytes(long_text)]) == 1
    numbers = otlp_request(sdk_span({**CHAT, "x": [1.0] * 400})).SerializeToString()
    assert len([*views_of_request_bytes(numbers)]) == 1


def test_messages_nested_too_deeply_raise_a_decode_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_stream, "SMALL", 100)
    value = b""
    for _ in range(200):
        value = _field(5, _field(1, value))
    with pytest.raises(DecodeError, match="100 messages within each other"):
        [*views_of_request_bytes(_field(1, _field(2, _field(2, _field(9, _field(2, value))))))]


_RESOURCE = _field(1, b"".join(_field(1, _field(1, b"name %d" % number)) for number in range(10_000)))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x0a\x00" * 4_000_000, id="resources"),
        pytest.param(_field(1, b"\x12\x00" * 4_000_000), id="scopes"),
        pytest.param(_field(1, _RESOURCE + b"\x12\x00" * 4_000_000), id="scopes of a large resource"),
        pytest.param(_field(1, _field(2, b"\x12\x00" * 4_000_000)), id="spans"),
        pytest.param(b"\x10\x00" * 4_000_000, id="unknown"),
        pytest.param(
            _field(1, _field(2, _field(2, _field(9, b"\x18\x00" * 4_000_000)))), id="unknown, within a span"
        ),
    ],
)
def test_countless_empty_messages_take_neither_time_nor_memory(body: bytes) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="too many fields"):
            [*views_of_request_bytes(body)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 1024 * 1024
    assert time.process_time() - began < 15  # one with scopes of a large resource took hours


def test_a_resource_is_read_once_for_all_its_scopes() -> None:
    span = otlp_request(sdk_span()).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    body = _field(1, _RESOURCE + _field(2, _field(2, span)) * 1000)
    views = [each for each in views_of_request_bytes(body) if isinstance(each, SpanView)]
    assert len(views) == 1000
    assert len({id(view.resource) for view in views}) == 1


def test_the_name_of_a_scope_is_cut() -> None:
    request = otlp_request(sdk_span())
    request.resource_spans[0].scope_spans[0].scope.name = "x" * 1_000_000
    [view] = views_of_request_bytes(request.SerializeToString())
    assert isinstance(view, SpanView)
    assert view.scope == "x" * 1000
    [same] = views_of_json_request(otlp_json(request))
    assert isinstance(same, SpanView)
    assert same.scope == view.scope
