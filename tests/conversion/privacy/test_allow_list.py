"""Events without content hold allowed properties only, each with an allowed value."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest

from otel_posthog.conversion.events import ai_events
from otel_posthog.conversion.model_call import Evaluation, Feedback, Kind
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.privacy import value_checks
from otel_posthog.conversion.privacy.allow_list import CONTENT, checks_of, unsafe_fields
from tests.conversion.test_recorded import NAMES, lines
from tests.support.spans import make_view, view_of_recorded

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
SHOWN = Pipeline(families=EVERYTHING, prices=PriceBook())
PRIVATE = Pipeline(families=EVERYTHING, prices=PriceBook(), content=False)

Properties = dict[str, Any]

AI_EVENTS = ("$ai_generation", "$ai_embedding", "$ai_span", "$ai_trace")


def test_every_property_of_an_ai_event_is_on_the_list_or_is_content() -> None:
    in_code = {*re.findall(r'"(\$ai_\w+)"', inspect.getsource(ai_events))} - {*AI_EVENTS}
    missing = in_code - checks_of("$ai_generation").keys() - CONTENT
    assert sorted(missing) == [], "\n".join(
        f"`{name}` is in events/ai_events.py and not in privacy/allow_list.py: if it is content, add it "
        "to CONTENT, else add to _AI the check of its value"
        for name in sorted(missing)
    )


MARKERS: dict[str, Properties] = {
    "traceloop.": {"traceloop.entity.name": "e"},
    "ai.": {"ai.telemetry.functionId": "f"},
    "langfuse.": {"langfuse.observation.type": "generation"},
    "langsmith.": {"langsmith.span.kind": "llm"},
}


def marked(attributes: Properties) -> Properties:
    """Return the attributes and the markers of their dialects."""
    marks = {
        name: value
        for prefix, beside in MARKERS.items()
        for name, value in beside.items()
        if any(each.startswith(prefix) for each in attributes)
    }
    return {**marks, **attributes}


def private(attributes: Properties, pipeline: Pipeline = PRIVATE, **changes: Any) -> Properties:
    """Return the properties of all events of a private chat with these attributes, and their metadata."""
    properties: Properties = {}
    for event in pipeline.finished_events(make_view(marked(attributes), **changes)):
        properties |= event["properties"]
    return {**properties, **properties.get("metadata", {})}


KEPT = frozenset(
    {"$ai_model", "$ai_provider", "$ai_tools_called", "$ai_tool_call_count", "$ai_latency", "$ai_stop_reason"}
    | {"$ai_input_tokens", "$ai_output_tokens", "$ai_total_tokens", "$ai_reasoning_tokens", "$ai_is_error"}
    | {"$ai_cache_read_input_tokens", "$ai_total_cost_usd", "$ai_time_to_first_token", "$ai_temperature"}
    | {"$ai_max_tokens", "$ai_stream", "$ai_http_status", "$ai_error_type", "$ai_completion_id"}
    | {"$ai_trace_id", "$ai_span_id", "$ai_parent_id", "$ai_session_id", "$ai_span_type", "$ai_framework"}
    | {"model", "provider", "prompt_length", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"}
    | {"finish_reason", "latency_ms", "error_type"}
)
KEPT_IN_METADATA = frozenset(
    {"operation", "message_count", "history_count", "tools_offered", "tools_called", "choices", "http_status"}
)


@pytest.mark.parametrize("name", NAMES)
def test_figures_names_of_models_and_tools_and_ids_are_the_same_in_private(name: str) -> None:
    for line in lines(name):
        views = [view_of_recorded(span) for span in line["spans"]]
        shown_events, hidden_events = SHOWN.finished_events(*views), PRIVATE.finished_events(*views)
        assert [(each["event"], each["uuid"], each["distinct_id"]) for each in hidden_events] == [
            (each["event"], each["uuid"], each["distinct_id"]) for each in shown_events
        ]
        for shown_event, hidden_event in zip(shown_events, hidden_events, strict=True):
            shown, hidden = shown_event["properties"], hidden_event["properties"]
            kept = {key for key in KEPT if key.startswith("$") is shown_event["event"].startswith("$")}
            assert {key: shown[key] for key in kept & shown.keys()} == {
                key: hidden[key] for key in kept & hidden.keys()
            }
            more, rest = shown.get("metadata", {}), hidden.get("metadata", {})
            assert {key: more[key] for key in KEPT_IN_METADATA & more.keys()} == {
                key: rest[key] for key in KEPT_IN_METADATA & rest.keys()
            }
            assert CONTENT.isdisjoint(hidden.keys() - {"$ai_error", "error_message"})


@pytest.mark.parametrize(
    ("attribute", "value", "property_name"),
    [
        ("posthog.property.plan", "free for all", "plan"),
        ("posthog.property.$set", {"name": "A B"}, "$set"),
        ("posthog.property.tags", ["to be", "or not"], "tags"),
        ("posthog.flag.new model", "variant a", "$feature/new model"),
        ("posthog.feature", "Smart reply", "feature"),
        ("feature", "Smart reply", "feature"),
        ("posthog.chat_id", "chat of A and B", "chat_id"),
        ("posthog.ai_friend_id", "Aunt Mary", "ai_friend_id"),
        ("posthog.distinct_id", "Jane Doe", "user_id"),
        ("posthog.username", "Jane Doe", "username"),
        ("posthog.session_id", "a session", "$session_id"),
        ("posthog.conversation_id", "a conversation", "$ai_session_id"),
        ("posthog.trace_id", "ticket 17", "$ai_trace_id"),
    ],
)
@pytest.mark.parametrize("beside", [{}, {"traceloop.association.properties.x": "y"}], ids=["alone", "beside"])
def test_values_that_the_application_set_are_sent_unchanged(
    attribute: str, value: Any, property_name: str, beside: Properties
) -> None:
    assert private({attribute: value, **beside})[property_name] == value


def test_groups_stay_as_the_application_named_them_and_of_metadata_those_that_are_identifiers() -> None:
    attributes = {
        "posthog.group.company": "Acme Inc",
        "ai.telemetry.metadata.groups": json.dumps({"team": "red", "mood": "quite bad", "a b": "c"}),
    }
    assert private(attributes)["$groups"] == {"company": "Acme Inc", "team": "red"}


@pytest.mark.parametrize("name", sorted(CONTENT))
def test_a_property_of_content_is_dropped_even_if_the_application_set_it(name: str) -> None:
    assert name not in private({f"posthog.property.{name}": "what was said"})


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"traceloop.association.properties.plan": "free"}, id="traceloop"),
        pytest.param({"ai.telemetry.metadata.plan": "free"}, id="vercel"),
        pytest.param({"ai.telemetry.metadata.posthog_plan": "free"}, id="vercel for posthog"),
        pytest.param({"ai.settings.context.plan": "free"}, id="vercel 7"),
        pytest.param({"langfuse.trace.metadata.plan": "free"}, id="langfuse"),
        pytest.param({"langfuse.trace.tags": ["free"]}, id="langfuse tags"),
        pytest.param({"langfuse.trace.name": "free"}, id="langfuse trace"),
        pytest.param({"langsmith.metadata.plan": "free"}, id="langsmith"),
        pytest.param({"langsmith.span.tags": "free"}, id="langsmith tags"),
        pytest.param(
            {"openinference.span.kind": "LLM", "metadata": '{"plan": "free", "$feature/x": "free"}'},
            id="openinference",
        ),
        pytest.param({"openinference.span.kind": "LLM", "tag.tags": ["free"]}, id="openinference tags"),
        pytest.param({"model_request_parameters": "{}", "metadata": '{"plan": "free"}'}, id="pydantic ai"),
        pytest.param({"model_request_parameters": "{}", "logfire.tags": ["free"]}, id="logfire tags"),
        pytest.param({"gen_ai.response.finish_reasons": ["free"]}, id="finish reason"),
        pytest.param({"gen_ai.request.stop_sequences": ["free"]}, id="stop"),
        pytest.param({"gen_ai.output.type": "free"}, id="response format"),
        pytest.param({"openai.request.service_tier": "free"}, id="service tier"),
        pytest.param({"posthog.thinking.level": "free"}, id="thinking level"),
        pytest.param({"posthog.image.size": "free"}, id="image size"),
        pytest.param({"posthog.image.aspect_ratio": "free"}, id="aspect ratio"),
        pytest.param({"posthog.image.quality": "free"}, id="image quality"),
        pytest.param({"posthog.prompt.block_reason": "free"}, id="block reason"),
        pytest.param({"ai.model.id": "m", "ai.prompt.toolChoice": "free"}, id="tool choice"),
        pytest.param({"gen_ai.operation.name": "free", "gen_ai.usage.input_tokens": 3}, id="operation"),
    ],
)
def test_words_of_others_stay_inside(attributes: Properties) -> None:
    properties = private(attributes)
    assert properties["$ai_trace_id"]
    assert "free" not in json.dumps(properties)
    assert "free" in json.dumps(private(attributes, SHOWN))


@pytest.mark.parametrize(
    ("attribute", "value", "property_name", "left"),
    [
        ("gen_ai.request.model", "accounts/fireworks/models/llama#x", "$ai_model", ...),
        ("gen_ai.request.model", "us.anthropic.claude-3-5-sonnet-20241022-v2:0", "$ai_model", ...),
        ("gen_ai.request.model", "say hello", "$ai_model", None),
        ("gen_ai.request.model", "你好吗", "$ai_model", None),
        ("gen_ai.request.model", "x" * 201, "$ai_model", None),
        ("gen_ai.response.id", "chatcmpl-9", "$ai_completion_id", ...),
        ("gen_ai.response.id", "what did you say?", "$ai_completion_id", None),
        ("gen_ai.response.finish_reasons", ["end_turn"], "$ai_stop_reason", "stop"),
        ("gen_ai.request.temperature", 0.5, "$ai_temperature", ...),
        ("openai.request.service_tier", "flex", "$ai_service_tier", ...),
        ("posthog.thinking.level", "high", "thinking_level", ...),
        ("posthog.image.size", "1024x1536", "image_size", ...),
        ("posthog.image.size", "2K", "image_size", ...),
        ("posthog.image.aspect_ratio", "16:9", "aspect_ratio", ...),
        ("posthog.prompt.block_reason", "PROHIBITED_CONTENT", "block_reason", ...),
        ("gen_ai.prompt.name", "greeting-v2", "$ai_prompt_name", ...),
        ("gen_ai.prompt.name", "greet them warmly", "$ai_prompt_name", None),
        ("server.address", "api.openai.com", "$ai_base_url", ...),
        ("server.address", "https://a.example:8443/v1/", "$ai_base_url", ...),
        ("server.address", "https://me:pw@a.example/v1?prompt=hi#x", "$ai_base_url", "https://a.example/v1"),
        ("server.address", "https://a.example/say hello", "$ai_base_url", None),
        ("server.address", "http://[x", "$ai_base_url", None),
        ("error.type", "openai.RateLimitError", "error_message", ...),
        ("error.type", "429", "$ai_error", ...),
        ("error.type", "no:such/thing", "$ai_error", "_OTHER"),
        ("traceloop.association.properties.user_id", "user_42", "user_id", ...),
        ("traceloop.association.properties.user_id", "the one who asked", "user_id", None),
        ("traceloop.association.properties.session_id", "s-1", "$ai_session_id", ...),
        ("ai.telemetry.metadata.feature", "smart_reply", "feature", ...),
        ("ai.telemetry.metadata.feature", "what did you say?", "feature", None),
        ("langsmith.metadata.chat_id", "c1", "chat_id", ...),
    ],
)
def test_a_name_is_sent_if_it_cannot_be_a_sentence(
    attribute: str, value: Any, property_name: str, left: Any
) -> None:
    assert private({attribute: value}).get(property_name) == (value if left is ... else left)


@pytest.mark.parametrize(
    ("attributes", "name", "shown_name"),
    [
        ({}, "chat gpt-5.1", "chat gpt-5.1"),
        ({}, "what did you say?", "chat gpt-5.1"),
        ({"gen_ai.request.model": "models/gemini-3"}, "chat gemini-3", "chat gemini-3"),
        ({"gen_ai.request.model": "say hello"}, "chat say hello", "chat"),
        ({"gen_ai.operation.name": "say hello"}, "say hello gpt-5.1", "span"),
        ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"}, "x", "weather"),
        ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "in Paris?"}, "x", "execute_tool"),
        ({"gen_ai.operation.name": "execute_tool"}, "x", "execute_tool"),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}, "x y", "helper"),
        ({"traceloop.span.kind": "workflow", "gen_ai.operation.name": ""}, "secret", "workflow"),
    ],
)
def test_a_private_span_is_named_after_its_operation_or_tool(
    attributes: Properties, name: str, shown_name: str
) -> None:
    [event, *_] = PRIVATE.finished_events(make_view(attributes, name=name, parent_id="2" * 16))
    assert event["properties"]["$ai_span_name"] == shown_name


def test_a_user_whose_id_is_a_sentence_is_dropped() -> None:
    view = make_view(marked({"traceloop.association.properties.user_id": "the one who asked"}))
    for event in PRIVATE.finished_events(view):
        assert event["distinct_id"] == view.trace_id
        assert event["properties"]["$process_person_profile"] is False


def test_a_pseudonym_is_the_same_whether_content_is_hidden_or_not_and_no_name_is_beside_it() -> None:
    attributes = {"user.id": "Jane Doe", "user.name": "Jane", "traceloop.association.properties.x": "y"}
    events = [
        event
        for content in (True, False)
        for event in Pipeline(families=EVERYTHING, pseudonym_key=b"k", content=content).finished_events(
            make_view(marked(attributes))
        )
    ]
    assert len({event["distinct_id"] for event in events}) == 1
    assert "Jane" not in json.dumps(events)


def test_names_labels_and_numbers_of_scores_are_sent_if_they_are_identifiers() -> None:
    attributes = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.evaluation.score.label": "it is about cats",
        "gen_ai.evaluation.explanation": "the answer says so",
    }
    [metric] = [
        each for each in PRIVATE.finished_events(make_view(attributes)) if each["event"] == "$ai_metric"
    ]
    properties = metric["properties"]
    assert (properties["$ai_metric_name"], properties["$ai_metric_value"]) == ("relevance", 0.5)
    assert properties.keys().isdisjoint({"$ai_metric_label", "$ai_metric_explanation"})


def test_scores_and_feedback_of_the_application_are_sent_as_they_are() -> None:
    call = PRIVATE.read(make_view())._replace(
        kind=Kind.EVALUATION,
        evaluations=[Evaluation("How was it", label="not so bad", own=True), Feedback("Thank you very much")],
    )
    metric, feedback = (event["properties"] for event in PRIVATE.score_events(call))
    assert (metric["$ai_metric_name"], metric["$ai_metric_value"]) == ("How was it", "not so bad")
    assert feedback["$ai_feedback_text"] == "Thank you very much"


# --- which calls are private -------------------------------------------------------------------------

SAID = {"gen_ai.input.messages": json.dumps([{"role": "user", "content": "what was said"}])}


def shows(pipeline: Pipeline, attributes: Properties | None = None, **changes: Any) -> bool:
    events = pipeline.finished_events(make_view({**SAID, **marked(attributes or {})}, **changes))
    return "what was said" in json.dumps(events)


@pytest.mark.parametrize(
    ("attributes", "is_shown"),
    [
        ({}, True),
        ({"posthog.feature": "smart_reply"}, True),
        ({"posthog.feature": "diary"}, False),
        ({"feature": "diary"}, False),
        ({"ai.telemetry.metadata.feature": "diary"}, False),
        ({"ai.telemetry.metadata.feature": "smart_reply", "posthog.feature": "diary"}, False),
        ({"posthog.feature": "Diary"}, True),
    ],
)
def test_content_of_a_private_feature_stays_inside(attributes: Properties, is_shown: bool) -> None:
    pipeline = Pipeline(families=EVERYTHING, private_features=frozenset({"diary"}))
    assert shows(pipeline, attributes) is is_shown
    assert shows(pipeline, {**attributes, "langfuse.trace.name": "what was said"}) is is_shown


def test_the_root_of_a_trace_does_not_repeat_a_call_of_a_private_feature() -> None:
    pipeline = Pipeline(families=EVERYTHING, private_features=frozenset({"diary"}))
    call = make_view({**SAID, "posthog.feature": "diary"}, span_id="1" * 16, parent_id="2" * 16)
    root = make_view(only={"gen_ai.operation.name": "invoke_agent"}, span_id="2" * 16)
    assert "what was said" not in json.dumps(pipeline.finished_events(call, root))


TRACES = [format(number, "032x") for number in range(2000)]


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9, 1.0])
def test_content_of_the_share_of_traces_is_shown_and_all_events_are_there(rate: float) -> None:
    pipeline = Pipeline(families=EVERYTHING, content_sample_rate=rate)
    shown = [trace for trace in TRACES if shows(pipeline, trace_id=trace)]
    assert abs(len(shown) / len(TRACES) - rate) < 0.05
    assert len(pipeline.finished_events(make_view(trace_id=TRACES[0]))) == 4
    again = Pipeline(families=frozenset({"ai"}), content_sample_rate=rate)
    assert [trace for trace in TRACES if shows(again, trace_id=trace)] == shown


def test_a_larger_share_has_the_traces_of_a_smaller_one_and_more() -> None:
    few, more = (
        {
            trace
            for trace in TRACES
            if shows(Pipeline(families=EVERYTHING, content_sample_rate=rate), trace_id=trace)
        }
        for rate in (0.2, 0.6)
    )
    assert few < more


def test_all_spans_of_a_trace_are_chosen_alike_even_if_the_application_named_it() -> None:
    pipeline = Pipeline(families=EVERYTHING, content_sample_rate=0.5)
    for name in ("ticket 1", "ticket 2", "ticket 3", "ticket 4"):
        choices = {shows(pipeline, {"posthog.trace_id": name}, trace_id=trace) for trace in TRACES[:20]}
        assert len(choices) == 1


def test_the_choice_of_a_trace_is_the_same_for_ever() -> None:
    pipeline = Pipeline(families=EVERYTHING, content_sample_rate=0.5)
    assert [shows(pipeline, trace_id=trace) for trace in TRACES[:12]] == CHOSEN


CHOSEN = [False, False, True, False, True, False, False, False, False, False, True, True]


# --- what a mask sees --------------------------------------------------------------------------------


def test_a_mask_sees_what_the_list_would_drop() -> None:
    attributes = {
        **SAID,
        "gen_ai.output.messages": SAID["gen_ai.input.messages"],
        "gen_ai.tool.definitions": '[{"name": "f"}]',
        "gen_ai.request.stop_sequences": ["END"],
        "posthog.property.plan": "free",
        "langfuse.trace.tags": ["x"],
        "posthog.feature": "Smart reply",
        "posthog.distinct_id": "Jane Doe",
        "posthog.group.company": "Acme Inc",
        "posthog.flag.f": "on",
        "error.type": "timeout",
    }
    seen = {
        (event["event"], ".".join(place))
        for event in SHOWN.finished_events(
            make_view(marked(attributes), status="ERROR", status_message="timeout")
        )
        for place in unsafe_fields(event)
    }
    common = {"plan", "tags"}
    nested = {"metadata.plan", "metadata.tags"}
    ai = {"$ai_input", "$ai_output_choices", "$ai_tools", "$ai_model_parameters.stop", "$ai_error"}
    assert seen == {
        *(("$ai_generation", path) for path in common | ai),
        *(("llm_completion_requested", path) for path in common | nested),
        *(("llm_completion_failed", path) for path in common | nested | {"error_message"}),
    }


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": None, "properties": {}},
        {"event": "x", "properties": None},
        {"event": ["x"], "properties": {"a": 1}},
    ],
)
def test_a_mask_sees_unknown_fields_of_an_event_that_a_hook_changed(event: Any) -> None:
    assert [*unsafe_fields(event)] == ([("a",)] if event.get("properties") else [])


# --- spans of several that show one call -------------------------------------------------------------


def test_of_two_spans_that_are_one_private_call_neither_lets_the_metadata_of_others_out() -> None:
    attributes = {"gen_ai.usage.input_tokens": 3, "posthog.property.plan": "free for all"}
    outer = make_view(attributes, span_id="a" * 16, scope="openai")
    inner = make_view(
        {"traceloop.entity.name": "e", "traceloop.association.properties.said": "what was said"},
        span_id="b" * 16,
        parent_id="a" * 16,
        scope="httpx",
    )
    for views in ([outer, inner], [inner, outer]):
        events = PRIVATE.finished_events(*views)
        assert [event["event"] for event in events].count("$ai_generation") == 1
        assert "what was said" not in json.dumps(events)
        assert all(
            event["properties"]["plan"] == "free for all"
            for event in events
            if event["event"] != "llm_generation"
        )


@pytest.mark.parametrize("own_first", [True, False])
def test_a_property_of_the_application_goes_before_one_of_that_name_in_metadata(own_first: bool) -> None:
    attributes = {
        "posthog.property.plan": "own",
        "traceloop.association.properties.plan": "other",
        "traceloop.entity.name": "e",
    }
    ordered = attributes if own_first else dict(reversed(attributes.items()))
    for pipeline in (SHOWN, PRIVATE):
        assert private(ordered, pipeline)["plan"] == "own"


@pytest.mark.parametrize(
    "value", ["say hello", "你好吗", "", "x" * 300, "a\nb", "a{b}", 'a"b', None, 5, ["a"], "é"]
)
def test_nothing_else_passes_for_an_identifier(value: Any) -> None:
    assert value_checks.identifier(value) is None


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "5", None])
def test_nothing_else_passes_for_a_figure(value: Any) -> None:
    assert value_checks.figure(value) is None


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("auto", "auto"),
        ("say hello", None),
        ({"type": "tool", "toolName": "weather"}, {"type": "tool", "toolName": "weather"}),
        ({"type": "tool", "toolName": "in Paris?"}, {"type": "tool"}),
        ({"type": "say hello", "toolName": "weather"}, None),
        ({"type": "auto", "said": "hello"}, {"type": "auto"}),
    ],
)
def test_of_a_choice_of_tools_its_kind_and_the_tool_are_left(value: Any, left: Any) -> None:
    assert value_checks.tool_choice(value) == left


def test_a_word_out_of_a_sentence_in_place_of_a_tools_name_stays_inside() -> None:
    messages = [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "tell Jane, SECRET,flu"}]}
    ]
    assert "flu" not in str(private({"gen_ai.output.messages": json.dumps(messages)}))
