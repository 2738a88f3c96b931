"""The list of properties that are sent if content is hidden, and of the check that each value must pass.

Rule: such an event holds the properties in these tables and nothing else. A value is one of

- a number, a flag, or a word of ours (`generation`, `success`);
- a word of a known vocabulary: finish reasons, operations, service tiers, levels of thinking, sizes;
- an identifier: at most 200 ASCII characters without blank or quote. Models, providers, tools and how often
  they were called, agents, prompts by name and version, responses, instrumentors, services, the class or code
  of an error, the host and path of a provider;
- a value that the application gave to PostHog, unchanged: `ai_context(...)` (user, chat, session and feature,
  see `context_attributes`), `posthog.group.*`, `posthog.flag.*`, `posthog.property.*`, and the arguments of
  `capture_metric` and `capture_feedback`. A property of content is not sent, even if the application sets it.

So all content is dropped. From metadata of other instrumentation (Traceloop's association properties,
Vercel's, Langfuse's, LangSmith's, OpenInference's, Pydantic AI's) we keep only users, sessions, chats,
features and groups that are identifiers. We drop tags, stop sequences, response formats, explanations of
scores, and every word that is of none of these kinds. Operation and model replace the name of a span, unless
the name of its tool, agent or workflow is an identifier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from otel_posthog.conversion.model_call import CallContext, ModelCall
from otel_posthog.conversion.operations import SAFE_OPERATIONS
from otel_posthog.conversion.privacy import value_checks
from otel_posthog.conversion.privacy.value_checks import ValueCheck

__all__ = [
    "CONTENT",
    "FEATURE_FLAG",
    "NESTED",
    "Event",
    "allowed_properties",
    "checks_of",
    "hide_content",
    "unsafe_fields",
]

Table = Mapping[str, ValueCheck]
Event = dict[str, Any]
"""`event`, `uuid`, `distinct_id`, `timestamp` and `properties`, as in PostHog's capture API."""
CONTENT = frozenset(
    {"$ai_input", "$ai_output_choices", "$ai_tools", "$ai_input_state", "$ai_output_state", "$ai_error"}
    | {"error_message", "$ai_metric_explanation", "$ai_feedback_text"}
)
"""The properties that hold text that somebody wrote."""

# --- the properties ----------------------------------------------------------------------------------


def _same(check: ValueCheck, names: str) -> dict[str, ValueCheck]:
    return dict.fromkeys(names.split(), check)


_COMMON: Table = {
    **_same(
        value_checks.as_is,
        "$lib $lib_version $is_server $geoip_disable $process_person_profile feature chat_id user_id "
        "ai_friend_id $groups $session_id $ai_trace_id $ai_session_id",
    ),
    **_same(
        value_checks.identifier,
        "$ai_span_id service.name service.version service.namespace deployment.environment.name "
        "deployment.environment",
    ),
}
_PARAMETERS: Table = {
    **_same(
        value_checks.figure,
        "temperature top_p top_k max_tokens frequency_penalty presence_penalty seed n dimensions",
    ),
    "reasoning_effort": value_checks.level,
    "service_tier": value_checks.tier,
    "previous_response_id": value_checks.identifier,
    "tool_choice": value_checks.tool_choice,
}
_METADATA: Table = {
    "operation": value_checks.word(*SAFE_OPERATIONS),
    **_same(
        value_checks.figure,
        "message_count history_count choices tools_offered thinking_budget reference_image_count "
        "attached_file_count image_count retry_count streaming_duration_ms time_to_first_token_ms "
        "http_status",
    ),
    **_same(value_checks.flag, "web_search_enabled url_context_enabled web_search_used url_context_used"),
    "cached_content": value_checks.flag,
    "thinking_level": value_checks.level,
    "aspect_ratio": value_checks.matches(value_checks.RATIO),
    "image_size": value_checks.matches(value_checks.SIZE),
    "image_quality": value_checks.quality,
    "username": value_checks.as_is,
    "tools_called": value_checks.identifiers,
    "request_id": value_checks.identifier,
    "block_reason": value_checks.block,
}


def _nested(table: Table) -> ValueCheck:
    def check(value: Any) -> Any:
        return _checked(value, table) or None if isinstance(value, dict) else None

    return check


