"""The checker: events of a right run have no fault, and each way of being wrong has its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.framework_matrix.checker import CHAT, USER, Event, Evidence, Outcome, check
from tests.framework_matrix.provider import Request
from tests.framework_matrix.wire import Usage

TRACE = "trace-1"


def request(number: int, scenario: str = "agent", status: int = 200, **changes: Any) -> Request:
    return replace(
        Request(
            number=number,
            scenario=scenario,
            kind="chat",
            provider="openai",
            endpoint="chat/completions",
            model="gpt-5-mini-2025-08-07",
            stream=False,
            usage=Usage(number),
            status=status,
            prompt="Say hello.",
        ),
        **changes,
    )


def event(name: str, span: str, scenario: str = "agent", trace: str = TRACE, **properties: Any) -> Event:
    told = {"$ai_trace_id": trace, "$ai_span_id": span, "feature": scenario, "user_id": USER, "chat_id": CHAT}
    return {
        "event": name,
        "distinct_id": USER,
        "timestamp": "2026-01-01T00:00:00Z",
        "properties": {**told, "$ai_session_id": CHAT, **properties},
    }


def call(asked: Request, parent: str = "root", trace: str = TRACE, /, **changes: Any) -> list[Event]:
    """Make the three events of a call that is told right."""
    span, failed = f"call-{asked.number}", asked.status != 200
    properties: dict[str, Any] = {
        "$ai_span_name": "chat",
        "$ai_parent_id": parent,
        "$ai_model": asked.model,
        "$ai_provider": "openai",
        "$ai_is_error": failed,
        "$ai_latency": 1.5,
        "$ai_input": [{"role": "user", "content": asked.prompt}],
    }
    if not failed:
        properties["$ai_output_choices"] = [{"role": "assistant", "content": "Hello."}]
        properties["$ai_input_tokens"] = asked.usage.input_tokens
        properties["$ai_output_tokens"] = asked.usage.output_tokens
    outcome = "llm_completion_failed" if failed else "llm_completion_success"
    return [
        event("llm_completion_requested", span, asked.scenario, trace),
        event("$ai_generation", span, asked.scenario, trace, **{**properties, **changes}),
        event(outcome, span, asked.scenario, trace),
    ]


def right() -> Evidence:
    """Return an agent with two calls and a tool, of which all is right."""
    first, second = request(1), request(2)
    return Evidence(
        requests=[first, second],
        events=[
            event("$ai_trace", "root", **{"$ai_span_name": "agent"}),
            *call(first),
            event("$ai_span", "tool", **{"$ai_span_name": "tool", "$ai_parent_id": "root"}),
            *call(second),
        ],
        outcomes=[Outcome("agent", None, 1.0)],
    )


def without(evidence: Evidence, name: str) -> Evidence:
    """Leave out the first event of a name."""
    index = next(number for number, each in enumerate(evidence.events) if each["event"] == name)
    return replace(evidence, events=[*evidence.events[:index], *evidence.events[index + 1 :]])


def changed(evidence: Evidence, name: str, **properties: Any) -> Evidence:
    """Change properties of the first event of a name; None takes one away."""
    index = next(number for number, each in enumerate(evidence.events) if each["event"] == name)
    old = evidence.events[index]
    new = {key: value for key, value in {**old["properties"], **properties}.items() if value is not None}
    changed_event = {**old, "properties": new}
    return replace(evidence, events=[*evidence.events[:index], changed_event, *evidence.events[index + 1 :]])


def renamed(evidence: Evidence, old: str, new: str) -> Evidence:
    return replace(
        evidence,
        events=[{**each, "event": new} if each["event"] == old else each for each in evidence.events],
    )


def added(evidence: Evidence, *events: Event) -> Evidence:
    return replace(evidence, events=[*evidence.events, *events])


def kinds(evidence: Evidence) -> set[str]:
    return {fault.kind for fault in check(evidence)}


def test_a_right_run_has_no_fault() -> None:
    assert check(right()) == []


def test_a_failed_call_that_is_told_as_one_has_no_fault() -> None:
    asked = request(1, "failing", 500)
    assert check(Evidence([asked], call(asked, TRACE), outcomes=[Outcome("failing", "it failed", 1.0)])) == []


def test_a_stream_left_early_needs_no_tokens() -> None:
    asked = request(1, "left_stream", stream=True)
    events = call(
        asked, TRACE, **{"$ai_input_tokens": None, "$ai_output_tokens": None, "$ai_output_choices": None}
    )
    assert check(Evidence([asked], events, outcomes=[Outcome("left_stream", None, 1.0)])) == []


GENERATION, TREE = "$ai_generation", {"$ai_span_name": "x", "$ai_parent_id": "root"}

FAULTS: list[tuple[str, Callable[[Evidence], Evidence]]] = [
    ("a request has no generation", lambda run: without(run, GENERATION)),
    ("a generation has no request", lambda run: added(run, event(GENERATION, "twin", **TREE))),
    (
        "a generation has no request",
        lambda run: added(run, *call(request(1), "trace-2", "trace-2")),
    ),
    (
        "tokens are wrong",
        lambda run: changed(run, GENERATION, **{"$ai_input_tokens": 0, "$ai_output_tokens": 0}),
    ),
    ("a call is of the wrong kind", lambda run: renamed(run, GENERATION, "$ai_embedding")),
    ("success and failure are confused", lambda run: changed(run, GENERATION, **{"$ai_is_error": True})),
    (
        "the model is not the one that answered",
        lambda run: changed(run, GENERATION, **{"$ai_model": "gpt-5-mini"}),
    ),
    ("the provider is wrong", lambda run: changed(run, GENERATION, **{"$ai_provider": "strands-agents"})),
    (
        "the input is not what was sent",
        lambda run: changed(run, GENERATION, **{"$ai_input": "SelectorPrompt()"}),
    ),
    ("the input is not what was sent", lambda run: changed(run, GENERATION, **{"$ai_input": None})),
    ("roles are not known ones", lambda run: changed(run, GENERATION, **{"$ai_input": [_odd_message()]})),
    ("the output is missing", lambda run: changed(run, GENERATION, **{"$ai_output_choices": None})),
    (
        "the call is shorter than its answer took",
        lambda run: replace(changed(run, GENERATION, **{"$ai_latency": 0.1}), slow=True),
    ),
    (
        "the first token comes after the end",
        lambda run: changed(run, GENERATION, **{"$ai_time_to_first_token": 900}),
    ),
    ("not one outcome for a generation", lambda run: without(run, "llm_completion_success")),
    ("not one outcome for a generation", lambda run: added(run, event("llm_completion_success", "call-1"))),
    (
        "outcome and generation contradict each other",
        lambda run: added(without(run, "llm_completion_success"), event("llm_completion_failed", "call-1")),
    ),
    ("`requested` is missing", lambda run: without(run, "llm_completion_requested")),
    ("`requested` comes too often", lambda run: added(run, event("llm_completion_requested", "call-1"))),
    (
        "`requested` has another span than every outcome",
        lambda run: changed(run, "llm_completion_requested", **{"$ai_span_id": "other"}),
    ),
    (
        "`requested` has another trace than its outcome",
        lambda run: changed(run, "llm_completion_requested", **{"$ai_trace_id": "other"}),
    ),
    ("a trace has several heads", lambda run: added(run, event("$ai_trace", "root-2"))),
    ("a trace has no head", lambda run: changed(run, "$ai_trace", **{"$ai_trace_id": "other"})),
    ("a trace is empty", lambda run: added(run, event("$ai_trace", "made", trace="trace-2"))),
    ("a parent is not in its trace", lambda run: changed(run, "$ai_span", **{"$ai_parent_id": "nobody"})),
    (
        "an event stands beside the head of its trace",
        lambda run: changed(run, "$ai_span", **{"$ai_parent_id": TRACE}),
    ),
    ("a run is in several traces", lambda run: added(run, *_tool_elsewhere())),
    ("the user is not that of `ai_context`", lambda run: changed(run, "$ai_span", user_id=None)),
    ("the feature is not that of `ai_context`", lambda run: changed(run, "$ai_span", feature=None)),
    ("the chat is not that of `ai_context`", lambda run: changed(run, "$ai_span", chat_id=None)),
    (
        "the session is not the chat",
        lambda run: changed(run, GENERATION, **{"$ai_session_id": "of a library"}),
    ),
    ("text on stderr", lambda run: replace(run, stderr=["A span ended after shutdown and is not sent."])),
    ("the program ended with an error", lambda run: replace(run, exit_code=1)),
    ("the scenario itself broke", lambda run: replace(run, outcomes=[Outcome("agent", "TypeError", 1.0)])),
    ("the provider does not serve a path", lambda run: replace(run, unknown_paths=["/v1/images"])),
    ("no scenario ran", lambda run: Evidence([], [])),
]


def _odd_message() -> dict[str, str]:
    return {"role": "MessageRole.USER", "content": "Say hello."}


def _tool_elsewhere() -> tuple[Event, Event]:
    other = {"trace": "trace-2"}
    return event("$ai_trace", "root-2", **other), event(
        "$ai_span", "tool-2", **other, **{"$ai_parent_id": "root-2"}
    )


@pytest.mark.parametrize(
    ("kind", "wrong"), FAULTS, ids=[f"{number}: {kind}" for number, (kind, _) in enumerate(FAULTS)]
)
def test_what_is_wrong_is_found(kind: str, wrong: Callable[[Evidence], Evidence]) -> None:
    assert kind in kinds(wrong(right()))


def test_a_second_generation_without_tokens_is_one_too_many_and_nothing_else() -> None:
    twin = event(GENERATION, "twin", **TREE)
    assert [str(fault) for fault in check(added(right(), twin))] == [
        "agent: a generation has no request: x, tokens (0, 0)"
    ]


def test_a_call_without_tokens_is_not_also_a_missing_one() -> None:
    blank = changed(right(), GENERATION, **{"$ai_input_tokens": None, "$ai_output_tokens": None})
    assert kinds(blank) == {"tokens are wrong"}


def test_without_spans_of_agents_calls_of_one_may_be_in_several_traces() -> None:
    first, second = request(1), request(2)
    events = [*call(first, "trace-1", "trace-1"), *call(second, "trace-2", "trace-2")]
    evidence = Evidence([first, second], events, outcomes=[Outcome("agent", None, 1.0)], tells_agents=False)
    assert check(evidence) == []
    assert "a run is in several traces" in kinds(replace(evidence, tells_agents=True))
