"""`$ai_generation`, `$ai_embedding`, `$ai_span`, `$ai_trace`: PostHog's manual-capture schema.

Sources: PostHog docs/onboarding/ai-observability (generation, embedding, span and trace events),
posthog/models/ai_events/sql.py. A value that was not reported is left out, never zero.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from otel_posthog.conversion.events.event_envelope import (
    LIB,
    common_properties,
    make_event,
    person_properties,
)
from otel_posthog.conversion.events.message_rendering import render_messages
from otel_posthog.conversion.model_call import NO_USAGE, CallError, Kind, ModelCall
from otel_posthog.conversion.pricing.cost import Cost
from otel_posthog.conversion.privacy import value_checks
from otel_posthog.conversion.privacy.media import MediaReplacer, replace_media
from otel_posthog.runtime.version import __version__

__all__ = ["ai_event"]

# A member is looked up in a tenth of the time that its class takes.
_GENERATION, _EMBEDDING = Kind.GENERATION, Kind.EMBEDDING
_SPAN_TYPES: dict[Kind, str] = {
    kind: kind.label for kind in Kind if not kind.is_model_call and kind is not Kind.SPAN
}


def ai_event(
    call: ModelCall, cost: Cost | None, *, content: bool, media: MediaReplacer | None
) -> dict[str, Any]:
    """The one `$ai_*` event of a finished call or span.

    A model call is a generation or an embedding; anything else is a span, or the trace itself where
    nothing is above it. `content` False leaves out everything anybody wrote.
    """
    name = _event_name(call)
    kind, context, error = call.kind, call.context, call.error
    distinct_id, person = person_properties(call)
    properties = common_properties(call)
    properties |= _LIB
    properties["$ai_trace_id"] = call.trace_key
    properties["$ai_span_id"] = call.span_id
    properties["$ai_span_name"] = call.name
    properties["$ai_is_error"] = error is not None
    known: dict[str, Any] = {
        "$ai_parent_id": _parent(call),
        "$ai_session_id": context.conversation_id or context.chat_id,
        "$ai_latency": call.seconds,
        "$ai_model": call.response_model or call.request_model,
        "$ai_provider": call.provider,
        "$ai_framework": _framework(call.scope),
    }
    if call.linked_traces:
        known["linked_trace_ids"] = [*call.linked_traces]
    if kind.is_model_call:
        known |= _of_model_call(call, content)
        if call.usage is not NO_USAGE:
            for key, value in zip(_USAGE, call.usage, strict=True):
                if value is not None:
                    properties[key] = value
        if cost is not None:
            known |= _costs(cost)
    else:
        known["$ai_span_type"] = _SPAN_TYPES.get(kind)
    if content:
        known |= _content(call, media)
    if error is not None:
        known |= _error_properties(error, content)
    for key, value in known.items():
        if value is not None:
            properties[key] = value
    properties |= person
    return make_event(name, call, call.start_ns, distinct_id, properties)


_LIB = {"$ai_lib": LIB, "$ai_lib_version": __version__}


def _error_properties(error: CallError, content: bool) -> dict[str, Any]:
    """Why it failed; the text of an error may quote the prompt and counts as content."""
    return {
        "$ai_error": (replace_media(error.message) or error.type) if content else error.type,
        "$ai_error_type": error.type,
        "$ai_http_status": error.http_status,
    }


@lru_cache(maxsize=256)
def _framework(scope: str | None) -> str | None:
    """Whose instrumentation made the span, where it is not our own."""
    return None if scope is None or scope.startswith("otel_posthog.") else scope


def _event_name(call: ModelCall) -> str:
    kind = call.kind
    if kind.is_model_call:
        return "$ai_embedding" if kind is _EMBEDDING else "$ai_generation"
    return "$ai_trace" if call.parent_id is None else "$ai_span"


def _parent(call: ModelCall) -> str | None:
    """The span above, else the trace: PostHog's tree hangs from the trace's id."""
    if call.parent_id is None:
        return call.trace_key if call.kind.is_model_call else None
    return call.context.parent_id or call.parent_id


_USAGE = (
    "$ai_input_tokens",
    "$ai_output_tokens",
    "$ai_total_tokens",
    "$ai_cache_read_input_tokens",
    "$ai_cache_creation_input_tokens",
    "$ai_cache_reporting_exclusive",
    "$ai_reasoning_tokens",
    "$ai_text_input_tokens",
    "$ai_image_input_tokens",
    "$ai_audio_input_tokens",
    "$ai_text_output_tokens",
    "$ai_image_output_tokens",
    "$ai_audio_output_tokens",
    "$ai_cache_read_audio_tokens",
    "$ai_web_search_count",
)
"""The property of each field of `Usage`, in their order."""


_WRITTEN = frozenset({"stop", "response_format"})
"""Parameters in which somebody may have written text."""


def _of_model_call(call: ModelCall, content: bool) -> dict[str, Any]:
    parameters, details = call.parameters, call.details
    made: dict[str, Any] = {
        "$ai_base_url": call.base_url,
        "$ai_completion_id": call.response_id,
        "$ai_time_to_first_token": call.time_to_first_token,
        "$ai_stop_reason": call.finish_reasons[0] if call.finish_reasons else None,
        "$ai_stream": call.stream,
    }
    if parameters:
        made["$ai_model_parameters"] = {
            name: value for name, value in parameters.items() if content or name not in _WRITTEN
        } or None
        made["$ai_temperature"] = parameters.get("temperature")
        made["$ai_max_tokens"] = parameters.get("max_tokens")
        made["$ai_service_tier"] = parameters.get("service_tier")
    if details:
        made["$ai_service_tier"] = details.get("service_tier") or parameters.get("service_tier")
        made["$ai_tool_call_count"] = details.get("tool_call_count")
        made["$ai_prompt_name"] = details.get("prompt_name")
        made["$ai_prompt_version"] = details.get("prompt_version")
    if call.tools_called:
        called = call.tools_called if content else value_checks.identifiers(call.tools_called) or ()
        made["$ai_tools_called"] = ",".join(called) or None
        made["$ai_tool_call_count"] = len(call.tools_called)
    return made


def _costs(cost: Cost) -> dict[str, Any]:
    made: dict[str, Any] = {
        "$ai_input_cost_usd": cost.input,
        "$ai_output_cost_usd": cost.output,
        "$ai_total_cost_usd": cost.total,
    }
    if not (cost.input and cost.output):
        # PostHog takes a cost of zero for a missing one and prices the event itself; the flag stops that.
        made["$ai_cost_passthrough"] = True
    return made


def _content(call: ModelCall, media: MediaReplacer | None) -> dict[str, Any]:
    """Everything anybody wrote: it stands here and nowhere else."""

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
    asked, answered = call.input, call.output
    if call.parent_id is None:  # the trace: what began it, and how it ended
        asked = [message for message in asked if message.get("role") != "system"][:1] or asked
        answered = answered[-1:]
    return {
        "$ai_input_state": state(call.input_state)
        if call.input_state is not None
        else render_messages(asked, media) or None,
        "$ai_output_state": state(call.output_state)
        if call.output_state is not None
        else render_messages(answered, media) or None,
    }
