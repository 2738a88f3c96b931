"""Whole requests and responses of providers that a span carries as JSON, read for what its attributes lack.

Chat completions, Responses, images and embeddings of OpenAI; `generateContent` and interactions of Gemini;
LangChain's generations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_posthog.conversion.readers.attribute_values import (
    boolean,
    count,
    dicts,
    dollars,
    finish_reasons,
    text,
)
from otel_posthog.conversion.readers.messages import messages, tools
from otel_posthog.conversion.readers.rule_table import Parts, keep_richer

__all__ = ["read_payloads", "read_usage"]

Json = Mapping[str, Any]


def read_payloads(parts: Parts, request: Any, response: Any) -> None:
    """Read what the parts lack from the request and the response."""
    call = parts["call"]
    if isinstance(response, list) and len(response) == 1:
        response = response[0]
    if isinstance(response, dict) and isinstance(response.get("generations"), list):
        response = _of_langchain(response)
    if isinstance(request, dict):
        _put(call, "request_model", text(request.get("model")))
        _put(call, "stream", boolean(request.get("stream")))
        if not call.get("input"):
            _read_input(call, request)
        if not call.get("tools") and request.get("tools"):
            keep_richer(call, "tools", tools(request["tools"]))
    if not isinstance(response, dict):
        return
    _put(
        call, "response_id", text(response.get("id", response.get("response_id", response.get("responseId"))))
    )
    _put(call, "response_model", text(response.get("model", response.get("model_version"))))
    for key in ("usage", "usage_metadata", "usageMetadata"):
        read_usage(parts, response.get(key))
    if "finish_reasons" not in call or len(dicts(response.get("choices"))) > 1:
        _put_over(call, "finish_reasons", _reasons(response))
    if not _has_parts(call.get("output")):
        _read_output(call, response)
    error = response.get("error")
    if response.get("status") == "failed" or isinstance(error, dict):
        error = error if isinstance(error, dict) else {}
        parts["error"].setdefault("type", text(error.get("code")) or "failed")
        parts["error"].setdefault("message", text(error.get("message")))


def _has_parts(chat: Any) -> bool:
    return any(message.get("parts") for message in chat or ())


def _of_langchain(response: Json) -> dict[str, Any]:
    """Return LangChain's `LLMResult` in the form of a chat completion."""
    batches = [batch for batch in response["generations"] if isinstance(batch, list)]
    choices, completion = [], dict[str, Any]()
    for generation in (each for batch in batches for each in batch if isinstance(each, dict)):
        message = generation.get("message")
        inner = message.get("kwargs", message.get("data")) if isinstance(message, dict) else None
        inner = inner if isinstance(inner, dict) else {"content": generation.get("text")}
        infos = [generation.get("generation_info"), inner.get("response_metadata")]
        for info in (each for each in infos if isinstance(each, dict)):
            for key in ("id", "status", "model", "incomplete_details"):
                _put(completion, key, info.get(key))
            _put(completion, "model", info.get("model_name"))
            inner = {
                **inner,
                "finish_reason": inner.get("finish_reason")
                or info.get("finish_reason")
                or info.get("stop_reason"),
            }
        completion.setdefault("usage", inner.get("usage_metadata"))
        choices.append(
            {"message": {**inner, "role": "assistant"}, "finish_reason": inner.get("finish_reason")}
        )
    return {name: value for name, value in completion.items() if value is not None} | {"choices": choices}


def _put(call: dict[str, Any], field: str, value: Any) -> None:
    if value is not None:
        call.setdefault(field, value)


def _put_over(call: dict[str, Any], field: str, value: Any) -> None:
    if value:
        call[field] = value


def _reasons(response: Json) -> list[str] | None:
    reasons = [
        each.get("finish_reason", each.get("finishReason"))
        for name in ("choices", "candidates")
        for each in dicts(response.get(name))
    ]
    if known := finish_reasons([reason for reason in reasons if isinstance(reason, str)]):
        return known
    feedback = response.get("prompt_feedback", response.get("promptFeedback"))
    if isinstance(feedback, dict) and feedback.get("block_reason", feedback.get("blockReason")):
        return ["content_filter"]
    status = response.get("status")
    if status == "incomplete":
        detail = response.get("incomplete_details")
        reason = detail.get("reason") if isinstance(detail, dict) else None
        return finish_reasons([reason if isinstance(reason, str) else "incomplete"])
    if status == "requires_action" or any(
        each.get("type") == "function_call" for each in dicts(response.get("output"))
    ):
        return ["tool_call"]
    if status is None:  # OpenAI's agents: a response assembled from a stream
        status = next((each["status"] for each in dicts(response.get("output")) if "status" in each), None)
    return finish_reasons([status]) if status in ("completed", "failed", "cancelled") else None


def _read_input(call: dict[str, Any], request: Json) -> None:
    for key in ("messages", "input", "contents", "prompt"):
        chat = request.get(key)
        if isinstance(chat, list) and len(chat) == 1 and isinstance(chat[0], list):
            chat = chat[0]  # LangChain's batches of one
        if chat:
            keep_richer(call, "input", messages([chat] if isinstance(chat, str) else chat, "user"))
            return


