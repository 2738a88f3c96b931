"""Google's Agent Development Kit: the GenAI conventions, with `gcp.vertex.agent.*` for what was said.

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
    """A request to the model has one; merged answers of tools are a span."""
    call = parts["call"]
    if "operation" in call:
        return None
    if _AGENT + "llm_request" in view.attributes:
        return Kind.GENERATION
    return Kind.TOOL if "tool_name" in call else Kind.SPAN


def complete(parts: Parts, view: SpanView) -> None:
    """The request and response, which are google-genai's objects as JSON."""
    call = parts["call"]
    if len(call.get("output", ())) > 1:
        call["output"] = _joined(call["output"])
    served, _, model = call.get("request_model", "").partition("/")
    if model and call.get("provider") == "gcp.vertex.agent":
        call["provider"] = served  # LiteLLM's way to name a model
    asked: Any = parse_json(view.attributes.get(_AGENT + "llm_request"))
    answered: Any = parse_json(view.attributes.get(_AGENT + "llm_response"))
    if isinstance(asked, dict):
        config: Any = asked.get("config")
        settings: dict[str, Any] = config if isinstance(config, dict) else {}
        read_parameters(parts, {**settings, "model": asked.get("model")})
        said = messages(settings.get("system_instruction"), "system") or []
        keep_richer(call, "input", [*said, *(messages(asked.get("contents"), "user") or ())])
        offered = settings.get("tools")
        keep_richer(call, "tools", offered if isinstance(offered, list) else None)
    if isinstance(answered, dict):
        keep_richer(call, "output", _answer(answered.get("content")))
        read_usage(parts, answered.get("usage_metadata"))
        read_payloads(parts, None, {"candidates": [answered]})


def _joined(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One message of the chunks of a stream, each of which is told as one."""
    if any(message.get("finish_reason") for message in said[:-1]):
        return said  # these are choices
    parts: list[Any] = []
    for part in (part for message in said for part in message["parts"]):
        if parts and _is_text(part) and _is_text(parts[-1]):
            parts[-1] = {**parts[-1], "content": parts[-1]["content"] + part["content"]}
        else:
            parts.append(part)
    return [{**said[-1], "parts": parts}]


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("content"), str)


def _answer(content: Any) -> Any:
    return messages([content], "assistant") if isinstance(content, dict) else None


DIALECT = Dialect("adk", _RULES, kind_of=kind_of, complete=complete)
