"""Laws that hold for any span: no conversion raises, changes another span's events, or leaks content."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, StatusCode

from otel_posthog.conversion import traces
from otel_posthog.conversion.dialects import DIALECTS
from otel_posthog.conversion.events.message_rendering import render_messages
from otel_posthog.conversion.model_call import Kind, ModelCall
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.privacy.media import placeholder
from otel_posthog.conversion.readers.indexed_attributes import listed
from otel_posthog.conversion.readers.message_parts import part_of
from otel_posthog.conversion.readers.messages import messages, tools
from otel_posthog.conversion.readers.provider_payloads import read_payloads
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT, MARKERS
from otel_posthog.conversion.spans.otlp_json import views_of_json_request
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.packed_span import pack, unpack
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanEvent, SpanView
from otel_posthog.conversion.traces import deduplication, matching
from otel_posthog.conversion.traces import history as history_module
from otel_posthog.delivery.encoding.json_encoder import encode, jsonable
from tests.conversion.readers.test_attribute_values import ANYTHING
from tests.support.otlp_json import otlp_json
from tests.support.spans import START, make_view, otlp_request, sdk_span

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
PIPELINE = Pipeline(families=EVERYTHING, prices=PriceBook())
WITHOUT_CONTENT = Pipeline(families=EVERYTHING, content=False)

Event = dict[str, Any]

thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

# --- any span --------------------------------------------------------------------------------------

MESSAGES_IN = (
    "all_messages_events",
    "ai.prompt",
    "ai.prompt.messages",
    "events",
    "gen_ai.completion",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.prompt",
    "gen_ai.prompt.0.content",
    "gen_ai.completion.0.content",
    "gen_ai.system_instructions",
    "input",
    "input.value",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "langfuse.trace.input",
    "llm.input_messages.0.message.content",
    "llm.output_messages.0.message.content",
    "output",
    "output.value",
    "pydantic_ai.all_messages",
    "raw_input",
    "traceloop.entity.input",
    "traceloop.entity.output",
)
"""Attributes that hold messages, or objects with messages in them."""
READ_BY_HAND = (
    "ai.response.files",
    "ai.response.object",
    "ai.response.providerMetadata",
    "ai.response.reasoning",
    "ai.response.text",
    "ai.response.toolCalls",
    "ai.telemetry.metadata.groups",
    "duration",
    "embedding.invocation_parameters",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.llm_response",
    "gen_ai.evaluation.score.label",
    "gen_ai.evaluation.score.value",
    "gen_ai.usage.raw",
    "input.mime_type",
    "langfuse.observation.completion_start_time",
    "langfuse.observation.cost_details",
    "langfuse.observation.level",
    "langfuse.observation.model.parameters",
    "langfuse.observation.usage_details",
    "langsmith.metadata.usage_metadata",
    "llm.invocation_parameters",
    "logfire.msg",
    "logfire.msg_template",
    "mcp_data",
    "metadata",
    "metadata.usage_object",
    "model_request_parameters",
    "model_settings",
    "request_data",
    "reranker.query",
    "response",
    "usage",
)
"""Attributes in no table."""
INDEXED = (
    "embedding.embeddings.0.embedding.text",
    "gen_ai.completion.0.finish_reason",
    "gen_ai.prompt.2.tool_calls",
    "gen_ai.prompt.2.tool_calls.0.arguments",
    "gen_ai.prompt.2.tool_calls.0.name",
    "gen_ai.prompt.99999.role",
    "llm.completions.0.function_call",
    "llm.input_messages.0.message",
    "llm.input_messages.0.message.role",
    "llm.input_messages.0.message.tool_call_id",
    "llm.input_messages.3.message.contents",
    "llm.input_messages.3.message.contents.0.message_content.image.image.url",
    "llm.input_messages.3.message.contents.0.message_content.text",
    "llm.input_messages.99999.message.content",
    "llm.input_messages.999999999.message.content",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
    "llm.prompts.0.user",
    "llm.request.functions.0.parameters",
    "llm.tools.0.tool.json_schema",
    "reranker.input_documents.0.document.content",
    "retrieval.documents.0",
    "retrieval.documents.1.document.content",
)
NAMES = sorted(
    {name for dialect in DIALECTS for rule in dialect.rules for name in rule.names}
    | {prefix + "x" for dialect in DIALECTS for prefix, _, _ in dialect.prefixes}
    | {*MARKERS, *MESSAGES_IN, *READ_BY_HAND, *INDEXED}
)
SCOPES = (
    None,
    "ai",
    "gcp.vertex.agent",
    "langfuse-sdk",
    "litellm",
    "logfire.openai",
    "openinference.instrumentation.google_genai",
    "openinference.instrumentation.openai",
    "opentelemetry.instrumentation.openai.v1",
    "pydantic-ai",
)

WORDS = sorted(
    {"content", "parts", "role", "type", "text", "id", "name", "arguments", "input", "output", "data", "url"}
    | {"tool_calls", "tool_call_id", "function", "functionCall", "functionResponse", "inlineData", "source"}
    | {"image_url", "image", "input_audio", "audio", "file", "file_id", "file_data", "mime_type", "modality"}
    | {"media_type", "mimeType", "uri", "summary", "thinking", "refusal", "reasoning_content", "response"}
    | {"model", "messages", "contents", "choices", "message", "candidates", "usage", "usage_metadata"}
    | {"error", "status", "code", "finish_reason", "generations", "kwargs", "generation_info", "tools"}
    | {"prompt_tokens", "prompt_tokens_details", "cached_tokens", "prompt_feedback", "block_reason", "0"}
    | {"body", "event.name", "format", "value", "prompt", "system", "incomplete_details", "reason", "stop"}
)
SAID = (
    *("user", "assistant", "system", "tool", "model", "human", "ai", "text", "tool_call", "tool_use", "blob"),
    *("tool_call_response", "tool-result", "image_url", "image", "input_audio", "file", "uri", "reasoning"),
    *("function_call", "function_call_output", "document", "Buffer", "base64", "generic", "compaction"),
    *("image/png", "audio/wav", "data:image/png;base64,AAAA", "https://example.com/a.png", '{"a":1}', '{"'),
    *("gen_ai.choice", "gen_ai.user.message", "failed", "incomplete", "completed", "server_tool_call", "{"),
)
JSON_LIKE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.floats()
    | st.sampled_from(SAID)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, min_size=1, max_size=5)
    ),
    max_leaves=12,
)
"""Valid and nearly valid messages, requests and responses."""
BROKEN = (
    *("{", "[]", "[null]", '{"a":', "null", "[1e999]", "[NaN]", '["\\ud800"]', "{'a': 1}", "[" * 3000),
    *('[{"role": 1}]', '[{"parts": [null, 1]}]', '{"type":', "true", '""', "[[]]", "[" + "9" * 5000 + "]"),
    *('{"a":' * 200 + "1" + "}" * 200, "[" * 200 + "]" * 200, "\u2028", "\x00", "-1", "NaN", "0", " "),
)
OTLP: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
WRITTEN = JSON_LIKE.map(json.dumps) | st.sampled_from(BROKEN) | st.sampled_from(SAID)
ODD = (
    ANYTHING
    | WRITTEN
    | JSON_LIKE
    | st.integers(-(2**70), 2**70)
    | st.sampled_from(["\ud800", 2**70, float("nan"), float("inf"), b"\xff"])
)
EVENTS = st.sampled_from(
    [
        *("exception", EVALUATION_EVENT, "gen_ai.choice", "gen_ai.user.message", "gen_ai.content.prompt"),
        *("gen_ai.client.inference.operation.details", "ai.stream.firstChunk", "First Token Stream Event"),
    ]
)
HELD = (
    *("exception.type", "exception.message", "gen_ai.evaluation.name", "gen_ai.evaluation.score.value"),
    *("content", "message", "body", "gen_ai.prompt", "gen_ai.event.content", "gen_ai.input.messages", "id"),
    *("role", "tool_calls", "finish_reason", "ai.response.msToFirstChunk", "gen_ai.evaluation.score.label"),
)


def _attributes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(NAMES) | st.text(), values, max_size=10)


@st.composite
def _odd_spans(draw: st.DrawFn) -> SpanView:
    parent = draw(st.sampled_from([None, "", "3" * 16, "f" * 16]))
    return make_view(
        only={**draw(_attributes(ODD)), draw(st.sampled_from(sorted(MARKERS))): draw(ODD)},
        name=draw(st.text() | st.sampled_from(["Function: {name}", "chat", "Stream"])),
        kind=draw(st.sampled_from(["INTERNAL", "CLIENT"])),
        span_id="f" * 16,
        parent_id=parent,
        start_ns=draw(st.sampled_from([START, 0, -1, 2**64]) | st.integers(-(2**70), 2**70)),
        end_ns=draw(st.sampled_from([None, START + 1, 0]) | st.integers(-(2**70), 2**70)),
        status=draw(st.sampled_from(["UNSET", "OK", "ERROR"])),
        status_message=draw(st.none() | st.text()),
        events=[
            SpanEvent(name, START, held)
            for name, held in draw(
                st.lists(
                    st.tuples(EVENTS, st.dictionaries(st.sampled_from(HELD), ODD, max_size=4)), max_size=2
                )
            )
        ],
        links=draw(st.sampled_from([(), [["2" * 32, "2" * 16]], [["", ""]]])),
        scope=draw(st.sampled_from(SCOPES)),
        resource=draw(st.sampled_from([{}, {"service.name": 1, "user.id": ["x"]}, {"feature": "\ud800"}])),
    )


ODD_SPANS = _odd_spans()


def _written(events: Iterable[Event]) -> list[bytes]:
    """Return the events as JSON, in which NaN is equal to itself."""
    return [encode(event) for event in events]


def _views(spans: Iterable[SpanView | ContextSpan]) -> list[SpanView]:
    return [span for span in spans if isinstance(span, SpanView)]


NO_TYPE = make_view({"gen_ai.input.messages": '[{"type": {}}]'})


@thorough
@given(view=ODD_SPANS)
@example(view=NO_TYPE)
def test_any_span_becomes_events_that_json_holds(view: SpanView) -> None:
    for event in (
        *PIPELINE.finished_events(view),
        *PIPELINE.started_events(view),
        *WITHOUT_CONTENT.finished_events(view),
    ):
        read = json.loads(encode(event))
        json.dumps(read, allow_nan=False)
        assert read["event"]
        assert uuid.UUID(read["uuid"]).version == 5
        assert isinstance(event["distinct_id"], str)
        assert 0 < len(event["distinct_id"]) <= 200
        assert isinstance(read["properties"], dict)
        jsonable(event)


@thorough
@given(view=ODD_SPANS)
@example(view=NO_TYPE)
def test_events_depend_on_the_span_alone_and_leave_it_as_it_was(view: SpanView) -> None:
    before = repr(view)
    first = _written(PIPELINE.finished_events(view))
    assert repr(view) == before
    assert _written(PIPELINE.finished_events(copy.deepcopy(view))) == first
    started = _written(PIPELINE.started_events(view))
    assert repr(view) == before
    assert _written(PIPELINE.started_events(view)) == started


NEIGHBOURS = [
    make_view(
        {
            "gen_ai.response.id": "of-the-neighbour",
            "gen_ai.input.messages": '[{"role":"user","content":"?"}]',
        },
        trace_id="a" * 32,
        span_id="1" * 16,
        parent_id="2" * 16,
        scope="logfire.openai",
    ),
    make_view(only={"gen_ai.operation.name": "invoke_agent"}, trace_id="a" * 32, span_id="2" * 16),
]


@thorough
@given(view=ODD_SPANS, at=st.integers(0, 2))
@example(view=NO_TYPE, at=1)
def test_a_span_changes_no_event_of_another_trace(view: SpanView, at: int) -> None:
    alone = _written(PIPELINE.finished_events(*NEIGHBOURS))
    batch = [*NEIGHBOURS[:at], view, *NEIGHBOURS[at:]]
    together = PIPELINE.finished_events(*batch)
    own = {*_written(PIPELINE.finished_events(view))}
    assert sorted(each for each in _written(together) if each not in own) == sorted(alone)


@pytest.mark.parametrize("span_id", ["", "0" * 16, "ab" * 8])
def test_spans_of_two_traces_with_one_id_are_two(span_id: str) -> None:
    views = [make_view(trace_id=digit * 32, span_id=span_id) for digit in "12"]
    assert len(PIPELINE.finished_events(*views)) == 2 * len(PIPELINE.finished_events(views[0]))


def test_a_span_is_not_within_one_of_another_trace() -> None:
    outer = make_view(trace_id="1" * 32, span_id="1" * 16)
    inner = make_view(trace_id="2" * 32, span_id="2" * 16, parent_id="1" * 16, scope="logfire.openai")
    assert len(PIPELINE.finished_events(outer, inner)) == 2 * len(PIPELINE.finished_events(outer))


@thorough
@given(
    attributes=_attributes(OTLP | WRITTEN.filter(str.isprintable)),
    marker=st.sampled_from(sorted(MARKERS)),
    value=OTLP | JSON_LIKE.map(json.dumps),
    status=st.sampled_from([StatusCode.UNSET, StatusCode.ERROR]),
    kind=st.sampled_from([SpanKind.CLIENT, SpanKind.INTERNAL]),
    held=st.dictionaries(st.sampled_from(HELD), OTLP, max_size=3),
    event=EVENTS,
    parent=st.booleans(),
)
@example(
    attributes={"gen_ai.input.messages": '[{"type": {}}]'},
    marker="gen_ai.system",
    value="openai",
    status=StatusCode.UNSET,
    kind=SpanKind.CLIENT,
    held={},
    event="exception",
    parent=False,
)
@example(
    attributes={
        "ai.documents": math.inf,
        "posthog.property.x": math.nan,
        "ai.telemetry.metadata.y": math.inf,
    },
    marker="ai.model.id",
    value=None,
    status=StatusCode.UNSET,
    kind=SpanKind.CLIENT,
    held={},
    event="exception",
    parent=False,
)
def test_a_span_becomes_the_same_events_from_every_source(
    attributes: dict[str, Any],
    marker: str,
    value: Any,
    status: StatusCode,
    kind: SpanKind,
    held: dict[str, Any],
    event: str,
    parent: bool,
) -> None:
    span = sdk_span(
        {**attributes, marker: value},
        kind=kind,
        status=status,
        message="it broke" if status is StatusCode.ERROR else None,
        events=((event, START + 1, held),),
        parent=parent,
    )
    request = ExportTraceServiceRequest.FromString(otlp_request(span).SerializeToString())
    view, packed = view_of_sdk_span(span), pack(span)
    assert view is not None
    assert packed is not None
    expected = _written(PIPELINE.finished_events(view))
    assert expected or view.attributes.keys() & {"gen_ai.evaluation.name"} or event == EVALUATION_EVENT
    assert _written(PIPELINE.finished_events(unpack(packed))) == expected
    assert _written(PIPELINE.finished_events(*_views(views_of_request(request)))) == expected
    document = json.loads(json.dumps(otlp_json(request)))
    assert _written(PIPELINE.finished_events(*_views(views_of_json_request(document)))) == expected


# --- readers ---------------------------------------------------------------------------------------

MAYBE_MESSAGES = JSON_LIKE | WRITTEN | ANYTHING | st.lists(JSON_LIKE.map(json.dumps), max_size=3)


@thorough
@given(value=MAYBE_MESSAGES, media=st.sampled_from([placeholder, None]))
@example(value=[{"type": {}}], media=placeholder)
def test_all_messages_that_are_read_are_rendered(value: Any, media: Any) -> None:
    before = repr(value)
    parsed = messages(value, "user")
    if parsed is not None:
        assert all(isinstance(each["role"], str) and isinstance(each["parts"], list) for each in parsed)
        for each in render_messages(parsed, media):
            assert isinstance(each["role"], str)
            encode(each)
    assert repr(value) == before


@thorough
@given(part=JSON_LIKE, media=st.sampled_from([placeholder, None]))
@example(part={"type": []}, media=placeholder)
@example(part={"type": "blob", "content": "QUJD", "modality": ["image"]}, media=placeholder)
def test_any_part_is_read_and_rendered(part: Any, media: Any) -> None:
    for held in (part, part_of(part)):
        render_messages([{"role": "user", "parts": [held, held]}], media)
    tools(part)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param({"type": {}}, id="a type that is an object"),
        pytest.param({"type": []}, id="a type that is a list"),
        pytest.param(
            {"type": "blob", "content": "QUJD", "modality": ["image"]},
            id="a modality that is a list",
        ),
        pytest.param(
            {"type": "blob", "content": "QUJD", "mime_type": ["a"]}, id="a MIME type that is a list"
        ),
        pytest.param({"type": "Buffer", "data": [True, -1]}, id="a buffer of anything"),
    ],
)
def test_a_part_of_odd_fields_is_kept(part: Any) -> None:
    for value in (
        [part],
        [part, {"role": "user", "content": "hi"}],
        [{"role": "user", "parts": [part]}],
        [{"role": "user", "parts": [part, part]}],
        [{"role": "user", "content": [part]}],
    ):
        [generation, *_] = PIPELINE.finished_events(make_view({"gen_ai.input.messages": json.dumps(value)}))
        assert generation["properties"]["$ai_input"]


@pytest.mark.parametrize("role", [[], {}, 1, None, True])
def test_a_role_that_is_no_text_is_replaced_by_the_attributes_role(role: Any) -> None:
    written = [{"role": role, "parts": [{"type": "text", "content": "hi"}]}]
    [parsed] = messages(json.dumps(written), "user") or []
    assert parsed["role"] == ("1" if role == 1 and role is not True else "user")


@pytest.mark.parametrize(
    ("before", "after", "levels"),
    [
        pytest.param(before, after, levels)
        for before, after in (("[", "]"), ('{"content":', "}"), ('[{"role":"user","parts":', "}]"))
        for levels in (100, 500, 1000, 5000)
    ],
)
def test_nesting_stops_nothing(before: str, after: str, levels: int) -> None:
    for name in MESSAGES_IN:
        _written(PIPELINE.finished_events(make_view({name: before * levels + "1" + after * levels})))


def test_a_text_that_is_a_deep_list_is_rendered() -> None:
    nested = '[{"role":"user","parts":[{"type":"text","content":' + "[" * 1000 + "]" * 1000 + "}]}]"
    [generation, *_] = PIPELINE.finished_events(make_view({"gen_ai.input.messages": nested}))
    assert generation["properties"]["$ai_input"]


FLAT = st.lists(st.dictionaries(st.sampled_from("abc"), ODD, min_size=1, max_size=3), max_size=4)


@thorough
@given(items=FLAT, order=st.randoms(use_true_random=False))
def test_a_list_that_was_spelt_out_is_put_together_again(items: list[dict[str, Any]], order: Any) -> None:
    spelt = [(f"p.{at}.{name}", value) for at, item in enumerate(items) for name, value in item.items()]
    order.shuffle(spelt)
    items = listed(dict(spelt), ["p."]).get("p.", [])
    assert repr([dict(sorted(item.items())) for item in items]) == repr(
        [dict(sorted(item.items())) for item in items]
    )


@thorough
@given(
    attributes=st.dictionaries(
        st.from_regex(r"p\.([0-9]{1,9}|a)?(\.([0-9]{1,3}|[ab]|)){0,30}", fullmatch=True) | st.text(), ODD
    )
)
def test_indexed_names_are_put_together_in_any_order(attributes: dict[str, Any]) -> None:
    there = listed(attributes, ["p.", "q."])
    back = listed(dict(reversed(attributes.items())), ["p.", "q."])
    assert there.keys() <= {"p.", "q."}
    assert sorted(map(len, there.values())) == sorted(map(len, back.values()))


@thorough
@given(request=JSON_LIKE, response=JSON_LIKE)
def test_any_request_and_answer_is_read(request: Any, response: Any) -> None:
    before = repr((request, response))
    parts: dict[str, dict[str, Any]] = {"call": {}, "usage": {}, "error": {}, "parameters": {}}
    read_payloads(parts, request, response)
    assert repr((request, response)) == before
    for side in ("input", "output"):
        render_messages(parts["call"].get(side, ()), media=placeholder)


# --- content stays private ---------------------------------------------------------------------------

SECRET = "Planted words nobody may read"
KINDS: Mapping[str, Mapping[str, Any]] = {
    "chat": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5.1"},
    "embeddings": {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e"},
    "tool": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"},
    "agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"},
    "traceloop workflow": {"traceloop.span.kind": "workflow"},
    "traceloop chat": {"llm.request.type": "chat", "llm.request.model": "m"},
    "openinference chain": {"openinference.span.kind": "CHAIN"},
    "openinference llm": {"openinference.span.kind": "LLM", "llm.model_name": "m"},
    "openinference retriever": {"openinference.span.kind": "RETRIEVER"},
    "vercel": {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m"},
    "vercel tool": {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "weather"},
    "langfuse": {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "m"},
    "langfuse span": {"langfuse.observation.type": "span"},
    "langsmith": {"langsmith.span.kind": "llm"},
    "langsmith chain": {"langsmith.span.kind": "chain"},
    "adk": {"gcp.vertex.agent.invocation_id": "i", "gen_ai.operation.name": "generate_content"},
    "pydantic": {"model_request_parameters": "{}", "gen_ai.operation.name": "chat", "model_name": "m"},
}
CONTENT = (
    *MESSAGES_IN,
    *("ai.documents", "ai.prompt.tools", "ai.ranking", "ai.response.files", "ai.response.object"),
    *("ai.response.reasoning", "ai.response.text", "ai.response.toolCalls", "ai.settings.stopSequences"),
    *("ai.toolCall.args", "ai.toolCall.input", "ai.toolCall.output", "ai.toolCall.result", "ai.value"),
    *("ai.values", "embedding.embeddings.0.embedding.text", "final_result", "gcp.vertex.agent.llm_request"),
    *("gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_call_args", "gcp.vertex.agent.tool_response"),
    *("gen_ai.embeddings.input", "gen_ai.evaluation.explanation", "gen_ai.prompt.2.tool_calls.0.arguments"),
    *("gen_ai.request.available_tools", "gen_ai.request.stop_sequences", "gen_ai.retrieval.documents"),
    *("gen_ai.retrieval.query.text", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "inputs"),
    *("gen_ai.tool.definitions", "langfuse.trace.output", "llm.prompts.0.user", "llm.request.functions"),
    *("llm.input_messages.3.message.contents.0.message_content.text", "llm.tools.0.tool.json_schema"),
    *("llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments", "llm.tools", "response"),
    *("posthog.embeddings.input", "reranker.input_documents.0.document.content", "reranker.query"),
    *("reranker.output_documents.0.document.content", "retrieval.documents.1.document.content"),
    *("tool_arguments", "tool_response", "llm.request.functions.0.parameters"),
)
"""Attributes that hold text that somebody wrote. Names of models, tools and agents, ids, finish reasons,
labels of scores, tags, metadata and properties are none."""
SHAPES: Mapping[str, Any] = {
    "text": SECRET,
    "texts": [SECRET],
    "json text": json.dumps(SECRET),
    "chat": json.dumps([{"role": "user", "content": SECRET}]),
    "message": json.dumps({"role": "assistant", "content": SECRET}),
    "parts": json.dumps([{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]),
    "bare parts": json.dumps([{"type": "text", "content": SECRET}]),
    "tool call": json.dumps(
        [
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"q": SECRET}}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": SECRET},
        ]
    ),
    "request": json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": SECRET}], "stop": [SECRET], "prompt": SECRET}
    ),
    "gemini request": json.dumps(
        {
            "model": "m",
            "contents": [{"role": "user", "parts": [{"text": SECRET}]}],
            "config": {"system_instruction": SECRET, "stop_sequences": [SECRET], "tools": [{"d": SECRET}]},
        }
    ),
    "answer": json.dumps(
        {
            "id": "r",
            "choices": [{"message": {"content": SECRET}, "finish_reason": "stop"}],
            "error": {"code": SECRET, "message": SECRET},
        }
    ),
    "gemini answer": json.dumps({"content": {"role": "model", "parts": [{"text": SECRET}]}}),
    "responses": json.dumps({"output": [{"type": "message", "content": [{"text": SECRET}]}]}),
    "choices of text": json.dumps({"choices": [{"text": SECRET}]}),
    "unknown": json.dumps({"x": [{"y": SECRET}]}),
    "broken": "{" + SECRET,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_content_is_in_no_event_without_content(kind: str, shape: str) -> None:
    for name in CONTENT:
        view = make_view(only={**KINDS[kind], name: SHAPES[shape]}, scope=None)
        for event in WITHOUT_CONTENT.finished_events(view):
            assert SECRET.encode() not in encode(event), name


@thorough
@given(
    kind=st.sampled_from(sorted(KINDS)),
    shapes=st.dictionaries(
        st.sampled_from(CONTENT), st.sampled_from(sorted(SHAPES)), min_size=2, max_size=12
    ),
    scope=st.sampled_from(SCOPES),
    root=st.booleans(),
    event=EVENTS,
    held=st.sampled_from(["exception.type", "exception.message", "content", "message", "gen_ai.prompt"]),
    private=st.booleans(),
)
def test_a_private_span_sends_no_content(
    kind: str, shapes: dict[str, str], scope: str | None, root: bool, event: str, held: str, private: bool
) -> None:
    pipeline = PIPELINE if private else WITHOUT_CONTENT
    view = make_view(
        only={
            **KINDS[kind],
            **{name: SHAPES[shape] for name, shape in shapes.items()},
            "posthog.privacy_mode": private,
            "error.type": SECRET,
        },
        scope=scope,
        parent_id=None if root else "2" * 16,
        status="ERROR",
        status_message=SECRET,
        events=[
            SpanEvent(event, START, {held: SECRET}),
            SpanEvent(
                EVALUATION_EVENT,
                START,
                {
                    "gen_ai.evaluation.name": "n",
                    "gen_ai.evaluation.score.value": 1,
                    "gen_ai.evaluation.explanation": SECRET,
                },
            ),
        ],
    )
    for sent in (*pipeline.finished_events(view), *pipeline.started_events(view)):
        assert SECRET.encode() not in encode(sent)


def test_a_trace_does_not_repeat_the_content_of_a_private_call() -> None:
    messages = [{"role": "user", "content": SECRET}]
    call = make_view(
        {
            "gen_ai.input.messages": json.dumps(messages),
            "gen_ai.output.messages": json.dumps(messages),
            "posthog.privacy_mode": True,
        },
        span_id="1" * 16,
        parent_id="2" * 16,
    )
    root = make_view(only={"gen_ai.operation.name": "invoke_agent"}, span_id="2" * 16)
    assert not any(SECRET.encode() in each for each in _written(PIPELINE.finished_events(call, root)))


# --- media stay at home ----------------------------------------------------------------------------

RAW = b"".join(hashlib.sha256(bytes([seed])).digest() for seed in range(60))
DATA = base64.b64encode(RAW).decode()
WRAPPED = base64.encodebytes(RAW).decode()
URL_SAFE = base64.urlsafe_b64encode(RAW).decode()
URI = "data:image/png;base64," + DATA
BUFFER = {"type": "Buffer", "data": [*RAW]}
NUMBERED = {str(at): number for at, number in enumerate(RAW)}

MEDIA_PARTS: Mapping[str, Any] = {
    "chat image": {"type": "image_url", "image_url": {"url": URI, "detail": "low"}},
    "chat image as text": {"type": "image_url", "image_url": URI},
    "chat audio": {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
    "chat file": {"type": "file", "file": {"filename": "a.pdf", "file_data": URI}},
    "responses image": {"type": "input_image", "image_url": URI},
    "responses file": {"type": "input_file", "filename": "a.pdf", "file_data": DATA},
    "responses image answer": {"type": "image_generation_call", "result": DATA},
    "responses reasoning": {"type": "reasoning", "summary": [], "encrypted_content": DATA},
    "anthropic image": {"type": "image", "source": {"type": "base64", "media_type": "a/b", "data": DATA}},
    "anthropic document": {"type": "document", "source": {"type": "base64", "data": DATA}},
    "anthropic text document": {"type": "document", "source": {"type": "text", "data": DATA}},
    "anthropic result": {"type": "tool_result", "content": [{"type": "image", "source": {"data": DATA}}]},
    "anthropic redacted": {"type": "redacted_thinking", "data": DATA},
    "gemini": {"inlineData": {"mimeType": "image/png", "data": DATA}},
    "gemini python": {"inline_data": {"mime_type": "image/png", "data": URL_SAFE}},
    "gemini signature": {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": DATA},
    "vercel image": {"type": "image", "image": DATA},
    "vercel buffer": {"type": "image", "image": BUFFER},
    "vercel numbers": {"type": "image", "image": NUMBERED},
    "vercel file": {"type": "file", "data": DATA, "mediaType": "application/pdf"},
    "conventions blob": {"type": "blob", "modality": "image", "mime_type": "image/png", "content": DATA},
    "conventions uri": {"type": "uri", "modality": "image", "uri": URI},
    "conventions reasoning": {"type": "reasoning", "content": DATA},
    "conventions result": {"type": "tool_call_response", "id": "c", "response": {"image": DATA}},
    "conventions call": {"type": "tool_call", "id": "c", "name": "f", "arguments": {"image": DATA}},
    "conventions server call": {"type": "server_tool_call", "name": "f", "server_tool_call": {"x": DATA}},
    "conventions server result": {
        "type": "server_tool_call_response",
        "server_tool_call_response": {"x": DATA},
    },
    "conventions generic": {"type": "generic", "anything": [{"deep": DATA}]},
    "unknown type": {"type": "hologram", "hologram": DATA},
    "text": {"type": "text", "text": f"Look: {DATA} there"},
    "text with lines": {"type": "text", "text": WRAPPED},
    "json in text": {"type": "text", "text": json.dumps({"a": WRAPPED})},
    "json in json in text": {"type": "text", "text": json.dumps({"a": json.dumps({"b": WRAPPED})})},
    "call of text": {"type": "tool_call", "id": "c", "name": "f", "arguments": json.dumps({"a": DATA})},
}
CARRIERS = (
    *("ai.prompt", "ai.prompt.messages", "all_messages_events", "events", "gen_ai.completion"),
    *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt", "langfuse.observation.input"),
    *("input.value", "langfuse.observation.output", "langfuse.trace.input", "pydantic_ai.all_messages"),
    *("raw_input", "traceloop.entity.input", "input", "tool_arguments", "tool_response", "final_result"),
    *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.retrieval.documents"),
    *("ai.toolCall.args", "ai.toolCall.result", "gcp.vertex.agent.tool_response", "gen_ai.tool.definitions"),
    *("gen_ai.system_instructions", "gen_ai.prompt.0.content", "llm.input_messages.0.message.content"),
    *("gen_ai.embeddings.input", "embedding.embeddings.0.embedding.text", "ai.values", "ai.response.files"),
)


def _assert_nothing_of_it(view: SpanView, what: str) -> None:
    for event in PIPELINE.finished_events(view):
        body = encode(event).decode()
        for data in (DATA, URL_SAFE):
            assert not any(data[at : at + 60] in body for at in range(0, len(data) - 60, 60)), what
        assert ",".join(map(str, RAW[:20])) not in body, what


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", MEDIA_PARTS)
def test_no_media_leave_in_place_of_their_name(kind: str, part: str) -> None:
    held = MEDIA_PARTS[part]
    around = [
        [held],
        [{"role": "user", "content": [held, {"type": "text", "text": "what is it?"}]}],
        [{"role": "user", "parts": [held]}],
        {"model": "m", "messages": [{"role": "user", "content": [held]}]},
    ]
    for name in CARRIERS:
        for value in around:
            view = make_view(only={**KINDS[kind], name: json.dumps(value)}, parent_id="2" * 16, scope=None)
            _assert_nothing_of_it(view, name)


def test_no_data_leave_in_the_id_of_a_call() -> None:
    call_id = "call_1__thought__" + DATA  # LiteLLM, of Gemini's calls
    messages = [
        {"role": "assistant", "tool_calls": [{"id": call_id, "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": call_id, "content": "x"},
    ]
    view = make_view({"gen_ai.input.messages": json.dumps(messages)})
    [question, answer] = PIPELINE.finished_events(view)[0]["properties"]["$ai_input"]
    assert question["tool_calls"][0]["id"] == answer["tool_call_id"]
    assert "call_1" in answer["tool_call_id"]
    assert DATA[100:160] not in json.dumps([question, answer])


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param(
            {"llm.input_messages.0.message.contents.0.message_content.image.image.url": URI},
            id="openinference",
        ),
        pytest.param(
            {"llm.input_messages.0.message.contents.0.message_content.audio.audio.url": URI}, id="audio"
        ),
        pytest.param(
            {"output.value": json.dumps({"data": [{"b64_json": DATA}]}), "openinference.span.kind": "LLM"},
            id="an image that was made",
        ),
        pytest.param(
            {"gen_ai.prompt.0.tool_calls.0.arguments": json.dumps({"a": DATA})}, id="traceloop call"
        ),
        pytest.param({"ai.response.text": DATA}, id="vercel text"),
        pytest.param({"ai.response.files": json.dumps([{"base64": DATA}])}, id="vercel files"),
        pytest.param({"gen_ai.input.messages": RAW}, id="bytes"),
        pytest.param({"gen_ai.input.messages": DATA.encode()}, id="bytes of text"),
        pytest.param({"gen_ai.input.messages": [{"type": "blob", "content": RAW}]}, id="bytes within"),
        pytest.param({"gen_ai.tool.call.result": {DATA: [RAW]}}, id="the name of a field"),
    ],
)
def test_media_of_one_dialect_stay_at_home(attributes: dict[str, Any]) -> None:
    for kind in KINDS.values():
        _assert_nothing_of_it(make_view(only={**kind, **attributes}), str(kind))


# --- what a batch costs, and what is remembered ------------------------------------------------------


def _siblings(first: int, number: int, scope: str = "a") -> list[ModelCall]:
    """Return calls, one after the other, below one span."""
    return [
        PIPELINE.read(
            make_view(
                {"gen_ai.request.model": f"m{at}"},
                span_id=format(at, "016x"),
                parent_id="f" * 16,
                scope=scope,
                start_ns=START + at * 10**9,
                end_ns=START + at * 10**9 + 10**8,
            )
        )
        for at in range(first, first + number)
    ]


def test_a_call_is_not_compared_with_all_the_calls_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, agree, history = [], matching.agree, traces.SpanHistory()

    def counted(one: Any, other: Any) -> bool:
        compared.append(one)
        return agree(one, other)

    monkeypatch.setattr(matching, "agree", counted)
    monkeypatch.setattr(deduplication, "agree", counted)
    for batch in range(4):
        assert len(traces.resolve(_siblings(batch * 100, 100), history)) == 100
    assert len(compared) < 400


def test_a_late_twin_is_known_also_under_a_span_of_very_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MAX_SPANS", 8)
    history = traces.SpanHistory()
    traces.resolve(_siblings(0, 20), history)
    [twin] = _siblings(19, 1, scope="b")
    [resolved] = traces.resolve([twin._replace(span_id="e" * 16)], history)
    assert resolved.kind is Kind.SPAN


def test_names_of_models_are_compared_in_no_time() -> None:
    calls = [  # a pattern that can be read in many ways would take for ever
        PIPELINE.read(make_view({"gen_ai.request.model": model}, scope=scope))
        for model, scope in (("gpt", "a"), ("gpt" + "-1" * 400 + "x", "b"))
    ]
    assert not traces.may_be_one(*calls)


@pytest.mark.parametrize(
    ("dated", "is_same"),
    [
        ("gpt-2025-11-13", True),
        ("gpt-001", True),
        ("gpt-latest", True),
        ("gpt-v2:0", True),
        ("gpt-preview-05-20", True),
        ("gpt@20250101", True),
        ("gpt-5.1-chat", False),
        ("gpt-mini", False),
        ("gpt4", False),
        ("gpt-1-mini", False),
    ],
)
def test_a_model_with_its_version_is_that_model(dated: str, is_same: bool) -> None:
    plain_name, other = (
        PIPELINE.read(make_view({"gen_ai.request.model": model}, scope=model)) for model in ("gpt", dated)
    )
    assert traces.may_be_one(plain_name, other) is is_same


# --- framework -------------------------------------------------------------------------------------


def test_the_text_of_an_error_is_read_from_the_response() -> None:
    answer = {"status": "failed", "error": {"code": "server_error", "message": "it broke"}}
    view = make_view(only={"openinference.span.kind": "LLM", "output.value": json.dumps(answer)})
    [generation, *_] = PIPELINE.finished_events(view)
    assert generation["properties"]["$ai_error"] == "it broke"


def test_a_scope_without_a_name_is_none() -> None:
    span = sdk_span()
    span._instrumentation_scope = InstrumentationScope("")
    [over_otlp] = views_of_request(otlp_request(span))
    assert view_of_sdk_span(span) == over_otlp


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has one time zone")
def test_events_do_not_depend_on_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    began = "langfuse.observation.completion_start_time"
    view = make_view({"langfuse.observation.type": "generation", began: "2026-11-02T10:01:01"})
    outputs = []
    try:
        for zone in ("UTC", "America/New_York"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            outputs.append(_written(PIPELINE.finished_events(view)))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert outputs[0] == outputs[1]
