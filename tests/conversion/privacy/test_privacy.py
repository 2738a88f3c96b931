"""If content is hidden, no text that somebody wrote reaches the network, the disk or a log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_posthog.conversion.context_attributes import is_inherited
from otel_posthog.conversion.dialects import DIALECTS
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.privacy.pseudonyms import pseudonym
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT, MARKERS
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span
from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView
from otel_posthog.delivery import destination_of
from otel_posthog.delivery.encoding.json_encoder import encode
from otel_posthog.delivery.http.transport import Response, TransportError
from otel_posthog.delivery.spool.admin import revive
from otel_posthog.forwarder import Forwarder, forwarder
from tests.conversion.events.test_properties import HELD, INDEXED, KINDS, MESSAGES_IN, READ_BY_HAND, SCOPES
from tests.support.spans import CHAT, PARENT_ID, START, TRACE_ID, make_view, otlp_request, sdk_span

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
PRIVATE = Pipeline(families=EVERYTHING, content=False, prices=PriceBook())

SENTENCE = "Planted words nobody may read"
TOKEN = "planted_7f3a9c"
"""A text that passes as an identifier."""

UNKNOWN = (
    *("prompt", "secret", "db.statement", "gen_ai.something.new", "llm.input_messages", "ai.prompt.secret"),
    *("langfuse.observation.secret", "traceloop.entity.secret", "gcp.vertex.agent.secret", "user.prompt"),
    *("$ai_input", "$ai_output_choices", "$ai_span_name", "$set", "error.message", "exception.stacktrace"),
    *("posthog.prompt.text", "posthog.secret", "openinference.secret", "input.secret", "tool.description"),
)
METADATA = (
    *("traceloop.association.properties.x", "traceloop.association.properties.$feature/x"),
    *("ai.telemetry.metadata.x", "ai.telemetry.metadata.posthog_x", "ai.settings.context.x"),
    *("langfuse.trace.metadata.x", "langfuse.observation.metadata.x", "langsmith.metadata.x"),
)
READ = sorted(
    {name for dialect in DIALECTS for rule in dialect.rules for name in rule.names}
    | {*MARKERS, *MESSAGES_IN, *READ_BY_HAND, *INDEXED, *UNKNOWN, *METADATA}
)
PLANTED = [name for name in READ if not is_inherited(name)]
"""All attributes except the application's own context attributes."""

IDENTIFIERS = frozenset(
    {"gen_ai.provider.name", "gen_ai.system", "gen_ai.request.model", "gen_ai.response.model"}
    | {"gen_ai.response.id", "server.address", "gen_ai.agent.name", "gen_ai.agent.id", "gen_ai.tool.name"}
    | {"gen_ai.workflow.name", "gen_ai.prompt.name", "gen_ai.prompt.version", "error.type", "model"}
    | {"gen_ai.request.previous_response.id", "posthog.request.id", "posthog.parent_id", "agent.name"}
    | {"gen_ai.evaluation.name", "gen_ai.evaluation.score.label", "traceloop.entity.name", "llm.vendor"}
    | {"gen_ai.openai.api_base", "llm.openai.api_base", "llm.request.model", "llm.response.model"}
    | {"traceloop.prompt.key", "traceloop.prompt.version", "llm.user", "llm.provider", "llm.system"}
    | {"decision.system", "llm.response.model_name", "llm.model_name", "embedding.model_name", "tool.name"}
    | {"decision.response.model_name", "llm.request.model_name", "decision.request.model_name"}
    | {"reranker.model_name", "llm.prompt_template.name", "llm.prompt_template.version", "model_name"}
    | {"ai.model.provider", "ai.model.id", "ai.response.model", "ai.response.id", "ai.toolCall.name"}
    | {"ai.telemetry.functionId", "posthog_distinct_id", "agent_name", "langfuse.observation.model.name"}
    | {"langfuse.observation.metadata.ls_provider", "langfuse.observation.prompt.name"}
    | {"langfuse.observation.prompt.version", "langfuse.user.id", "langfuse.session.id", "name"}
    | {"langsmith.metadata.ls_provider", "langsmith.metadata.ls_model_name", "gcp.vertex.agent.session_id"}
    | {"langsmith.metadata." + name for name in ("session_id", "thread_id", "conversation_id", "user_id")}
    | {"langsmith.metadata.feature", "langsmith.metadata.chat_id", "exception.type"}
    | {
        prefix + name
        for prefix in ("ai.telemetry.metadata.", "ai.settings.context.", "traceloop.association.properties.")
        for name in (
            *("$ai_prompt_name", "$ai_prompt_version", "posthog_distinct_id", "userId", "user_id", "user.id"),
            *("$ai_session_id", "sessionId", "session_id", "conversationId", "threadId", "chatId"),
            *("feature", "posthog_feature", "chat_id", "posthog_trace_id", "$ai_trace_id", "user"),
            *("conversation_id", "thread_id", "groups", "$groups", "posthog_groups"),
        )
    }
)
"""Attributes that name something: their values are sent if they are identifiers, and only then."""


