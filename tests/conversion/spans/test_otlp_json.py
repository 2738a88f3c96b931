from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_posthog.conversion.spans.otlp_json import views_of_json_request
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from tests.support.otlp_json import otlp_json

# --- protobuf requests -----------------------------------------------------------------------------

UINT64 = st.integers(0, 2**64 - 1)
ENUM: Any = st.integers(0, 6) | st.integers(-(2**31), 2**31 - 1)
VALUES: st.SearchStrategy[AnyValue] = st.recursive(
    st.just(AnyValue())
    | st.builds(AnyValue, string_value=st.text())
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1))
    | st.builds(AnyValue, double_value=st.floats())
    | st.builds(AnyValue, bytes_value=st.binary()),
    lambda inner: (
        st.builds(
            AnyValue,
            array_value=st.builds(lambda values: ArrayValue(values=values), st.lists(inner, max_size=3)),
        )
        | st.builds(
            AnyValue,
            kvlist_value=st.builds(
                lambda pairs: KeyValueList(values=[KeyValue(key=key, value=value) for key, value in pairs]),
                st.lists(st.tuples(st.text(), inner), max_size=3),
            ),
        )
    ),
    max_leaves=8,
)
PAIRS = st.lists(
    st.builds(
        KeyValue,
        key=st.sampled_from(["gen_ai.system", "gen_ai.request.model", "http.method"]) | st.text(),
        value=st.none() | VALUES,
    ),
    max_size=4,
)
SPANS = st.builds(
    Span,
    name=st.text(),
    kind=ENUM,
    trace_id=st.binary(max_size=16),
    span_id=st.binary(max_size=8),
    parent_span_id=st.binary(max_size=8),
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    status=st.none() | st.builds(Status, code=ENUM, message=st.text()),
    attributes=PAIRS,
    events=st.lists(
        st.builds(Span.Event, name=st.text(), time_unix_nano=UINT64, attributes=PAIRS), max_size=2
    ),
)
REQUESTS = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.builds(
            ResourceSpans,
            resource=st.none() | st.builds(Resource, attributes=PAIRS),
            scope_spans=st.lists(
                st.builds(
                    ScopeSpans,
                    scope=st.none() | st.builds(InstrumentationScope, name=st.text(), version=st.text()),
                    spans=st.lists(SPANS, max_size=3),
                ),
                max_size=2,
            ),
        ),
        max_size=2,
    ),
)


@given(request=REQUESTS, as_in_proto=st.booleans(), enum_names=st.booleans())
def test_a_request_looks_the_same_as_json_and_as_protobuf(
    request: ExportTraceServiceRequest, as_in_proto: bool, enum_names: bool
) -> None:
    document = otlp_json(request, as_in_proto=as_in_proto, enum_names=enum_names)
    # repr shows types as well, and NaN does not equal NaN
    assert repr(list(views_of_json_request(document))) == repr(list(views_of_request(request)))


# --- single fields ---------------------------------------------------------------------------------

MARK = {"key": "gen_ai.system", "value": {"stringValue": "openai"}}


