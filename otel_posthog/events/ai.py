"""`$ai_generation`, `$ai_embedding`, `$ai_span`, `$ai_trace`: PostHog's manual-capture schema.

Sources: PostHog docs/onboarding/ai-observability (generation, embedding, span and trace events),
posthog/models/ai_events/sql.py. A value that was not reported is left out, never zero.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.calls import Kind, ModelCall
from otel_posthog.events.cost import Cost
from otel_posthog.events.identity import custom_properties, make_event, person_properties, trace_id
from otel_posthog.events.media import clean
from otel_posthog.events.messages import rendered
from otel_posthog.version import __version__

__all__ = ["LIB", "ai_event", "error_properties"]

LIB = "otel-posthog"

_SPAN_TYPES = {
    Kind.AGENT: "agent",
    Kind.WORKFLOW: "workflow",
    Kind.TOOL: "tool",
    Kind.RETRIEVAL: "retrieval",
}


def ai_event(call: ModelCall, cost: Cost | None, *, content: bool, full_media: bool) -> dict[str, Any]:
    """The one `$ai_*` event of a finished call or span.

    A model call is a generation or an embedding; anything else is a span, or the trace itself where
    nothing is above it. `content` False leaves out everything anybody wrote.
    """
    name = _event_name(call)
    distinct_id, person = person_properties(call)
    common = {
        "$ai_trace_id": trace_id(call),
        "$ai_span_id": call.span_id,
        "$ai_parent_id": _parent(call),
        "$ai_span_name": call.name,
        "$ai_session_id": call.context.conversation_id or call.context.chat_id,
        "$ai_latency": call.seconds,
        "$ai_is_error": call.error is not None,
        "$ai_lib": LIB,
        "$ai_lib_version": __version__,
        "$ai_framework": _framework(call.scope),
        **common_properties(call),
    }
    specific = _of_model_call(call, cost) if call.kind.is_model_call else _of_span(call)
    if content:
        specific.update(_content(call, full_media))
    made = {**custom_properties(call), **common, **specific, **error_properties(call, content)}
    properties = {key: value for key, value in made.items() if value is not None}
    properties.update(person)
    return make_event(name, call, call.start_ns, distinct_id, properties)


def common_properties(call: ModelCall) -> dict[str, Any]:
    """What stands under its plain name on every event of a call, of either family."""
    context = call.context
    return {
        "feature": context.feature,
        "chat_id": context.chat_id,
        "user_id": context.distinct_id,
        "ai_friend_id": context.ai_friend_id,
        **call.resource,
        "$lib": LIB,
        "$lib_version": __version__,
        "$is_server": True,
        "$geoip_disable": True,
    }


def error_properties(call: ModelCall, content: bool) -> dict[str, Any]:
    """Why it failed; the text of an error may quote the prompt and counts as content."""
    if call.error is None:
        return {}
    return {
        "$ai_error": (call.error.message or call.error.type) if content else call.error.type,
        "$ai_error_type": call.error.type,
        "$ai_http_status": call.error.http_status,
    }


def _framework(scope: str | None) -> str | None:
    """Whose instrumentation made the span, where it is not our own."""
    return None if scope is None or scope.startswith("otel_posthog.") else scope


def _event_name(call: ModelCall) -> str:
    if call.kind is Kind.EMBEDDING:
        return "$ai_embedding"
    if call.kind is Kind.GENERATION:
        return "$ai_generation"
    return "$ai_trace" if call.parent_id is None else "$ai_span"


def _parent(call: ModelCall) -> str | None:
    """The span above, else the trace: PostHog's tree hangs from the trace's id."""
    if call.parent_id is None:
        return trace_id(call) if call.kind.is_model_call else None
    return call.context.parent_id or call.parent_id


def _of_model_call(call: ModelCall, cost: Cost | None) -> dict[str, Any]:
    usage, parameters, facts = call.usage, call.parameters, call.facts
    return {
        "$ai_model": call.model,
        "$ai_provider": call.provider,
        "$ai_base_url": call.base_url,
        "$ai_completion_id": call.response_id,
        "$ai_input_tokens": usage.input,
        "$ai_output_tokens": usage.output,
        "$ai_total_tokens": usage.total,
        "$ai_cache_read_input_tokens": usage.cache_read,
        "$ai_cache_creation_input_tokens": usage.cache_write,
        "$ai_cache_reporting_exclusive": _exclusive(call),
        "$ai_reasoning_tokens": usage.reasoning,
        "$ai_text_input_tokens": usage.input_text,
        "$ai_image_input_tokens": usage.input_image,
        "$ai_audio_input_tokens": usage.input_audio,
        "$ai_text_output_tokens": usage.output_text,
        "$ai_image_output_tokens": usage.output_image,
        "$ai_audio_output_tokens": usage.output_audio,
        "$ai_cache_read_audio_tokens": usage.cache_read_audio,
        "$ai_time_to_first_token": call.time_to_first_token,
        "$ai_stop_reason": call.finish_reasons[0] if call.finish_reasons else None,
        "$ai_model_parameters": dict(parameters) or None,
        "$ai_stream": call.stream,
        "$ai_temperature": parameters.get("temperature"),
        "$ai_max_tokens": parameters.get("max_tokens"),
        "$ai_service_tier": facts.get("service_tier") or parameters.get("service_tier"),
        "$ai_tools_called": ",".join(call.tools_called) or None,
        "$ai_tool_call_count": len(call.tools_called) or facts.get("tool_call_count"),
        "$ai_web_search_count": usage.searches,
        "$ai_prompt_name": facts.get("prompt_name"),
        "$ai_prompt_version": facts.get("prompt_version"),
        **_costs(cost),
    }


def _exclusive(call: ModelCall) -> bool | None:
    """The conventions count cache tokens into input; PostHog guesses from the model's name unless told."""
    usage = call.usage
    if usage.cache_exclusive is not None:
        return usage.cache_exclusive
    cached = (usage.cache_read or 0) + (usage.cache_write or 0)
    return (usage.input or 0) < cached if cached else None


def _costs(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {}
    made: dict[str, Any] = {
        "$ai_input_cost_usd": cost.input,
        "$ai_output_cost_usd": cost.output,
        "$ai_total_cost_usd": cost.total,
    }
    if not (cost.input and cost.output):
        # PostHog takes a cost of zero for a missing one and prices the event itself; the flag stops that.
        made["$ai_cost_passthrough"] = True
    return made


def _of_span(call: ModelCall) -> dict[str, Any]:
    return {
        "$ai_span_type": _SPAN_TYPES.get(call.kind),
        "$ai_model": call.model,
        "$ai_provider": call.provider,
    }


def _content(call: ModelCall, full_media: bool) -> dict[str, Any]:
    """Everything anybody wrote: it stands here and nowhere else."""

    def state(value: Any) -> Any:
        return value if full_media else clean(value)

    if call.kind is Kind.EMBEDDING:
        text = call.embedded if call.embedded is not None else rendered(call.input, full_media)
        return {"$ai_input": state(text) or None}
    if call.kind is Kind.GENERATION:
        return {
            "$ai_input": rendered(call.input, full_media) or None,
            "$ai_output_choices": rendered(call.output, full_media) or None,
            "$ai_tools": state(list(call.tools)) or None,
        }
    return {
        "$ai_input_state": state(call.input_state)
        if call.input_state is not None
        else rendered(call.input, full_media) or None,
        "$ai_output_state": state(call.output_state)
        if call.output_state is not None
        else rendered(call.output, full_media) or None,
    }
