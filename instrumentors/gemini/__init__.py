"""Calls of the `google-genai` package as spans."""

from instrumentors.gemini.instrumentor import GeminiInstrumentor

__all__ = ["GeminiInstrumentor"]