def shapes(canary: str) -> dict[str, Any]:
    """Return the shapes in which the canary may occur in an attribute."""
    messages = [{"role": "user", "content": canary}]
    part = {"type": "text", "content": canary}
    return {
        "text": canary,
        "texts": [canary, canary],
        "json text": json.dumps(canary),
        "chat": json.dumps(messages),
        "parts": json.dumps([{"role": "user", "parts": [part]}, part]),
        "tool call": json.dumps(
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": canary, "function": {"name": "f", "arguments": {"q": canary}}}],
                    "finish_reason": canary,
                },
                {"role": "tool", "tool_call_id": canary, "content": canary},
            ]
        ),
        "request": json.dumps(
            {
                "messages": messages,
                "tools": [{"name": "f", "description": canary}],
                "stop": [canary],
                canary: canary,
                **dict.fromkeys(("input", "prompt", "service_tier", "reasoning_effort"), canary),
                **dict.fromkeys(("response_format", "temperature"), canary),
            }
        ),
        "answer": json.dumps(
            {
                "choices": [{"message": {"content": canary}, "finish_reason": canary}],
                "error": {"message": canary},
                "output": [{"type": "message", "content": [{"text": canary}]}],
                "usage": {canary: canary},
                "status": "failed",
            }
        ),
        "gemini": json.dumps(
            {
                "contents": [{"role": "user", "parts": [{"text": canary}]}],
                "config": {"system_instruction": canary, "stop_sequences": [canary]},
                "content": {"parts": [{"text": canary}]},
                "promptFeedback": {"blockReason": canary},
            }
        ),
        "metadata": json.dumps({"x": canary, "tags": [canary], canary: canary, "$ai_input": canary}),
        "logged": json.dumps([{"event.name": "gen_ai.choice", "message": canary, "finish_reason": canary}]),
        "choice": json.dumps({"type": canary, "toolName": "f"}),
        "unknown": json.dumps({canary: [{"y": canary}]}),
        "broken": "{" + canary,
    }


SHAPES = {canary: shapes(canary) for canary in (SENTENCE, TOKEN)}


def planted(canary: str, names: Mapping[str, str], kind: str, **changes: Any) -> SpanView:
    """Return a failed span with the canary in these attributes, in their shapes, and all other fields."""
    token = canary == TOKEN
    return make_view(
        only={
            **{
                name: SHAPES[canary][shape]
                for name, shape in names.items()
                if not (token and name in IDENTIFIERS)
            },
            **KINDS[kind],
        },
        **{
            "name": canary,
            "status": "ERROR",
            "status_message": canary,
            "resource": {"process.command_line": canary, "x": canary}
            | ({} if token else {"service.name": canary, "deployment.environment": canary}),
            "scope_version": canary,
            **changes,
        },
    )


# --- what becomes of a span --------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    canary=st.sampled_from([SENTENCE, TOKEN]),
    kind=st.sampled_from(sorted(KINDS)),
    names=st.dictionaries(
        st.sampled_from(PLANTED), st.sampled_from(sorted(SHAPES[SENTENCE])), min_size=1, max_size=40
    ),
    scope=st.sampled_from(SCOPES),
    root=st.booleans(),
    event=st.sampled_from(
        (
            *("exception", EVALUATION_EVENT, "gen_ai.choice", "gen_ai.user.message", "ai.stream.firstChunk"),
            *("gen_ai.client.inference.operation.details", SENTENCE),
        )
    ),
    held=st.dictionaries(
        st.sampled_from([*HELD, "exception.stacktrace", "x"]), st.sampled_from(sorted(SHAPES[SENTENCE]))
    ),
    whose=st.booleans(),
)
def test_nothing_planted_is_in_any_event_of_a_private_span(
    canary: str,
    kind: str,
    names: dict[str, str],
    scope: str | None,
    root: bool,
    event: str,
    held: dict[str, str],
    whose: bool,
) -> None:
    attributes = {
        name: SHAPES[canary][shape]
        for name, shape in held.items()
        if not (canary == TOKEN and name in IDENTIFIERS)
    }
    view = planted(
        canary,
        names,
        kind,
        scope=scope if canary == TOKEN else scope or canary,
        parent_id=None if root else "2" * 16,
        events=[SpanEvent(event, START, attributes)],
    )
    pipeline = PRIVATE
    if whose:
        view.attributes["posthog.privacy_mode"] = True
        pipeline = Pipeline(families=EVERYTHING, prices=PriceBook())
    events = [*pipeline.finished_events(view), *pipeline.started_events(view)]
    assert events
    for each in events:
        assert canary.encode() not in encode(each), each