def request_of(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def view_with(**fields: Any) -> SpanView:
    (view,) = views_of_json_request(request_of({"attributes": [MARK], **fields}))
    assert isinstance(view, SpanView)
    return view


def attribute(value: Any) -> Any:
    return view_with(attributes=[MARK, {"key": "x", "value": value}]).attributes["x"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"traceId": "5B8EFFF798038103D269B633813FC60C"}, {"trace_id": "5b8efff798038103d269b633813fc60c"}),
        ({"span_id": "eee19b7ec3c1b174"}, {"span_id": "eee19b7ec3c1b174"}),
        ({"parentSpanId": ""}, {"parent_id": None}),
        ({"parentSpanId": None}, {"parent_id": None}),
        ({"startTimeUnixNano": "1544712660000000000"}, {"start_ns": 1544712660000000000}),
        ({"startTimeUnixNano": 1544712660000000000}, {"start_ns": 1544712660000000000}),
        ({"endTimeUnixNano": 1e18}, {"end_ns": 10**18}),
        ({"endTimeUnixNano": "0"}, {"end_ns": None}),
        ({"kind": 3}, {"kind": "CLIENT"}),
        ({"kind": "3"}, {"kind": "CLIENT"}),
        ({"kind": "SPAN_KIND_CLIENT"}, {"kind": "CLIENT"}),
        ({"kind": "SPAN_KIND_UNSPECIFIED"}, {"kind": "INTERNAL"}),
        ({"kind": "SPAN_KIND_OF_2030"}, {"kind": "INTERNAL"}),
        ({"kind": 77}, {"kind": "INTERNAL"}),
        (
            {"status": {"code": "STATUS_CODE_ERROR", "message": "no"}},
            {"status": "ERROR", "status_message": "no"},
        ),
        ({"status": {"code": 1, "message": ""}}, {"status": "OK", "status_message": None}),
        ({"status": {}}, {"status": "UNSET"}),
        ({"name": None, "events": None, "what": ["is", "this"]}, {"name": "", "events": []}),
    ],
)
def test_a_field_is_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    view = view_with(**fields)._asdict()
    assert {name: view[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, None),
        ({}, None),
        ({"valueOfTomorrow": 1}, None),
        ({"stringValue": None, "intValue": "-5"}, -5),
        ({"int_value": 7}, 7),
        ({"intValue": 7.0}, 7),
        ({"doubleValue": 1}, 1.0),
        ({"doubleValue": "1.5e3"}, 1500.0),
        ({"doubleValue": "-Infinity"}, -math.inf),
        ({"boolValue": False}, False),
        ({"bytesValue": "AP8="}, b"\x00\xff"),
        ({"bytesValue": "-_8"}, b"\xfb\xff"),
        ({"arrayValue": {}}, []),
        ({"arrayValue": {"values": [{"stringValue": "a"}, None, {}]}}, ["a", None, None]),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}, {}]}}, {"a": 1, "": None}),
    ],
)
def test_a_value_is_read(written: Any, expected: Any) -> None:
    value = attribute(written)
    assert value == expected
    assert type(value) is type(expected)


def test_a_double_may_be_no_number() -> None:
    assert math.isnan(attribute({"doubleValue": "NaN"}))


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "deep"}
    for level in range(depth):
        around = {"values": [value]} if level % 2 else {"values": [{"key": "k", "value": value}]}
        value = {"arrayValue": around} if level % 2 else {"kvlistValue": around}
    return value


def test_a_value_may_be_nested_64_deep_and_no_more() -> None:
    value = attribute(nested(64))
    for _ in range(32):
        value = value[0]["k"]
    assert value == "deep"
    with pytest.raises(ValueError, match="is nested more than 64 deep"):
        attribute(nested(65))


# --- unreadable fields -----------------------------------------------------------------------------

