"""What Gemini's requests, responses and stream chunks say, one table entry per method.

Requests are the dict that google-genai is about to send, in which names are spelt either way
(``inlineData`` beside ``mime_type``): `_get` reads both. Responses are the service's own JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from instrumentors.messages import Part, blob, dumps, modality, text, text_length, tool_call, tool_result
from instrumentors.spans import Attributes

_ROLES = {"model": "assistant", "function": "tool"}
_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}
# Names in generationConfig that are attributes as they are.
_PARAMETERS = (
    ("temperature", "gen_ai.request.temperature"),
    ("topP", "gen_ai.request.top_p"),
    ("maxOutputTokens", "gen_ai.request.max_tokens"),
    ("seed", "gen_ai.request.seed"),
    ("frequencyPenalty", "gen_ai.request.frequency_penalty"),
    ("presencePenalty", "gen_ai.request.presence_penalty"),
    ("stopSequences", "gen_ai.request.stop_sequences"),
)
_SEARCH = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch")


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


def _get(value: Any, *names: str) -> Any:
    for name in names:
        if not isinstance(value, dict):
            return None
        found = value.get(name)
        value = value.get(_snake(name)) if found is None else found
    return value.value if isinstance(value, Enum) else value


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _part(part: Any) -> Part:
    """Read one part of a content, asked or answered."""
    words = _get(part, "text")
    if words is not None:
        return {"type": "reasoning", "content": words} if _get(part, "thought") else text(words)
    if inline := _get(part, "inlineData"):
        # The SDK writes base64 in the URL alphabet; the convention means the plain one.
        data = str(_get(inline, "data") or "").replace("-", "+").replace("_", "/")
        return blob(str(_get(inline, "mimeType")), data)
    if file := _get(part, "fileData"):
        kind = _get(file, "mimeType")
        return {"type": "uri", "uri": _get(file, "fileUri"), "modality": modality(kind), "mime_type": kind}
    if call := _get(part, "functionCall"):
        return tool_call(_get(call, "name"), _get(call, "args"), _get(call, "id"))
    if answer := _get(part, "functionResponse"):
        return tool_result(_get(answer, "response"), _get(answer, "id"), _get(answer, "name"))
    if code := _get(part, "executableCode"):
        detail = {"type": "code_execution", "code": _get(code, "code"), "language": _get(code, "language")}
        return {"type": "server_tool_call", "name": "code_execution", "server_tool_call": detail}
    if result := _get(part, "codeExecutionResult"):
        detail = {
            "type": "code_execution",
            "outcome": _get(result, "outcome"),
            "output": _get(result, "output"),
        }
        return {"type": "server_tool_call_response", "server_tool_call_response": detail}
    return {"type": next(iter(part), "unknown")}


def _message(content: Any) -> Part:
    parts = [_part(part) for part in _list(_get(content, "parts"))]
    role = str(_get(content, "role") or "user")
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": _ROLES.get(role, role), "parts": parts}


# --- requests -----------------------------------------------------------------------------------------------


def _asked(messages: list[Part], content: bool, *, system: list[Part] | None = None) -> Attributes:
    files = [part for message in messages for part in message["parts"] if part["type"] in {"blob", "uri"}]
    facts: Attributes = {
        "posthog.prompt.length": text_length(messages) + text_length(system or []),
        "posthog.messages.count": len(messages),
        "posthog.files.count": len(files) or None,
    }
    if content:
        facts["gen_ai.input.messages"] = dumps(messages)
        facts["gen_ai.system_instructions"] = dumps(system) if system else None
    return facts


def _tools(request: Mapping[str, Any], content: bool) -> Attributes:
    tools = _list(_get(request, "tools"))
    definitions: list[Any] = []
    for tool in tools:
        functions = _list(_get(tool, "functionDeclarations"))
        definitions += [
            {
                "type": "function",
                "name": _get(function, "name"),
                "description": _get(function, "description"),
                "parameters": _get(function, "parameters") or _get(function, "parametersJsonSchema"),
            }
            for function in functions
        ]
        if not functions:
            definitions += [{"type": _snake(str(name)), "name": _snake(str(name))} for name in tool]
    search = any(_get(tool, name) is not None for tool in tools for name in _SEARCH)
    reading = any(_get(tool, "urlContext") is not None for tool in tools)
    return {
        "posthog.tools.count": len(definitions) or None,
        "posthog.web_search.enabled": True if search else None,
        "posthog.url_context.enabled": True if reading else None,
        "gen_ai.tool.definitions": dumps(definitions) if definitions and content else None,
    }


def _generate_request(request: Mapping[str, Any], model: str, content: bool) -> Attributes:
    config = _get(request, "generationConfig") or {}
    messages = [_message(one) for one in _list(_get(request, "contents"))]
    system = [_part(part) for part in _list(_get(request, "systemInstruction", "parts"))]
    facts = {attribute: _get(config, name) for name, attribute in _PARAMETERS}
    kinds = {str(getattr(kind, "value", kind)).upper() for kind in _list(_get(config, "responseModalities"))}
    mime_type = str(_get(config, "responseMimeType") or "")
    count, top_k = _get(config, "candidateCount"), _get(config, "topK")
    level = _get(config, "thinkingConfig", "thinkingLevel")
    draws = "IMAGE" in kinds or (not kinds and "-image" in model)
    facts |= {
        "gen_ai.request.choice.count": count if count != 1 else None,
        "gen_ai.request.top_k": None if top_k is None else int(top_k),
        "gen_ai.request.reasoning.level": str(level).lower() if level else None,
        "gen_ai.output.type": (
            "image"
            if draws
            else "speech"
            if "AUDIO" in kinds
            else "json"
            if mime_type.endswith("json")
            else None
        ),
        "posthog.thinking.level": str(level).lower() if level else None,
        "posthog.thinking.budget": _get(config, "thinkingConfig", "thinkingBudget"),
        "posthog.image.aspect_ratio": _get(config, "imageConfig", "aspectRatio"),
        "posthog.image.size": _get(config, "imageConfig", "imageSize"),
        "posthog.cached_content": True if _get(request, "cachedContent") else None,
        **_tools(request, content),
        **_asked(messages, content, system=system),
    }
    if draws:
        pictures = sum(part.get("modality") == "image" for message in messages for part in message["parts"])
        facts["posthog.image.reference_count"] = pictures or None
    return facts


def _embed_request(request: Mapping[str, Any], _: str, content: bool) -> Attributes:
    requests = _list(_get(request, "requests")) or [request]
    texts = [_message(_get(one, "content")) for one in requests if _get(one, "content")]
    # Vertex AI's predict: {"instances": [{"content": "..."}]}.
    texts += [
        {"role": "user", "parts": [text(_get(one, "content"))]} for one in _list(_get(request, "instances"))
    ]
    size = _get(requests[0], "outputDimensionality") or _get(request, "parameters", "outputDimensionality")
    return {"gen_ai.embeddings.dimension.count": size, **_asked(texts, content)}


# --- responses ----------------------------------------------------------------------------------------------


def _usage(usage: Any) -> Attributes:
    """Read token counts: thoughts are output, and what tools put into the prompt is input."""

    def total(*names: str) -> int | None:
        counts = [count for name in names if (count := _get(usage, name)) is not None]
        return sum(counts) if counts else None

    facts: Attributes = {
        "gen_ai.usage.input_tokens": total("promptTokenCount", "toolUsePromptTokenCount"),
        "gen_ai.usage.output_tokens": total("candidatesTokenCount", "thoughtsTokenCount"),
        "gen_ai.usage.cache_read.input_tokens": _get(usage, "cachedContentTokenCount"),
        "gen_ai.usage.reasoning.output_tokens": _get(usage, "thoughtsTokenCount"),
    }
    for name, suffix in (
        ("promptTokensDetails", "input_tokens"),
        ("toolUsePromptTokensDetails", "input_tokens"),
        ("candidatesTokensDetails", "output_tokens"),
        ("cacheTokensDetails", "cache_read.input_tokens"),
    ):
        for detail in _list(_get(usage, name)):
            kind = str(_get(detail, "modality")).lower()
            if kind in {"text", "image", "audio"} and (count := _get(detail, "tokenCount")):
                attribute = f"gen_ai.usage.{kind}.{suffix}"
                facts[attribute] = facts.get(attribute, 0) + count
    return facts


def _reason(candidate: Any) -> str | None:
    reason = _get(candidate, "finishReason")
    if not reason or reason == "FINISH_REASON_UNSPECIFIED":
        return None
    if reason == "STOP" and any(
        _get(part, "functionCall") for part in _list(_get(candidate, "content", "parts"))
    ):
        return "tool_call"
    return _FINISH.get(str(reason), "error")


def _generate_response(response: Any, content: bool, *, complete: bool = True) -> Attributes:
    candidates = _list(_get(response, "candidates"))
    reasons = [_reason(candidate) or ("error" if complete else None) for candidate in candidates]
    parts = [part for candidate in candidates for part in _list(_get(candidate, "content", "parts"))]
    queries = [q for c in candidates for q in _list(_get(c, "groundingMetadata", "webSearchQueries"))]
    grounded = any(_get(candidate, "groundingMetadata") for candidate in candidates)
    fetched = any(_list(_get(candidate, "urlContextMetadata", "urlMetadata")) for candidate in candidates)
    pictures = sum(modality(_get(part, "inlineData", "mimeType")) == "image" for part in parts)
    calls = sum(_get(part, "functionCall") is not None for part in parts)
    blocked = _get(response, "promptFeedback", "blockReason")
    if blocked and not candidates:
        reasons = ["content_filter"]
    facts = {
        "gen_ai.response.model": _get(response, "modelVersion"),
        "gen_ai.response.id": _get(response, "responseId"),
        "gen_ai.response.finish_reasons": [reason for reason in reasons if reason] or None,
        "posthog.prompt.block_reason": blocked,
        "posthog.tool_calls.count": calls or None,
        "posthog.image.count": pictures or None,
        "posthog.web_search.used": True if grounded else None,
        "posthog.web_search.count": len(queries) or None,
        "posthog.url_context.used": True if fetched else None,
        **_usage(_get(response, "usageMetadata")),
    }
    if content and candidates:
        facts["gen_ai.output.messages"] = dumps(
            [
                {"role": "assistant", "parts": _message(_get(candidate, "content"))["parts"]}
                | ({"finish_reason": reason} if reason else {})
                for candidate, reason in zip(candidates, reasons, strict=True)
            ]
        )
    return facts


def _embed_response(response: Any, _: bool) -> Attributes:
    # Vertex AI counts per text, the Developer API for the whole request where it counts at all.
    counts = [_get(one, "statistics", "tokenCount") for one in _list(_get(response, "embeddings"))]
    counts += [
        _get(one, "embeddings", "statistics", "token_count") for one in _list(_get(response, "predictions"))
    ]
    known = [int(count) for count in counts if count is not None]
    return {
        "gen_ai.usage.input_tokens": sum(known) if known else None,
        **_only(_usage(_get(response, "usageMetadata"))),
    }


def _only(facts: Attributes) -> Attributes:
    return {name: value for name, value in facts.items() if value is not None}


class GenerateGather:
    """Adds up the chunks of a streamed answer, candidate by candidate."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}

    def add(self, chunk: Any) -> bool:
        """Take a chunk, as JSON."""
        for name in ("modelVersion", "responseId", "promptFeedback"):
            if value := _get(chunk, name):
                self._top[name] = value
        # Counts grow from chunk to chunk; a chunk may leave out what an earlier one said.
        self._usage.update(_get(chunk, "usageMetadata") or {})
        for candidate in _list(_get(chunk, "candidates")):
            kept = self._candidates.setdefault(_get(candidate, "index") or 0, {"parts": []})
            kept["parts"] += _list(_get(candidate, "content", "parts"))
            for name in ("finishReason", "groundingMetadata", "urlContextMetadata"):
                if value := _get(candidate, name):
                    kept[name] = value
        return True

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        candidates = [
            {**kept, "content": {"role": "model", "parts": _joined(kept["parts"])}}
            for _, kept in sorted(self._candidates.items())
        ]
        whole = {**self._top, "usageMetadata": self._usage, "candidates": candidates}
        return _generate_response(whole, content, complete=complete)


