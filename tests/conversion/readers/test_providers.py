from __future__ import annotations

import pytest

from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.readers.providers import provider_at
from otel_posthog.conversion.span_reader import read_call
from tests.support.spans import make_view

BOOK = PriceBook()
HOSTS = [
    ("api.deepseek.com", "deepseek", "deepseek-chat"),
    ("generativelanguage.googleapis.com", "google", "gemini-2.5-flash"),
    ("api.groq.com", "groq", "llama-3.3-70b-versatile"),
    ("api.x.ai", "xai", "grok-4"),
    ("api.moonshot.ai", "moonshot", "kimi-k2-0905-preview"),
    ("api.mistral.ai", "mistral", "mistral-large-latest"),
    ("api.together.xyz", "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    ("api.fireworks.ai", "fireworks", "accounts/fireworks/models/deepseek-r1-0528"),
    ("openrouter.ai", "openrouter", "openai/gpt-4o"),
    ("ours.openai.azure.com", "azure", "gpt-4o"),
    ("api.openai.com", "openai", "gpt-4o"),
]


@pytest.mark.parametrize(("host", "provider", "model"), HOSTS)
@pytest.mark.parametrize("reported", ["openai", "openai.chat"])
def test_a_call_to_a_known_host_has_its_provider_and_its_price(
    host: str, provider: str, model: str, reported: str
) -> None:
    call = read_call(
        make_view(
            {
                "gen_ai.provider.name": reported,
                "server.address": host,
                "server.port": 443,
                "gen_ai.request.model": model,
                "gen_ai.operation.name": "chat",
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 10,
            }
        )
    )
    assert call.provider == provider
    assert BOOK.cost(call) is not None


@pytest.mark.parametrize(
    ("reported", "url", "provider"),
    [
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "http://api.deepseek.com", "deepseek"),
        (None, "https://openrouter.ai/api/v1", "openrouter"),
        ("openai", "http://localhost:11434/v1", "ollama"),
        ("openai", "127.0.0.1:11434", "ollama"),
        ("openai", "http://vllm:8000/v1", "vllm"),
        ("openai", "http://my-vllm.svc.local:8000", "vllm"),
        ("openai", "http://127.0.0.1:8000", "openai"),
        ("openai", "https://notapi.groq.com.example.com", "openai"),
        ("anthropic", "https://openrouter.ai/api/v1", "anthropic"),
        ("openai", "http://[", "openai"),
        ("openai", None, "openai"),
    ],
)
def test_a_url_names_the_provider_if_only_its_protocol_is_reported(
    reported: str | None, url: str | None, provider: str | None
) -> None:
    assert provider_at(reported, url) == provider


def _cost(model: str, provider: str) -> float | None:
    cost = BOOK.cost(
        read_call(
            make_view(
                {
                    "gen_ai.provider.name": provider,
                    "gen_ai.request.model": model,
                    "gen_ai.operation.name": "chat",
                    "gen_ai.usage.input_tokens": 1_000_000,
                    "gen_ai.usage.output_tokens": 0,
                }
            )
        )
    )
    return None if cost is None else cost.total


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "eu.anthropic.claude-3-5-sonnet-20240620-v1:0",
        "amazon.nova-pro-v1:0",
    ],
)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "litellm"])
def test_a_model_id_of_bedrock_is_priced_as_there(model: str, provider: str) -> None:
    assert _cost(model, provider) == _cost(model, "aws.bedrock") is not None


@pytest.mark.parametrize("provider", ["openai", "litellm"])
def test_a_model_id_of_vertex_is_priced_as_there(provider: str) -> None:
    model = "publishers/google/models/gemini-2.5-flash"
    assert _cost(model, provider) == _cost(model, "gcp.vertex_ai") is not None


def test_a_model_of_a_server_of_ones_own_has_no_price_of_somebody_elses() -> None:
    assert _cost("gpt-oss-120b", "ollama") is None
