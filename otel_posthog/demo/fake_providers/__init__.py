"""Fake OpenAI and Gemini services on loopback: both wires, streaming included, canned answers.

The demo and the tests talk to them through the real `openai` and `google-genai` clients when no key is set. A
model that ends in ``-unavailable`` (503) or ``-limited`` (429), or a prompt that holds ``[[503]]`` or
``[[429]]``, fails in the words of the real service.
"""

from otel_posthog.demo.fake_providers.server import FakeProviders

__all__ = ["FakeProviders"]
