"""What every test may rely on: no key or option of the developer's own, and warnings said afresh."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from otel_posthog import assembly


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "POSTHOG_", "OPENAI_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)
    assembly._said.clear()
    yield
    assembly._said.clear()
