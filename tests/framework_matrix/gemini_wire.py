"""Gemini's `generateContent`, its stream, and embeddings."""

from __future__ import annotations

from typing import Any

from tests.framework_matrix.answers import Ask, Turn, answer
from tests.framework_matrix.wire import (
    CACHED_TOKENS,
    REASONING_TOKENS,
    Exchange,
    Stream,
    Whole,
    pieces,
    text_of,
    vector,
)


def generate(exchange: Exchange) -> Whole:
    """Answer `:generateContent`."""
    return _response(exchange, [_part(exchange)], last=True)


def stream(exchange: Exchange) -> Stream:
    """Answer `:streamGenerateContent`."""
    part = _part(exchange)
    parts = [{"text": piece} for piece in pieces(part["text"], 12)] if "text" in part else [part]
    for number, each in enumerate(parts, 1):
        yield None, _response(exchange, [each], last=number == len(parts))


def ask(body: dict[str, Any]) -> Ask:
    """Read a request."""
    config = body.get("generationConfig") or {}
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    declarations = [
        declaration
        for tool in body.get("tools") or []
        for declaration in tool.get("functionDeclarations") or tool.get("function_declarations") or []
    ]
    allowed = calling.get("allowedFunctionNames") or []
    return Ask(
        turns=[
            Turn("system", text_of(body.get("systemInstruction") or body.get("system_instruction"))),
            *(turn for content in body.get("contents", []) for turn in _turns(content)),
        ],
        tools={
            declaration["name"]: declaration.get("parametersJsonSchema")
            or declaration.get("parameters_json_schema")
            or declaration.get("parameters")
            or {"type": "object"}
            for declaration in declarations
            if calling.get("mode") != "NONE"
        },
        forced_tool=allowed[0] if len(allowed) == 1 else None,
        must_call=calling.get("mode") == "ANY",
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
    )


def _turns(content: dict[str, Any]) -> list[Turn]:
    parts = content.get("parts") or []
    results = [
        Turn("tool", str(part["functionResponse"].get("response")))
        for part in parts
        if "functionResponse" in part
    ]
    role: Any = {"model": "model", "system": "system"}.get(content.get("role", "user"), "user")
    return results or [Turn(role, text_of(parts))]


def _part(exchange: Exchange) -> dict[str, Any]:
    reply = answer(ask(exchange.body))
    if reply.tool:
        return {
            "functionCall": {"id": f"call_{exchange.number}", "name": reply.tool, "args": reply.arguments}
        }
    return {"text": reply.text}


def _response(exchange: Exchange, parts: list[dict[str, Any]], *, last: bool) -> Whole:
    usage = exchange.usage
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    response: dict[str, Any] = {
        "candidates": [candidate],
        "modelVersion": exchange.model,
        "responseId": f"gemini-{exchange.number:06}",
    }
    # Gemini tells the tokens of thinking apart; together they are the output.
    response["usageMetadata"] = {
        "promptTokenCount": usage.input_tokens,
        "cachedContentTokenCount": CACHED_TOKENS,
        **({"candidatesTokenCount": usage.output_tokens - REASONING_TOKENS} if last else {}),
        "thoughtsTokenCount": REASONING_TOKENS,
        "totalTokenCount": usage.input_tokens + (usage.output_tokens if last else REASONING_TOKENS),
    }
    return response


def embed(exchange: Exchange) -> Whole:
    """Answer `:embedContent`."""
    return {
        "embedding": {"values": vector(16)},
        "usageMetadata": {"promptTokenCount": exchange.usage.input_tokens},
    }


def embed_all(exchange: Exchange) -> Whole:
    """Answer `:batchEmbedContents`."""
    requests = exchange.body.get("requests") or [{}]
    return {
        "embeddings": [{"values": vector(16)} for _ in requests],
        "usageMetadata": {"promptTokenCount": exchange.usage.input_tokens},
    }
