"""The Vercel AI SDK, versions 4 to 7: `ai.*` attributes, and the GenAI conventions' beside them.

Source: vercel/ai, packages/ai/src/telemetry and packages/otel (2026), and recordings of each version. An
operation has an outer span (`ai.generateText`) and inner ones, `doGenerate`, `doStream` and `doEmbed`, one
for each request to the provider: these are the calls; the outer one repeats their sum and is structure.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.readers.attribute_values import (
    anything,
    count,
    dollars,
    finish_reasons,
    milliseconds,
    number,
    parse_json,
    private,
    text,
    texts,
)
from otel_posthog.conversion.readers.messages import messages
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, keep_richer, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_CALLS = {
    "doGenerate": Kind.GENERATION,
    "doStream": Kind.GENERATION,
    "doEmbed": Kind.EMBEDDING,
    "doRerank": Kind.RERANKER,
}
"""Kinds by the last word of `ai.operationId` if the span is a request to a provider."""
_STRUCTURE = {"ai.toolCall": Kind.TOOL, "ai.rerank": Kind.RERANKER}

_META = "ai.telemetry.metadata."
_CONTEXT = "ai.settings.context."
"""The name of `_META` in version 7."""
_USAGE = "ai.usage."


def _parsed_each(value: Any) -> Any:
    """Return a list of parsed JSON texts, or one parsed JSON text."""
    parsed = parse_json(value)
    return [parse_json(item) for item in parsed] if isinstance(parsed, list) else parsed


def _list(value: Any) -> list[Any] | None:
    items = _parsed_each(value)
    return items if isinstance(items, list) and items else None


def _metadata(*names: str) -> tuple[str, ...]:
    """Return the attributes of the application's metadata of these names, best first."""
    return tuple(prefix + name for name in names for prefix in (_META, _CONTEXT))


_RULES = (
    *rows(
        "call",
        ai_operation=(text, "ai.operationId"),
        provider=(text, "ai.model.provider"),
        request_model=(text, "ai.model.id"),
        response_model=(text, "ai.response.model"),
        response_id=(text, "ai.response.id"),
        time_to_first_token=(milliseconds, "ai.response.msToFirstChunk", "ai.stream.msToFirstChunk"),
        finish_reasons=(finish_reasons, "ai.response.finishReason"),
        tools=(_list, "ai.prompt.tools"),
        embedded=(_parsed_each, "ai.values", "ai.value"),
        tool_name=(text, "ai.toolCall.name"),
        function_name=(text, "ai.telemetry.functionId"),
        input_state=(_parsed_each, "ai.toolCall.args", "ai.toolCall.input", "ai.documents"),
        output_state=(_parsed_each, "ai.toolCall.result", "ai.toolCall.output", "ai.ranking"),
        prompt_name=(text, *_metadata("$ai_prompt_name")),
        prompt_version=(text, *_metadata("$ai_prompt_version")),
    ),
    *rows(
        "usage",
        input=(count, _USAGE + "inputTokens", _USAGE + "promptTokens", _USAGE + "tokens"),
        output=(count, _USAGE + "outputTokens", _USAGE + "completionTokens"),
        total=(count, _USAGE + "totalTokens"),
        cache_read=(count, _USAGE + "inputTokenDetails.cacheReadTokens", _USAGE + "cachedInputTokens"),
        cache_write=(count, _USAGE + "inputTokenDetails.cacheWriteTokens"),
        reasoning=(count, _USAGE + "outputTokenDetails.reasoningTokens", _USAGE + "reasoningTokens"),
    ),
    *rows(
        "parameters",
        temperature=(number, "ai.settings.temperature"),
        top_p=(number, "ai.settings.topP"),
        top_k=(number, "ai.settings.topK"),
        max_tokens=(count, "ai.settings.maxOutputTokens", "ai.settings.maxTokens"),
        frequency_penalty=(number, "ai.settings.frequencyPenalty"),
        presence_penalty=(number, "ai.settings.presencePenalty"),
        seed=(number, "ai.settings.seed"),
        stop=(texts, "ai.settings.stopSequences"),
        tool_choice=(parse_json, "ai.prompt.toolChoice"),
    ),
    *rows(
        "context",
        distinct_id=(
            text,
            *_metadata("posthog_distinct_id", "userId", "user_id", "user.id"),
            "posthog_distinct_id",
        ),
        conversation_id=(
            text,
            *_metadata("$ai_session_id", "sessionId", "session_id", "conversationId", "threadId", "chatId"),
        ),
        feature=(text, *_metadata("feature", "posthog_feature")),
        chat_id=(text, *_metadata("chat_id", "chatId")),
        trace_name=(text, *_metadata("posthog_trace_id", "$ai_trace_id")),
        privacy_mode=(private, *_metadata("posthog_privacy_mode", "$ai_privacy_mode")),
    ),
)

_GROUPS = _metadata("$groups", "posthog_groups", "groups")


def kind_of(parts: Parts, _view: SpanView) -> Kind | None:
    """Return the kind by the operation's last word."""
    operation = parts["call"].pop("ai_operation", None)
    if operation is None:
        return None
    word = operation.rpartition(".")[2]
    return _CALLS.get(word) or _STRUCTURE.get(operation) or (Kind.AGENT if "gent" in word else Kind.WORKFLOW)