def _read_output(call: dict[str, Any], response: Json) -> None:
    for name, inner in (("choices", "message"), ("candidates", "content")):
        choices = [each.get(inner) for each in dicts(response.get(name))]
        if chat := [each for each in choices if isinstance(each, dict)]:
            keep_richer(call, "output", messages(chat, "assistant"))
            return
    texts = [each["text"] for each in dicts(response.get("choices")) if isinstance(each.get("text"), str)]
    if texts:
        keep_richer(call, "output", messages(texts, "assistant"))
        return
    for key in ("output", "outputs"):
        if isinstance(response.get(key), list):
            keep_richer(call, "output", messages(response[key], "assistant"))
            return
    if isinstance(response.get("text"), str) and response["text"]:  # a transcription
        keep_richer(call, "output", messages([response["text"]], "assistant"))


# --- usage -------------------------------------------------------------------------------------------

_USAGE: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "input",
        ("prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount", "total_input_tokens"),
    ),
    (
        "output",
        (
            "completion_tokens",
            "output_tokens",
            "candidates_token_count",
            "candidatesTokenCount",
            "total_output_tokens",
        ),
    ),
    ("total", ("total_tokens", "total_token_count", "totalTokenCount")),
    (
        "cache_read",
        (
            "cache_read_input_tokens",
            "cached_content_token_count",
            "cachedContentTokenCount",
            "total_cached_tokens",
        ),
    ),
    ("cache_write", ("cache_creation_input_tokens",)),
    (
        "reasoning",
        (
            "reasoning_tokens",
            "thoughts_token_count",
            "thoughtsTokenCount",
            "total_reasoning_tokens",
            "total_thought_tokens",
        ),
    ),
)
"""Names in the usage objects of any provider, by field of `Usage`."""

_DETAILS: tuple[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], ...] = (
    (
        ("prompt_tokens_details", "input_tokens_details", "input_token_details"),
        (
            ("cache_read", "cached_tokens"),
            ("cache_read", "cache_read"),
            ("cache_write", "cache_write_tokens"),
            ("cache_write", "cache_creation"),
            ("input_text", "text_tokens"),
            ("input_image", "image_tokens"),
            ("input_audio", "audio_tokens"),
        ),
    ),
    (
        ("completion_tokens_details", "output_tokens_details", "output_token_details"),
        (
            ("reasoning", "reasoning_tokens"),
            ("reasoning", "reasoning"),
            ("output_text", "text_tokens"),
            ("output_image", "image_tokens"),
            ("output_audio", "audio_tokens"),
        ),
    ),
)

_THOUGHTS = ("thoughts_token_count", "thoughtsTokenCount")
_TOOL_USE = ("tool_use_prompt_token_count", "toolUsePromptTokenCount")


def read_usage(parts: Parts, reported: Any) -> None:
    """Read what the parts lack from a provider's own usage object."""
    if not isinstance(reported, dict):
        return
    usage = parts["usage"]
    counts: dict[str, int] = {}

    def put(field: str, value: int | None) -> None:
        if value is not None:
            counts.setdefault(field, value)

    for field, names in _USAGE:
        for name in names:
            put(field, count(reported.get(name)))
    for holders, fields in _DETAILS:
        for holder in holders:
            details = reported.get(holder)
            if isinstance(details, dict):
                for field, name in fields:
                    put(field, count(details.get(name)))
    # Gemini counts thoughts apart from the answer, and the prompt of its tools apart from the prompt.
    if counts.get("total") != counts.get("input", 0) + counts.get("output", 0):
        _add(counts, "output", next((count(reported[name]) for name in _THOUGHTS if name in reported), None))
        _add(counts, "input", next((count(reported[name]) for name in _TOOL_USE if name in reported), None))
    for field, value in counts.items():
        usage.setdefault(field, value)
    _read_cost(parts["call"], reported)


def _read_cost(call: dict[str, Any], reported: Json) -> None:
    """Read the cost that a gateway (OpenRouter, Vercel's, LiteLLM) or LangSmith puts into the usage."""
    total = dollars(reported.get("cost", reported.get("total_cost")))
    upstream = reported.get("cost_details") if reported.get("is_byok") is True else None
    if total is not None and isinstance(upstream, dict):  # OpenRouter's fee for a key of the customer's own
        total = round(total + (dollars(upstream.get("upstream_inference_cost")) or 0.0), 12)
    costs = (
        ("cost_usd", total),
        ("input_cost_usd", dollars(reported.get("input_cost"))),
        ("output_cost_usd", dollars(reported.get("output_cost"))),
    )
    for field, cost in costs:
        if cost is not None:
            call.setdefault(field, cost)


def _add(counts: dict[str, int], field: str, more: int | None) -> None:
    if more is not None and field in counts:
        counts[field] += more
