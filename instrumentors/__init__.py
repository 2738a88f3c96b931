"""Instrumentors that turn calls to OpenAI and Gemini into OpenTelemetry GenAI spans.

They need OpenTelemetry's API alone and work with any exporter. Neither SDK is imported until its instrumentor
is asked to instrument.
"""

from instrumentors.gemini.instrumentor import GeminiInstrumentor
from instrumentors.openai.instrumentor import OpenAIInstrumentor

__all__ = ["GeminiInstrumentor", "OpenAIInstrumentor"]
