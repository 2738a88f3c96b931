"""`llm_completion_requested`, `_success`, `_failed`, and the flat `llm_generation`: product analytics.

The first three share `model` (as requested), `provider`, `feature` and the ids; values that only some calls
have are in `metadata`. Every model call has these events, structure has none.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.events.event_envelope import (
    common_properties,
    make_event,
    person_properties,
    reported,
    timestamp,
)
from otel_posthog.conversion.events.message_rendering import text_length
from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pricing.cost import Cost
from otel_posthog.conversion.privacy.media import replace_media

__all__ = ["failed_event", "generation_event", "requested_event", "success_event"]

CHARACTERS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text; good enough for a prompt whose tokens are not reported yet."""


def requested_event(call: ModelCall) -> dict[str, Any]:
    """Return `llm_completion_requested`, at the start of the call; it needs nothing of the call's end."""
    length = _prompt_length(call)
    parameters = call.parameters
    return _event(
        "llm_completion_requested",
        call,
        call.start_ns,
        {
            "prompt_length": length,
            "prompt_tokens": _estimate(length),
            "max_tokens": parameters.get("max_tokens"),
            "temperature": parameters.get("temperature"),
            "top_p": parameters.get("top_p"),
            "stream": bool(call.stream),
        },
        finished=False,
    )


def success_event(call: ModelCall, cost: Cost | None) -> dict[str, Any]:
    """Return `llm_completion_success`, at the end of the call."""
    usage = call.usage
    return _event(
        "llm_completion_success",
        call,
        _end(call),
        {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.total_tokens,
            "cost_usd": cost.total if cost is not None else None,
            "finish_reason": call.finish_reasons[0] if call.finish_reasons else None,
            "latency_ms": _milliseconds(call),
        },
    )


def failed_event(call: ModelCall, *, content: bool) -> dict[str, Any]:
    """Return `llm_completion_failed`, at its end; without `content`, the message is the error's type."""
    error = call.error
    error_type = error.type if error is not None else None
    message = replace_media(error.message) if error is not None and content else None
    tokens = call.usage.input
    return _event(
        "llm_completion_failed",
        call,
        _end(call),
        {
            "prompt_tokens": tokens if tokens is not None else _estimate(_prompt_length(call)),
            "latency_ms": _milliseconds(call),
            "error_type": error_type or "_OTHER",
            "error_message": message or error_type or "_OTHER",
        },
    )


def generation_event(call: ModelCall, cost: Cost | None) -> dict[str, Any]:
    """Return `llm_generation`: one flat event per call, at its end."""
    usage = call.usage
    distinct_id, person = person_properties(call)
    properties = {
        "model": call.model,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "total_tokens": usage.total_tokens,
        "estimated_cost": cost.total if cost is not None else None,
        "latency_ms": _milliseconds(call),
        "status": "success" if call.error is None else "failed",
        "user_id": call.context.distinct_id,
        "timestamp": timestamp(call.start_ns),
    }
    return make_event("llm_generation", call, _end(call), distinct_id, reported(properties) | person)


def _event(
    name: str, call: ModelCall, at_ns: int, specific: dict[str, Any], *, finished: bool = True
) -> dict[str, Any]:
    distinct_id, person = person_properties(call)
    properties = {
        **common_properties(call),
        "model": call.request_model or call.response_model,
        "provider": call.provider,
        "$ai_trace_id": call.trace_key,
        "$ai_span_id": call.span_id,
        **specific,
        "metadata": _metadata(call, finished=finished),
    }
    return make_event(name, call, at_ns, distinct_id, reported(properties) | person)


def _metadata(call: ModelCall, *, finished: bool) -> dict[str, Any]:
    details = call.details
    messages = [message for message in call.input if message.get("role") != "system"]
    count = details.get("message_count", len(messages) or None)
    metadata = {
        "operation": call.operation,
        "message_count": count,
        "history_count": count - 1 if count else None,
        "choices": call.parameters.get("n"),
        "tools_offered": len(call.tools) or details.get("tools_offered"),
        "web_search_enabled": details.get("web_search_enabled"),
        "url_context_enabled": details.get("url_context_enabled"),
        "thinking_level": details.get("thinking_level") or call.parameters.get("reasoning_effort"),
        "thinking_budget": details.get("thinking_budget"),
        "aspect_ratio": details.get("aspect_ratio"),
        "image_size": details.get("image_size"),
        "image_quality": details.get("image_quality"),
        "reference_image_count": details.get("reference_image_count"),
        "attached_file_count": details.get("attached_file_count"),
        "username": call.context.username,
        "image_count": details.get("image_count"),
    }
    if finished:
        metadata |= {
            "tools_called": list(call.tools_called) or None,
            "web_search_used": details.get("web_search_used"),
            "url_context_used": details.get("url_context_used"),
            "streaming_duration_ms": _rounded(details.get("stream_seconds")),
            "time_to_first_token_ms": _rounded(call.time_to_first_token),
            "retry_count": details.get("retry_count"),
            "cached_content": details.get("cached_content"),
            "request_id": details.get("request_id"),
            "block_reason": details.get("block_reason"),
            "http_status": call.error.http_status if call.error is not None else None,
        }
    return {**call.context.properties, **reported(metadata)}


def _prompt_length(call: ModelCall) -> int | None:
    length: int | None = call.details.get("prompt_length")
    if length is not None:
        return length
    if call.input:
        return text_length(call.input) or None  # nothing that could be measured
    if isinstance(call.embedded, str):
        return len(call.embedded)
    if isinstance(call.embedded, list):
        return sum(len(text) for text in call.embedded if isinstance(text, str)) or None
    return None


def _estimate(length: int | None) -> int | None:
    return None if length is None else -(-length // CHARACTERS_PER_TOKEN)


def _end(call: ModelCall) -> int:
    return call.end_ns if call.end_ns is not None and call.end_ns >= call.start_ns else call.start_ns


def _milliseconds(call: ModelCall) -> int | None:
    return _rounded(call.seconds)


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
