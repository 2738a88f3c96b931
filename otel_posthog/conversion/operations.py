"""The operations of GenAI spans; detection, dialects and the allow-list of hidden content use this table."""

from __future__ import annotations

from collections.abc import Mapping

from otel_posthog.conversion.model_call import Kind

__all__ = ["MODEL_CALLS", "OPERATIONS", "SAFE_OPERATIONS"]

OPERATIONS: Mapping[str, Kind] = {
    "chat": Kind.GENERATION,
    "generate_content": Kind.GENERATION,
    "text_completion": Kind.GENERATION,
    "completion": Kind.GENERATION,
    "interactions.create": Kind.GENERATION,
    "realtime_inference": Kind.GENERATION,
    "image_generation": Kind.GENERATION,
    "image_edit": Kind.GENERATION,
    "image_variation": Kind.GENERATION,
    "image_upscale": Kind.GENERATION,
    "image_recontext": Kind.GENERATION,
    "image_segmentation": Kind.GENERATION,
    "transcription": Kind.GENERATION,
    "translation": Kind.GENERATION,
    "speech": Kind.GENERATION,
    "embeddings": Kind.EMBEDDING,
    "embedding": Kind.EMBEDDING,
    "execute_tool": Kind.TOOL,
    "create_agent": Kind.AGENT,
    "invoke_agent": Kind.AGENT,
    "handle_conversation_turn": Kind.AGENT,
    "invoke_workflow": Kind.WORKFLOW,
    "retrieval": Kind.RETRIEVAL,
    "search_memory": Kind.RETRIEVAL,
    "vector_db_retrieve": Kind.RETRIEVAL,
    "rerank": Kind.RERANKER,
    "moderation": Kind.SPAN,
    "fetch_response": Kind.SPAN,  # reads a stored answer: no call
    "plan": Kind.SPAN,
    "agent_step": Kind.TASK,
    "execute_task": Kind.TASK,
}
"""The kind of a span by its `gen_ai.operation.name`: the conventions' names and our instrumentors'."""

_LITELLM = frozenset(
    {"acompletion", "atext_completion", "aembedding", "aimage_generation", "aimage_edit", "atranscription"}
    | {"aspeech", "arerank", "amoderation", "responses", "aresponses", "anthropic_messages"}
)
"""LiteLLM's names for its calls; their kind follows from other attributes."""

MODEL_CALLS = frozenset(name for name, kind in OPERATIONS.items() if kind.is_model_call)
"""Operations that are calls to a model."""

SAFE_OPERATIONS = _LITELLM.union(OPERATIONS, [kind.label for kind in Kind])
"""Operations that may leave if content is hidden; any other name may be a sentence."""
