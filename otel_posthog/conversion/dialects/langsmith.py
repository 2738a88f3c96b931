"""LangSmith's OpenTelemetry exporter: `langsmith.*` beside the GenAI conventions.

Source: langsmith-sdk, python/langsmith/_internal/otel/_otel_exporter.py (0.14), and recordings. Inputs and
outputs of a run are JSON in `gen_ai.prompt` and `gen_ai.completion`.
"""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.readers.attribute_values import (
    anything,
    boolean,
    parse_json,
    parse_written,
    read_parameters,
    text,
    texts,
)
from otel_posthog.conversion.readers.messages import messages
from otel_posthog.conversion.readers.provider_payloads import read_payloads, read_usage
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, keep_richer, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_KINDS = {
    "llm": Kind.GENERATION,
    "embedding": Kind.EMBEDDING,
    "chain": Kind.CHAIN,
    "tool": Kind.TOOL,
    "retriever": Kind.RETRIEVAL,
    "prompt": Kind.SPAN,
    "parser": Kind.SPAN,
}
"""Kinds by `langsmith.span.kind`, the type of the run."""
_META = "langsmith.metadata."


def _tags(value: Any) -> list[str] | None:
    """Return tags that are one text, `a, b`, or a list."""
    return (
        [each.strip() for each in value.split(",") if each.strip()]
        if isinstance(value, str)
        else texts(value)
    )


_RULES = (
    *rows(
        "call",
        run=(text, "langsmith.span.kind"),
        stream=(boolean, "langsmith.request.streaming"),
        provider=(text, _META + "ls_provider"),
        request_model=(text, _META + "ls_model_name"),
    ),
    *rows(
        "context",
        conversation_id=(text, _META + "session_id", _META + "thread_id", _META + "conversation_id"),
        distinct_id=(text, _META + "user_id"),
        feature=(text, _META + "feature"),
        chat_id=(text, _META + "chat_id"),
    ),
    *rows(
        "properties",
        trace_name=(text, "langsmith.trace.name"),
        tags=(_tags, "langsmith.span.tags"),
        project=(text, "langsmith.trace.session_name"),
    ),
)

_USAGE = "gen_ai.usage."
_TOKEN_DETAILS = ("input_token_details", "output_token_details")
"""LangChain's dictionaries, as `str` writes them."""


def kind_of(parts: Parts, _view: SpanView) -> Kind | None:
    """Return the kind by the type of the run."""
    run = parts["call"].pop("run", None)
    return None if run is None else _KINDS.get(run.lower(), Kind.SPAN)


def complete(parts: Parts, view: SpanView) -> None:
    """Read a run's inputs and outputs: request and response of a model call, else states."""
    call, attributes = parts["call"], view.attributes
    request, response = (parse_json(attributes.get(name)) for name in ("gen_ai.prompt", "gen_ai.completion"))
    if call.get("run") in {"llm", "embedding"}:
        for side, payload in (("input", request), ("output", response)):
            if isinstance(payload, dict):  # not a message, but arguments or result of the function
                call.pop(side, None)
        read_payloads(parts, request, response)
        if isinstance(request, dict):
            read_parameters(parts, request)
        read_usage(parts, parse_json(attributes.get(_META + "usage_metadata")))
        read_usage(parts, {name: parse_written(attributes.get(_USAGE + name)) for name in _TOKEN_DETAILS})
        if not call.get("output") and isinstance(response, dict):
            keep_richer(call, "output", messages(response.get("output"), "assistant"))
        if call["run"] == "embedding" and isinstance(request, dict):
            call.setdefault("embedded", request.get("input", request.get("texts", request.get("text"))))
    elif "run" in call:
        for side, payload in (("input", request), ("output", response)):
            call.pop(side, None)
            if payload is not None:
                call.setdefault(side + "_state", payload)


DIALECT = Dialect(
    "langsmith",
    _RULES,
    prefixes=((_META, "properties", anything),),
    kind_of=kind_of,
    complete=complete,
)