SPAN = "resourceSpans[0].scopeSpans[0].spans[0]"
SECOND = f"{SPAN}.attributes[1].value"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"traceId": "xyz"}, f"{SPAN}.traceId is not hex"),
        ({"traceId": "abc"}, f"{SPAN}.traceId is not hex"),
        ({"spanId": 7}, f"{SPAN}.spanId is not hex"),
        ({"parent_span_id": "ab cd"}, f"{SPAN}.parentSpanId is not hex"),
        ({"name": 7}, f"{SPAN}.name is not text"),
        ({"kind": []}, f"{SPAN}.kind is not an integer from -2147483648 to 2147483647"),
        ({"status": "OK"}, f"{SPAN}.status is not an object"),
        ({"startTimeUnixNano": "-1"}, f"{SPAN}.startTimeUnixNano is not an integer from 0 to {2**64 - 1}"),
        ({"endTimeUnixNano": "9" * 5000}, f"{SPAN}.endTimeUnixNano is not an integer from 0 to {2**64 - 1}"),
        ({"endTimeUnixNano": math.inf}, f"{SPAN}.endTimeUnixNano is not an integer from 0 to {2**64 - 1}"),
        ({"events": {}}, f"{SPAN}.events is not a list"),
        ({"events": [{}, {"timeUnixNano": True}]}, f"{SPAN}.events[1].timeUnixNano is not an integer"),
        ({"attributes": {"gen_ai.system": "openai"}}, f"{SPAN}.attributes is not a list"),
        ({"attributes": [MARK, None]}, f"{SPAN}.attributes[1] is not an object"),
        ({"attributes": [MARK, {"key": 1}]}, f"{SPAN}.attributes[1].key is not text"),
        ({"attributes": [MARK, {"value": "x"}]}, f"{SECOND} is not an object"),
        (
            {"attributes": [MARK, {"value": {"boolValue": "true"}}]},
            f"{SECOND}.boolValue is not true or false",
        ),
        ({"attributes": [MARK, {"value": {"doubleValue": "1_0"}}]}, f"{SECOND}.doubleValue is not a number"),
        ({"attributes": [MARK, {"value": {"doubleValue": 10**400}}]}, f"{SECOND}.doubleValue is beyond"),
        ({"attributes": [MARK, {"value": {"bytesValue": "é"}}]}, f"{SECOND}.bytesValue is not base64"),
        (
            {"attributes": [MARK, {"value": {"arrayValue": {"values": [{}, {"intValue": "1.5"}]}}}]},
            f"{SECOND}.arrayValue.values[1].intValue is not an integer",
        ),
    ],
)
def test_an_unreadable_field_is_reported_with_its_path(fields: dict[str, Any], sentence: str) -> None:
    document = request_of({"attributes": [MARK], **fields})
    with pytest.raises(ValueError, match="^" + re.escape(sentence)) as raised:
        list(views_of_json_request(document))
    sentences: list[str] = []
    assert list(views_of_json_request(document, sentences.append)) == []
    assert sentences == [str(raised.value)]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "the request is not an object"),
        (None, "the request is not an object"),
        ({"resourceSpans": {}}, "resourceSpans is not a list"),
        ({"resourceSpans": [7]}, "resourceSpans[0] is not an object"),
        ({"resourceSpans": [{"resource": 7}]}, "resourceSpans[0].resource is not an object"),
        ({"resourceSpans": [{"scopeSpans": 7}]}, "resourceSpans[0].scopeSpans is not a list"),
        (
            {"resourceSpans": [{"scopeSpans": [{"scope": {"name": 1}}]}]},
            "resourceSpans[0].scopeSpans[0].scope.name is not text",
        ),
        (request_of(None), f"{SPAN} is not an object"),
    ],
)
def test_an_unreadable_field_around_spans_is_reported_as_well(document: Any, sentence: str) -> None:
    sentences: list[str] = []
    assert list(views_of_json_request(document, sentences.append)) == []
    assert sentences == [sentence]


def test_one_unreadable_span_does_not_take_the_others() -> None:
    good = {"attributes": [MARK], "name": "good"}
    sentences: list[str] = []
    views = list(views_of_json_request(request_of(good, {**good, "spanId": "?"}, good), sentences.append))
    assert [view.name for view in views if isinstance(view, SpanView)] == ["good", "good"]
    assert sentences == ["resourceSpans[0].scopeSpans[0].spans[1].spanId is not hex"]


def test_a_span_that_is_no_genai_span_is_not_read() -> None:
    assert list(views_of_json_request(request_of({"traceId": "?", "attributes": [{"key": ["odd"]}]}))) == []


# --- arbitrary JSON --------------------------------------------------------------------------------

NAMES = st.sampled_from(
    (
        *(
            "resourceSpans",
            "resource",
            "scopeSpans",
            "scope",
            "spans",
            "attributes",
            "events",
            "status",
            "code",
        ),
        *("key", "value", "values", "arrayValue", "kvlistValue", "stringValue", "boolValue", "intValue"),
        *("doubleValue", "bytesValue", "traceId", "kind", "startTimeUnixNano"),
    )
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["gen_ai.system", "NaN", "1", "SPAN_KIND_CLIENT", "ab"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)


@given(odd=JSON, fields=st.dictionaries(NAMES, JSON), value=JSON)
def test_arbitrary_json_gives_views_or_sentences(odd: Any, fields: dict[str, Any], value: Any) -> None:
    sentences: list[str] = []
    span = {"attributes": [MARK, {"key": "x", "value": value}], **fields}
    for document in (odd, {"resourceSpans": odd}, request_of(odd, span, {**span, "attributes": [MARK, odd]})):
        for view in views_of_json_request(document, sentences.append):
            assert isinstance(view, SpanView | ContextSpan)
    assert all(" is " in sentence for sentence in sentences)
