"""OpenInference (Arize): `llm.*` and `openinference.*` attributes, lists spelt out by index.

Source: Arize-ai/openinference, spec/semantic_conventions.md (2026). Its instrumentors of `openai` and
`google-genai` also write the whole request and response as JSON into `input.value` and `output.value`; we
read from there the values without an attribute (response id, usage of images, reasons of the Responses API).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otel_posthog.conversion.model_call import Kind, Message
from otel_posthog.conversion.readers.attribute_values import (
    count,
    dicts,
    dollars,
    finish_reasons,
    parse_json,
    read_parameters,
    text,
    texts,
)
from otel_posthog.conversion.readers.indexed_attributes import listed
from otel_posthog.conversion.readers.messages import messages
from otel_posthog.conversion.readers.provider_payloads import read_payloads
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, keep_richer, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_KINDS = {
    "LLM": Kind.GENERATION,
    "DECISION": Kind.GENERATION,
    "EMBEDDING": Kind.EMBEDDING,
    "AGENT": Kind.AGENT,
    "CHAIN": Kind.CHAIN,
    "TOOL": Kind.TOOL,
    "RETRIEVER": Kind.RETRIEVAL,
    "RERANKER": Kind.RERANKER,
    "GUARDRAIL": Kind.GUARDRAIL,
    "EVALUATOR": Kind.EVALUATOR,
    "PROMPT": Kind.SPAN,
    "UNKNOWN": Kind.SPAN,
}
"""Kinds by `openinference.span.kind`."""

_TOKENS = "llm.token_count."

_RULES = (
    *rows(
        "call",
        openinference_kind=(text, "openinference.span.kind"),
        provider=(text, "llm.provider", "llm.system", "decision.system"),
        response_model=(
            text,
            "llm.response.model_name",
            "llm.model_name",
            "embedding.model_name",
            "decision.response.model_name",
        ),
        request_model=(text, "llm.request.model_name", "decision.request.model_name", "reranker.model_name"),
        finish_reasons=(finish_reasons, "llm.finish_reason"),
        agent_name=(text, "agent.name"),
        tool_name=(text, "tool.name"),
        prompt_name=(text, "llm.prompt_template.name"),
        prompt_version=(text, "llm.prompt_template.version"),
        cost_usd=(dollars, "llm.cost.total"),
        input_cost_usd=(dollars, "llm.cost.prompt"),
        output_cost_usd=(dollars, "llm.cost.completion"),
        tools=(lambda value: parse_json(value) if isinstance(value, str) else None, "llm.tools"),
    ),
    *rows(
        "usage",
        input=(count, _TOKENS + "prompt", "decision.token_count.input"),
        output=(count, _TOKENS + "completion", "decision.token_count.output"),
        total=(count, _TOKENS + "total"),
        cache_read=(count, _TOKENS + "prompt_details.cache_read"),
        cache_write=(count, _TOKENS + "prompt_details.cache_write"),
        reasoning=(count, _TOKENS + "completion_details.reasoning"),
        input_audio=(count, _TOKENS + "prompt_details.audio"),
        output_audio=(count, _TOKENS + "completion_details.audio"),
    ),
    *rows(
        "context",
        conversation_id=(text, "session.id"),
        distinct_id=(text, "user.id"),
    ),
    *rows("properties", tags=(texts, "tag.tags")),
)

_INVOCATION = (
    "llm.invocation_parameters",
    "embedding.invocation_parameters",
    "reranker.invocation_parameters",
)
_MESSAGES = ("llm.input_messages.", "llm.output_messages.")
_LISTS = (
    *_MESSAGES,
    "llm.tools.",
    "embedding.embeddings.",
    "retrieval.documents.",
    "reranker.input_documents.",
    "reranker.output_documents.",
)


def kind_of(parts: Parts, view: SpanView) -> Kind | None:
    """Return the kind by `openinference.span.kind`.

    If the SDK dropped that attribute for too many attributes, usage or output make the span a model call.
    """
    call = parts["call"]
    name = call.pop("openinference_kind", None)
    if name is not None:
        kind = _KINDS.get(name.upper(), Kind.SPAN)
        # A client of the provider sees only agents that run at the provider: one call.
        return Kind.GENERATION if kind is Kind.AGENT and _is_client(view) else kind
    if "operation" not in call and (parts["usage"] or call.get("output")):
        return Kind.GENERATION
    return None


def complete(parts: Parts, view: SpanView) -> None:
    """Read messages, tools, documents; parameters; the whole request and response."""
    call, attributes = parts["call"], view.attributes
    for name in _INVOCATION:
        parameters = parse_json(attributes.get(name))
        if isinstance(parameters, dict):
            read_parameters(parts, parameters)
    lists = listed(attributes, _LISTS)
    for prefix, side, role in zip(_MESSAGES, ("input", "output"), ("user", "assistant"), strict=True):
        keep_richer(call, side, _messages(lists.get(prefix, ()), role))
    keep_richer(call, "tools", _inner(lists.get("llm.tools.", ()), "tool", "json_schema"))
    keep_richer(call, "embedded", _inner(lists.get("embedding.embeddings.", ()), "embedding", "text"))
    _read_documents(call, lists, attributes)
    request, response = _value(attributes, "input"), _value(attributes, "output")
    if call.get("openinference_kind", "LLM") in {"LLM", "EMBEDDING", "DECISION"}:
        read_payloads(parts, request, response)
    if call.get("openinference_kind") == "LLM" or _is_client(view):
        for side, payload in (("output", response), ("input", request)):
            if not call.get(side):
                role = "assistant" if side == "output" else "user"
                keep_richer(call, side, _text_messages(payload, role))
    if "Stream" in view.name and _is_client(view):
        call.setdefault("stream", True)
    for event in view.events:
        if event.name == "First Token Stream Event" and event.time_ns >= view.start_ns:
            call.setdefault("stream", True)
            call.setdefault("time_to_first_token", (event.time_ns - view.start_ns) / 1e9)
    if isinstance(metadata := parse_json(attributes.get("metadata")), dict):
        for name, value in metadata.items():
            parts["properties"].setdefault(name, value)
    if not call.get("input") and request is not None:
        call.setdefault("input_state", request)
    if not call.get("output") and response is not None:
        call.setdefault("output_state", response)


def _value(attributes: Any, side: str) -> Any:
    """Return `input.value` or `output.value`, parsed unless its MIME type is not JSON."""
    value = attributes.get(side + ".value")
    mime = attributes.get(side + ".mime_type")
    return parse_json(value) if mime in (None, "application/json") else value


def _is_client(view: SpanView) -> bool:
    """Whether the span is of a provider's client, and so a call, whatever its name."""
    return (view.scope or "").endswith(".google_genai")


