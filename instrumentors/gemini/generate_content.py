"""`generateContent` and its stream: attributes of requests, responses and stream chunks.

Requests are the dict that google-genai is about to send, in which names are spelt either way; responses are
the service's own JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, logger, read_piece, read_pieces
from instrumentors.common.message_parts import dumps, modality
from instrumentors.gemini.messages import (
    count_images,
    dump_messages,
    input_attributes,
    join_text,
    to_message,
    to_part,
)
from instrumentors.gemini.payload import (
    add_counts,
    get,
    get_list,
    get_names,
    loads,
    snake_case,
    to_int,
    tokens_by_modality,
    without_none,
)
from instrumentors.gemini.streamed_arguments import join_calls

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
# Fields of generationConfig whose value is the attribute's.
_PARAMETERS = (
    ("temperature", "gen_ai.request.temperature"),
    ("topP", "gen_ai.request.top_p"),
    ("maxOutputTokens", "gen_ai.request.max_tokens"),
    ("seed", "gen_ai.request.seed"),
    ("frequencyPenalty", "gen_ai.request.frequency_penalty"),
    ("presencePenalty", "gen_ai.request.presence_penalty"),
    ("stopSequences", "gen_ai.request.stop_sequences"),
)
# Lists of counts by modality, and the count that each of them splits.
_DETAILS = (
    ("promptTokensDetails", "input_tokens"),
    ("toolUsePromptTokensDetails", "input_tokens"),
    ("candidatesTokensDetails", "output_tokens"),
    ("responseTokensDetails", "output_tokens"),
    ("cacheTokensDetails", "cache_read.input_tokens"),
)
_SEARCH = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch")


# --- requests -----------------------------------------------------------------------------------------------


def _tool_attributes(request: Mapping[str, Any], content: bool) -> Attributes:
    tools = get_list(get(request, "tools"))
    definitions: list[Any] = []
    for tool in tools:
        functions = get_list(get(tool, "functionDeclarations"))
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
            definitions += [{"type": snake_case(str(name)), "name": snake_case(str(name))} for name in tool]
    searches = any(get(tool, name) is not None for tool in tools for name in _SEARCH)
    reads_urls = any(get(tool, "urlContext") is not None for tool in tools)
    return {
        names.TOOL_COUNT: len(definitions) or None,
        names.WEB_SEARCH_ENABLED: True if searches else None,
        names.URL_CONTEXT_ENABLED: True if reads_urls else None,
        "gen_ai.tool.definitions": dumps(definitions) if definitions and content else None,
    }


def request_attributes(request: Mapping[str, Any], model: str, content: bool) -> Attributes:
    """Return the attributes of a request."""
    config = get(request, "generationConfig") or {}
    messages = read_pieces(to_message, get_list(get(request, "contents")))
    system = read_pieces(to_part, get_list(get(request, "systemInstruction", "parts")))
    attributes = {attribute: get(config, name) for name, attribute in _PARAMETERS}
    modalities = get_names(get(config, "responseModalities"))
    mime_type = str(get(config, "responseMimeType") or "")
    count, top_k = get(config, "candidateCount"), get(config, "topK")
    level = get(config, "thinkingConfig", "thinkingLevel")
    draws = "IMAGE" in modalities or (not modalities and "-image" in model)
    attributes |= {
        "gen_ai.request.choice.count": count if count != 1 else None,
        "gen_ai.request.top_k": to_int(top_k),
        "gen_ai.request.reasoning.level": str(level).lower() if level else None,
        "gen_ai.output.type": "image" if draws else _output_type(modalities, mime_type),
        names.THINKING_LEVEL: str(level).lower() if level else None,
        names.THINKING_BUDGET: get(config, "thinkingConfig", "thinkingBudget"),
        names.IMAGE_ASPECT_RATIO: get(config, "imageConfig", "aspectRatio"),
        names.IMAGE_SIZE: get(config, "imageConfig", "imageSize"),
        names.CACHED_CONTENT: True if get(request, "cachedContent") else None,
        names.REQUEST_SERVICE_TIER: get(request, "serviceTier"),
        **_tool_attributes(request, content),
        **input_attributes(messages, content, system),
    }
    if draws:
        attributes[names.IMAGE_REFERENCE_COUNT] = count_images(messages)
    return attributes


def _output_type(modalities: set[str], mime_type: str) -> str | None:
    if "AUDIO" in modalities:
        return "speech"
    if mime_type.endswith("json"):
        return "json"
    return "text" if mime_type or modalities == {"TEXT"} else None


# --- responses ----------------------------------------------------------------------------------------------


def usage_attributes(usage: Any) -> Attributes:
    """Return token counts: thoughts are output, and a prompt's part that tools added is input."""
    candidates = get(usage, "candidatesTokenCount")
    if candidates is None:  # the live API's name
        candidates = get(usage, "responseTokenCount")
    return {
        "gen_ai.usage.input_tokens": add_counts(
            get(usage, "promptTokenCount"), get(usage, "toolUsePromptTokenCount")
        ),
        "gen_ai.usage.output_tokens": add_counts(candidates, get(usage, "thoughtsTokenCount")),
        "gen_ai.usage.cache_read.input_tokens": to_int(get(usage, "cachedContentTokenCount")),
        "gen_ai.usage.reasoning.output_tokens": to_int(get(usage, "thoughtsTokenCount")),
        **tokens_by_modality(usage, _DETAILS, "tokenCount"),
    }


