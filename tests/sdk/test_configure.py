"""`configure()`, in a process of its own: OpenTelemetry's provider is set once a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from otel_posthog.local import Inbox

BEGIN = """
import os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_posthog import ai_context, configure
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5.1"}
"""
CALL = """
with ai_context(feature="x"):
    trace.get_tracer("app").start_span("chat", attributes=CHAT).end()
"""


def run(code: str, inbox: Inbox) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        env={"PATH": os.environ["PATH"], "POSTHOG_API_KEY": "phc_test", "POSTHOG_HOST": inbox.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_one_call_sets_everything_up_and_a_second_changes_nothing(inbox: Inbox) -> None:
    done = run("assert configure() is configure()" + CALL, inbox)
    assert len(inbox.events("$ai_generation")) == 1
    assert done.stderr == ""


def test_an_existing_provider_is_used(inbox: Inbox) -> None:
    run(
        "mine = TracerProvider(); trace.set_tracer_provider(mine); configure();"
        "assert trace.get_tracer_provider() is mine" + CALL,
        inbox,
    )
    assert inbox.events("$ai_generation")[0]["properties"]["feature"] == "x"


def test_options_of_a_second_call_are_logged_as_ignored(inbox: Inbox) -> None:
    done = run("configure(); configure(events='ai')", inbox)
    assert "ignored: events" in done.stderr


@pytest.mark.parametrize("instrumentor", ["OpenAIInstrumentor", "GeminiInstrumentor"])
def test_both_sdks_are_instrumented(inbox: Inbox, instrumentor: str) -> None:
    code = (
        f"configure(); from instrumentors import {instrumentor} as I;"
        "assert I().is_instrumented_by_opentelemetry"
    )
    run(code, inbox)


def test_its_handle_flushes_and_counts(inbox: Inbox) -> None:
    code = (
        "handle = configure()"
        + CALL
        + "assert handle.force_flush(10_000); assert handle.stats()['spans']['converted'] == 1"
    )
    run(code, inbox)
    assert len(inbox.events()) == 3


def test_what_was_not_flushed_is_sent_when_the_process_ends(inbox: Inbox) -> None:
    run("configure(flush_interval=60)" + CALL, inbox)
    assert len(inbox.events()) == 3
