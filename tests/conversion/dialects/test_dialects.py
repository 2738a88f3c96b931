"""From attributes to `ModelCall`: the names of each dialect, old and new, and odd spans."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.span_view import SpanEvent
from tests.support.spans import START, make_view


def usage(attributes: dict[str, Any]) -> Any:
    return read_call(make_view(attributes)).usage


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("gen_ai.usage.input_tokens", "input"),
        ("gen_ai.usage.prompt_tokens", "input"),
        ("gen_ai.usage.output_tokens", "output"),
        ("gen_ai.usage.completion_tokens", "output"),
        ("gen_ai.usage.cache_read.input_tokens", "cache_read"),
        ("gen_ai.usage.cache_read_input_tokens", "cache_read"),
        ("gen_ai.usage.cache_write.input_tokens", "cache_write"),
        ("gen_ai.usage.cache_creation.input_tokens", "cache_write"),
        ("gen_ai.usage.reasoning.output_tokens", "reasoning"),
        ("gen_ai.usage.reasoning_tokens", "reasoning"),
        ("gen_ai.usage.image.output_tokens", "output_image"),
        ("gen_ai.usage.audio.input_tokens", "input_audio"),
        ("llm.usage.total_tokens", "total"),
    ],
)
def test_tokens_are_read_under_new_and_old_names(name: str, field: str) -> None:
    dialect = {"llm.request.type": "chat"} if name.startswith("llm.") else {}
    assert getattr(usage({name: 7, **dialect}), field) == 7


def test_the_newest_name_wins_whatever_the_order() -> None:
    names = {"gen_ai.usage.prompt_tokens": 1, "gen_ai.usage.input_tokens": 2}
    assert usage(names).input == 2
    assert usage(dict(reversed(names.items()))).input == 2


def test_a_newest_name_with_nonsense_leaves_the_older_one() -> None:
    assert usage({"gen_ai.usage.input_tokens": -5, "gen_ai.usage.prompt_tokens": 3}).input == 3


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("chat", Kind.GENERATION),
        ("generate_content", Kind.GENERATION),
        ("text_completion", Kind.GENERATION),
        ("image_generation", Kind.GENERATION),
        ("edit_image_somehow", Kind.GENERATION),
        ("embeddings", Kind.EMBEDDING),
        ("execute_tool", Kind.TOOL),
        ("invoke_agent", Kind.AGENT),
        ("invoke_workflow", Kind.WORKFLOW),
        ("retrieval", Kind.RETRIEVAL),
        ("fetch_response", Kind.SPAN),
        ("something_new", Kind.SPAN),
    ],
)
def test_the_operation_decides_the_kind(operation: str, kind: Kind) -> None:
    assert read_call(make_view({"gen_ai.operation.name": operation})).kind is kind


def test_an_unknown_operation_that_used_tokens_of_a_model_is_a_generation() -> None:
    call = read_call(make_view({"gen_ai.operation.name": "something_new", "gen_ai.usage.input_tokens": 3}))
    assert call.kind is Kind.GENERATION


def test_a_span_with_a_model_and_no_operation_is_a_generation() -> None:
    attributes = {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o"}
    assert read_call(make_view(only=attributes)).kind is Kind.GENERATION


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"llm.request.type": "chat"}, Kind.GENERATION),
        ({"llm.request.type": "completion"}, Kind.GENERATION),
        ({"llm.request.type": "embedding"}, Kind.EMBEDDING),
        ({"llm.request.type": "rerank"}, Kind.RERANKER),
        ({"traceloop.span.kind": "workflow"}, Kind.WORKFLOW),
        ({"traceloop.span.kind": "agent"}, Kind.AGENT),
        ({"traceloop.span.kind": "tool"}, Kind.TOOL),
        ({"traceloop.span.kind": "task"}, Kind.TASK),
    ],
)
def test_openllmetrys_attributes_decide_the_kind(attributes: dict[str, str], kind: Kind) -> None:
    assert read_call(make_view(only=attributes)).kind is kind


def test_openllmetry_indexed_messages_are_read() -> None:
    call = read_call(
        make_view(
            {
                "llm.request.type": "chat",
                "gen_ai.prompt.1.role": "user",
                "gen_ai.prompt.1.content": "What is the weather?",
                "gen_ai.prompt.0.role": "system",
                "gen_ai.prompt.0.content": "Be brief.",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.finish_reason": "tool_calls",
                "gen_ai.completion.0.tool_calls.0.id": "c1",
                "gen_ai.completion.0.tool_calls.0.name": "weather",
                "gen_ai.completion.0.tool_calls.0.arguments": '{"city": "Paris"}',
            }
        )
    )
    assert [message["role"] for message in call.input] == ["system", "user"]
    assert call.input[1]["parts"] == [{"type": "text", "content": "What is the weather?"}]
    assert call.tools_called == ["weather"]
    assert call.finish_reasons == ["tool_call"]


def test_openllmetry_association_properties_are_user_conversation_and_properties() -> None:
    association = "traceloop.association.properties."
    context = read_call(
        make_view(
            {
                "traceloop.span.kind": "task",
                association + "user_id": "u1",
                association + "session_id": "s1",
                association + "plan": "pro",
            }
        )
    ).context
    assert (context.distinct_id, context.conversation_id) == ("u1", "s1")
    assert context.properties == {"plan": "pro"}


def test_openllmetry_entities_have_states() -> None:
    call = read_call(
        make_view(
            {
                "traceloop.span.kind": "workflow",
                "traceloop.entity.name": "joke",
                "traceloop.entity.input": '{"topic": "cats"}',
                "traceloop.entity.output": "ha",
            }
        )
    )
    assert (call.name, call.input_state, call.output_state) == ("joke", {"topic": "cats"}, "ha")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("posthog.distinct_id", "distinct_id"),
        ("user_id", "distinct_id"),
        ("user.id", "distinct_id"),
        ("enduser.id", "distinct_id"),
        ("posthog.feature", "feature"),
        ("feature", "feature"),
        ("chat_id", "chat_id"),
        ("posthog.session_id", "session_id"),
        ("gen_ai.conversation.id", "conversation_id"),
        ("session.id", "conversation_id"),
    ],
)
def test_context_is_read_from_the_span_and_from_its_resource(name: str, field: str) -> None:
    assert getattr(read_call(make_view({name: "x"})).context, field) == "x"
    assert getattr(read_call(make_view(resource={name: "x"})).context, field) == "x"
    assert getattr(read_call(make_view({name: "span"}, resource={name: "resource"})).context, field) == "span"


def test_groups_properties_and_flags_are_read_by_prefix() -> None:
    context = read_call(
        make_view({"posthog.group.company": "acme", "posthog.property.plan": 3, "posthog.flag.new": True})
    ).context
    assert context.groups == {"company": "acme"}
    assert context.properties == {"plan": 3}
    assert context.flags == {"new": True}


@pytest.mark.parametrize(
    ("attributes", "url"),
    [
        ({"server.address": "api.openai.com", "server.port": 443}, "https://api.openai.com"),
        ({"server.address": "api.openai.com"}, "api.openai.com"),
        ({"server.address": "127.0.0.1", "server.port": 8080}, "127.0.0.1:8080"),
        ({"gen_ai.openai.api_base": "https://x/v1/", "llm.request.type": "chat"}, "https://x/v1/"),
        ({"server.port": 443}, None),
    ],
)
def test_a_base_url_has_the_parts_that_are_known(attributes: dict[str, Any], url: str | None) -> None:
    assert read_call(make_view(attributes)).base_url == url


EXCEPTION = SpanEvent(
    "exception",
    START,
    {"exception.type": "openai.RateLimitError", "exception.message": "Error code: 429 - slow down"},
)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({}, None, id="no error"),
        pytest.param({"status": "OK"}, None, id="ok"),
        pytest.param({"status": "ERROR"}, (None, None, None), id="status alone"),
        pytest.param(
            {"status": "ERROR", "status_message": "no"}, (None, "no", None), id="with a description"
        ),
        pytest.param(
            {"status": "ERROR", "events": [EXCEPTION]},
            ("openai.RateLimitError", "Error code: 429 - slow down", 429),
            id="exception event",
        ),
        pytest.param({"attributes": {"error.type": "503"}}, ("503", None, 503), id="a code as type"),
        pytest.param({"attributes": {"error.type": "X"}}, ("X", None, None), id="type alone"),
        pytest.param(
            {"attributes": {"error.type": "the prompt 'x' is bad"}},
            ("_OTHER", "the prompt 'x' is bad", None),
            id="a sentence is no type",
        ),
        pytest.param(
            {"status": "ERROR", "attributes": {"error.type": "X", "http.response.status_code": 400}},
            ("X", None, 400),
            id="status code",
        ),
        pytest.param(
            {"status": "ERROR", "attributes": {"posthog.http.status": 9999}},
            (None, None, None),
            id="no such code",
        ),
        pytest.param(
            {"status": "ERROR", "status_message": "I counted to 500 and stopped"},
            (None, "I counted to 500 and stopped", None),
            id="no status is invented",
        ),
    ],
)
def test_an_error_is_what_was_reported(changes: dict[str, Any], error: Any) -> None:
    attributes = changes.pop("attributes", {})
    reported = read_call(make_view(attributes, **changes)).error
    assert (reported and (reported.type, reported.message, reported.http_status)) == error


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        (START + 10**9, 1.0),
        (None, None),
        (START - 1, None),
        (START, 0.0),
        (START + 400 * 86_400 * 10**9, None),
    ],
)
def test_a_duration_is_known_only_with_a_sensible_end(end: int | None, seconds: float | None) -> None:
    assert read_call(make_view(end_ns=end)).seconds == seconds


def test_time_to_first_token_is_in_seconds() -> None:
    assert read_call(make_view({"gen_ai.response.time_to_first_chunk": 0.25})).time_to_first_token == 0.25


@pytest.mark.parametrize(
    ("value", "private"),
    [(True, True), ("yes", True), (1, True), ("on", True), (False, False), ("false", False)],
)
def test_every_value_that_does_not_mean_no_asks_for_privacy(value: Any, private: bool) -> None:
    assert read_call(make_view({"posthog.privacy_mode": value})).context.privacy_mode is private


@pytest.mark.parametrize("prefix", ["ai.telemetry.metadata.", "ai.settings.context."])
@pytest.mark.parametrize(("value", "private"), [(True, True), ("true", True), (False, False)])
def test_vercels_metadata_may_ask_for_privacy(prefix: str, value: Any, private: bool) -> None:
    attributes = {"ai.operationId": "ai.generateText.doGenerate", prefix + "posthog_privacy_mode": value}
    assert read_call(make_view(only=attributes, scope="ai")).context.privacy_mode is private


def test_vercels_groups_do_not_become_properties_as_well() -> None:
    groups = {"posthog_groups": '{"company": "acme"}', "groups": '{"team": "red"}'}
    named = {"ai.telemetry.metadata." + name: value for name, value in groups.items()}
    context = read_call(make_view(only={"ai.operationId": "ai.embed.doEmbed", **named}, scope="ai")).context
    assert (context.groups, context.properties) == ({"company": "acme", "team": "red"}, {})


@pytest.mark.parametrize(
    ("attributes", "costs"),
    [
        ({"langfuse.observation.cost_details": '{"input": 0.1, "output": 0.2}'}, (0.3, 0.1, 0.2)),
        ({"langfuse.observation.cost_details": '{"input": 0.1, "cache": 0.5}'}, (0.6, 0.1, None)),
        ({"langfuse.observation.cost_details": '{"total": 0.5}'}, (0.5, None, None)),
        ({"llm.cost.prompt": 0.1, "llm.cost.completion": 0.2, "llm.model_name": "m"}, (0.3, 0.1, 0.2)),
        ({"llm.cost.prompt": 0.1, "llm.model_name": "m"}, (None, 0.1, None)),
        (
            {"llm.cost.total": 0, "llm.cost.prompt": 0.1, "llm.cost.completion": 0.2, "llm.model_name": "m"},
            (0.3, 0.1, 0.2),
        ),
        ({"gen_ai.cost.total_cost": 0.3, "gen_ai.cost.input_cost": 0.1}, (0.3, 0.1, None)),
        ({"gen_ai.usage.total_cost": 0.3, "gen_ai.usage.output_cost": 0.2}, (0.3, None, 0.2)),
        ({"gen_ai.usage.input_cost": "0.1", "gen_ai.usage.output_cost": 0.2}, (0.3, 0.1, 0.2)),
    ],
)
def test_the_parts_of_a_reported_cost_are_kept(
    attributes: dict[str, Any], costs: tuple[float | None, ...]
) -> None:
    call = read_call(make_view(attributes, scope="langfuse-sdk"))
    assert (call.cost_usd, call.input_cost_usd, call.output_cost_usd) == costs


_OPENROUTER = '{"prompt_tokens": 7, "completion_tokens": 9, "cost": 0.00042, "cost_details": null}'
_OWN_KEY = '{"cost": 0.0001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.002}}'
_ROUTED = '{"openrouter": {"provider": "OpenAI", "usage": {"promptTokens": 7, "cost": 0.00042}}}'
_GATEWAY = '{"gateway": {"routing": {}, "cost": "0.00042", "marketCost": "0.5"}}'


@pytest.mark.parametrize(
    ("scope", "attributes", "cost"),
    [
        ("otel_posthog.openai", {"gen_ai.usage.cost": 0.00042}, 0.00042),
        ("litellm", {"gen_ai.cost.total_cost": 0.00042}, 0.00042),
        ("litellm", {"metadata.usage_object": _OPENROUTER}, 0.00042),
        ("litellm", {"gen_ai.cost.total_cost": 0.5, "metadata.usage_object": _OPENROUTER}, 0.5),
        ("logfire.openai", {"gen_ai.usage.raw": _OPENROUTER, "async": False}, 0.00042),
        ("pydantic-ai", {"gen_ai.usage.raw": _OPENROUTER, "logfire.msg": "x"}, 0.00042),
        ("pydantic-ai", {"gen_ai.usage.raw": _OWN_KEY, "logfire.msg": "x"}, 0.0021),
        (
            "openinference.instrumentation.openai",
            {"openinference.span.kind": "LLM", "output.value": f'{{"id": "g", "usage": {_OPENROUTER}}}'},
            0.00042,
        ),
        (
            "langsmith",
            {"langsmith.span.kind": "llm", "langsmith.metadata.usage_metadata": '{"total_cost": 0.00042}'},
            0.00042,
        ),
        (
            "langfuse-sdk",
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.cost_details": '{"total": 0.1}',
            },
            0.1,
        ),
        (
            "ai",
            {"ai.operationId": "ai.generateText.doGenerate", "ai.response.providerMetadata": _GATEWAY},
            0.00042,
        ),
        (
            "ai",
            {"ai.operationId": "ai.generateText.doGenerate", "ai.response.providerMetadata": _ROUTED},
            0.00042,
        ),
    ],
)
def test_the_cost_that_a_gateway_reports_is_read_in_every_dialect(
    scope: str, attributes: dict[str, Any], cost: float | None
) -> None:
    assert read_call(make_view(attributes, scope=scope)).cost_usd == cost


@pytest.mark.parametrize(("reported", "cost"), [(0.25, 0.25), ("0.5", 0.5), (-1, None), (10**9, None)])
def test_a_reported_cost_is_sensible_or_none(reported: Any, cost: float | None) -> None:
    assert read_call(make_view({"gen_ai.usage.cost": reported})).cost_usd == cost


def test_a_name_is_cut_and_a_number_of_a_thousand_digits_is_none() -> None:
    call = read_call(make_view({"gen_ai.request.model": "x" * 5000, "posthog.feature": 10**5000}))
    assert (call.request_model, call.context.feature) == ("x" * 1024, None)


def test_attributes_of_one_set_of_names_are_read_each_anew() -> None:
    first = make_view({"gen_ai.usage.prompt_tokens": 1, "gen_ai.usage.input_tokens": -1})
    second = make_view({"gen_ai.usage.prompt_tokens": 2, "gen_ai.usage.input_tokens": 3})
    assert [read_call(view).usage.input for view in (first, second, first)] == [1, 3, 1]


RAW = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.usage.cache_read_input_tokens": 1000,
    "gen_ai.usage.cache_creation_input_tokens": 100,
}


@pytest.mark.parametrize(
    ("scope", "provider", "given", "exclusive"),
    [
        ("opentelemetry.instrumentation.anthropic", "anthropic", 3100, False),
        ("litellm", "anthropic", 3100, False),
        ("anybody", "anthropic", 2000, True),
        ("opentelemetry.instrumentation.bedrock", "AWS", 2000, True),
        ("anybody", "openai", 3100, False),
        ("opentelemetry.instrumentation.bedrock", None, 2000, True),
        ("litellm", "anthropic", 50, True),  # fewer than their own part
    ],
)
def test_the_input_of_reporters_that_do_not_add_up_excludes_cached_tokens(
    scope: str, provider: str | None, given: int, exclusive: bool
) -> None:
    attributes = {**RAW, "gen_ai.provider.name": provider, "gen_ai.usage.input_tokens": given}
    call = read_call(make_view(attributes, scope=scope))
    assert call is not None
    assert call.usage.cache_exclusive is exclusive


@pytest.mark.parametrize("name", ["$ai_input", "$set", "$ai_total_cost_usd", "token", "distinct_id"])
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("ai.telemetry.metadata.{}", "no"),
        ("ai.telemetry.metadata.posthog_{}", "no"),
        ("langfuse.observation.metadata.{}", "no"),
        ("traceloop.association.properties.{}", "no"),
        ("langsmith.metadata.{}", "no"),
        ("metadata", '{{"{}": "no"}}'),
    ],
)
def test_metadata_cannot_pass_for_our_own_properties(attribute: str, value: str, name: str) -> None:
    scope = {"metadata": "openinference.instrumentation.openai"}.get(attribute, "x")
    marks = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "openinference.span.kind": "LLM"}
    own = {"posthog.property.$set_once": "yes", "ai.telemetry.metadata.plan": "pro"}
    named = {attribute.format(name): value.format(name)}
    call = read_call(make_view({**marks, **own, **named}, scope=scope))
    assert call is not None
    assert name not in call.context.properties
    assert call.context.properties["$set_once"] == "yes"


@pytest.mark.parametrize(
    ("attributes", "usage"),
    [
        (
            {
                "gen_ai.usage.input_tokens": 3100,
                "langsmith.span.kind": "llm",
                "gen_ai.usage.input_token_details": "{'cache_read': 1000, 'cache_creation': 100}",
                "gen_ai.usage.output_token_details": "{'reasoning': 2}",
            },
            {"input": 3100, "cache_read": 1000, "cache_write": 100, "reasoning": 2, "cache_exclusive": False},
        ),
        (
            {
                "gen_ai.usage.input_tokens": 3100,
                "gen_ai.usage.details.cache_read_input_tokens": 1000,
                "gen_ai.usage.details.cache_creation_input_tokens": 100,
            },
            {"input": 3100, "cache_read": 1000, "cache_write": 100, "cache_exclusive": False},
        ),
        (
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.usage.inputTokens": 2000,
                "ai.usage.cachedInputTokens": 1000,
                "ai.response.providerMetadata": '{"bedrock": {"usage": {"cacheWriteInputTokens": 100}}}',
            },
            {"input": 2000, "cache_read": 1000, "cache_write": 100, "cache_exclusive": True},
        ),
        (
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.usage_details": '{"input": 2000, "input_cache_read": 1000,'
                ' "input_cache_creation": 100, "input_cache_creation_5m": 60, "input_cache_creation_1h": 40}',
            },
            {"input": 3100, "cache_read": 1000, "cache_write": 100},
        ),
        (
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.usage_details": '{"input_tokens": 2000, "output_tokens": 5,'
                ' "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 100}',
            },
            {"input": 2000, "output": 5, "cache_read": 1000, "cache_write": 100, "cache_exclusive": True},
        ),
        (
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.usage_details": '{"promptTokens": 7, "completionTokens": 5,'
                ' "totalTokens": 12}',
            },
            {"input": 7, "output": 5, "total": 12, "cache_read": None},
        ),
    ],
    ids=[
        "langsmith",
        "details by Anthropic's names",
        "vercel on Bedrock",
        "langfuse with lifetimes",
        "langfuse with Anthropic's own object",
        "langfuse in camel case",
    ],
)
def test_cached_tokens_are_read_where_a_dialect_puts_them(
    attributes: dict[str, Any], usage: dict[str, Any]
) -> None:
    call = read_call(
        make_view(only={"gen_ai.request.model": "m", "gen_ai.operation.name": "chat", **attributes})
    )
    assert call is not None
    assert {name: getattr(call.usage, name) for name in usage} == usage


def test_no_cache_keeps_long_texts_of_spans() -> None:
    tracemalloc.start()
    try:
        for number in range(60):
            long = f"{number}" + "x" * 500_000
            read_call(
                make_view({"gen_ai.system": long, long: "x"}, resource={"service.name": long, "x": long})
            )
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8 * 1024 * 1024
