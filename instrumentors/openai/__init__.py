"""Calls of the `openai` package as spans."""

from instrumentors.openai.instrumentor import OpenAIInstrumentor

__all__ = ["OpenAIInstrumentor"]
