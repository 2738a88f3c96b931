from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog import PostHogSpanProcessor
from otel_posthog.local import Inbox

Make = Callable[..., tuple[Any, PostHogSpanProcessor]]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A PostHog on loopback that got nothing yet."""
    with Inbox() as inbox:
        yield inbox


@pytest.fixture
def attach(inbox: Inbox) -> Iterator[Make]:
    """Makes a tracer with our processor that sends to the inbox."""
    providers: list[TracerProvider] = []

    def make(sampler: Any = None, **options: Any) -> tuple[Any, PostHogSpanProcessor]:
        options = {"api_key": "phc_test", "endpoint": inbox.url, "flush_interval": 60.0, **options}
        processor = PostHogSpanProcessor(**options)
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        providers.append(provider)
        return provider.get_tracer("tests"), processor

    yield make
    for provider in providers:
        provider.shutdown()
