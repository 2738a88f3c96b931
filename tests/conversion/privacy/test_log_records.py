"""Content in log records is hidden and redacted like that in spans."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.spans.log_contents import LogContents
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.span_view import SpanView
from tests.support.logs import (
    CLAUDE,
    CLIS,
    golden_logs,
    items_of_logs,
    log_record,
    logs_request,
    views_of_logs,
)
from tests.support.spans import CHAT, SPAN_ID, TRACE_ID, make_view

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
SENTENCE = "Planted words nobody may read"
EMAIL = "ada@example.com"
IDENTIFIERS = (
    *("event.", "session.id", "conversation.id", "prompt.id", "prompt_id", "user.id", "user.account_id"),
    *("installation.id", "model", "tool_name", "function_name", "auth_type", "error.type", "error_type"),
    *("gen_ai.operation", "gen_ai.provider", "gen_ai.request.model", "gen_ai.response", "request_id"),
    *("effort", "endpoint", "finish_reasons"),
)
"""Attributes that are sent with any options, because they name something."""


def planted(cli: str, sentence: str = SENTENCE) -> ExportLogsServiceRequest:
    """Return the golden records of a CLI with the sentence in each text that may be content, and more."""
    request = golden_logs(cli)
    for record in request.resource_logs[0].scope_logs[0].log_records:
        if not record.body.string_value.startswith("claude_code."):
            record.body.CopyFrom(AnyValue(string_value=sentence))
        for pair in record.attributes:
            text = pair.value.string_value
            if text and not pair.key.startswith(IDENTIFIERS) and not text.replace(".", "").isdigit():
                pair.value.CopyFrom(AnyValue(string_value=_with(text, sentence)))
        for key in ("prompt", "request_text", "response_text", "output", "arguments", "unheard.of"):
            if all(pair.key != key for pair in record.attributes):
                record.attributes.append(KeyValue(key=key, value=AnyValue(string_value=sentence)))
    return request


def _with(text: str, sentence: str) -> str:
    """Return the text with the sentence instead of its words; JSON stays JSON."""
    for words in ("What is in a.txt?", "hello.", "make test", "a.txt", "ls"):
        if text.startswith(("{", "[{")) and words in text:
            return text.replace(words, sentence)
    return sentence


def events(pipeline: Pipeline, views: list[SpanView]) -> str:
    """Return all events as text."""
    return json.dumps([{**event, "timestamp": ""} for event in pipeline.finished_events(*views)], default=str)


@pytest.mark.parametrize("cli", CLIS)
def test_content_is_sent_if_the_options_allow_it(cli: str) -> None:
    assert SENTENCE in events(Pipeline(families=EVERYTHING), views_of_logs(planted(cli)))


@pytest.mark.parametrize("cli", CLIS)
def test_nothing_that_anybody_wrote_leaves_without_content(cli: str) -> None:
    assert SENTENCE not in events(Pipeline(families=EVERYTHING, content=False), views_of_logs(planted(cli)))


@pytest.mark.parametrize("shows", [True, False])
def test_an_answer_of_claude_code_is_hidden_with_its_call(shows: bool) -> None:
    answer = {"event.name": "assistant_response", "request_id": "req_1", "response": SENTENCE}
    request = logs_request(log_record({**CLAUDE, "request_id": "req_1"}), log_record(answer))
    written = events(Pipeline(families=EVERYTHING, content=shows), views_of_logs(request))
    assert (SENTENCE in written) is shows


@pytest.mark.parametrize("cli", CLIS)
def test_nothing_leaves_of_a_private_feature(cli: str) -> None:
    request = planted(cli)
    request.resource_logs[0].resource.attributes.append(
        KeyValue(key="posthog.feature", value=AnyValue(string_value="coding"))
    )
    pipeline = Pipeline(families=EVERYTHING, private_features=frozenset({"coding"}))
    assert SENTENCE not in events(pipeline, views_of_logs(request))


@pytest.mark.parametrize("cli", CLIS)
def test_log_records_are_redacted_like_spans(cli: str) -> None:
    pipeline = Pipeline(families=EVERYTHING, redact=lambda text: text.replace(EMAIL, "[EMAIL]"))
    written = events(pipeline, views_of_logs(planted(cli, f"write to {EMAIL} please")))
    assert EMAIL not in written
    assert "[EMAIL]" in written


@pytest.mark.parametrize("cli", CLIS)
def test_the_address_of_the_developer_never_leaves(cli: str) -> None:
    request = golden_logs(cli)
    for record in request.resource_logs[0].scope_logs[0].log_records:
        record.attributes.append(KeyValue(key="user.email", value=AnyValue(string_value=EMAIL)))
    assert EMAIL not in events(Pipeline(families=EVERYTHING), views_of_logs(request))


@pytest.mark.parametrize("name", ["gen_ai.user.message", "gen_ai.choice"])
@pytest.mark.parametrize("shows", [True, False])
def test_content_that_joined_its_span_is_hidden_with_it(name: str, shows: bool) -> None:
    body: dict[str, Any] = {"content": SENTENCE, "message": {"content": SENTENCE}}
    record = log_record({}, event=name, body=body, trace_id=TRACE_ID, span_id=SPAN_ID)
    contents = LogContents()
    for item in items_of_logs(logs_request(record, scope="an instrumentor")):
        assert isinstance(item, LogContent)
        contents.remember(item, 0.0)
    view = contents.joined(make_view(CHAT), 0.0)
    assert (SENTENCE in events(Pipeline(families=EVERYTHING, content=shows), [view])) is shows
