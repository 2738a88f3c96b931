"""What may leave where content is hidden: a list of properties, and of each what its value may be.

The rule: an event holds what stands in these tables, and nothing else. A value is one of

- a figure, a flag, or a word of ours (`generation`, `success`);
- a word of a known vocabulary: finish reasons, operations, service tiers, levels of thinking, sizes;
- an identifier, which has no blank in it, no quote and no letter beyond ASCII, and at most 200 characters:
  models, providers, tools and how often they were called, agents, prompts by name and version, responses,
  instrumentors, services, the class or code of an error, the host and path of a provider;
- what the application put there for PostHog, as it is: `ai_context(...)`, which is user, chat, session and
  feature under the names in `attributes.CONTEXT`, and `posthog.group.*`, `posthog.flag.*` and
  `posthog.property.*`; and what `capture_metric` and `capture_feedback` are given. Not under the name of a
  property of content.

So what stays inside is all that anybody said, of course; and of what others wrote about a call: metadata
(Traceloop's association properties, Vercel's, Langfuse's, LangSmith's, OpenInference's, Pydantic AI's), but
for users, sessions, chats, features and groups in them that are identifiers; tags; names of spans, in whose
place stand operation and model, or the name of the tool, agent or workflow where that is an identifier; stop
sequences and response formats; explanations of scores; and every word that is of none of these kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from otel_posthog.calls import CallContext, ModelCall

__all__ = ["CONTENT", "OPERATIONS", "allowed", "discreet", "unsafe_fields"]

Check = Callable[[Any], Any]
"""What of a value may leave; None: nothing."""

Table = Mapping[str, Check]

CONTENT = frozenset(
    {"$ai_input", "$ai_output_choices", "$ai_tools", "$ai_input_state", "$ai_output_state", "$ai_error"}
    | {"error_message", "$ai_metric_explanation", "$ai_feedback_text"}
)
"""The properties that hold what somebody wrote."""

# --- what a value may be -----------------------------------------------------------------------------

_IDENTIFIER = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:/@+~#-]{0,197}={0,2}")  # LiteLLM's ids are base64
_MODEL = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:/@+~#,-]{0,199}")  # Pydantic AI: `fallback:one,another`
_CLASS_OR_CODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:$-]{0,119}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_.-]{1,64}){0,8}/?")
_SIZE = re.compile(r"auto|\d{1,5}(?:x\d{1,5})?|\d(?:\.\d)?k", re.IGNORECASE)
_RATIO = re.compile(r"auto|\d{1,3}:\d{1,3}", re.IGNORECASE)


def _said(value: Any) -> Any:
    """Ours, or the application's for PostHog."""
    return value


def _figure(value: Any) -> Any:
    return value if type(value) is int or (type(value) is float and isfinite(value)) else None


def _flag(value: Any) -> Any:
    return value if type(value) is bool else None


def _matches(pattern: re.Pattern[str]) -> Check:
    def check(value: Any) -> Any:
        return value if type(value) is str and pattern.fullmatch(value) else None

    return check


_identifier = _matches(_IDENTIFIER)
_model = _matches(_MODEL)


def _identifiers(value: Any) -> Any:
    """Those of a list that are."""
    return [each for each in value if _identifier(each)] or None if isinstance(value, list | tuple) else None


def _joined(value: Any) -> Any:
    """Identifiers with commas between them."""
    return ",".join(_identifiers(value.split(",")) or ()) or None if type(value) is str else None


def _word(*vocabulary: str) -> Check:
    known = frozenset(vocabulary)

    def check(value: Any) -> Any:
        return value if type(value) is str and value.lower() in known else None

    return check


def _error(value: Any) -> Any:
    """A class or a code; a sentence in its place may quote a prompt."""
    return value if type(value) is str and _CLASS_OR_CODE.fullmatch(value) else "_OTHER"


_USER = re.compile(r"^([^/?#]*//)[^/?#]*@")


