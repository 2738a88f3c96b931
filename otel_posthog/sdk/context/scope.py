"""The scope of an `ai_context`, kept in OpenTelemetry's context while it is attached.

Later values are kept beside it, since the end of any span resets OpenTelemetry's context. This module needs
OpenTelemetry's API only, so that instrumentors may use it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry import baggage
from opentelemetry import context as otel_context

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = [
    "Scope",
    "attach",
    "attached",
    "current_attributes",
    "detach",
    "entered_any",
    "send_as_baggage",
    "update_scope",
]

_KEY = otel_context.create_key("otel-posthog-ai-context")


class Scope:
    """One entry into an `ai_context`, until its end; later values are kept beside it."""

    __slots__ = ("__weakref__", "attributes", "stepped_by")

    def __init__(self, words: Mapping[str, AttributeValue]) -> None:
        """Make the scope from now on: these values, within the scope in force."""
        global _entered_any  # noqa: PLW0603  # for a hint, once
        _entered_any = True
        self.attributes: Mapping[str, AttributeValue] = {**current_attributes(), **words}
        self.stepped_by: object = None
        """The thread and task that run the body of a generator in it now."""


_entered_any = False


def entered_any() -> bool:
    """Whether this process has entered any `ai_context`."""
    return _entered_any


def attach(scope: Scope) -> Token[Context]:
    """Attach the scope; it is in force until it is detached."""
    attached_context = otel_context.set_value(_KEY, scope)
    if _sent_as_baggage:
        for name, value in scope.attributes.items():
            if name in _sent_as_baggage:
                attached_context = baggage.set_baggage(name, str(value), attached_context)
    return otel_context.attach(attached_context)


@contextlib.contextmanager
def attached(scope: Scope, *, steps: bool = False) -> Iterator[None]:
    """Attach the scope for one step of a wrapped generator, without recording it on this task's stack."""
    token = attach(scope)
    if steps:
        scope.stepped_by = _here()
    try:
        yield
    finally:
        scope.stepped_by = None
        detach(token)


def current_attributes(context: Context | None = None) -> Mapping[str, AttributeValue]:
    """Return the span attributes of the innermost `ai_context`, of `context` or the current one."""
    scope = otel_context.get_value(_KEY, context)
    if not isinstance(scope, Scope):
        return {}
    by_scope = _late.get()
    late = None if by_scope is None else by_scope.get(scope)
    return {**scope.attributes, **late} if late else scope.attributes


# --- later values ---

_late: ContextVar[WeakKeyDictionary[Scope, Mapping[str, AttributeValue]] | None] = ContextVar(
    "otel-posthog-late", default=None
)
"""The later values, apart from OpenTelemetry's context, which the end of any span resets."""


def update_scope(more: Mapping[str, AttributeValue]) -> bool:
    """Add values to the scope in force; return False if there is none.

    They hold in this task or thread, and in those that it starts later.
    """
    scope = otel_context.get_value(_KEY)
    if not isinstance(scope, Scope):
        return False
    if scope.stepped_by == _here():  # a generator's body: the task that runs its next step must see it, too
        scope.attributes = {**scope.attributes, **more}
        return True
    late = WeakKeyDictionary(_late.get() or {})
    late[scope] = {**late.get(scope, {}), **more}
    _late.set(late)
    return True


def _here() -> tuple[int, object]:
    """Return the current thread and task."""
    loaded: Any = sys.modules.get("asyncio")
    task = None
    if loaded is not None:
        with contextlib.suppress(RuntimeError):  # no event loop runs here
            task = loaded.current_task()
    return threading.get_ident(), task


# --- baggage, and the end ---

_sent_as_baggage: frozenset[str] = frozenset()


def send_as_baggage(names: Iterable[str]) -> None:
    """Put these attributes into OpenTelemetry's baggage from now on, at every entry into an `ai_context`."""
    global _sent_as_baggage  # noqa: PLW0603  # one application, one list
    _sent_as_baggage = frozenset(names)


def detach(token: Token[Any]) -> None:
    """End the attachment. In another context than its own, as when a generator is collected, do nothing.

    `opentelemetry.context.detach` would log an error there.
    """
    variable = getattr(token, "var", None)
    if variable is None:  # another runtime context than contextvars
        otel_context.detach(token)
        return
    with contextlib.suppress(ValueError, RuntimeError):
        variable.reset(token)