def complete(parts: Parts, view: SpanView) -> None:
    """Read the prompt and the answer, groups, cached tokens, the first token, and properties."""
    call, attributes = parts["call"], view.attributes
    operation = call.get("ai_operation", "")
    if operation.endswith((".doStream", ".doGenerate")):
        call.setdefault("stream", operation.endswith(".doStream"))
    for name in ("ai.prompt.messages", "ai.prompt"):
        if name in attributes:
            keep_richer(call, "input", _prompt(attributes[name]))
    keep_richer(call, "output", _answer(attributes))
    for name in _GROUPS:
        groups = parse_json(attributes.get(name))
        if isinstance(groups, dict):
            parts["properties"].pop(name.removeprefix(_META).removeprefix(_CONTEXT), None)
            parts["groups"].update({str(kind): key for kind, value in groups.items() if (key := text(value))})
    if operation and operation.rpartition(".")[2] not in _CALLS and "embedded" in call:
        call.setdefault("input_state", call.pop("embedded"))
    _count_cached(parts, attributes)
    if call.get("finish_reasons") == ["error"]:  # the only sign of a stream that broke
        parts["error"].setdefault("type", "_OTHER")
    for name in [*parts["properties"]]:
        if name.startswith("posthog_"):  # PostHog's form of the property `plan` is `posthog_plan`
            parts["properties"].setdefault(name.removeprefix("posthog_"), parts["properties"].pop(name))
    for event in view.events:
        if event.name == "ai.stream.firstChunk":
            first = milliseconds(
                event.attributes.get(
                    "ai.response.msToFirstChunk", event.attributes.get("ai.stream.msToFirstChunk")
                )
            )
            if first is not None:
                call.setdefault("time_to_first_token", first)


def _prompt(value: Any) -> Any:
    """Return the messages of a list, or of an object with `system`, `prompt` and `messages`."""
    prompt = parse_json(value)
    if not isinstance(prompt, dict) or "role" in prompt:
        return messages(prompt, "user")
    chat = messages(prompt.get("system"), "system") or []
    chat += messages(prompt.get("messages"), "user") or []
    return chat + (messages(prompt.get("prompt"), "user") or [])


def _answer(attributes: Any) -> list[dict[str, Any]]:
    content: list[Any] = []
    reasoning = parse_json(attributes.get("ai.response.reasoning"))
    if isinstance(reasoning, list):
        content += [each for each in reasoning if isinstance(each, dict)]
    elif isinstance(reasoning, str) and reasoning:
        content.append({"type": "reasoning", "text": reasoning})
    for name in ("ai.response.text", "ai.response.object"):
        value = attributes.get(name)
        if isinstance(value, str) and value:
            content.append({"type": "text", "text": value})
    for name, kind in (("ai.response.files", "file"), ("ai.response.toolCalls", "tool-call")):
        for each in _list(attributes.get(name)) or ():
            if isinstance(each, dict):
                content.append({**each, "type": kind})
    return messages([{"role": "assistant", "content": content}], "assistant") or [] if content else []


def _count_cached(parts: Parts, attributes: Any) -> None:
    """Read tokens that older versions leave to the provider's own metadata."""
    usage = parts["usage"]
    reported = parse_json(attributes.get("ai.response.providerMetadata"))
    reported = reported if isinstance(reported, dict) else {}
    for metadata in (each for each in reported.values() if isinstance(each, dict)):
        raw = {**metadata, **_dict(metadata.get("usage")), **_dict(metadata.get("usageMetadata"))}
        for field, names in _REPORTED.items():
            tokens = next((count(raw[name]) for name in names if name in raw), None)
            if tokens is not None:
                usage.setdefault(field, tokens)
        if (cost := dollars(raw.get("cost"))) is not None:  # from Vercel's gateway, or OpenRouter's `usage`
            parts["call"].setdefault("cost_usd", cost)
    exclusive = any(isinstance(reported.get(name), dict) for name in ("anthropic", "bedrock"))
    if "cache_read" in usage or "cache_write" in usage:
        # To version 5 the input is the provider's own count, without cached tokens; later it includes them.
        details = any(name.startswith(_USAGE + "inputTokenDetails.") for name in attributes)
        usage["cache_exclusive"] = exclusive and not details


_REPORTED = {
    "cache_read": (
        "cachedPromptTokens",
        "cacheReadInputTokens",
        "cache_read_input_tokens",
        "cachedContentTokenCount",
    ),
    "cache_write": (
        "cacheCreationInputTokens",
        "cacheWriteInputTokens",
        "cache_creation_input_tokens",
    ),
    "reasoning": ("reasoningTokens", "thoughtsTokenCount"),
}
"""Names of providers' packages in `ai.response.providerMetadata`, by field."""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DIALECT = Dialect(
    "vercel",
    _RULES,
    prefixes=((_META, "properties", anything), (_CONTEXT, "properties", anything)),
    kind_of=kind_of,
    complete=complete,
)