def _address(value: Any) -> Any:
    """Host and path; a query, a user and a password are nobody's business."""
    if type(value) is not str:
        return None
    try:  # `[SECRET]@host` would be read for an IPv6 address
        without_user = _USER.sub(r"\1", value if "://" in value else f"//{value}", count=1)
        parts = urlsplit(without_user)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if not _identifier(host) or not _PATH.fullmatch(parts.path):
        return None
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{host}{'' if port is None else f':{port}'}{parts.path}"


def _span_name(value: Any) -> Any:
    """A name, or operation and model."""
    operation, blank, model = value.partition(" ") if type(value) is str else ("", "", "")
    if not blank:
        return _identifier(value)
    return value if operation.lower() in OPERATIONS and _model(model) else None


def _score(value: Any) -> Any:
    return value if _figure(value) is not None else _identifier(value)


def _tool_choice(value: Any) -> Any:
    """`auto`, or which tool by name, as the Vercel AI SDK writes it."""
    if not isinstance(value, dict):
        return _CHOICES(value)
    kind, name = _CHOICES(value.get("type")), _identifier(value.get("toolName"))
    return {"type": kind, **({"toolName": name} if name else {})} if kind else None


_CHOICES = _word("auto", "none", "required", "any", "tool", "function", "validated")

# --- vocabularies ------------------------------------------------------------------------------------

OPERATIONS = frozenset(
    {"chat", "generate_content", "text_completion", "completion", "interactions.create", "realtime_inference"}
    | {"image_generation", "image_edit", "image_variation", "transcription", "translation", "speech"}
    | {"embeddings", "embedding", "execute_tool", "create_agent", "invoke_agent", "invoke_workflow"}
    | {"handle_conversation_turn", "retrieval", "search_memory", "rerank", "moderation", "fetch_response"}
    | {"acompletion", "atext_completion", "aembedding", "aimage_generation", "aimage_edit", "atranscription"}
    | {"aspeech", "arerank", "amoderation", "responses", "aresponses", "anthropic_messages"}
    | {"plan", "agent_step", "execute_task", "vector_db_retrieve"}
    | {"generation", "agent", "workflow", "chain", "task", "tool", "reranker", "guardrail", "evaluator"}
    | {"span", "evaluation"}
)
"""What a span may be about, in the words of the conventions, LiteLLM and ours; another may be a sentence."""

_reason = _word(
    *("stop", "length", "tool_call", "content_filter", "error", "other", "unknown", "pause_turn"),
    *("no_image", "image_other", "unexpected_tool_call", "too_many_tool_calls", "malformed_response"),
)
_tier = _word(
    *("auto", "default", "flex", "priority", "scale", "standard", "batch", "on_demand", "reserved"),
    *("performance", "provisioned", "provisioned_throughput", "unspecified"),
)
_level = _word(
    *("none", "off", "on", "minimal", "low", "medium", "high", "xhigh", "max", "auto", "default"),
    *("dynamic", "adaptive", "enabled", "disabled", "unspecified", "thinking_level_unspecified"),
)
_quality = _word("auto", "low", "medium", "high", "standard", "hd")
_block = _word(
    *("safety", "other", "blocklist", "prohibited_content", "image_safety", "model_armor", "jailbreak"),
    *("recitation", "language", "spii", "block_reason_unspecified", "blocked_reason_unspecified"),
)

# --- the properties ----------------------------------------------------------------------------------


def _of(check: Check, *names: str) -> dict[str, Check]:
    return dict.fromkeys(names, check)