_AI: Table = {
    **_COMMON,
    **_same(value_checks.as_is, "$ai_lib $ai_lib_version $ai_span_type"),
    "$ai_model": value_checks.model,
    **_same(
        value_checks.identifier,
        "$ai_provider $ai_framework $ai_completion_id $ai_prompt_name $ai_prompt_version",
    ),
    "$ai_span_name": value_checks.span_name,
    "$ai_parent_id": value_checks.as_is,
    **_same(value_checks.flag, "$ai_is_error $ai_stream $ai_cost_passthrough $ai_cache_reporting_exclusive"),
    **_same(
        value_checks.figure,
        "$ai_latency $ai_time_to_first_token $ai_temperature $ai_max_tokens $ai_input_tokens "
        "$ai_output_tokens $ai_total_tokens $ai_reasoning_tokens $ai_cache_read_input_tokens "
        "$ai_cache_creation_input_tokens $ai_text_input_tokens $ai_image_input_tokens "
        "$ai_audio_input_tokens $ai_text_output_tokens $ai_image_output_tokens $ai_audio_output_tokens "
        "$ai_cache_read_audio_tokens $ai_web_search_count $ai_tool_call_count $ai_input_cost_usd "
        "$ai_output_cost_usd $ai_total_cost_usd $ai_http_status",
    ),
    **_same(value_checks.error, "$ai_error $ai_error_type"),
    "linked_trace_ids": value_checks.identifiers,
    "$ai_base_url": value_checks.address,
    "$ai_stop_reason": value_checks.reason,
    "$ai_service_tier": value_checks.tier,
    "$ai_tools_called": value_checks.joined,
    "$ai_model_parameters": _nested(_PARAMETERS),
}
_COMPLETION: Table = {
    **_COMMON,
    "model": value_checks.model,
    "provider": value_checks.identifier,
    **_same(
        value_checks.figure,
        "prompt_length prompt_tokens completion_tokens total_tokens cost_usd max_tokens temperature top_p "
        "latency_ms",
    ),
    "stream": value_checks.flag,
    "finish_reason": value_checks.reason,
    **_same(value_checks.error, "error_type error_message"),
    "metadata": _nested(_METADATA),
}
_FLAT: Table = {
    **_COMMON,
    "model": value_checks.model,
    **_same(value_checks.figure, "input_tokens output_tokens total_tokens estimated_cost latency_ms"),
    **_same(value_checks.as_is, "status timestamp"),
}
_SCORE: Table = {
    **_COMMON,
    **_same(value_checks.as_is, "$ai_lib $ai_lib_version"),
    **_same(value_checks.identifier, "$ai_metric_name $ai_metric_label $ai_completion_id"),
    "$ai_metric_value": value_checks.score,
}
_TABLES: Mapping[str, Table] = {
    **dict.fromkeys(("$ai_generation", "$ai_embedding", "$ai_span", "$ai_trace"), _AI),
    **{f"llm_completion_{each}": _COMPLETION for each in ("requested", "success", "failed")},
    "llm_generation": _FLAT,
    **dict.fromkeys(("$ai_metric", "$ai_feedback"), _SCORE),
}
NESTED: Mapping[str, Table] = {"metadata": _METADATA, "$ai_model_parameters": _PARAMETERS}
"""Properties that are objects, and the checks of the values in them."""
FEATURE_FLAG = "$feature/"
"""Prefix of properties that hold the variant of a feature flag."""


def checks_of(event: object) -> Table:
    """Return the properties that events of this name may have if content is hidden, and their checks."""
    return _TABLES.get(event, _COMMON) if isinstance(event, str) else _COMMON


_NOTHING: Mapping[str, Any] = {}


def allowed_properties(event: str, properties: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
    """Return the properties that may be sent of an event whose call went through `hide_content`."""
    table = checks_of(event)
    own = {**context.properties, **{FEATURE_FLAG + key: value for key, value in context.flags.items()}}
    checked = _checked(properties, table, own)
    if own and "metadata" in table:
        checked["metadata"] = _checked(properties["metadata"], _METADATA, own)
    return checked


def _checked(values: Mapping[str, Any], table: Table, own: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Return the values that pass the checks of the table, and the application's `own`, which need none."""
    checked = {}
    for name, value in values.items():
        if name in own and value is own[name]:
            if name not in CONTENT:
                checked[name] = value
        elif (check := table.get(name)) is not None and (safe := check(value)) is not None:
            checked[name] = safe
    return checked


def unsafe_fields(event: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of properties that would not be sent unchanged if content were hidden.

    They are content, custom properties, and everything else that may be text that somebody wrote.
    """
    name, properties = event.get("event"), event.get("properties")
    table = checks_of(name)
    for key, value in properties.items() if isinstance(properties, dict) else ():
        inner = NESTED.get(key) if key in table else None
        if inner is not None and isinstance(value, dict):
            yield from ((key, each) for each in value if not _is_safe(each, value[each], inner))
        elif not _is_safe(key, value, table):
            yield (key,)


def _is_safe(name: str, value: Any, table: Table) -> bool:
    check = table.get(name)
    if name in CONTENT or check is None:
        return isinstance(name, str) and name.startswith(FEATURE_FLAG)
    return check is value_checks.as_is or bool(check(value) == value)


# --- the call ----------------------------------------------------------------------------------------


def hide_content(call: ModelCall) -> ModelCall:
    """Return the call in privacy mode, without free text in its name, operation, ids and context."""
    operation = call.operation if call.operation.lower() in SAFE_OPERATIONS else call.kind.label
    context, parent_id = _context(call.context), call.context.parent_id
    if parent_id is not None and parent_id == call.context.trace_name:
        parent_id = context.trace_name or call.trace_id
    elif not value_checks.identifier(parent_id):
        parent_id = None
    return call._replace(
        operation=operation,
        name=_name(call, operation),
        context=context._replace(parent_id=parent_id, privacy_mode=True),
    )


def _name(call: ModelCall, operation: str) -> str:
    """Return operation and model of a model call, else the name of the tool, agent or workflow."""
    if not call.kind.is_model_call:
        return value_checks.identifier(call.given_name) or operation
    models = [model for model in (call.request_model, call.response_model) if value_checks.model(model)]
    usual = [f"{operation} {each}" for model in models for each in (model, str(model).rpartition("/")[2])]
    return call.name if call.name in (operation, *usual) else (*usual, operation)[0]


_IDS = (
    *("distinct_id", "feature", "chat_id", "ai_friend_id", "username", "session_id", "conversation_id"),
    "trace_name",
)


def _context(context: CallContext) -> CallContext:
    """Return the application's context, and the identifiers in metadata of other instrumentation."""
    own = context.own
    if own is None:
        return context
    changes: dict[str, Any] = {}
    for field in _IDS:
        value, own_value = getattr(context, field), getattr(own, field)
        changes[field] = value if value == own_value or value_checks.identifier(value) else own_value
    groups = {
        kind: key
        for kind, key in context.groups.items()
        if value_checks.identifier(kind) and value_checks.identifier(key)
    }
    changes["groups"] = {**groups, **own.groups}
    return context._replace(**changes, properties=own.properties, flags=own.flags, own=None)
