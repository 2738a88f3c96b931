"""What is public, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import instrumentors
import otel_posthog


def test_the_public_names_are_these() -> None:
    assert sorted(otel_posthog.__all__) == [
        "PostHogSpanExporter",
        "PostHogSpanProcessor",
        "__version__",
        "ai_context",
        "configure",
    ]
    assert sorted(instrumentors.__all__) == ["GeminiInstrumentor", "OpenAIInstrumentor"]


def test_importing_it_loads_nothing_slow() -> None:
    code = "import sys, otel_posthog, instrumentors; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    slow = {"genai_prices", "google.genai", "openai", "posthog", "pydantic", "requests", "httpx2", "sqlite3"}
    assert slow.intersection(loaded) == set()