_COMMON: Table = {
    **_of(_said, "$lib", "$lib_version", "$is_server", "$geoip_disable", "$process_person_profile"),
    **_of(_said, "feature", "chat_id", "user_id", "ai_friend_id", "$groups", "$session_id"),
    **_of(_said, "$ai_trace_id", "$ai_session_id"),
    **_of(_identifier, "$ai_span_id"),
    **_of(_identifier, "service.name", "service.version", "service.namespace"),
    **_of(_identifier, "deployment.environment.name", "deployment.environment"),
}
_PARAMETERS: Table = {
    **_of(_figure, "temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty"),
    **_of(_figure, "seed", "n", "dimensions"),
    "reasoning_effort": _level,
    "service_tier": _tier,
    "previous_response_id": _identifier,
    "tool_choice": _tool_choice,
}
_METADATA: Table = {
    "operation": _word(*OPERATIONS),
    **_of(_figure, "message_count", "history_count", "choices", "tools_offered", "thinking_budget"),
    **_of(_figure, "reference_image_count", "attached_file_count", "image_count", "retry_count"),
    **_of(_figure, "streaming_duration_ms", "time_to_first_token_ms", "http_status"),
    **_of(_flag, "web_search_enabled", "url_context_enabled", "web_search_used", "url_context_used"),
    "cached_content": _flag,
    "thinking_level": _level,
    "aspect_ratio": _matches(_RATIO),
    "image_size": _matches(_SIZE),
    "image_quality": _quality,
    "username": _said,
    "tools_called": _identifiers,
    "request_id": _identifier,
    "block_reason": _block,
}


def _nested(table: Table) -> Check:
    def check(value: Any) -> Any:
        return _checked(value, table) or None if isinstance(value, dict) else None

    return check


