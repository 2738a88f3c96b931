"""Tasks of the real Celery run in the context of their sender, through a broker's message."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from celery.contrib.testing.worker import start_worker

from otel_posthog import ai_context
from otel_posthog.frameworks.celery import carry_ai_context
from otel_posthog.sdk.context.ai_context import current_attributes


@pytest.fixture(scope="module")
def app() -> Iterator[celery.Celery]:
    worker_app = celery.Celery("chat", broker="memory://", backend="cache+memory://")
    carry_ai_context()

    @worker_app.task(name="ask")  # type: ignore[untyped-decorator]
    def ask() -> dict[str, Any]:
        return dict(current_attributes())

    @worker_app.task(name="ask_on")  # type: ignore[untyped-decorator]
    def ask_on() -> str:
        return str(worker_app.tasks["ask"].delay().id)

    root = logging.getLogger()
    before = root.level, root.handlers[:]
    with start_worker(worker_app, pool="threads", perform_ping_check=False, shutdown_timeout=30):
        root.level, root.handlers = before  # a worker takes them for itself, from all tests after this
        root.setLevel(before[0])
        yield worker_app


def test_a_task_has_the_context_it_was_sent_in(app: celery.Celery) -> None:
    with ai_context(feature="meme", user_id="u_1", groups={"company": "acme"}):
        sent = app.tasks["ask"].delay()
    assert sent.get(timeout=30) == {
        "posthog.feature": "meme",
        "posthog.distinct_id": "u_1",
        "posthog.group.company": "acme",
    }


def test_a_task_that_a_task_sends_has_it_too(app: celery.Celery) -> None:
    with ai_context(user_id="u_2"):
        inner = app.tasks["ask_on"].delay().get(timeout=30)
    assert app.AsyncResult(inner).get(timeout=30) == {"posthog.distinct_id": "u_2"}


def test_the_next_task_of_nobody_has_nothing(app: celery.Celery) -> None:
    with ai_context(user_id="u_3"):
        app.tasks["ask"].delay().get(timeout=30)
    assert app.tasks["ask"].delay().get(timeout=30) == {}


def test_what_is_no_context_of_ours_in_the_header_is_ignored(app: celery.Celery) -> None:
    headers = {"otel_posthog_context": {"posthog.feature": "x", "gen_ai.system": "y", "posthog.chat_id": [1]}}
    assert app.tasks["ask"].apply_async(headers=headers).get(timeout=30) == {"posthog.feature": "x"}
