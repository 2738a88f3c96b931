"""Celery: call `carry_ai_context()` once, in the process that sends tasks and in its workers."""

from __future__ import annotations

from typing import Any

from celery import signals

from otel_posthog.sdk.context.ai_context import ai_context, current_attributes, restore

__all__ = ["carry_ai_context"]

HEADER = "otel_posthog_context"
_entered: dict[str, ai_context] = {}
"""The contexts of running tasks, by their ids."""


def carry_ai_context() -> None:
    """Run tasks in the `ai_context` of their sender; it travels in a header of the message.

    Everyone who can write to the broker can set it.
    """
    signals.before_task_publish.connect(_send, weak=False, dispatch_uid=HEADER)
    signals.task_prerun.connect(_enter, weak=False, dispatch_uid=HEADER)
    signals.task_postrun.connect(_leave, weak=False, dispatch_uid=HEADER)


def _send(headers: dict[str, Any] | None = None, **_: Any) -> None:
    attributes = current_attributes()
    if attributes and headers is not None:
        headers.setdefault(HEADER, dict(attributes))


def _enter(task_id: str, task: Any, **_: Any) -> None:
    request = task.request
    carried = getattr(request, HEADER, None) or (request.headers or {}).get(HEADER)
    if isinstance(carried, dict):
        context = restore(carried)
        context.__enter__()
        _entered[task_id] = context


def _leave(task_id: str, **_: Any) -> None:
    context = _entered.pop(task_id, None)
    if context is not None:
        context.__exit__(None, None, None)
