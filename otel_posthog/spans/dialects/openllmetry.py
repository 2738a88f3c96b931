"""OpenLLMetry (Traceloop): the conventions' names today, its own names beside them and before.

Today's packages (0.62) write the conventions' JSON; older ones, and those of other languages, write
indexed attributes (`gen_ai.prompt.0.content`, `llm.prompts.0.content`). Both are read. What the SDK
knows of user and session stands in `traceloop.association.properties.*`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from otel_posthog.calls import Kind
from otel_posthog.spans.dialects import genai
from otel_posthog.spans.dialects.rules import Parts, Rule, table
from otel_posthog.spans.messages import messages, tools
from otel_posthog.spans.values import boolean, count, finish_reasons, parse_json, text

__all__ = ["TABLE", "complete", "kind_of"]

_ASSOCIATION = "traceloop.association.properties."
_REQUEST_TYPES = {
    "chat": Kind.GENERATION,
    "completion": Kind.GENERATION,
    "embedding": Kind.EMBEDDING,
    "rerank": Kind.RETRIEVAL,
}
_SPAN_KINDS = {
    "workflow": Kind.WORKFLOW,
    "agent": Kind.AGENT,
    "tool": Kind.TOOL,
    "task": Kind.SPAN,
}

TABLE = table(
    Rule("call", "request_type", text, ("llm.request.type",)),
    Rule("call", "span_kind", text, ("traceloop.span.kind",)),
    Rule("call", "entity_name", text, ("traceloop.entity.name",)),
    Rule("call", "base_url", text, ("gen_ai.openai.api_base", "llm.openai.api_base")),
    Rule("call", "stream", boolean, ("gen_ai.is_streaming", "llm.is_streaming")),
    Rule("call", "provider", text, ("llm.vendor",)),
    Rule("call", "request_model", text, ("llm.request.model",)),
    Rule("call", "response_model", text, ("llm.response.model",)),
    Rule("call", "input_state", parse_json, ("traceloop.entity.input",)),
    Rule("call", "output_state", parse_json, ("traceloop.entity.output",)),
    Rule(
        "call", "finish_reasons", finish_reasons, ("llm.response.finish_reason", "llm.response.stop_reason")
    ),
    Rule("call", "tools", tools, ("llm.request.functions",)),
    Rule("usage", "total", count, ("llm.usage.total_tokens",)),
    Rule("usage", "cache_read", count, ("llm.usage.cache_read_input_tokens",)),
    Rule("usage", "cache_write", count, ("llm.usage.cache_creation_input_tokens",)),
    Rule("usage", "reasoning", count, ("llm.usage.reasoning_tokens",)),
    Rule("context", "distinct_id", text, (_ASSOCIATION + "user_id", _ASSOCIATION + "userId")),
    Rule("context", "feature", text, (_ASSOCIATION + "feature",)),
    Rule("context", "chat_id", text, (_ASSOCIATION + "chat_id",)),
    Rule("context", "conversation_id", text, (_ASSOCIATION + "session_id", _ASSOCIATION + "conversation_id")),
    prefixes=((_ASSOCIATION, "properties", lambda value: value),),
    base=genai.TABLE,
)

_INDEXED = re.compile(
    r"^(?:gen_ai\.(prompt|completion)|llm\.(prompts|completions))\.(\d{1,4})\."
    r"(role|content|finish_reason|tool_call_id|tool_calls\.(\d{1,3})\.(id|name|arguments))$"
)


def kind_of(parts: Parts) -> Kind:
    """The request's type, the entity's kind, else what the conventions' operation says."""
    call = parts["call"]
    return (
        _REQUEST_TYPES.get(call.pop("request_type", ""))
        or _SPAN_KINDS.get(call.pop("span_kind", ""))
        or genai.kind_of(parts)
    )


def complete(parts: Parts, attributes: Mapping[str, Any]) -> None:
    """Messages from indexed attributes, where there are no others."""
    call = parts["call"]
    found: dict[str, dict[int, dict[str, Any]]] = {"input": {}, "output": {}}
    for name, value in attributes.items():
        if name.startswith(("gen_ai.prompt.", "gen_ai.completion.", "llm.prompts.", "llm.completions.")):
            match = _INDEXED.match(name)
            if match is None:
                continue
            side = "input" if (match[1] or match[2]).startswith("prompt") else "output"
            _put(found[side].setdefault(int(match[3]), {"calls": {}}), match, value)
    for side, by_index in found.items():
        if by_index and not call.get(side):
            role = "user" if side == "input" else "assistant"
            call[side] = [_message(by_index[index], role) for index in sorted(by_index)]


def _put(message: dict[str, Any], match: re.Match[str], value: Any) -> None:
    if match[5] is None:
        message[match[4]] = value
    else:
        message["calls"].setdefault(int(match[5]), {})[match[6]] = value


def _message(raw: dict[str, Any], role: str) -> dict[str, Any]:
    chat = {
        "role": text(raw.get("role")) or role,
        "content": parse_json(raw.get("content"))
        if str(raw.get("content")).startswith("[{")
        else raw.get("content"),
        "tool_call_id": raw.get("tool_call_id"),
        "finish_reason": raw.get("finish_reason"),
        "tool_calls": [
            {
                "id": call.get("id"),
                "function": {"name": call.get("name"), "arguments": call.get("arguments")},
            }
            for _, call in sorted(raw["calls"].items())
        ],
    }
    made = messages([chat], role)
    return made[0] if made else {"role": role, "parts": []}