def _joined(parts: list[Any]) -> list[Any]:
    """Join neighbouring pieces of text: chunks are the wire's affair."""
    runs: list[tuple[Any, list[str]]] = []
    for part in parts:
        words = _get(part, "text")
        if not isinstance(words, str):
            runs.append((part, []))
        elif runs and runs[-1][1] and bool(_get(runs[-1][0], "thought")) == bool(_get(part, "thought")):
            runs[-1][1].append(words)
        else:
            runs.append((part, [words]))
    return [{**part, "text": "".join(words)} if words else part for part, words in runs]


# --- the table ----------------------------------------------------------------------------------------------


class Endpoint(NamedTuple):
    """How to read one method."""

    operation: str
    request: Callable[[Mapping[str, Any], str, bool], Attributes]
    response: Callable[[Any, bool], Attributes]
    gather: Callable[[], GenerateGather] = GenerateGather


ENDPOINTS: dict[str, Endpoint] = {
    "generateContent": Endpoint("generate_content", _generate_request, _generate_response),
    "streamGenerateContent": Endpoint("generate_content", _generate_request, _generate_response),
    "embedContent": Endpoint("embeddings", _embed_request, _embed_response),
    "batchEmbedContents": Endpoint("embeddings", _embed_request, _embed_response),
}
_EMBED_PREDICT = Endpoint("embeddings", _embed_request, _embed_response)


def find(path: str) -> tuple[Endpoint, str] | None:
    """Find the entry and the model for a path such as ``models/gemini-2.5-flash:generateContent``."""
    resource, _, method = path.partition("?")[0].rpartition(":")
    model = resource.rpartition("/")[2]
    endpoint = ENDPOINTS.get(method)
    if method == "predict" and "embedding" in model:
        endpoint = _EMBED_PREDICT
    return (endpoint, model) if endpoint and model else None


def request_facts(
    endpoint: Endpoint, request: Mapping[str, Any], model: str, *, stream: bool, content: bool
) -> Attributes:
    """Read a request."""
    return {
        "gen_ai.operation.name": endpoint.operation,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True if stream else None,
        **endpoint.request(request, model, content),
    }
