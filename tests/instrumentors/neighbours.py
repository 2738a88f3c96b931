"""Neighbours: other instrumentors that are on beside ours; the environment names one, and the order."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["BESIDE", "FIRST", "PAIR", "Neighbour", "switch_on"]

VARIABLE = "OTEL_POSTHOG_TEST_NEIGHBOUR"
OF_PAIR = "OTEL_POSTHOG_TEST_PAIR"
"""The variable that names two neighbours to run without ours: `FIRST,SECOND`, in this order."""


class Neighbour(NamedTuple):
    """Another instrumentor, and the SDK that it instruments."""

    sdk: str
    module: str
    name: str
    options: dict[str, Any] = {}


_NEIGHBOURS = {
    "traceloop": Neighbour("openai", "opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    "genai-openai": Neighbour("openai", "opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    "openinference": Neighbour("openai", "openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "logfire": Neighbour("openai", "logfire", "instrument_openai"),
    "official-gemini": Neighbour(
        "gemini",
        "opentelemetry.instrumentation.google_genai",
        "GoogleGenAiSdkInstrumentor",
        {"skip_dep_check": True},
    ),
    "openinference-gemini": Neighbour(
        "gemini", "openinference.instrumentation.google_genai", "GoogleGenAIInstrumentor"
    ),
    "traceloop-gemini": Neighbour(
        "gemini", "opentelemetry.instrumentation.google_generativeai", "GoogleGenerativeAiInstrumentor"
    ),
}

_name, _, _order = os.environ.get(VARIABLE, "").partition(":")
BESIDE = _NEIGHBOURS[_name] if _name else None
FIRST = _order == "before"
PAIR = [name for name in os.environ.get(OF_PAIR, "").split(",") if name]


def switch_on(neighbour: Neighbour | str, provider: Any) -> None:
    """Switch the neighbour on, for spans of this provider."""
    neighbour = _NEIGHBOURS[neighbour] if isinstance(neighbour, str) else neighbour
    with warnings.catch_warnings():  # their imports warn
        warnings.simplefilter("ignore")
        instrumentor = getattr(importlib.import_module(neighbour.module), neighbour.name)
        if neighbour.module == "logfire":
            _logfire(instrumentor, provider)
        else:
            instrumentor().instrument(tracer_provider=provider, **neighbour.options)


def _logfire(instrument: Callable[[], Any], provider: Any) -> None:
    processors = provider._active_span_processor._span_processors
    importlib.import_module("logfire").configure(
        send_to_logfire=False, console=False, metrics=False, additional_span_processors=list(processors)
    )
    instrument()
