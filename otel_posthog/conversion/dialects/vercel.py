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
"""The last word of `ai.operationId` where it is a request to a provider."""
_STRUCTURE = {"ai.toolCall": Kind.TOOL, "ai.rerank": Kind.RERANKER}

_META = "ai.telemetry.metadata."
_CONTEXT = "ai.settings.context."
"""What `_META` is called in version 7."""
_USAGE = "ai.usage."


def _parsed_each(value: Any) -> Any:
    """A list of JSON texts, or one JSON text."""
    parsed = parse_json(value)
    return [parse_json(item) for item in parsed] if isinstance(parsed, list) else parsed


def _list(value: Any) -> list[Any] | None:
    found = _parsed_each(value)
    return found if isinstance(found, list) and found else None


def _told(*names: str) -> tuple[str, ...]:
    """The names of what the application told about a call."""
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
        prompt_name=(text, *_told("$ai_prompt_name")),
        prompt_version=(text, *_told("$ai_prompt_version")),
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
            *_told("posthog_distinct_id", "userId", "user_id", "user.id"),
            "posthog_distinct_id",
        ),
        conversation_id=(
            text,
            *_told("$ai_session_id", "sessionId", "session_id", "conversationId", "threadId", "chatId"),
        ),
        feature=(text, *_told("feature", "posthog_feature")),
        chat_id=(text, *_told("chat_id", "chatId")),
        trace_name=(text, *_told("posthog_trace_id", "$ai_trace_id")),
        privacy_mode=(private, *_told("posthog_privacy_mode", "$ai_privacy_mode")),
    ),
)

_GROUPS = _told("$groups", "posthog_groups", "groups")


def kind_of(parts: Parts, _view: SpanView) -> Kind | None:
    """By the operation's last word."""
    operation = parts["call"].pop("ai_operation", None)
    if operation is None:
        return None
    word = operation.rpartition(".")[2]
    return _CALLS.get(word) or _STRUCTURE.get(operation) or (Kind.AGENT if "gent" in word else Kind.WORKFLOW)


def complete(parts: Parts, view: SpanView) -> None:
    """The prompt, the answer and its parts; groups; what of the metadata is nothing else."""
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
    if call.get("finish_reasons") == ["error"]:  # a stream that broke has no other sign of it
        parts["error"].setdefault("type", "_OTHER")
    for name in [*parts["properties"]]:
        if name.startswith("posthog_"):  # `posthog_plan` is PostHog's way to say: the property `plan`
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
    """A list of messages, or the call's own `system`, `prompt` and `messages`."""
    found = parse_json(value)
    if not isinstance(found, dict) or "role" in found:
        return messages(found, "user")
    said = messages(found.get("system"), "system") or []
    said += messages(found.get("messages"), "user") or []
    return said + (messages(found.get("prompt"), "user") or [])


def _answer(attributes: Any) -> list[dict[str, Any]]:
    content: list[Any] = []
    reasoning = parse_json(attributes.get("ai.response.reasoning"))
    if isinstance(reasoning, list):
        content += [each for each in reasoning if isinstance(each, dict)]
    elif isinstance(reasoning, str) and reasoning:
        content.append({"type": "reasoning", "text": reasoning})
    said = attributes.get("ai.response.text")
    if isinstance(said, str) and said:
        content.append({"type": "text", "text": said})
    made = attributes.get("ai.response.object")
    if isinstance(made, str) and made:
        content.append({"type": "text", "text": made})
    for name, kind in (("ai.response.files", "file"), ("ai.response.toolCalls", "tool-call")):
        for each in _list(attributes.get(name)) or ():
            if isinstance(each, dict):
                content.append({**each, "type": kind})
    return messages([{"role": "assistant", "content": content}], "assistant") or [] if content else []


def _count_cached(parts: Parts, attributes: Any) -> None:
    """Tokens that older versions leave to the provider's own metadata."""
    usage = parts["usage"]
    reported = parse_json(attributes.get("ai.response.providerMetadata"))
    reported = reported if isinstance(reported, dict) else {}
    for told in (each for each in reported.values() if isinstance(each, dict)):
        raw = {**told, **_dict(told.get("usage")), **_dict(told.get("usageMetadata"))}
        for field, names in _REPORTED.items():
            found = next((count(raw[name]) for name in names if name in raw), None)
            if found is not None:
                usage.setdefault(field, found)
        if (cost := dollars(raw.get("cost"))) is not None:  # of Vercel's gateway, or of OpenRouter's `usage`
            parts["call"].setdefault("cost_usd", cost)
    beside = any(isinstance(reported.get(name), dict) for name in ("anthropic", "bedrock"))
    if "cache_read" in usage or "cache_write" in usage:
        # To version 5 the input is what these report, without cached tokens; later it is the sum.
        details = any(name.startswith(_USAGE + "inputTokenDetails.") for name in attributes)
        usage["cache_exclusive"] = beside and not details


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
"""What providers' packages call these in `ai.response.providerMetadata`."""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DIALECT = Dialect(
    "vercel",
    _RULES,
    prefixes=((_META, "properties", anything), (_CONTEXT, "properties", anything)),
    kind_of=kind_of,
    complete=complete,
)
