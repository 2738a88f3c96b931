"""Who serves a model: the conventions' provider names, and older ones, in the words PostHog prices by."""

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
    "aws.bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "mistral_ai": "mistral",
    "x_ai": "xai",
    "moonshot_ai": "moonshot",
    "ibm.watsonx.ai": "watsonx",
}
"""Well-known values of `gen_ai.provider.name` and `gen_ai.system` (GenAI conventions), and what
PostHog's cost lookup knows as aliases (nodejs/src/ingestion/pipelines/ai/costs)."""


@lru_cache(maxsize=256)
def provider_name(reported: str | None) -> str | None:
    """The provider in one word; one that nobody has heard of, in lower case."""
    if reported is None:
        return None
    word = reported.strip().lower()
    return _NAMES.get(word, word) or None
