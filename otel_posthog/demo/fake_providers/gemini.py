"""Gemini's wire: a request goes in, a `Reply` comes out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from otel_posthog.demo.fake_providers.canned import (
    IMAGE_SIZES,
    IMAGE_TOKENS,
    JSON,
    REASONING_TOKENS,
    Failure,
    Reply,
    answer_text,
    arguments_for,
    cached_tokens,
    count_tokens,
    digest,
    failure_for,
    png,
    shape_answer,
    split_text,
    text_of,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def camel_case(value: Any) -> Any:
    """Read field names in either spelling, as Google's JSON does; the user's own objects stay as they are."""
    if isinstance(value, list):
        return [camel_case(one) for one in value]
    if not isinstance(value, dict):
        return value
    own = {"args", "response", "parameters", "parametersJsonSchema", "parameters_json_schema"}
    return {
        re.sub(r"_([a-z])", lambda match: match[1].upper(), name): one if name in own else camel_case(one)
        for name, one in value.items()
    }


def _google_failure(failure: Failure) -> Reply:
    error = {"code": failure.status, "message": failure.message, "status": failure.google_status}
    return Reply({"error": error}, status=failure.status)


def _generate(model: str, request: JSON, *, stream: bool) -> Reply:
    contents = request.get("contents") or []
    everything = text_of([request.get("systemInstruction") or "", contents])
    if failure := failure_for(model, everything):
        return _google_failure(failure)
    config = request.get("generationConfig") or {}
    given = [part for content in contents for part in content.get("parts") or []]
    prompt = next(
        (text_of(c) for c in reversed(contents) if c.get("role", "user") == "user" and text_of(c)), ""
    )
    tools: dict[str, Any] = {
        name: value for tool in request.get("tools") or [] for name, value in tool.items()
    }
    parts: list[JSON] = []
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    asks_json = config if str(config.get("responseMimeType")).endswith("json") else None
    text, finish = shape_answer(answer_text(prompt), asks_json, schema, prompt), "STOP"
    limit = config.get("maxOutputTokens")
    if limit and count_tokens(text) > limit:
        text, finish = text[: limit * 4], "MAX_TOKENS"
    if (functions := tools.get("functionDeclarations")) and "functionResponse" not in (given or [{}])[-1]:
        schema = functions[0].get("parameters") or functions[0].get("parametersJsonSchema") or {}
        call = {"name": functions[0]["name"], "args": arguments_for(schema, prompt)}
        parts, text = [{"functionCall": call}], ""
    draws = "image" in model or "IMAGE" in (config.get("responseModalities") or [])
    answer_tokens = count_tokens(text or json.dumps(parts))
    prompt_tokens = count_tokens(everything)
    pictures = IMAGE_TOKENS * sum("inlineData" in part or "fileData" in part for part in given)
    thinking = config.get("thinkingConfig") or {}
    level = str(
        thinking.get("thinkingLevel") or ("low" if "2.5" in model or "3" in model else "none")
    ).lower()
    thoughts = min(REASONING_TOKENS.get(level, 48), thinking.get("thinkingBudget", 1024)) if not draws else 0
    usage: JSON = {
        "promptTokenCount": prompt_tokens + pictures,
        "candidatesTokenCount": answer_tokens + (IMAGE_TOKENS if draws else 0),
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt_tokens}]
        + ([{"modality": "IMAGE", "tokenCount": pictures}] if pictures else []),
    }
    if draws:
        ratio = (config.get("imageConfig") or {}).get("aspectRatio", "1:1")
        picture = png(prompt, *IMAGE_SIZES.get(ratio, (64, 64)))
        parts = [*parts, {"inlineData": {"mimeType": "image/png", "data": picture}}]
        usage["candidatesTokensDetails"] = [
            {"modality": "TEXT", "tokenCount": answer_tokens},
            {"modality": "IMAGE", "tokenCount": IMAGE_TOKENS},
        ]
    if cached := cached_tokens(prompt_tokens):
        usage["cachedContentTokenCount"] = cached
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    candidate: JSON = {}
    if "googleSearch" in tools:
        usage["toolUsePromptTokenCount"] = 40
        candidate["groundingMetadata"] = {"webSearchQueries": [prompt[:60]], "groundingChunks": []}
    if "urlContext" in tools:
        page = {"retrievedUrl": "https://example.com/", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_SUCCESS"}
        candidate["urlContextMetadata"] = {"urlMetadata": [page]}
    counted = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    usage["totalTokenCount"] = sum(int(usage.get(name) or 0) for name in counted)
    head = {"modelVersion": model, "responseId": digest(model, everything)[:22]}
    if not stream:
        answer_parts = [{"text": text}, *parts] if text else parts
        answer = {
            "content": {"role": "model", "parts": answer_parts},
            "finishReason": finish,
            "index": 0,
            **candidate,
        }
        return Reply({"candidates": [answer], "usageMetadata": usage, **head})
    answer_parts = [*({"text": piece} for piece in split_text(text, 24)), *parts]
    early = {"promptTokenCount": prompt_tokens + pictures, "totalTokenCount": prompt_tokens + pictures}

    def events() -> Iterator[tuple[str | None, JSON | str]]:
        for number, part in enumerate(answer_parts, 1):
            answer = {"content": {"role": "model", "parts": [part]}, "index": 0}
            last = number == len(answer_parts)
            if last:
                answer |= {"finishReason": finish, **candidate}
            yield None, {"candidates": [answer], "usageMetadata": usage if last else early, **head}

    return Reply(events=events())


def _embed_one(request: JSON) -> JSON:
    text = text_of(request.get("content") or {})
    return {"values": vector(text, request.get("outputDimensionality") or 768)}


def _embed(model: str, request: JSON) -> Reply:
    if failure := failure_for(model, text_of(request.get("content") or {})):
        return _google_failure(failure)
    prompt_tokens = count_tokens(text_of(request.get("content") or {}))
    usage = {"promptTokenCount": prompt_tokens, "totalTokenCount": prompt_tokens}
    return Reply({"embedding": _embed_one(request), "usageMetadata": usage})


def _embed_batch(model: str, request: JSON) -> Reply:
    requests = request.get("requests") or []
    texts = [text_of(one.get("content") or {}) for one in requests]
    if failure := failure_for(model, "".join(texts)):
        return _google_failure(failure)
    prompt_tokens = sum(map(count_tokens, texts))
    usage = {"promptTokenCount": prompt_tokens, "totalTokenCount": prompt_tokens}
    return Reply({"embeddings": [_embed_one(one) for one in requests], "usageMetadata": usage})


METHODS: dict[str, Callable[[str, JSON], Reply]] = {
    "generateContent": lambda model, request: _generate(model, request, stream=False),
    "streamGenerateContent": lambda model, request: _generate(model, request, stream=True),
    "embedContent": _embed,
    "batchEmbedContents": _embed_batch,
}
