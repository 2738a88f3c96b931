"""Attributes by which a span shows that it is about a model, an agent or a tool, and in whose words.

A span of concern has at least one of `MARKERS`. A dialect's own markers choose it as the reader of a span;
`is_genai_span` is asked of every span that ends, so it is one set operation for those that are none of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DIALECT_MARKERS", "EVALUATION_EVENT", "MARKERS", "is_genai_span", "looks_like_model_call"]

EVALUATION_EVENT = "gen_ai.evaluation.result"
"""The conventions' event of a score that somebody gave to an answer."""

DIALECT_MARKERS: Mapping[str, frozenset[str]] = {
    "genai": frozenset(
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
    "openllmetry": frozenset(
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
    "openinference": frozenset(
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
    "vercel": frozenset({"ai.operationId", "ai.telemetry.functionId", "ai.model.id", "ai.toolCall.name"}),
    "pydantic_ai": frozenset(
        {
            "pydantic_ai.all_messages",
            "all_messages_events",
            "model_request_parameters",
            "pydantic_ai.variable_instructions",
        }
    ),
    "langfuse": frozenset(
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
    "langsmith": frozenset({"langsmith.span.kind", "langsmith.trace.name", "langsmith.span.id"}),
    "litellm": frozenset({"litellm.call_id", "litellm.provider.model"}),
    "adk": frozenset(
        {
            "gcp.vertex.agent.llm_request",
            "gcp.vertex.agent.llm_response",
            "gcp.vertex.agent.invocation_id",
            "gcp.vertex.agent.event_id",
            "gcp.vertex.agent.tool_call_args",
        }
    ),
}
"""For each dialect, the attributes of its own of which its spans have at least one."""

MARKERS = frozenset().union(*DIALECT_MARKERS.values())


def is_genai_span(attributes: Mapping[str, Any], events: Sequence[Any]) -> bool:
    """Whether a span with these attributes and events (with a `name`) is read at all."""
    if not MARKERS.isdisjoint(attributes):
        return True
    return any(event.name == EVALUATION_EVENT for event in events) if events else False


_SAYS: tuple[tuple[str, frozenset[str]], ...] = (
    ("ai.operationId", frozenset()),
    (
        "gen_ai.operation.name",
        frozenset(
            {"chat", "generate_content", "text_completion", "embeddings", "embedding", "completion"}
            | {
                "interactions.create",
                "realtime_inference",
                "image_generation",
                "image_edit",
                "image_variation",
            }
            | {"transcription", "translation", "speech"}
        ),
    ),
    ("openinference.span.kind", frozenset({"LLM", "EMBEDDING", "DECISION"})),
    ("llm.request.type", frozenset({"chat", "completion", "embedding"})),
    ("traceloop.span.kind", frozenset()),
    ("langfuse.observation.type", frozenset({"generation", "embedding"})),
    ("langsmith.span.kind", frozenset({"llm", "embedding"})),
)
"""Attributes that say what a span is, and what they say of a call to a model."""
_MODELS = frozenset({"gen_ai.request.model", "gen_ai.response.model", "llm.model_name", "llm.request.model"})


def looks_like_model_call(attributes: Mapping[str, Any]) -> bool:
    """Whether a span under way seems to be a call to a model: a quick look, and no more than that."""
    for name, calls in _SAYS:
        said = attributes.get(name)
        if said is not None:
            return said in calls or (
                name == "ai.operationId" and str(said).rpartition(".")[2].startswith("do")
            )
    return not _MODELS.isdisjoint(attributes)