_AI: Table = {
    **_COMMON,
    **_of(_said, "$ai_lib", "$ai_lib_version", "$ai_span_type"),
    "$ai_model": _model,
    **_of(_identifier, "$ai_provider", "$ai_framework", "$ai_completion_id"),
    **_of(_identifier, "$ai_prompt_name", "$ai_prompt_version"),
    "$ai_span_name": _span_name,
    "$ai_parent_id": _said,
    **_of(_flag, "$ai_is_error", "$ai_stream", "$ai_cost_passthrough", "$ai_cache_reporting_exclusive"),
    **_of(_figure, "$ai_latency", "$ai_time_to_first_token", "$ai_temperature", "$ai_max_tokens"),
    **_of(_figure, "$ai_input_tokens", "$ai_output_tokens", "$ai_total_tokens", "$ai_reasoning_tokens"),
    **_of(_figure, "$ai_cache_read_input_tokens", "$ai_cache_creation_input_tokens"),
    **_of(_figure, "$ai_text_input_tokens", "$ai_image_input_tokens", "$ai_audio_input_tokens"),
    **_of(_figure, "$ai_text_output_tokens", "$ai_image_output_tokens", "$ai_audio_output_tokens"),
    **_of(_figure, "$ai_cache_read_audio_tokens", "$ai_web_search_count", "$ai_tool_call_count"),
    **_of(_figure, "$ai_input_cost_usd", "$ai_output_cost_usd", "$ai_total_cost_usd", "$ai_http_status"),
    **_of(_error, "$ai_error", "$ai_error_type"),
    "linked_trace_ids": _identifiers,
    "$ai_base_url": _address,
    "$ai_stop_reason": _reason,
    "$ai_service_tier": _tier,
    "$ai_tools_called": _joined,
    "$ai_model_parameters": _nested(_PARAMETERS),
}
_COMPLETION: Table = {
    **_COMMON,
    "model": _model,
    "provider": _identifier,
    **_of(_figure, "prompt_length", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"),
    **_of(_figure, "max_tokens", "temperature", "top_p", "latency_ms"),
    "stream": _flag,
    "finish_reason": _reason,
    **_of(_error, "error_type", "error_message"),
    "metadata": _nested(_METADATA),
}
_FLAT: Table = {
    **_COMMON,
    "model": _model,
    **_of(_figure, "input_tokens", "output_tokens", "total_tokens", "estimated_cost", "latency_ms"),
    **_of(_said, "status", "timestamp"),
}
_SCORE: Table = {
    **_COMMON,
    **_of(_said, "$ai_lib", "$ai_lib_version"),
    **_of(_identifier, "$ai_metric_name", "$ai_metric_label", "$ai_completion_id"),
    "$ai_metric_value": _score,
}
_TABLES: Mapping[str, Table] = {
    **dict.fromkeys(("$ai_generation", "$ai_embedding", "$ai_span", "$ai_trace"), _AI),
    **{f"llm_completion_{each}": _COMPLETION for each in ("requested", "success", "failed")},
    "llm_generation": _FLAT,
    **dict.fromkeys(("$ai_metric", "$ai_feedback"), _SCORE),
}
_NESTED: Mapping[str, Table] = {"metadata": _METADATA, "$ai_model_parameters": _PARAMETERS}
_FEATURE_FLAG = "$feature/"

_NOTHING: Mapping[str, Any] = {}


def allowed(event: str, properties: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
    """What may leave of the properties of an event of a `discreet` call."""
    table = _TABLES.get(event, _COMMON)
    own = {**context.properties, **{_FEATURE_FLAG + key: value for key, value in context.flags.items()}}
    made = _checked(properties, table, own)
    if own and "metadata" in table:
        made["metadata"] = _checked(properties["metadata"], _METADATA, own)
    return made


def _checked(values: Mapping[str, Any], table: Table, own: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Those of the values that the table lets out, and the application's own, which it gave for PostHog."""
    made = {}
    for name, value in values.items():
        if name in own and value is own[name]:
            if name not in CONTENT:
                made[name] = value
        elif (check := table.get(name)) is not None and (left := check(value)) is not None:
            made[name] = left
    return made


def unsafe_fields(event: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Where in the properties of an event stands what would not leave as it is if content were hidden.

    That is content and custom properties, and whatever else may be text of somebody's.
    """
    name, properties = event.get("event"), event.get("properties")
    table = _TABLES.get(name, _COMMON) if isinstance(name, str) else _COMMON
    for key, value in properties.items() if isinstance(properties, dict) else ():
        inner = _NESTED.get(key) if key in table else None
        if inner is not None and isinstance(value, dict):
            yield from ((key, each) for each in value if not _is_safe(each, value[each], inner))
        elif not _is_safe(key, value, table):
            yield (key,)


def _is_safe(name: str, value: Any, table: Table) -> bool:
    check = table.get(name)
    if name in CONTENT or check is None:
        return isinstance(name, str) and name.startswith(_FEATURE_FLAG)
    return check is _said or bool(check(value) == value)


# --- the call ----------------------------------------------------------------------------------------


def discreet(call: ModelCall) -> ModelCall:
    """The call, marked as one whose content is hidden, with no free text in what names it and whose it is."""
    operation = call.operation if call.operation.lower() in OPERATIONS else call.kind.label
    context, parent_id = _context(call.context), call.context.parent_id
    if parent_id is not None and parent_id == call.context.trace_name:
        parent_id = context.trace_name or call.trace_id
    elif not _identifier(parent_id):
        parent_id = None
    return call._replace(
        operation=operation,
        name=_name(call, operation),
        context=context._replace(parent_id=parent_id, privacy_mode=True),
    )


def _name(call: ModelCall, operation: str) -> str:
    """Operation and model of a call; of structure the name of the tool, agent or workflow."""
    if not call.kind.is_model_call:
        return _identifier(call.facts.get("given_name")) or operation
    models = [model for model in (call.request_model, call.response_model) if _model(model)]
    usual = [f"{operation} {each}" for model in models for each in (model, str(model).rpartition("/")[2])]
    return call.name if call.name in (operation, *usual) else (*usual, operation)[0]


_IDS = (
    *("distinct_id", "feature", "chat_id", "ai_friend_id", "username", "session_id", "conversation_id"),
    "trace_name",
)


def _context(context: CallContext) -> CallContext:
    """What the application said of it, and of what others said the identifiers."""
    own = context.own
    if own is None:
        return context
    changes: dict[str, Any] = {}
    for field in _IDS:
        value, said = getattr(context, field), getattr(own, field)
        changes[field] = value if value == said or _identifier(value) else said
    groups = {kind: key for kind, key in context.groups.items() if _identifier(kind) and _identifier(key)}
    changes["groups"] = {**groups, **own.groups}
    return context._replace(**changes, properties=own.properties, flags=own.flags, own=None)
