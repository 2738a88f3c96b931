"""The instrumentor of the `google-genai` package."""

from instrumentors.gemini.instrumentor import GeminiInstrumentor

__all__ = ["GeminiInstrumentor"]
