"""The public names, and the cost of importing them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import instrumentors
import otel_posthog


def test_the_public_names_are_these() -> None:
    assert sorted(otel_posthog.__all__) == [
        "ContextThreadPoolExecutor",
        "PostHogSpanExporter",
        "PostHogSpanProcessor",
        "__version__",
        "ai_context",
        "capture_feedback",
        "capture_metric",
        "configure",
        "current_trace_id",
        "update_ai_context",
    ]
    assert sorted(instrumentors.__all__) == ["GeminiInstrumentor", "OpenAIInstrumentor"]


def test_a_public_name_is_loaded_when_it_is_first_used() -> None:
    code = (
        "import sys, otel_posthog; sdk = 'opentelemetry.sdk.trace'; "
        "assert sdk not in sys.modules and 'configure' in dir(otel_posthog); "
        "otel_posthog.PostHogSpanExporter; assert sdk in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = otel_posthog.nothing  # type: ignore[attr-defined]


def test_importing_it_loads_nothing_slow() -> None:
    code = (
        "import sys, instrumentors; from otel_posthog import *; "
        "configure, PostHogSpanExporter; print('\\n'.join(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    slow = {"genai_prices", "google.genai", "openai", "posthog", "pydantic", "requests", "httpx2", "sqlite3"}
    assert slow.intersection(loaded) == set()
