"""Names of the providers that serve models: every dialect's names in the words that PostHog prices by."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

__all__ = ["provider_at", "provider_name"]

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


_HOSTS = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "azure-api.net": "azure",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "vertex",
    "amazonaws.com": "bedrock",
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.x.ai": "xai",
    "api.moonshot.ai": "moonshot",
    "api.moonshot.cn": "moonshot",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.cerebras.ai": "cerebras",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.novita.ai": "novita",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "inference.baseten.co": "baseten",
    "cloud.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "gcp.databricks.com": "databricks",
    "api.doubleword.ai": "doubleword",
    "elevenlabs.io": "elevenlabs",
    "api.githubcopilot.com": "github-copilot",
    "api.meta.ai": "meta",
    "modal.run": "modal",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "api.voyageai.com": "voyageai",
    "api.cloudflare.com": "cloudflare",
    "router.huggingface.co": "huggingface",
    "ai-gateway.vercel.sh": "vercel",
    "dashscope.aliyuncs.com": "dashscope",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "api.deepinfra.com": "deepinfra",
    "integrate.api.nvidia.com": "nvidia",
    "api.sambanova.ai": "sambanova",
    "api.studio.nebius.com": "nebius",
    "api.hyperbolic.xyz": "hyperbolic",
    "ollama.com": "ollama",
}
"""The services that speak OpenAI's protocol, by the end of their host."""
_PORTS = {11434: "ollama", 1234: "lmstudio"}
_SERVERS = ("ollama", "vllm", "lmstudio", "sglang")
"""The servers of open models, which people run on hosts of such names."""
_SPEAKS_FOR_OTHERS = frozenset({None, "openai", "openai_compatible", "openai-compatible", "openai_like"})
"""The names under which instrumentors report whatever speaks OpenAI's protocol."""


def provider_at(provider: str | None, base_url: str | None) -> str | None:
    """Return the provider whose server has this URL if the reported one may only be its protocol's."""
    if base_url is None or provider not in _SPEAKS_FOR_OTHERS:
        return provider
    return _provider_of_url(base_url) or provider


@lru_cache(maxsize=256)
def _provider_of_url(base_url: str) -> str | None:
    try:
        url = urlsplit(base_url if "://" in base_url else f"//{base_url}")
        host, port = (url.hostname or "").rstrip("."), url.port
    except ValueError:
        return None
    end = host
    while end:
        if end in _HOSTS:
            return _HOSTS[end]
        end = end.partition(".")[2]
    labels = host.split(".")[0].split("-")
    return _PORTS.get(port or 0) or next((name for name in _SERVERS if name in labels), None)
