"""Processes that begin, fork and end in every way, against a PostHog on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_posthog.local import Inbox
from tests.delivery.capture_server import CaptureServer
from tests.support.paths import ROOT

PRELUDE = """
import os, signal, sys, threading, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_posthog import PostHogSpanExporter, PostHogSpanProcessor, configure

def spans(count, who="main"):
    for number in range(count):
        trace.get_tracer("app").start_span(
            "chat",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "posthog.property.who": who,
                "posthog.property.number": number,
            },
        ).end()
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """An empty PostHog on loopback."""
    with Inbox() as running:
        yield running


def environment(inbox: Inbox | CaptureServer | None, **options: str) -> dict[str, str]:
    """Return the environment of a process: AI events only, and their destination."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
        "POSTHOG_API_KEY": "phc_test",
        "POSTHOG_HOST": inbox.url if inbox is not None else "http://127.0.0.1:9",
        "OTEL_EXPORTER_POSTHOG_EVENTS": "ai",
        **{f"OTEL_EXPORTER_POSTHOG_{name.upper()}": value for name, value in options.items()},
    }


@pytest.fixture
def run(inbox: Inbox) -> Run:
    """A function that runs code after `PRELUDE` in a process of its own."""

    def run_code(
        code: str, *, returncode: int = 0, to: Inbox | CaptureServer | None = inbox, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + code],
            env=environment(to, **options),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == returncode, done.stderr
        return done

    return run_code


def arrived(inbox: Inbox) -> dict[str, int]:
    """Return how many different spans of each sender arrived; each of them once."""
    events = inbox.events("$ai_generation")
    assert {event["_inbox"]["copies"] for event in events} <= {1}
    return dict(Counter(event["properties"]["who"] for event in events))
