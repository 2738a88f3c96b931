"""What Gemini's requests, responses and stream chunks say, one table entry per method.

Requests are the dict that google-genai is about to send, in which names are spelt either way; responses are
the service's own JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from instrumentors.common.call_span import Attributes, logger
from instrumentors.common.message_parts import dumps, modality, text
from instrumentors.gemini import imagen
from instrumentors.gemini.messages import asked, joined, message_of, part_of, pictures, written
from instrumentors.gemini.payload import by_modality, get, items, known, loads, names_in, number, snake, total

_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",  # the SDK goes on with a request of its own
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
            "MODEL_ARMOR",
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
# Lists of counts per modality, and what they are the sub-counts of.
_DETAILS = (
    ("promptTokensDetails", "input_tokens"),
    ("toolUsePromptTokensDetails", "input_tokens"),
    ("candidatesTokensDetails", "output_tokens"),
    ("responseTokensDetails", "output_tokens"),
    ("cacheTokensDetails", "cache_read.input_tokens"),
)
_SEARCH = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch")


# --- requests -----------------------------------------------------------------------------------------------


def _tools(request: Mapping[str, Any], content: bool) -> Attributes:
    tools = items(get(request, "tools"))
    definitions: list[Any] = []
    for tool in tools:
        functions = items(get(tool, "functionDeclarations"))
        definitions += [
            {
                "type": "function",
                "name": get(function, "name"),
                "description": get(function, "description"),
                "parameters": get(function, "parameters") or get(function, "parametersJsonSchema"),
            }
            for function in functions
        ]
        if not functions:
            definitions += [{"type": snake(str(name)), "name": snake(str(name))} for name in tool]
    search = any(get(tool, name) is not None for tool in tools for name in _SEARCH)
    reading = any(get(tool, "urlContext") is not None for tool in tools)
    return {
        "posthog.tools.count": len(definitions) or None,
        "posthog.web_search.enabled": True if search else None,
        "posthog.url_context.enabled": True if reading else None,
        "gen_ai.tool.definitions": dumps(definitions) if definitions and content else None,
    }


def _generate_request(request: Mapping[str, Any], model: str, content: bool) -> Attributes:
    config = get(request, "generationConfig") or {}
    messages = [message_of(one) for one in items(get(request, "contents"))]
    system = [part_of(part) for part in items(get(request, "systemInstruction", "parts"))]
    facts = {attribute: get(config, name) for name, attribute in _PARAMETERS}
    kinds = names_in(get(config, "responseModalities"))
    mime_type = str(get(config, "responseMimeType") or "")
    count, top_k = get(config, "candidateCount"), get(config, "topK")
    level = get(config, "thinkingConfig", "thinkingLevel")
    draws = "IMAGE" in kinds or (not kinds and "-image" in model)
    facts |= {
        "gen_ai.request.choice.count": count if count != 1 else None,
        "gen_ai.request.top_k": number(top_k),
        "gen_ai.request.reasoning.level": str(level).lower() if level else None,
        "gen_ai.output.type": "image" if draws else _output_type(kinds, mime_type),
        "posthog.thinking.level": str(level).lower() if level else None,
        "posthog.thinking.budget": get(config, "thinkingConfig", "thinkingBudget"),
        "posthog.image.aspect_ratio": get(config, "imageConfig", "aspectRatio"),
        "posthog.image.size": get(config, "imageConfig", "imageSize"),
        "posthog.cached_content": True if get(request, "cachedContent") else None,
        "posthog.request.service_tier": get(request, "serviceTier"),
        **_tools(request, content),
        **asked(messages, content, system),
    }
    if draws:
        facts["posthog.image.reference_count"] = pictures(messages)
    return facts


def _output_type(kinds: set[str], mime_type: str) -> str | None:
    if "AUDIO" in kinds:
        return "speech"
    return "json" if mime_type.endswith("json") else "text" if mime_type or kinds == {"TEXT"} else None


def _embed_request(request: Mapping[str, Any], _: str, content: bool) -> Attributes:
    requests = items(get(request, "requests")) or [request]
    texts = [message_of(get(one, "content")) for one in requests if get(one, "content")]
    # Vertex AI's predict: {"instances": [{"content": "..."}]}.
    texts += [
        {"role": "user", "parts": [text(get(one, "content"))]} for one in items(get(request, "instances"))
    ]
    size = get(requests[0], "outputDimensionality") or get(request, "parameters", "outputDimensionality")
    return {"gen_ai.embeddings.dimension.count": size, **asked(texts, content)}


# --- responses ----------------------------------------------------------------------------------------------


def usage_facts(usage: Any) -> Attributes:
    """Read token counts: thoughts are output, and what tools put into the prompt is input."""
    candidates = get(usage, "candidatesTokenCount")
    # The live API says it so.
    candidates = get(usage, "responseTokenCount") if candidates is None else candidates
    return {
        "gen_ai.usage.input_tokens": total(
            get(usage, "promptTokenCount"), get(usage, "toolUsePromptTokenCount")
        ),
        "gen_ai.usage.output_tokens": total(candidates, get(usage, "thoughtsTokenCount")),
        "gen_ai.usage.cache_read.input_tokens": number(get(usage, "cachedContentTokenCount")),
        "gen_ai.usage.reasoning.output_tokens": number(get(usage, "thoughtsTokenCount")),
        **by_modality(usage, _DETAILS, "tokenCount"),
    }


def _reason(candidate: Any) -> str | None:
    reason = get(candidate, "finishReason")
    if not reason or reason == "FINISH_REASON_UNSPECIFIED":
        return None
    if reason == "STOP" and any(
        get(part, "functionCall") for part in items(get(candidate, "content", "parts"))
    ):
        return "tool_call"
    return _FINISH.get(str(reason), "error")


def _generate_response(response: Any, content: bool, *, complete: bool = True) -> Attributes:
    candidates = items(get(response, "candidates"))
    reasons = [_reason(candidate) or ("error" if complete else None) for candidate in candidates]
    parts = [part for candidate in candidates for part in items(get(candidate, "content", "parts"))]
    queries = [q for c in candidates for q in items(get(c, "groundingMetadata", "webSearchQueries"))]
    grounded = any(_searched(get(candidate, "groundingMetadata")) for candidate in candidates)
    fetched = any(items(get(candidate, "urlContextMetadata", "urlMetadata")) for candidate in candidates)
    drawn = sum(modality(get(part, "inlineData", "mimeType")) == "image" for part in parts)
    calls = sum(get(part, "functionCall") is not None for part in parts)
    blocked = get(response, "promptFeedback", "blockReason")
    if blocked and not candidates:
        reasons = ["content_filter"]
    facts = {
        "gen_ai.response.model": get(response, "modelVersion"),
        "gen_ai.response.id": get(response, "responseId"),
        "gen_ai.response.finish_reasons": [reason for reason in reasons if reason] or None,
        "posthog.prompt.block_reason": blocked,
        "posthog.tool_calls.count": calls or None,
        "posthog.image.count": drawn or None,
        "posthog.web_search.used": True if grounded else None,
        "posthog.web_search.count": len(queries) or None,
        "posthog.url_context.used": True if fetched else None,
        **usage_facts(get(response, "usageMetadata")),
    }
    if error := get(response, "error"):
        # SDKs of 1.x hand it to the user as an empty chunk.
        code = get(error, "code")
        facts["error.type"], facts["posthog.http.status"] = str(code or "error"), number(code)
        facts["error.message"] = get(error, "message") if content else None
    if content and candidates:
        facts["gen_ai.output.messages"] = written(
            [
                {"role": "assistant", "parts": message_of(get(candidate, "content"))["parts"]}
                | ({"finish_reason": reason} if reason else {})
                for candidate, reason in zip(candidates, reasons, strict=True)
            ]
        )
    return facts


def _searched(grounding: Any) -> bool:
    # Maps and file stores ground answers, too.
    chunks = items(get(grounding, "groundingChunks"))
    signs = (get(grounding, "webSearchQueries"), get(grounding, "searchEntryPoint"))
    return any(signs) or any(get(chunk, "web") for chunk in chunks)


def _embed_response(response: Any, _: bool) -> Attributes:
    # Vertex AI counts per text, the Developer API for the whole request where it counts at all.
    counts = [get(one, "statistics", "tokenCount") for one in items(get(response, "embeddings"))]
    counts += [
        get(one, "embeddings", "statistics", "token_count") for one in items(get(response, "predictions"))
    ]
    return {
        "gen_ai.usage.input_tokens": total(*counts),
        **known(usage_facts(get(response, "usageMetadata"))),
    }


class Chunks:
    """Keeps the chunks of a streamed answer as they came; they are read when the stream has ended."""

    def __init__(self) -> None:
        self._bodies: list[Any] = []

    def add(self, chunk: Any) -> bool:
        """Take one of the SDK's chunks, which hold the service's JSON as text."""
        self._bodies.append(chunk.body)
        return True

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        whole = _Whole()
        for body in self._bodies:
            whole.take(body)
        self._bodies.clear()
        return _generate_response(whole.response(), content, complete=complete)


class _Whole:
    """Adds up chunks, candidate by candidate."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}

    def take(self, body: Any) -> None:
        try:
            self.add(loads(body))
        except (ValueError, TypeError, AttributeError) as error:
            # The other chunks can still be read.
            logger.debug("otel-posthog could not read a chunk: %s", type(error).__name__)

    def add(self, chunk: dict[str, Any]) -> None:
        # Plain look-ups: the service spells in one way, and there may be thousands of chunks.
        for name in ("modelVersion", "responseId", "promptFeedback", "error"):
            if value := chunk.get(name):
                self._top[name] = value
        # Counts grow from chunk to chunk; a chunk may leave out what an earlier one said.
        self._usage.update(known(chunk.get("usageMetadata") or {}))
        for candidate in chunk.get("candidates") or ():
            kept = self._candidates.setdefault(number(candidate.get("index")) or 0, {"parts": []})
            kept["parts"] += (candidate.get("content") or {}).get("parts") or ()
            for name in ("finishReason", "groundingMetadata", "urlContextMetadata"):
                if value := candidate.get(name):
                    kept[name] = value

    def response(self) -> dict[str, Any]:
        candidates = [
            {**kept, "content": {"role": "model", "parts": joined(kept["parts"])}}
            for _, kept in sorted(self._candidates.items())
        ]
        return {**self._top, "usageMetadata": self._usage, "candidates": candidates}


