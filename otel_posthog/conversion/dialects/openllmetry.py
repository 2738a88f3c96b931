"""OpenLLMetry (Traceloop), Python and JavaScript: `llm.*` and `traceloop.*`, besides the GenAI conventions.

Source: traceloop/openllmetry, packages/opentelemetry-semantic-conventions-ai (SpanAttributes), and
traceloop/openllmetry-js, packages/ai-semantic-conventions. Messages: today's releases write the
conventions' JSON; older ones indexed attributes, `gen_ai.prompt.N.*` and, before, `llm.prompts.N.*`.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.model_call import Kind, Message
from otel_posthog.conversion.readers.attribute_values import (
    anything,
    boolean,
    count,
    finish_reason,
    finish_reasons,
    number,
    parse_json,
    text,
)
from otel_posthog.conversion.readers.indexed_attributes import listed
from otel_posthog.conversion.readers.messages import messages, tools
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, keep_richer, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_ASSOCIATION = "traceloop.association.properties."
_REQUEST_TYPES = {
    "chat": Kind.GENERATION,
    "completion": Kind.GENERATION,
    "embedding": Kind.EMBEDDING,
    "rerank": Kind.RERANKER,
}
"""Kinds by `llm.request.type`; the value `unknown` decides nothing."""
_SPAN_KINDS = {
    "workflow": Kind.WORKFLOW,
    "agent": Kind.AGENT,
    "tool": Kind.TOOL,
    "task": Kind.TASK,
}
"""Kinds by `traceloop.span.kind`."""

_RULES = (
    *rows(
        "call",
        request_type=(text, "llm.request.type"),
        span_kind=(text, "traceloop.span.kind"),
        entity_name=(text, "traceloop.entity.name"),
        base_url=(text, "gen_ai.openai.api_base", "llm.openai.api_base"),
        stream=(boolean, "gen_ai.is_streaming", "llm.is_streaming"),
        provider=(text, "llm.vendor"),
        request_model=(text, "llm.request.model"),
        response_model=(text, "llm.response.model"),
        input_state=(parse_json, "traceloop.entity.input"),
        output_state=(parse_json, "traceloop.entity.output"),
        finish_reasons=(finish_reasons, "llm.response.finish_reason", "llm.response.stop_reason"),
        tools=(tools, "llm.request.functions"),
        prompt_name=(text, "traceloop.prompt.key"),
        prompt_version=(text, "traceloop.prompt.version"),
    ),
    *rows(
        "usage",
        input=(count, "llm.usage.prompt_tokens"),
        output=(count, "llm.usage.completion_tokens"),
        total=(count, "llm.usage.total_tokens"),
        cache_read=(count, "llm.usage.cache_read_input_tokens"),
        cache_write=(count, "llm.usage.cache_creation_input_tokens"),
        reasoning=(count, "llm.usage.reasoning_tokens"),
    ),
    *rows(
        "parameters",
        temperature=(number, "llm.temperature", "llm.request.temperature"),
        top_p=(number, "llm.top_p", "llm.request.top_p"),
        max_tokens=(count, "llm.request.max_tokens"),
        frequency_penalty=(number, "llm.frequency_penalty"),
        presence_penalty=(number, "llm.presence_penalty"),
        reasoning_effort=(text, "llm.request.reasoning_effort"),
    ),
    *rows(
        "context",
        distinct_id=(
            text,
            _ASSOCIATION + "posthog_distinct_id",
            _ASSOCIATION + "user_id",
            _ASSOCIATION + "userId",
            _ASSOCIATION + "user",
            "llm.user",
        ),
        feature=(text, _ASSOCIATION + "feature"),
        chat_id=(text, _ASSOCIATION + "chat_id", _ASSOCIATION + "chatId"),
        conversation_id=(
            text,
            _ASSOCIATION + "session_id",
            _ASSOCIATION + "sessionId",
            _ASSOCIATION + "conversation_id",
            _ASSOCIATION + "thread_id",
        ),
    ),
)

_SIDES = {
    "gen_ai.prompt.": ("input", "user"),
    "llm.prompts.": ("input", "user"),
    "gen_ai.completion.": ("output", "assistant"),
    "llm.completions.": ("output", "assistant"),
}
_FUNCTIONS = "llm.request.functions."


def kind_of(parts: Parts, _view: SpanView) -> Kind | None:
    """Return the kind by the request's type, else by the entity's kind."""
    call = parts["call"]
    return _REQUEST_TYPES.get(call.pop("request_type", "")) or _SPAN_KINDS.get(call.pop("span_kind", ""))


def complete(parts: Parts, view: SpanView) -> None:
    """Read messages and tools from indexed attributes."""
    call = parts["call"]
    lists = listed(view.attributes, (*_SIDES, _FUNCTIONS))
    reasons = []
    for prefix, items in lists.items():
        if prefix == _FUNCTIONS:
            keep_richer(call, "tools", [_tool(each) for each in items])
            continue
        side, role = _SIDES[prefix]
        chat = [_chat(each) for each in items if isinstance(each, dict)]
        keep_richer(call, side, messages(chat, role))
        reasons += [finish_reason(each.get("finish_reason")) for each in chat]
    if known := [reason for reason in reasons if reason is not None]:
        call.setdefault("finish_reasons", known)
    span_kind = call.get("span_kind")
    if span_kind == "workflow" or (span_kind is not None and "entity_name" in call):
        if not call.get("entity_name"):
            call["written_name"] = view.name
    elif "request_type" not in call and "input_state" in call and "operation" in call:
        call.pop("entity_name", None)


def _chat(raw: dict[str, Any]) -> Message:
    """Return a message with its tool calls beside its content."""
    content = raw.get("content", raw.get("user"))
    if isinstance(content, str) and content.lstrip().startswith(("[{", '{"type"')):
        content = parse_json(content)
    calls = raw.get("tool_calls")
    if isinstance(raw.get("function_call"), dict):
        calls = [raw["function_call"]]
    return {
        **({"role": raw["role"]} if text(raw.get("role")) else {}),
        "content": content if isinstance(content, list | str) or content is None else [content],
        "tool_call_id": raw.get("tool_call_id"),
        "finish_reason": raw.get("finish_reason"),
        "tool_calls": calls if isinstance(calls, list) else [],
    }


def _tool(raw: Any) -> Any:
    """Return a tool of `llm.request.functions.N.*`, whose parameters are a JSON text."""
    return {**raw, "parameters": parse_json(raw.get("parameters"))} if isinstance(raw, dict) else raw


DIALECT = Dialect(
    "openllmetry",
    _RULES,
    prefixes=((_ASSOCIATION, "properties", anything),),
    kind_of=kind_of,
    complete=complete,
)
