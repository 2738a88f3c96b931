"""Names of the providers that serve models: every dialect's names in the words that PostHog prices by."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["provider_name"]

_NAMES = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "az.ai.openai": "azure",
    "az.ai.inference": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "google_generative_ai": "google",
    "google.generative-ai": "google",
    "gcp.vertex_ai": "vertex",
    "vertex_ai": "vertex",
    "google-vertex": "vertex",
    "google_vertexai": "vertex",
    "google_vertex": "vertex",
    "vertexai": "vertex",
    "vertex": "vertex",
    "google.vertex": "vertex",
    "vertex.anthropic": "vertex",
    "google-gla": "google",
    "google-genai": "google",
    "google-generativeai": "google",
    "google_generativeai": "google",
    "google_ai_studio": "google",
    "gcp.vertex.agent": "google",
    "aws.bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "amazon-bedrock": "bedrock",
    "amazon_bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "aws": "bedrock",
    "azure_openai": "azure",
    "azure-openai": "azure",
    "azure_ai": "azure",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "fireworks_ai": "fireworks",
    "together_ai": "together",
    "cohere_v2": "cohere",
    "x_ai": "xai",
    "moonshot_ai": "moonshot",
    "ibm.watsonx.ai": "watsonx",
}
"""Well-known values of `gen_ai.provider.name` and `gen_ai.system` (GenAI conventions), and the aliases of
PostHog's cost lookup (nodejs/src/ingestion/pipelines/ai/costs)."""


_INTERFACES = frozenset(
    {
        "chat",
        "responses",
        "completion",
        "completions",
        "embedding",
        "embeddings",
        "messages",
        "image",
        "speech",
    }
    | {"transcription", "generative-ai", "rerank", "reranking", "textembedding", "interactions"}
)
"""Suffixes that the Vercel AI SDK adds to a provider's name: `openai.responses`, `google.generative-ai`."""


@lru_cache(maxsize=256)
def provider_name(reported: str | None) -> str | None:
    """Return the provider in one word; an unknown one in lower case."""
    if reported is None:
        return None
    word = reported.strip().lower()
    while word not in _NAMES and word.rpartition(".")[2] in _INTERFACES and "." in word:
        word = word.rpartition(".")[0]
    return _NAMES.get(word, word) or None
