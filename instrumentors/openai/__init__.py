"""The instrumentor of the `openai` package."""

from instrumentors.openai.instrumentor import OpenAIInstrumentor

__all__ = ["OpenAIInstrumentor"]