def _finish_reason(candidate: Any) -> str | None:
    reason = get(candidate, "finishReason")
    if not reason or reason == "FINISH_REASON_UNSPECIFIED":
        return None
    parts = get_list(get(candidate, "content", "parts"))
    if reason == "STOP" and any(get(part, "functionCall") for part in parts):
        return "tool_call"
    return _FINISH.get(str(reason), "error")


def response_attributes(response: Any, content: bool, *, complete: bool = True) -> Attributes:
    """Return the attributes of a response; each candidate is one message.

    If a stream was not `complete`, a candidate may lack its finish reason; otherwise that is an error.
    """
    candidates = get_list(get(response, "candidates"))
    reasons = [_finish_reason(candidate) or ("error" if complete else None) for candidate in candidates]
    parts = [part for candidate in candidates for part in get_list(get(candidate, "content", "parts"))]
    queries = [q for c in candidates for q in get_list(get(c, "groundingMetadata", "webSearchQueries"))]
    grounded = any(_is_from_search(get(candidate, "groundingMetadata")) for candidate in candidates)
    fetched = any(get_list(get(candidate, "urlContextMetadata", "urlMetadata")) for candidate in candidates)
    images = sum(modality(get(part, "inlineData", "mimeType")) == "image" for part in parts)
    tool_calls = sum(get(part, "functionCall") is not None for part in parts)
    block_reason = get(response, "promptFeedback", "blockReason")
    if block_reason and not candidates:
        reasons = ["content_filter"]
    attributes = {
        "gen_ai.response.model": get(response, "modelVersion"),
        "gen_ai.response.id": get(response, "responseId"),
        "gen_ai.response.finish_reasons": [reason for reason in reasons if reason] or None,
        "posthog.prompt.block_reason": block_reason,
        names.TOOL_CALL_COUNT: tool_calls or None,
        names.IMAGE_COUNT: images or None,
        names.WEB_SEARCH_USED: True if grounded else None,
        names.WEB_SEARCH_COUNT: len(queries) or None,
        names.URL_CONTEXT_USED: True if fetched else None,
        **usage_attributes(get(response, "usageMetadata")),
    }
    # SDKs of 1.x pass it to the application as an empty chunk.
    attributes |= error_attributes(response, content)
    if content and candidates:
        attributes["gen_ai.output.messages"] = dump_messages(
            [
                {"role": "assistant", "parts": to_message(get(candidate, "content"))["parts"]}
                | ({"finish_reason": reason} if reason else {})
                for candidate, reason in zip(candidates, reasons, strict=True)
            ]
        )
    return attributes


def error_attributes(response: Any, content: bool) -> Attributes:
    """Return the attributes of an error inside an answer; none if there is none."""
    error = get(response, "error")
    if not error:
        return {}
    code = get(error, "code")
    message = error if isinstance(error, str) else get(error, "message")
    return {
        "error.type": str(code or "error"),
        names.HTTP_STATUS: to_int(code),
        "error.message": message if content else None,
    }


def _is_from_search(grounding: Any) -> bool:
    # Maps and file stores ground answers, too.
    chunks = get_list(get(grounding, "groundingChunks"))
    signs = (get(grounding, "webSearchQueries"), get(grounding, "searchEntryPoint"))
    return any(signs) or any(get(chunk, "web") for chunk in chunks)


class GenerateContentAccumulator:
    """The chunks of a streamed answer, kept as they came and read when the stream has ended."""

    def __init__(self) -> None:
        self._bodies: list[Any] = []

    def add(self, chunk: Any) -> bool:
        """Add one of the SDK's chunks, which hold the service's JSON as text."""
        self._bodies.append(chunk.body)
        return True

    def attributes(self, content: bool, complete: bool, /) -> Attributes:
        """Return the attributes of the response that the chunks add up to."""
        merged = _MergedChunks()
        for body in self._bodies:
            merged.add_safely(body)
        self._bodies.clear()
        return response_attributes(merged.as_response(), content, complete=complete)


class _MergedChunks:
    """The JSON of chunks, added up candidate by candidate."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}

    def add_safely(self, body: Any) -> None:
        try:
            self._add(loads(body))
        except (ValueError, TypeError, AttributeError) as error:
            # The other chunks can still be read.
            logger.debug("otel-posthog could not read a chunk: %s", type(error).__name__)

    def _add(self, chunk: dict[str, Any]) -> None:
        # Plain look-ups: the service has one spelling, and there may be thousands of chunks.
        for name in ("modelVersion", "responseId", "promptFeedback", "error"):
            if value := chunk.get(name):
                self._top[name] = value
        # Counts grow from chunk to chunk; a chunk may leave out a count of an earlier one.
        self._usage.update(without_none(chunk.get("usageMetadata") or {}))
        for candidate in chunk.get("candidates") or ():
            read_piece(self._add_candidate, candidate)

    def _add_candidate(self, candidate: dict[str, Any]) -> None:
        whole = self._candidates.setdefault(to_int(candidate.get("index")) or 0, {"parts": []})
        for name in ("finishReason", "groundingMetadata", "urlContextMetadata"):
            if value := candidate.get(name):
                whole[name] = value
        whole["parts"] += (candidate.get("content") or {}).get("parts") or ()

    def as_response(self) -> dict[str, Any]:
        candidates = [
            {**whole, "content": {"role": "model", "parts": join_text(join_calls(whole["parts"]))}}
            for _, whole in sorted(self._candidates.items())
        ]
        return {**self._top, "usageMetadata": self._usage, "candidates": candidates}