# --- the table ----------------------------------------------------------------------------------------------


class Endpoint(NamedTuple):
    """How to read one method."""

    operation: str
    request: Callable[[Mapping[str, Any], str, bool], Attributes]
    response: Callable[[Any, bool], Attributes]


_GENERATE = Endpoint("generate_content", _generate_request, _generate_response)
_EMBED = Endpoint("embeddings", _embed_request, _embed_response)
ENDPOINTS: dict[str, Endpoint] = {
    "generateContent": _GENERATE,
    "streamGenerateContent": _GENERATE,
    "embedContent": _EMBED,
    "batchEmbedContents": _EMBED,
}


def find(path: str, request: Mapping[str, Any]) -> tuple[Endpoint, str] | None:
    """Find the entry and the model for a path such as ``models/gemini-2.5-flash:generateContent``."""
    resource, _, method = path.partition("?")[0].rpartition(":")
    model = resource.rpartition("/")[2]
    endpoint = ENDPOINTS.get(method)
    if method == "predict":
        endpoint = _predict(request, model)
    return (endpoint, model) if endpoint and model else None


def _predict(request: Mapping[str, Any], model: str) -> Endpoint | None:
    if "embedding" in model:
        return _EMBED
    operation = imagen.operation(request, model)
    if operation is None:
        return None
    return Endpoint(operation, imagen.request_facts, imagen.response_facts)


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
