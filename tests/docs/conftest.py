"""The providers that the blocks of the pages call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_posthog.demo.fake_providers import FakeProviders


@pytest.fixture
def providers() -> Iterator[FakeProviders]:
    with FakeProviders(latency=0) as providers:
        yield providers