@pytest.mark.parametrize("canary", [SENTENCE, TOKEN])
@pytest.mark.parametrize("kind", KINDS)
def test_no_single_attribute_of_a_private_span_lets_anything_out(kind: str, canary: str) -> None:
    for name in PLANTED:
        for shape in ("text", "texts", "request", "metadata"):
            for event in PRIVATE.finished_events(planted(canary, {name: shape}, kind, scope=None)):
                assert canary.encode() not in encode(event), (name, shape, event["event"])


# --- what is sent, spooled and logged ----------------------------------------------------------------


class Wire:
    """A PostHog that may be down, and all bytes that were sent to it."""

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.answers = Response(200, {}, b'{"status":"Ok"}')
        self.bytes: list[bytes] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str], _timeout: float) -> Response:
        self.bytes += [url.encode(), repr(sorted(headers.items())).encode(), body]
        if not self.up:
            raise TransportError("refused")
        return self.answers

    def close(self) -> None: ...

    def reset_after_fork(self) -> None: ...


@cache
def whole_spans(canary: str) -> list[ReadableSpan]:
    """Return spans of each kind with the canary in all attributes, events, links, resource and exception."""
    token = canary == TOKEN
    views = []
    for at, kind in enumerate(KINDS):
        for number, shape in enumerate(SHAPES[canary]):
            trace_id = TRACE_ID + at * 1000 + number
            held = {
                name: SHAPES[canary][shape]
                for name in (*HELD, "exception.stacktrace", "exception.escaped", "x")
                if not (token and name in IDENTIFIERS)
            }
            hidden_by_itself = [name for name in PLANTED if name.endswith("privacy_mode")]
            names = dict.fromkeys(sorted({*PLANTED}.difference(hidden_by_itself)), shape)
            view = planted(canary, names, kind)
            view.attributes["posthog.feature"] = "diary"
            flags = TraceFlags(TraceFlags.SAMPLED)
            views.append(
                ReadableSpan(
                    name=canary,
                    context=SpanContext(trace_id, trace_id % 2**60, is_remote=False, trace_flags=flags),
                    parent=SpanContext(trace_id, PARENT_ID, is_remote=False, trace_flags=flags)
                    if number % 2
                    else None,
                    resource=Resource({**view.resource, "telemetry.sdk.name": canary}),
                    attributes=view.attributes,
                    events=[
                        Event(name, held, START)
                        for name in (
                            "exception",
                            "gen_ai.user.message",
                            "gen_ai.choice",
                            EVALUATION_EVENT,
                            canary,
                        )
                    ],
                    links=[
                        Link(SpanContext(trace_id + 1, 5, is_remote=True), {"x": canary, "prompt": canary})
                    ],
                    kind=SpanKind.CLIENT,
                    status=Status(StatusCode.ERROR, canary),
                    start_time=START,
                    end_time=START + 10**9,
                    instrumentation_scope=InstrumentationScope("tests" if token else canary, canary),
                )
            )
    return views


@contextmanager
def running(wire: Wire, **options: Any) -> Iterator[Forwarder]:
    subject = forwarder(
        {"api_key": "phc_x", "compression": "none", "events": EVERYTHING, **options},
        environ={},
        transport=wire,
    )
    try:
        yield subject
    finally:
        subject.close(0.0)


def on_disk(directory: Path) -> bytes:
    """Return all bytes of the directory: the database, its write-ahead log and every other file."""
    return b"".join(file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file())


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records)


@pytest.fixture(params=[SENTENCE, TOKEN], ids=["sentence", "token"])
def canary(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.DEBUG)
    way: str = request.param
    return way


HOW: Mapping[str, dict[str, Any]] = {
    "option": {"capture_content": False},
    "share of traces": {"content_sample_rate": 0.0},
    "feature": {"private_features": ["diary", "therapy"]},
}


