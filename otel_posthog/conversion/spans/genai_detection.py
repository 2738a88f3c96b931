"""The attributes by which a span shows that it is about a model, an agent or a tool, and in which dialect.

A GenAI span has at least one of `MARKERS`. `is_genai_span` is called for every span that ends, so it is one
set operation for a span that has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from otel_posthog.conversion.operations import MODEL_CALLS

__all__ = [
    "EVALUATION_EVENT",
    "MARKERS",
    "NO_SIGNATURE",
    "SIGNATURES",
    "becomes_genai_span",
    "is_genai_span",
    "looks_like_model_call",
]

EVALUATION_EVENT = "gen_ai.evaluation.result"
"""The conventions' event of a score that somebody gave to an answer."""


class Signature(NamedTuple):
    """The marks of one dialect."""

    title: str
    """Its heading in docs/dialects.md."""
    markers: frozenset[str]
    """Attributes of its own, of which each of its spans has at least one."""
    scopes: re.Pattern[str] | None = None
    """Scopes whose spans are in the dialect even without a marker."""


NO_SIGNATURE = Signature("", frozenset())
"""The signature of a dialect that has none yet: a test names the place, and no span is in that dialect."""

SIGNATURES: Mapping[str, Signature] = {
    "genai": Signature(
        "OpenTelemetry's GenAI conventions, and our own instrumentors",
        frozenset(
            {
                "gen_ai.operation.name",
                "gen_ai.provider.name",
                "gen_ai.system",
                "gen_ai.request.model",
                "gen_ai.response.model",
                "gen_ai.agent.name",
                "gen_ai.agent.id",
                "gen_ai.tool.name",
                "gen_ai.workflow.name",
                "gen_ai.usage.input_tokens",
                "gen_ai.usage.output_tokens",
                "gen_ai.usage.prompt_tokens",
                "gen_ai.usage.completion_tokens",
                "gen_ai.input.messages",
                "gen_ai.output.messages",
                "gen_ai.prompt",
                "gen_ai.completion",
                "gen_ai.evaluation.name",
            }
        ),
    ),
    "openllmetry": Signature(
        "OpenLLMetry (Traceloop), Python and JavaScript",
        frozenset(
            {
                "llm.request.type",
                "traceloop.span.kind",
                "traceloop.entity.name",
                "gen_ai.prompt.0.role",
                "gen_ai.prompt.0.content",
                "gen_ai.completion.0.role",
                "gen_ai.completion.0.content",
                "gen_ai.is_streaming",
                "llm.is_streaming",
                "llm.request.model",
                "llm.response.model",
                "llm.vendor",
                "llm.prompts.0.role",
                "llm.prompts.0.content",
                "llm.prompts.0.user",
                "llm.completions.0.content",
            }
        ),
        re.compile(
            r"^(?:opentelemetry\.instrumentation\.(?!genai|openai_v2|google_genai|vertexai|anthropic_v2)|@?traceloop)"
        ),
    ),
    "openinference": Signature(
        "OpenInference (Arize)",
        frozenset(
            {
                "openinference.span.kind",
                "llm.model_name",
                "llm.token_count.prompt",
                "llm.token_count.total",
                "llm.output_messages.0.message.role",
                "llm.output_messages.0.message.content",
                "embedding.model_name",
                "retrieval.documents.0.document.content",
                "reranker.model_name",
            }
        ),
        re.compile(r"^openinference\.|^@arizeai/openinference"),
    ),
    "vercel": Signature(
        "Vercel AI SDK, versions 4 to 7",
        frozenset({"ai.operationId", "ai.telemetry.functionId", "ai.model.id", "ai.toolCall.name"}),
        re.compile(r"^(?:ai|gen_ai)$"),
    ),
    "pydantic_ai": Signature(
        "Pydantic AI and Logfire",
        frozenset(
            {
                "pydantic_ai.all_messages",
                "all_messages_events",
                "model_request_parameters",
                "pydantic_ai.variable_instructions",
            }
        ),
        re.compile(r"^(?:pydantic[-_]ai|logfire)"),
    ),
    "langfuse": Signature(
        "Langfuse",
        frozenset(
            {
                "langfuse.observation.type",
                "langfuse.observation.input",
                "langfuse.observation.output",
                "langfuse.observation.model.name",
                "langfuse.trace.name",
                "langfuse.trace.input",
                "langfuse.trace.output",
            }
        ),
        re.compile(r"^langfuse"),
    ),
    "langsmith": Signature(
        "LangSmith", frozenset({"langsmith.span.kind", "langsmith.trace.name", "langsmith.span.id"})
    ),
    "litellm": Signature(
        "LiteLLM", frozenset({"litellm.call_id", "litellm.provider.model"}), re.compile(r"^litellm")
    ),
    "adk": Signature(
        "Google ADK",
        frozenset(
            {
                "gcp.vertex.agent.llm_request",
                "gcp.vertex.agent.llm_response",
                "gcp.vertex.agent.invocation_id",
                "gcp.vertex.agent.event_id",
                "gcp.vertex.agent.tool_call_args",
            }
        ),
        re.compile(r"^gcp\.vertex\.agent$"),
    ),
}
"""By the name of the dialect."""

MARKERS = frozenset().union(*(signature.markers for signature in SIGNATURES.values()))


@lru_cache(maxsize=256)
def becomes_genai_span(scope: str) -> bool:
    """Whether every span of the scope is a GenAI span, even one that shows it only at its end.

    OpenInference sets the attributes of many spans when they end. Their children are sent before that, and
    must know them as their ancestors.
    """
    scopes = SIGNATURES["openinference"].scopes
    return scopes is not None and scopes.search(scope) is not None


def is_genai_span(attributes: Mapping[str, Any], events: Sequence[Any]) -> bool:
    """Whether a span with these attributes and events (with a `name`) is a GenAI span."""
    if not MARKERS.isdisjoint(attributes):
        return True
    return any(event.name == EVALUATION_EVENT for event in events) if events else False


_KIND_ATTRIBUTES: tuple[tuple[str, frozenset[str]], ...] = (
    ("ai.operationId", frozenset()),
    ("gen_ai.operation.name", MODEL_CALLS),
    ("openinference.span.kind", frozenset({"LLM", "EMBEDDING", "DECISION"})),
    ("llm.request.type", frozenset({"chat", "completion", "embedding"})),
    ("traceloop.span.kind", frozenset()),
    ("langfuse.observation.type", frozenset({"generation", "embedding"})),
    ("langsmith.span.kind", frozenset({"llm", "embedding"})),
)
"""Attributes that name the kind of a span, and their values for a call to a model."""
_MODELS = frozenset({"gen_ai.request.model", "gen_ai.response.model", "llm.model_name", "llm.request.model"})


def looks_like_model_call(attributes: Mapping[str, Any]) -> bool:
    """Whether a running span seems to be a call to a model: a quick guess from a few attributes."""
    for name, model_calls in _KIND_ATTRIBUTES:
        kind = attributes.get(name)
        if kind is not None:
            return kind in model_calls or (
                name == "ai.operationId" and str(kind).rpartition(".")[2].startswith("do")
            )
    return not _MODELS.isdisjoint(attributes)