def _text_messages(value: Any, role: str) -> Any:
    """Return one message of a text or of the pieces of a text; None for anything else."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        value = "".join(value)
    return messages([value], role) if isinstance(value, str) and value else None


def _messages(items: Iterable[Any], role: str) -> list[Message]:
    chat = [
        _chat(item["message"])
        for item in items
        if isinstance(item, dict) and isinstance(item.get("message"), dict)
    ]
    return messages(chat, role) or []


def _chat(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose parts each have a name of their own in the form of chat completions."""
    calls = [each.get("tool_call", each) for each in dicts(raw.get("tool_calls"))]
    contents = [_content(each.get("message_content", each)) for each in dicts(raw.get("contents"))]
    content = raw.get("content")
    if contents and content is not None and all(each.get("text") != content for each in contents):
        contents = [{"type": "text", "text": content}, *contents]
    if raw.get("function_call_name"):
        function = {"name": raw["function_call_name"], "arguments": raw.get("function_call_arguments_json")}
        calls.append({"function": function})
    if raw.get("role") == "user" and raw.get("tool_call_id"):  # Gemini's form of a tool's response
        return {**raw, "role": "tool", "content": content}
    return {**raw, "content": contents or content, "tool_calls": calls}


def _content(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    image = part.get("image")
    if isinstance(image, dict):  # `message_content.image.image.url`
        return {"type": "image", "image": image.get("image", image)}
    audio = part.get("audio")
    if isinstance(audio, dict):
        inner = audio.get("audio", audio)
        mime = inner.get("mime_type") if isinstance(inner, dict) else None
        return (
            {"type": "file", "url": inner.get("url"), "mime_type": mime} if isinstance(inner, dict) else part
        )
    return part


def _inner(items: Iterable[Any], holder: str, name: str) -> list[Any]:
    """Return the field `name` of the object `holder` in each item."""
    values = []
    for item in items:
        inner = item.get(holder) if isinstance(item, dict) else None
        if isinstance(inner, dict) and inner.get(name) is not None:
            values.append(parse_json(inner[name]))
    return values


def _read_documents(call: dict[str, Any], lists: dict[str, list[Any]], attributes: Any) -> None:
    def documents(prefix: str) -> list[Any]:
        return [each.get("document", each) for each in dicts(lists.get(prefix))]

    retrieved = documents("retrieval.documents.") or documents("reranker.output_documents.")
    if retrieved:
        call["output_state"] = retrieved
    candidates = documents("reranker.input_documents.")
    query = text(attributes.get("reranker.query"))
    if candidates or query:
        call["input_state"] = {"query": query, "documents": candidates}


DIALECT = Dialect("openinference", _RULES, kind_of=kind_of, complete=complete)