@pytest.mark.parametrize(
    ("way", "how"), [("exporter", "option"), ("otlp", "option"), *(("processor", how) for how in HOW)]
)
def test_nothing_planted_is_sent_or_logged(
    canary: str, way: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire, spans = Wire(), whole_spans(canary)
    with running(wire, **HOW[how]) as subject:
        if way == "processor":
            assert [span for span in spans if not subject.end(span)] == []
            assert subject.flush(60)
        elif way == "exporter":
            views = [view for span in spans if (view := view_of_sdk_span(span)) is not None]
            assert subject.export_spans(views, [], 60)
        else:
            request = ExportTraceServiceRequest.FromString(otlp_request(*spans).SerializeToString())
            read = [view for view in views_of_request(request) if isinstance(view, SpanView)]
            assert subject.export_spans(read, [], 60)
        assert subject.stats()["spans"]["converted"] == len(spans)
    sent = b"".join(wire.bytes)
    assert sent.count(b'"$ai_trace_id"') > len(spans)
    assert canary.encode() not in sent
    assert canary not in logged(caplog)


@pytest.mark.parametrize(("durability", "how"), [("overflow", "option"), *(("always", how) for how in HOW)])
def test_nothing_planted_is_on_disk(
    canary: str, durability: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire(up=False)
    spans = whole_spans(canary)
    with running(
        wire, spool_dir=tmp_path, durability=durability, max_queue_bytes=100_000, **HOW[how]
    ) as subject:
        for span in spans:
            subject.end(span)
        while_running = on_disk(tmp_path)
    after = on_disk(tmp_path)
    assert after.count(b"$ai_trace_id") > len(spans)
    for sent in (while_running, after, b"".join(wire.bytes)):
        assert canary.encode() not in sent
    assert canary not in logged(caplog)


def test_spans_that_another_process_kept_whole_are_hidden_by_the_one_that_sends_them(tmp_path: Path) -> None:
    span = sdk_span({**CHAT, "gen_ai.input.messages": SENTENCE, "langfuse.trace.name": SENTENCE})
    with running(Wire(up=False), spool_dir=tmp_path, durability="always") as subject:
        subject.end(span)
    assert SENTENCE.encode() in on_disk(tmp_path)
    wire = Wire()
    with running(wire, spool_dir=tmp_path, capture_content=False) as subject:
        assert subject.flush(60)
    assert b'"$ai_model":"gpt-5.1"' in b"".join(wire.bytes)
    assert SENTENCE.encode() not in b"".join(wire.bytes)


def outage(directory: Path, *spans: ReadableSpan, **options: Any) -> bytes:
    """Write finished events of the spans to disk, as a process does that cannot send them."""
    with running(
        Wire(up=False), spool_dir=directory, timeout=0.1, max_retry_seconds=0.1, **options
    ) as subject:
        views = [view for span in spans if (view := view_of_sdk_span(span)) is not None]
        subject.export_spans(views, [], 0.0)
    return on_disk(directory)


def sent_by(directory: Path, **options: Any) -> bytes:
    """Return the events that a process sends from the spool."""
    wire = Wire()
    with running(wire, spool_dir=directory, **options) as subject:
        assert subject.flush(60)
        assert subject.stats()["spool"]["entries"] == 0
        assert not subject.stats()["spool"]["buried"]
    return b"".join(wire.bytes)


@pytest.mark.parametrize("how", [name for name in HOW if name != "feature"])
def test_events_that_another_process_finished_are_hidden_by_the_one_that_sends_them(
    how: str, tmp_path: Path
) -> None:
    spans = whole_spans(SENTENCE)
    assert SENTENCE.encode() in outage(tmp_path, *spans)
    sent = sent_by(tmp_path, **HOW[how])
    assert sent.count(b'"$ai_trace_id"') > len(spans)
    assert SENTENCE.encode() not in sent


LEAKY = {
    **CHAT,
    "gen_ai.input.messages": json.dumps([{"role": "user", "content": f"{SENTENCE} jane@example.com"}]),
    "posthog.distinct_id": "jane",
    "posthog.username": "Jane Doe",
    "posthog.property.plan": "free for all",
    "posthog.feature": "diary",
}


@pytest.mark.parametrize(
    ("now", "gone", "there"),
    [
        ({"capture_content": False}, SENTENCE, '"feature":"diary"'),
        ({"private_features": "diary"}, SENTENCE, '"feature":"diary"'),
        ({"private_features": "others"}, "nothing of it", SENTENCE),
        ({"redact": "email"}, "jane@example.com", f"{SENTENCE} [EMAIL]"),
        ({"mask": lambda *_: None}, SENTENCE, '"feature":"diary"'),
        ({"hash_user_ids": "0123456789abcdef"}, '"jane"', SENTENCE),
        ({"hash_user_ids": "0123456789abcdef"}, "Jane Doe", SENTENCE),
        ({"max_content_bytes": 256}, "x" * 300, "[cut:"),
        ({}, "nothing of it", '"plan":"free for all"'),
    ],
)
@pytest.mark.parametrize("before", [{}, {"before_send": lambda event: event}], ids=["open", "hook"])
def test_a_process_hides_content_of_events_that_another_one_finished(
    now: dict[str, Any], gone: str, there: str, before: dict[str, Any], tmp_path: Path
) -> None:
    messages = [
        {"role": "user", "content": f"{SENTENCE} jane@example.com"},
        {"role": "user", "content": "x" * 400},
    ]
    outage(tmp_path, sdk_span({**LEAKY, "gen_ai.input.messages": json.dumps(messages)}), **before)
    sent = sent_by(tmp_path, **now).decode()
    assert there in sent
    assert gone not in sent


@pytest.mark.parametrize(
    "options",
    [
        {"capture_content": False},
        {"private_features": "diary"},
        {"content_sample_rate": 0.0},
        {"capture_content": False, "hash_user_ids": "0123456789abcdef"},
        {"capture_content": False, "redact": "email"},
        {"private_features": "diary", "redact": "email", "max_content_bytes": 256},
        {"redact": "email", "hash_user_ids": "0123456789abcdef"},
    ],
)
def test_events_that_were_finished_as_they_are_here_are_sent_as_they_were_kept(
    options: dict[str, Any], tmp_path: Path
) -> None:
    span = sdk_span(LEAKY)
    wire = Wire()
    with running(wire, spool_dir=tmp_path / "other", **options) as subject:
        view = view_of_sdk_span(span)
        assert view is not None
        assert subject.export_spans([view], [], 60)
    outage(tmp_path, span, **options)
    kept = sent_by(tmp_path, **options)
    assert b'"plan":"free for all"' in kept
    assert _events_in(kept) == _events_in(b"".join(wire.bytes))


def _events_in(sent: bytes) -> list[bytes]:
    return sorted(re.findall(rb'\{"event":.*?\}(?=,\{"event"|\]\})', sent))


def test_before_send_and_properties_of_the_client_are_not_applied_a_second_time(tmp_path: Path) -> None:
    def count(event: dict[str, Any]) -> dict[str, Any]:
        times = event["properties"].get("times", 0) + 1
        return {**event, "properties": {**event["properties"], "times": times}}

    outage(tmp_path, sdk_span(LEAKY), before_send=count)
    sent = sent_by(tmp_path, before_send=count, redact="email")
    assert b'"times":1' in sent
    assert b'"times":2' not in sent


def test_a_pseudonym_stays_whichever_key_made_it(tmp_path: Path) -> None:
    outage(tmp_path, sdk_span(LEAKY), hash_user_ids="0123456789abcdef")
    sent = sent_by(tmp_path, hash_user_ids="fedcba9876543210")
    assert pseudonym("jane", b"0123456789abcdef").encode() in sent


def test_refused_events_keep_word_of_how_they_were_finished(tmp_path: Path) -> None:
    wire = Wire()
    wire.answers = Response(400, {}, b"{}")
    with running(wire, spool_dir=tmp_path, capture_content=False) as subject:
        subject.end(sdk_span(LEAKY))
        subject.flush(60)
    assert revive(tmp_path, destination_of("phc_x"), None) > 0
    assert b'"plan":"free for all"' in sent_by(tmp_path, capture_content=False)


def test_an_event_that_a_mask_cannot_be_asked_for_is_not_sent_and_not_kept(tmp_path: Path) -> None:
    outage(tmp_path, sdk_span(LEAKY))
    wire = Wire()
    with running(wire, spool_dir=tmp_path, mask=lambda *_: None) as subject:
        subject._converter._finish._mask = _failing
        assert subject.flush(60)
        stats = subject.stats()
    assert stats["events"]["dropped"]["mask failed"] > 0
    assert (stats["spool"]["entries"], stats["spool"]["dead_letters"]) == (0, 0)
    assert SENTENCE.encode() not in b"".join(wire.bytes)


def _failing(_event: dict[str, Any]) -> dict[str, Any]:
    raise ValueError
