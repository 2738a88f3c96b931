"""Log records of the coding CLIs are the calls, tool runs and prompts that they hold."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from otel_posthog.conversion.model_call import Kind, ModelCall
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.log_record import LogContent
from tests.support.logs import (
    CLAUDE,
    CLIS,
    GOLDEN,
    TIME,
    golden_logs,
    items_of_logs,
    log_record,
    logs_request,
    views_of_logs,
)

GEMINI = {
    "event.name": "gemini_cli.api_response",
    "session.id": "s",
    "prompt_id": "p",
    "model": "gemini-2.5-pro",
    "input_token_count": 900,
    "output_token_count": 40,
}
CODEX = {"conversation.id": "c", "model": "gpt-5.1-codex"}
COMPLETED = {
    **CODEX,
    "event.name": "codex.sse_event",
    "event.kind": "response.completed",
    "input_token_count": "12000",
    "output_token_count": "450",
}
DETAILS = "gen_ai.client.inference.operation.details"
MESSAGES = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hello"}]}])


def calls(*attributes: dict[str, Any], scope: str = "codex_otel.log_only", **values: Any) -> list[ModelCall]:
    """The calls that records of these attributes hold, a second apart."""
    records = [
        log_record(each, time_ns=TIME + at * 1_000_000_000, **values) for at, each in enumerate(attributes)
    ]
    return [read_call(view) for view in views_of_logs(logs_request(*records, scope=scope))]


def claude(name: str, **attributes: Any) -> list[ModelCall]:
    """The calls of one record of Claude Code."""
    names = {key.replace("__", "."): value for key, value in attributes.items()}
    return calls({**CLAUDE, "event.name": name, **names}, scope="com.anthropic.claude_code.events")


@pytest.mark.parametrize("cli", CLIS)
def test_the_golden_records_make_the_golden_events(cli: str) -> None:
    pipeline = Pipeline(families=frozenset({"ai"}))
    events = pipeline.finished_events(*views_of_logs(golden_logs(cli)))
    for event in events:
        del event["properties"]["$ai_lib_version"]
    assert json.loads(json.dumps(events)) == json.loads((GOLDEN / f"{cli}.events.json").read_text())


def test_the_cached_tokens_of_claude_code_are_beside_its_input() -> None:
    (call,) = claude("api_request", cache_read_tokens="24880", cache_creation_tokens="1240")
    assert (call.usage.input, call.usage.cache_read, call.usage.cache_write) == (10, 24880, 1240)
    assert call.usage.cache_exclusive is True


def test_the_reported_cost_is_the_cost() -> None:
    (call,) = claude("api_request", cost_usd="0.25")
    assert call.cost_usd == 0.25


@pytest.mark.parametrize(
    ("status", "expected"), [("529", 529), (429, 429), ("undefined", None), (None, None)]
)
def test_an_error_of_the_api_is_a_failed_call(status: Any, expected: int | None) -> None:
    (call,) = claude("api_error", error="Overloaded", status_code=status)
    assert call.kind is Kind.GENERATION
    assert call.error is not None
    assert (call.error.message, call.error.http_status) == ("Overloaded", expected)


@pytest.mark.parametrize("body", [None, "claude_code.api_request", "any sentence"])
def test_the_name_of_a_claude_code_event_may_be_short(body: str | None) -> None:
    record = log_record(CLAUDE, body=body)
    assert len(views_of_logs(logs_request(record))) == 1


@pytest.mark.parametrize("place", ["event", "body"])
def test_the_name_may_be_in_the_field_or_the_body(place: str) -> None:
    attributes = {name: value for name, value in CLAUDE.items() if name != "event.name"}
    names: dict[str, Any] = {place: "claude_code.api_request"}
    record = log_record(attributes, **names)
    assert len(views_of_logs(logs_request(record, scope="any"))) == 1


@pytest.mark.parametrize("name", ["api_request", "some.event", "gen_ai.unknown", "claude_code.tool_decision"])
def test_another_event_is_no_call(name: str) -> None:
    assert not calls({**CLAUDE, "event.name": name}, scope="an application")


def test_a_record_that_is_sent_again_is_the_same_span() -> None:
    first, again = (views_of_logs(golden_logs("claude-code")) for _ in range(2))
    assert first == again


def test_records_with_different_content_are_different_spans() -> None:
    records = [log_record({**CLAUDE, "event.sequence": number}) for number in range(2)]
    one, other = views_of_logs(logs_request(*records))
    assert one.span_id != other.span_id


@pytest.mark.parametrize(
    ("changed", "is_one_trace"),
    [({}, True), ({"prompt.id": "prompt-2"}, False), ({"session.id": "session-2"}, False)],
)
def test_a_trace_is_a_prompt_of_a_session(changed: dict[str, str], is_one_trace: bool) -> None:
    records = [log_record(CLAUDE), log_record({**CLAUDE, "event.sequence": 2, **changed})]
    one, other = views_of_logs(logs_request(*records))
    assert (one.trace_id == other.trace_id) is is_one_trace


def test_a_prompt_is_the_head_of_its_calls_whatever_request_brings_it() -> None:
    (call,) = views_of_logs(logs_request(log_record(CLAUDE)))
    (head,) = views_of_logs(
        logs_request(log_record({**CLAUDE, "event.name": "user_prompt", "prompt": "Why?"}))
    )
    assert (call.trace_id, call.parent_id) == (head.trace_id, head.span_id)
    assert head.parent_id is None


@pytest.mark.parametrize("prompt", ["<REDACTED>", "[REDACTED]", ""])
def test_a_hidden_prompt_is_no_input(prompt: str) -> None:
    (head,) = claude("user_prompt", prompt=prompt)
    assert not head.input


def test_a_prompt_of_codex_is_a_task_of_its_session() -> None:
    prompt, call = calls({**CODEX, "event.name": "codex.user_prompt", "prompt": "Why?"}, COMPLETED)
    assert (prompt.kind, prompt.trace_id) == (Kind.TASK, call.trace_id)


def test_a_tool_result_is_a_tool_run() -> None:
    (run,) = claude("tool_result", tool_name="Bash", success="true", tool_parameters='{"command":"ls"}')
    assert (run.kind, run.name, run.input_state, run.error) == (Kind.TOOL, "Bash", {"command": "ls"}, None)


def test_a_tool_result_without_success_has_failed() -> None:
    (run,) = claude("tool_result", tool_name="Bash", success="false", error="exit 1")
    assert run.error is not None
    assert run.error.message == "exit 1"


def test_a_codex_call_lasts_from_its_request_to_its_end() -> None:
    request = {**CODEX, "event.name": "codex.api_request", "duration_ms": "600", "endpoint": "/responses"}
    (call,) = calls({**request, "http.response.status_code": 200}, COMPLETED)
    assert (call.end_ns or 0) - call.start_ns == 1_600_000_000


def test_the_end_of_a_codex_stream_counts_once() -> None:
    event = {name: value for name, value in COMPLETED.items() if not name.endswith("_token_count")}
    assert len(calls({**event, "duration_ms": "3"}, COMPLETED)) == 1


@pytest.mark.parametrize(
    ("changed", "failures"),
    [
        ({"http.response.status_code": 429, "error.message": "slow down"}, 1),
        ({"http.response.status_code": 500}, 1),
        ({"error.message": "no route to host"}, 1),
        ({"http.response.status_code": 200}, 0),
        ({"http.response.status_code": 500, "endpoint": "/models"}, 0),
    ],
)
def test_a_codex_request_that_is_refused_is_a_failed_call(changed: dict[str, Any], failures: int) -> None:
    request = {**CODEX, "event.name": "codex.api_request", "endpoint": "/responses", **changed}
    assert [call.error is not None for call in calls(request)] == [True] * failures


@pytest.mark.parametrize(
    ("kind", "failures"),
    [(None, 1), ("response.failed", 1), ("response.completed", 1), ("response.output_item.done", 0)],
)
def test_a_codex_stream_that_breaks_is_a_failed_call(kind: str | None, failures: int) -> None:
    event = {**CODEX, "event.name": "codex.sse_event", "error.message": "broken"}
    assert len(calls(event if kind is None else {**event, "event.kind": kind})) == failures


@pytest.mark.parametrize("prefix", ["gemini_cli", "qwen-code"])
def test_thoughts_of_gemini_cli_are_output_and_tool_tokens_input(prefix: str) -> None:
    (call,) = calls(
        {**GEMINI, "event.name": f"{prefix}.api_response", "thoughts_token_count": 60, "tool_token_count": 7},
        scope="gemini-cli",
    )
    assert (call.usage.input, call.usage.output, call.usage.reasoning) == (907, 100, 60)


@pytest.mark.parametrize(
    ("auth", "provider"), [("gemini-api-key", "google"), ("vertex-ai", "vertex"), (None, "google")]
)
def test_the_provider_of_gemini_cli_is_by_how_it_logs_in(auth: str | None, provider: str) -> None:
    (call,) = calls({**GEMINI, "auth_type": auth}, scope="gemini-cli")
    assert call.provider == provider


def test_gemini_cli_tells_each_call_once_though_it_writes_two_events() -> None:
    moment: dict[str, Any] = {"event.timestamp": "2026-11-20T10:00:00.000Z"}
    details: dict[str, Any] = {
        "event.name": DETAILS,
        "session.id": "s",
        "gen_ai.input.messages": MESSAGES,
        **moment,
    }
    details |= {"gen_ai.request.model": "gemini-2.5-pro", "gen_ai.usage.input_tokens": 900}
    (call,) = calls({**GEMINI, **moment}, details, scope="gemini-cli")
    assert call.input[0]["parts"] == [{"type": "text", "content": "hello"}]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"gen_ai.usage.output_tokens": 1}, 1),
        ({"gen_ai.response.id": "r"}, 1),
        ({"error.type": "timeout"}, 1),
        ({"gen_ai.input.messages": MESSAGES}, 0),  # the event of the request
    ],
)
def test_details_without_a_span_are_a_call_if_they_have_an_outcome(
    outcome: dict[str, Any], expected: int
) -> None:
    details = {"event.name": DETAILS, "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5.1"}
    assert len(calls({**details, **outcome}, scope="an instrumentor")) == expected


@pytest.mark.parametrize("name", [DETAILS, "gen_ai.user.message", "gen_ai.choice"])
def test_an_event_of_the_conventions_belongs_to_its_span(name: str) -> None:
    record = log_record({"gen_ai.response.id": "r"}, event=name, body={"content": "x"}, trace_id=1, span_id=2)
    (content,) = items_of_logs(logs_request(record, scope="an instrumentor"))
    assert isinstance(content, LogContent)
    assert (int(content.trace_id, 16), int(content.span_id, 16), content.event.name) == (1, 2, name)


@pytest.mark.parametrize("name", ["gen_ai.user.message", "gen_ai.choice"])
def test_a_message_without_a_span_is_nothing(name: str) -> None:
    record = log_record({}, event=name, body={"content": "x"})
    assert not [*items_of_logs(logs_request(record, scope="an instrumentor"))]


def test_a_score_is_of_the_span_that_it_names() -> None:
    attributes = {"gen_ai.evaluation.name": "helpful", "gen_ai.evaluation.score.value": 0.5}
    record = log_record(attributes, event="gen_ai.evaluation.result", trace_id=1, span_id=2)
    (view,) = views_of_logs(logs_request(record, scope="an evaluator"))
    (event,) = Pipeline(families=frozenset({"ai"})).finished_events(view)
    assert event["event"] == "$ai_metric"
    assert int(event["properties"]["$ai_span_id"], 16) == 2


@pytest.mark.parametrize("name", ["tool_result", "user_prompt"])
def test_prompts_and_tool_runs_within_spans_are_left_to_these(name: str) -> None:
    record = log_record({**CLAUDE, "event.name": name, "tool_name": "Bash"}, trace_id=1, span_id=2)
    assert not views_of_logs(logs_request(record))


def test_a_call_within_a_span_stands_below_it() -> None:
    (view,) = views_of_logs(logs_request(log_record(CLAUDE, trace_id=1, span_id=2)))
    assert (int(view.trace_id, 16), int(view.parent_id or "", 16)) == (1, 2)


@pytest.mark.parametrize("value", [[], {}, b"x", 1e300, float("nan"), True, "", None, -1, 2**62])
@pytest.mark.parametrize("cli", ["claude", "codex", "gemini"])
def test_no_value_is_too_odd(cli: str, value: Any) -> None:
    of_cli: dict[str, dict[str, Any]] = {"claude": {**CLAUDE}, "codex": {**COMPLETED}, "gemini": GEMINI}
    attributes = of_cli[cli]
    for name in [*attributes, "event.timestamp", "status_code", "response_text", "attempt", "endpoint"]:
        if name != "event.name":
            calls({**attributes, name: value}, scope="com.anthropic.claude_code.events")


@pytest.mark.parametrize("kind", ["questions", "answers", "details"])
def test_many_records_that_belong_together_take_no_longer_each(kind: str) -> None:
    added: dict[str, dict[str, Any]] = {
        "questions": {"event.name": "gemini_cli.api_request", "session.id": "s", "request_text": "[]"},
        "answers": {"event.name": "claude_code.api_response_body", "request_id": "r", "body": "x"},
        "details": {"event.name": DETAILS, "session.id": "s", "event.timestamp": "x"},
    }
    call = {**GEMINI, "event.timestamp": "x"} if kind != "answers" else {**CLAUDE, "request_id": "r"}
    records = [log_record(each) for each in (added[kind], call) for _ in range(5000)]
    began = time.process_time()
    assert (
        len(
            views_of_logs(
                logs_request(
                    *records, scope="gemini-cli" if kind != "answers" else "com.anthropic.claude_code"
                )
            )
        )
        == 5000
    )
    assert time.process_time() - began < 5
