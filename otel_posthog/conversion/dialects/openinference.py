"""OpenInference (Arize): `llm.*` and `openinference.*` attributes, lists spelt out by number.

Source: Arize-ai/openinference, spec/semantic_conventions.md (2026). Its instrumentors of `openai` and
`google-genai` also write the whole request and response as JSON into `input.value` and `output.value`;
what has no attribute (response id, usage of images, reasons of the Responses API) is read from there.
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
"""`openinference.span.kind`."""

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
    """`openinference.span.kind`; where the SDK dropped it for too many attributes, a model says enough."""
    call = parts["call"]
    said = call.pop("openinference_kind", None)
    if said is not None:
        kind = _KINDS.get(said.upper(), Kind.SPAN)
        # A client of the provider sees agents only where they run there: one call.
        return Kind.GENERATION if kind is Kind.AGENT and _is_client(view) else kind
    if "operation" not in call and (parts["usage"] or call.get("output")):
        return Kind.GENERATION
    return None


def complete(parts: Parts, view: SpanView) -> None:
    """Messages, tools, documents; parameters; the request and response in full."""
    call, attributes = parts["call"], view.attributes
    for name in _INVOCATION:
        asked = parse_json(attributes.get(name))
        if isinstance(asked, dict):
            read_parameters(parts, asked)
    said = listed(attributes, _LISTS)
    for prefix, side, role in zip(_MESSAGES, ("input", "output"), ("user", "assistant"), strict=True):
        keep_richer(call, side, _messages(said.get(prefix, ()), role))
    keep_richer(call, "tools", _inner(said.get("llm.tools.", ()), "tool", "json_schema"))
    keep_richer(call, "embedded", _inner(said.get("embedding.embeddings.", ()), "embedding", "text"))
    _read_documents(call, said, attributes)
    asked, answered = _value(attributes, "input"), _value(attributes, "output")
    if call.get("openinference_kind", "LLM") in {"LLM", "EMBEDDING", "DECISION"}:
        read_payloads(parts, asked, answered)
    if call.get("openinference_kind") == "LLM" or _is_client(view):
        for side, said in (("output", answered), ("input", asked)):
            if not call.get(side):
                keep_richer(call, side, _plain(said, "assistant" if side == "output" else "user"))
    if "Stream" in view.name and _is_client(view):
        call.setdefault("stream", True)
    for event in view.events:
        if event.name == "First Token Stream Event" and event.time_ns >= view.start_ns:
            call.setdefault("stream", True)
            call.setdefault("time_to_first_token", (event.time_ns - view.start_ns) / 1e9)
    if isinstance(metadata := parse_json(attributes.get("metadata")), dict):
        for name, value in metadata.items():
            parts["properties"].setdefault(name, value)
    if not call.get("input") and asked is not None:
        call.setdefault("input_state", asked)
    if not call.get("output") and answered is not None:
        call.setdefault("output_state", answered)


def _value(attributes: Any, side: str) -> Any:
    """`input.value` or `output.value`, parsed where it says that it is JSON."""
    value = attributes.get(side + ".value")
    said = attributes.get(side + ".mime_type")
    return parse_json(value) if said in (None, "application/json") else value


def _is_client(view: SpanView) -> bool:
    """Whether the span is of the client of a provider, and so a call whatever it is called."""
    return (view.scope or "").endswith(".google_genai")


def _plain(said: Any, role: str) -> Any:
    """A text, or the pieces of one."""
    if isinstance(said, list) and said and all(isinstance(each, str) for each in said):
        said = "".join(said)
    return messages([said], role) if isinstance(said, str) and said else None


def _messages(found: Iterable[Any], role: str) -> list[Message]:
    chat = [
        _chat(item["message"])
        for item in found
        if isinstance(item, dict) and isinstance(item.get("message"), dict)
    ]
    return messages(chat, role) or []


def _chat(said: dict[str, Any]) -> dict[str, Any]:
    """A message whose parts each stand under a name of their own, as one of chat completions."""
    calls = [each.get("tool_call", each) for each in dicts(said.get("tool_calls"))]
    contents = [_content(each.get("message_content", each)) for each in dicts(said.get("contents"))]
    content = said.get("content")
    if contents and content is not None:
        contents = (
            [{"type": "text", "text": content}, *contents] if not _is_said(content, contents) else contents
        )
    if said.get("function_call_name"):
        called = {"name": said["function_call_name"], "arguments": said.get("function_call_arguments_json")}
        calls.append({"function": called})
    if said.get("role") == "user" and said.get("tool_call_id"):  # Gemini answers tools as the user
        return {**said, "role": "tool", "content": content}
    return {**said, "content": contents or content, "tool_calls": calls}


def _is_said(content: Any, contents: list[dict[str, Any]]) -> bool:
    return any(each.get("text") == content for each in contents)


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


def _inner(found: Iterable[Any], holder: str, name: str) -> list[Any]:
    """The `name` of each `holder`."""
    made = []
    for item in found:
        inner = item.get(holder) if isinstance(item, dict) else None
        if isinstance(inner, dict) and inner.get(name) is not None:
            made.append(parse_json(inner[name]))
    return made


def _read_documents(call: dict[str, Any], said: dict[str, list[Any]], attributes: Any) -> None:
    def documents(prefix: str) -> list[Any]:
        return [each.get("document", each) for each in dicts(said.get(prefix))]

    found = documents("retrieval.documents.") or documents("reranker.output_documents.")
    if found:
        call["output_state"] = found
    given = documents("reranker.input_documents.")
    query = text(attributes.get("reranker.query"))
    if given or query:
        call["input_state"] = {"query": query, "documents": given}


DIALECT = Dialect("openinference", _RULES, kind_of=kind_of, complete=complete)
