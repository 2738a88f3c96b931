"""`$ai_generation`, `$ai_embedding`, `$ai_span`, `$ai_trace`: PostHog's schema for manual capture.

ADD A PROPERTY HERE: a row of `_USAGE`, `_FROM_DETAILS` or `_FROM_PARAMETERS`, or a line of
`_model_call_properties` if it has to be worked out. Then add it to `privacy/allow_list.py`: a property that
is not on that list is not sent if content is hidden.

Sources: PostHog docs/onboarding/ai-observability (generation, embedding, span and trace events),
posthog/models/ai_events/sql.py. A value that was not reported is left out, never zero.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from otel_posthog.conversion.events.event_envelope import (
    LIB_PROPERTIES,
    common_properties,
    make_event,
    person_properties,
)
from otel_posthog.conversion.events.message_rendering import render_messages
from otel_posthog.conversion.model_call import NO_USAGE, CallError, Kind, ModelCall, Usage
from otel_posthog.conversion.pricing.cost import Cost
from otel_posthog.conversion.privacy import value_checks
from otel_posthog.conversion.privacy.media import MediaReplacer, replace_media

__all__ = ["ai_event"]

_USAGE = {
    "input": "$ai_input_tokens",
    "output": "$ai_output_tokens",
    "total": "$ai_total_tokens",
    "cache_read": "$ai_cache_read_input_tokens",
    "cache_write": "$ai_cache_creation_input_tokens",
    "cache_exclusive": "$ai_cache_reporting_exclusive",
    "reasoning": "$ai_reasoning_tokens",
    "input_text": "$ai_text_input_tokens",
    "input_image": "$ai_image_input_tokens",
    "input_audio": "$ai_audio_input_tokens",
    "output_text": "$ai_text_output_tokens",
    "output_image": "$ai_image_output_tokens",
    "output_audio": "$ai_audio_output_tokens",
    "cache_read_audio": "$ai_cache_read_audio_tokens",
    "searches": "$ai_web_search_count",
}
"""The property of each field of `Usage`."""

_FROM_DETAILS = (
    ("$ai_tool_call_count", "tool_call_count"),
    ("$ai_prompt_name", "prompt_name"),
    ("$ai_prompt_version", "prompt_version"),
)
"""Properties, and the keys of `ModelCall.details` that hold them."""

_FROM_PARAMETERS = (
    ("$ai_temperature", "temperature"),
    ("$ai_max_tokens", "max_tokens"),
)
"""Properties, and the keys of `ModelCall.parameters` that hold them."""

_TEXT_PARAMETERS = frozenset({"stop", "response_format"})
"""Parameters that may hold text that somebody wrote."""

_USAGE_PROPERTIES = tuple(_USAGE[name] for name in Usage._fields)

# Looking up a member takes ten times as long as a global.
_GENERATION, _EMBEDDING = Kind.GENERATION, Kind.EMBEDDING
_SPAN_TYPES: dict[Kind, str] = {
    kind: kind.label for kind in Kind if not kind.is_model_call and kind is not Kind.SPAN
}


def ai_event(
    call: ModelCall, cost: Cost | None, *, content: bool, media: MediaReplacer | None
) -> dict[str, Any]:
    """Return the one `$ai_*` event of a finished call or span.

    A model call becomes a generation or an embedding; any other span becomes a span, or the trace itself if
    it has no parent. Without `content` the event holds nothing that anybody wrote.
    """
    name = _event_name(call)
    kind, context, error = call.kind, call.context, call.error
    distinct_id, person = person_properties(call)
    properties = common_properties(call)
    properties |= LIB_PROPERTIES
    properties["$ai_trace_id"] = call.trace_key
    properties["$ai_span_id"] = call.span_id
    properties["$ai_span_name"] = call.name
    properties["$ai_is_error"] = error is not None
    optional: dict[str, Any] = {
        "$ai_parent_id": _parent(call),
        "$ai_session_id": context.conversation_id or context.chat_id,
        "$ai_latency": call.seconds,
        "$ai_model": call.response_model or call.request_model,
        "$ai_provider": call.provider,
        "$ai_framework": _framework(call.scope),
    }
    if call.linked_traces:
        optional["linked_trace_ids"] = [*call.linked_traces]
    if kind.is_model_call:
        optional |= _model_call_properties(call, content)
        if call.usage is not NO_USAGE:
            for key, value in zip(_USAGE_PROPERTIES, call.usage, strict=True):
                if value is not None:
                    properties[key] = value
        if cost is not None:
            optional |= _costs(cost)
    else:
        optional["$ai_span_type"] = _SPAN_TYPES.get(kind)
    if content:
        optional |= _content(call, media)
    if error is not None:
        optional |= _error_properties(error, content)
    for key, value in optional.items():
        if value is not None:
            properties[key] = value
    properties |= person
    return make_event(name, call, call.start_ns, distinct_id, properties)


def _model_call_properties(call: ModelCall, content: bool) -> dict[str, Any]:
    parameters, details = call.parameters, call.details
    properties: dict[str, Any] = {
        "$ai_base_url": call.base_url,
        "$ai_completion_id": call.response_id,
        "$ai_time_to_first_token": call.time_to_first_token,
        "$ai_stop_reason": call.finish_reasons[0] if call.finish_reasons else None,
        "$ai_stream": call.stream,
    }
    if parameters:
        properties["$ai_model_parameters"] = {
            name: value for name, value in parameters.items() if content or name not in _TEXT_PARAMETERS
        } or None
        for name, key in _FROM_PARAMETERS:
            properties[name] = parameters.get(key)
        properties["$ai_service_tier"] = parameters.get("service_tier")
    if details:
        properties["$ai_service_tier"] = details.get("service_tier") or parameters.get("service_tier")
        for name, key in _FROM_DETAILS:
            properties[name] = details.get(key)
    if call.tools_called:
        tools = call.tools_called if content else value_checks.identifiers(call.tools_called) or ()
        properties["$ai_tools_called"] = ",".join(tools) or None
        properties["$ai_tool_call_count"] = len(call.tools_called)
    return properties


def _costs(cost: Cost) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "$ai_input_cost_usd": cost.input,
        "$ai_output_cost_usd": cost.output,
        "$ai_total_cost_usd": cost.total,
    }
    if not (cost.input and cost.output):
        # PostHog takes a cost of zero for a missing one and prices the event itself; the flag stops that.
        properties["$ai_cost_passthrough"] = True
    return properties


def _error_properties(error: CallError, content: bool) -> dict[str, Any]:
    """Return why the call failed; the text of an error may quote the prompt and counts as content."""
    return {
        "$ai_error": (replace_media(error.message) or error.type) if content else error.type,
        "$ai_error_type": error.type,
        "$ai_http_status": error.http_status,
    }


def _content(call: ModelCall, media: MediaReplacer | None) -> dict[str, Any]:
    """Return everything that somebody wrote; no other function here adds any of it."""

    def state(value: Any) -> Any:
        return value if media is None else replace_media(value, media)

    if call.kind is _GENERATION:
        return {
            "$ai_input": render_messages(call.input, media) or None,
            "$ai_output_choices": render_messages(call.output, media) or None,
            "$ai_tools": state([*call.tools]) if call.tools else None,
        }
    if call.kind is _EMBEDDING:
        text = call.embedded if call.embedded is not None else render_messages(call.input, media)
        return {"$ai_input": state(text) or None}
    messages_in, messages_out = call.input, call.output
    if call.parent_id is None:  # a trace shows its first and last message
        messages_in = [message for message in messages_in if message.get("role") != "system"][
            :1
        ] or messages_in
        messages_out = messages_out[-1:]
    return {
        "$ai_input_state": state(call.input_state)
        if call.input_state is not None
        else render_messages(messages_in, media) or None,
        "$ai_output_state": state(call.output_state)
        if call.output_state is not None
        else render_messages(messages_out, media) or None,
    }


@lru_cache(maxsize=256)
def _framework(scope: str | None) -> str | None:
    """Return the name of the instrumentor, unless it is our own."""
    return None if scope is None or scope.startswith("otel_posthog.") else scope


def _event_name(call: ModelCall) -> str:
    kind = call.kind
    if kind.is_model_call:
        return "$ai_embedding" if kind is _EMBEDDING else "$ai_generation"
    return "$ai_trace" if call.parent_id is None else "$ai_span"


def _parent(call: ModelCall) -> str | None:
    """Return the id of the parent, else of the trace: PostHog's tree hangs from the trace's id."""
    if call.parent_id is None:
        return call.trace_key if call.kind.is_model_call else None
    return call.context.parent_id or call.parent_id
