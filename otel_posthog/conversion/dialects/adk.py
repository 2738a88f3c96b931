"""Google's Agent Development Kit: the GenAI conventions, and content in `gcp.vertex.agent.*`.

Source: google/adk-python, telemetry/tracing.py, and recordings.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.readers.attribute_values import parse_json, read_parameters, text
from otel_posthog.conversion.readers.messages import messages
from otel_posthog.conversion.readers.provider_payloads import read_payloads, read_usage
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, keep_richer, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_AGENT = "gcp.vertex.agent."

_RULES = (
    *rows(
        "call",
        input_state=(parse_json, _AGENT + "tool_call_args"),
        output_state=(parse_json, _AGENT + "tool_response"),
    ),
    *rows("context", conversation_id=(text, "gen_ai.conversation.id", _AGENT + "session_id")),
)


def kind_of(parts: Parts, view: SpanView) -> Kind | None:
    """Return the kind of a span without an operation: a model call, a tool, or merged responses of tools."""
    call = parts["call"]
    if "operation" in call:
        return None
    if _AGENT + "llm_request" in view.attributes:
        return Kind.GENERATION
    return Kind.TOOL if "tool_name" in call else Kind.SPAN


def complete(parts: Parts, view: SpanView) -> None:
    """Read the request and the response, which are google-genai's objects as JSON."""
    call = parts["call"]
    if len(call.get("output", ())) > 1:
        call["output"] = _joined(call["output"])
    served, _, model = call.get("request_model", "").partition("/")
    if model and call.get("provider") == "gcp.vertex.agent":
        call["provider"] = served  # LiteLLM puts the provider before the model
    request: Any = parse_json(view.attributes.get(_AGENT + "llm_request"))
    response: Any = parse_json(view.attributes.get(_AGENT + "llm_response"))
    if isinstance(request, dict):
        config: Any = request.get("config")
        settings: dict[str, Any] = config if isinstance(config, dict) else {}
        read_parameters(parts, {**settings, "model": request.get("model")})
        instructions = messages(settings.get("system_instruction"), "system") or []
        keep_richer(call, "input", [*instructions, *(messages(request.get("contents"), "user") or ())])
        tools = settings.get("tools")
        keep_richer(call, "tools", tools if isinstance(tools, list) else None)
    if isinstance(response, dict):
        keep_richer(call, "output", _answer(response.get("content")))
        read_usage(parts, response.get("usage_metadata"))
        read_payloads(parts, None, {"candidates": [response]})


def _joined(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one message made of the chunks of a stream, which are messages of their own."""
    if any(chunk.get("finish_reason") for chunk in chunks[:-1]):
        return chunks  # these are choices
    parts: list[Any] = []
    for part in (part for chunk in chunks for part in chunk["parts"]):
        if parts and _is_text(part) and _is_text(parts[-1]):
            parts[-1] = {**parts[-1], "content": parts[-1]["content"] + part["content"]}
        else:
            parts.append(part)
    return [{**chunks[-1], "parts": parts}]


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("content"), str)


def _answer(content: Any) -> Any:
    return messages([content], "assistant") if isinstance(content, dict) else None


DIALECT = Dialect("adk", _RULES, kind_of=kind_of, complete=complete)
