"""Calls of the application's own functions on a request; if one fails, the request goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction

from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.ai_context import ai_context

__all__ = ["check_plain", "failed", "request_context"]


def request_context(feature: Callable[[], object], user: Callable[[], object]) -> ai_context:
    """Return the context of a request, as far as both functions return."""
    return ai_context(feature=_value("feature", feature), user_id=_value("user", user))


def _value(what: str, function: Callable[[], object]) -> str | None:
    try:
        value = function()
        return None if value is None else str(value)
    except Exception as error:  # noqa: BLE001  # whatever it is, the request is to be served
        failed(what, error)
        return None


def failed(what: str, error: Exception) -> None:
    """Log once that a request goes on without its feature or user."""
    warn_once(
        f"framework {what}",
        "The %s of a request cannot be read (%s), so its model calls have none: correct the function that"
        " returns it.",
        what,
        type(error).__name__,
    )


def check_plain(**functions: Callable[..., object]) -> None:
    """Reject a function that must be awaited.

    Raises:
        TypeError: one is an `async def`.
    """
    for name, function in functions.items():
        if iscoroutinefunction(function):
            raise TypeError(
                f"{name} must be a plain function: set values that you await with update_ai_context(...)"
                " in the view or a dependency"
            )
