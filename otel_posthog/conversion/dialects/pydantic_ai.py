"""Pydantic AI and Logfire: the GenAI conventions with names of their own around them.

Source: pydantic/pydantic-ai, models/instrumented.py (instrumentation versions 1 to 6), logfire's provider
integrations, and recordings. A run of an agent holds all its messages and the sum of its calls' tokens, which
is not counted again; Logfire writes the provider's own usage into `gen_ai.usage.raw`.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.dialects.genai import older_messages
from otel_posthog.conversion.model_call import Kind, Message
from otel_posthog.conversion.readers.attribute_values import (
    dicts,
    parse_json,
    read_parameters,
    seconds,
    text,
    texts,
)
from otel_posthog.conversion.readers.messages import messages
from otel_posthog.conversion.readers.provider_payloads import read_payloads, read_usage
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, keep_richer, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_RULES = (
    *rows(
        "call",
        agent_name=(text, "gen_ai.agent.name", "agent_name"),
        request_model=(text, "model_name"),
        input_state=(parse_json, "tool_arguments"),
        output_state=(parse_json, "tool_response", "final_result"),
        pydantic_embedded=(parse_json, "inputs"),
    ),
    *rows("properties", tags=(texts, "logfire.tags")),
)

_TEMPLATES = {
    "Function: ": Kind.TOOL,
    "MCP list tools": Kind.TOOL,
    "Agent run": Kind.AGENT,
    "Handoff": Kind.SPAN,
    "Guardrail": Kind.GUARDRAIL,
    "Turn": Kind.TASK,
    "OpenAI Agents trace": Kind.WORKFLOW,
}
"""Kinds by the beginning of `logfire.msg_template` in Logfire's integration of the OpenAI Agents SDK."""
_CLOSING = "streaming response from"
"""The beginning of the template of the record that ends a stream."""


def kind_of(parts: Parts, view: SpanView) -> Kind | None:
    """Return the kind by the template; a run of an agent is one even if it names a model."""
    attributes = view.attributes
    template = attributes.get("logfire.msg_template")
    if isinstance(template, str) and "operation" not in parts["call"]:
        for beginning, kind in _TEMPLATES.items():
            if template.startswith(beginning):
                return kind
    if "operation" not in parts["call"] and (
        "agent_name" in attributes or "all_messages_events" in attributes
    ):
        return Kind.AGENT
    return None


def complete(parts: Parts, view: SpanView) -> None:
    """Read all messages of a run, the tools of a request, the provider's own usage, metadata."""
    call, attributes = parts["call"], view.attributes
    if "{" in view.name and (name := text(attributes.get("logfire.msg"))):  # an unexpanded template
        call["written_name"] = name
    template = attributes.get("logfire.msg_template")
    if isinstance(template, str) and template.startswith(_CLOSING):
        call["ended_after"] = seconds(attributes.get("duration")) or 0.0
        call["stream"] = True
    elif view.kind == "CLIENT" and view.status != "ERROR" and not parts["usage"] and not call.get("output"):
        call["may_go_on"] = True  # maybe a stream, whose end another record holds
    for name in ("gen_ai.usage.raw", "usage"):
        read_usage(parts, parse_json(attributes.get(name)))
    if (view.scope or "").startswith("logfire."):
        _read_logfire(parts, attributes)
    parameters = parse_json(attributes.get("model_request_parameters"))
    if isinstance(parameters, dict):
        tools = [each for key in ("function_tools", "output_tools") for each in dicts(parameters.get(key))]
        keep_richer(call, "tools", [_tool(each) for each in tools])
    request = parse_json(attributes.get("request_data"))
    if isinstance(request, dict):
        read_parameters(parts, request)
    embedded = call.pop("pydantic_embedded", None)
    if call.get("operation") in {"embeddings", "embedding"}:
        keep_richer(call, "embedded", embedded)
    chat: list[Message] = messages(attributes.get("pydantic_ai.all_messages"), "user") or []
    if not chat and isinstance(logged := parse_json(attributes.get("all_messages_events")), list):
        run: dict[str, Any] = {}
        older_messages(run, dicts(logged))
        chat = [*run.get("input", ()), *run.get("output", ())]
    if chat:
        call.setdefault("input", chat[:-1] or chat)
        call.setdefault("output", [each for each in chat if each["role"] == "assistant"][-1:])
    metadata = parse_json(attributes.get("metadata"))
    if isinstance(metadata, dict):
        for field, names in _CONTEXT.items():
            for name in names:
                if (value := text(metadata.get(name))) is not None:
                    parts["context"].setdefault(field, value)
        for name, value in metadata.items():
            parts["properties"].setdefault(name, value)


def _tool(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition in the conventions' form, without fields that concern Pydantic AI only."""
    tool = {"type": "function", "name": definition.get("name"), "description": definition.get("description")}
    tool["parameters"] = definition.get("parameters_json_schema", definition.get("parameters"))
    return {name: value for name, value in tool.items() if value is not None}


def _read_logfire(parts: Parts, attributes: Any) -> None:
    """Read requests and responses of Logfire's integrations."""
    call = parts["call"]
    raw_input, response = (parse_json(attributes.get(name)) for name in ("raw_input", "response"))
    read_payloads(parts, {"input": raw_input} if isinstance(raw_input, list) else None, response)
    given, result = (parse_json(attributes.get(name)) for name in ("input", "output"))
    if "request_model" in call:
        keep_richer(call, "input", messages(given, "user"))
        keep_richer(call, "output", messages(result, "assistant"))
    elif "mcp_data" in attributes:
        call.setdefault("input_state", given)
        call.setdefault("output_state", result)
        call.setdefault("tool_name", text(attributes.get("name")))
    for name in ("model_settings", "model_config"):
        settings = parse_json(attributes.get(name))
        if isinstance(settings, dict):
            read_parameters(parts, settings)


_CONTEXT = {
    "distinct_id": ("user_id", "userId", "distinct_id"),
    "conversation_id": ("session_id", "sessionId", "conversation_id", "thread_id"),
    "feature": ("feature",),
    "chat_id": ("chat_id",),
}


DIALECT = Dialect("pydantic_ai", _RULES, kind_of=kind_of, complete=complete)
