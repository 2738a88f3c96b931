"""Requests and responses of providers that a span carries whole, as JSON: what its attributes leave out.

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

__all__ = ["read_answer", "read_usage"]

Json = Mapping[str, Any]


def read_answer(parts: Parts, asked: Any, answered: Any) -> None:
    """Read what is missing out of the request and the response."""
    call = parts["call"]
    if isinstance(answered, list) and len(answered) == 1:
        answered = answered[0]
    if isinstance(answered, dict) and isinstance(answered.get("generations"), list):
        answered = _of_langchain(answered)
    if isinstance(asked, dict):
        _put(call, "request_model", text(asked.get("model")))
        _put(call, "stream", boolean(asked.get("stream")))
        if not call.get("input"):
            _read_input(call, asked)
        if not call.get("tools") and asked.get("tools"):
            keep_richer(call, "tools", tools(asked["tools"]))
    if not isinstance(answered, dict):
        return
    _put(
        call, "response_id", text(answered.get("id", answered.get("response_id", answered.get("responseId"))))
    )
    _put(call, "response_model", text(answered.get("model", answered.get("model_version"))))
    for key in ("usage", "usage_metadata", "usageMetadata"):
        read_usage(parts, answered.get(key))
    if "finish_reasons" not in call or len(dicts(answered.get("choices"))) > 1:
        _put_over(call, "finish_reasons", _reasons(answered))
    if not _says(call.get("output")):
        _read_output(call, answered)
    error = answered.get("error")
    if answered.get("status") == "failed" or isinstance(error, dict):
        error = error if isinstance(error, dict) else {}
        parts["error"].setdefault("type", text(error.get("code")) or "failed")
        parts["error"].setdefault("message", text(error.get("message")))


def _says(said: Any) -> bool:
    return any(message.get("parts") for message in said or ())


def _of_langchain(answered: Json) -> dict[str, Any]:
    """LangChain's `LLMResult` in the form of a chat completion."""
    rows_of = [row for row in answered["generations"] if isinstance(row, list)]
    choices, made = [], dict[str, Any]()
    for generation in (each for row in rows_of for each in row if isinstance(each, dict)):
        message = generation.get("message")
        inner = message.get("kwargs", message.get("data")) if isinstance(message, dict) else None
        inner = inner if isinstance(inner, dict) else {"content": generation.get("text")}
        told = [generation.get("generation_info"), inner.get("response_metadata")]
        for info in (each for each in told if isinstance(each, dict)):
            for key in ("id", "status", "model", "incomplete_details"):
                _put(made, key, info.get(key))
            _put(made, "model", info.get("model_name"))
            inner = {
                **inner,
                "finish_reason": inner.get("finish_reason")
                or info.get("finish_reason")
                or info.get("stop_reason"),
            }
        made.setdefault("usage", inner.get("usage_metadata"))
        choices.append(
            {"message": {**inner, "role": "assistant"}, "finish_reason": inner.get("finish_reason")}
        )
    return {name: value for name, value in made.items() if value is not None} | {"choices": choices}


def _put(call: dict[str, Any], field: str, value: Any) -> None:
    if value is not None:
        call.setdefault(field, value)


def _put_over(call: dict[str, Any], field: str, value: Any) -> None:
    if value:
        call[field] = value


def _reasons(answered: Json) -> list[str] | None:
    chosen = [
        each.get("finish_reason", each.get("finishReason"))
        for name in ("choices", "candidates")
        for each in dicts(answered.get(name))
    ]
    found = finish_reasons([reason for reason in chosen if isinstance(reason, str)])
    if found:
        return found
    feedback = answered.get("prompt_feedback", answered.get("promptFeedback"))
    if isinstance(feedback, dict) and feedback.get("block_reason", feedback.get("blockReason")):
        return ["content_filter"]
    status = answered.get("status")
    if status == "incomplete":
        detail = answered.get("incomplete_details")
        reason = detail.get("reason") if isinstance(detail, dict) else None
        return finish_reasons([reason if isinstance(reason, str) else "incomplete"])
    if status == "requires_action" or any(
        each.get("type") == "function_call" for each in dicts(answered.get("output"))
    ):
        return ["tool_call"]
    if status is None:  # OpenAI's agents: a response put together of a stream
        status = next((each["status"] for each in dicts(answered.get("output")) if "status" in each), None)
    return finish_reasons([status]) if status in ("completed", "failed", "cancelled") else None


def _read_input(call: dict[str, Any], asked: Json) -> None:
    for key in ("messages", "input", "contents", "prompt"):
        found = asked.get(key)
        if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
            found = found[0]  # LangChain's batches of one
        if found:
            keep_richer(call, "input", messages([found] if isinstance(found, str) else found, "user"))
            return


def _read_output(call: dict[str, Any], answered: Json) -> None:
    for name, inner in (("choices", "message"), ("candidates", "content")):
        found = [each.get(inner) for each in dicts(answered.get(name))]
        if said := [each for each in found if isinstance(each, dict)]:
            keep_richer(call, "output", messages(said, "assistant"))
            return
    texts = [each["text"] for each in dicts(answered.get("choices")) if isinstance(each.get("text"), str)]
    if texts:
        keep_richer(call, "output", messages(texts, "assistant"))
        return
    for key in ("output", "outputs"):
        if isinstance(answered.get(key), list):
            keep_richer(call, "output", messages(answered[key], "assistant"))
            return
    if isinstance(answered.get("text"), str) and answered["text"]:  # a transcription
        keep_richer(call, "output", messages([answered["text"]], "assistant"))


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
"""Fields of a provider's usage object, of any provider."""

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


def read_usage(parts: Parts, found: Any) -> None:
    """A provider's own usage object: what of it no attribute says."""
    if not isinstance(found, dict):
        return
    usage = parts["usage"]
    made: dict[str, int] = {}

    def put(field: str, value: int | None) -> None:
        if value is not None:
            made.setdefault(field, value)

    for field, names in _USAGE:
        for name in names:
            put(field, count(found.get(name)))
    for holders, fields in _DETAILS:
        for holder in holders:
            details = found.get(holder)
            if isinstance(details, dict):
                for field, name in fields:
                    put(field, count(details.get(name)))
    # Gemini counts thoughts and the prompt of its tools beside the answer and the prompt.
    if made.get("total") != made.get("input", 0) + made.get("output", 0):
        _add(made, "output", next((count(found[name]) for name in _THOUGHTS if name in found), None))
        _add(made, "input", next((count(found[name]) for name in _TOOL_USE if name in found), None))
    for field, value in made.items():
        usage.setdefault(field, value)
    _read_cost(parts["call"], found)


def _read_cost(call: dict[str, Any], found: Json) -> None:
    """What a gateway says in it that the call cost (OpenRouter, Vercel's, LiteLLM), or LangSmith does."""
    total = dollars(found.get("cost", found.get("total_cost")))
    upstream = found.get("cost_details") if found.get("is_byok") is True else None
    if total is not None and isinstance(upstream, dict):  # OpenRouter's fee, where the key is one's own
        total = round(total + (dollars(upstream.get("upstream_inference_cost")) or 0.0), 12)
    told = (
        ("cost_usd", total),
        ("input_cost_usd", dollars(found.get("input_cost"))),
        ("output_cost_usd", dollars(found.get("output_cost"))),
    )
    for field, cost in told:
        if cost is not None:
            call.setdefault(field, cost)


def _add(made: dict[str, int], field: str, more: int | None) -> None:
    if more is not None and field in made:
        made[field] += more
