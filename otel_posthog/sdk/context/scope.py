"""What is said of a call, kept in OpenTelemetry's own context: from where it is attached to its end.

What is said later stands beside it: OpenTelemetry's context is reset by the end of any span. This needs
OpenTelemetry's API and nothing else, so that instrumentors may use it.
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
    "in_use",
    "say_late",
    "send_as_baggage",
]

_KEY = otel_context.create_key("otel-posthog-ai-context")


class Scope:
    """What holds from one entering of an `ai_context` to its end; later words are kept beside it."""

    __slots__ = ("__weakref__", "attributes", "stepped_by")

    def __init__(self, words: Mapping[str, AttributeValue]) -> None:
        """Make what holds from now on: these words, within what is in force."""
        global _in_use  # noqa: PLW0603  # for a hint, once
        _in_use = True
        self.attributes: Mapping[str, AttributeValue] = {**current_attributes(), **words}
        self.stepped_by: object = None
        """The thread and task that run the body of a generator in it, now."""


_in_use = False


def in_use() -> bool:
    """Whether this process has entered any `ai_context`."""
    return _in_use


def attach(scope: Scope) -> Token[Context]:
    """Have it hold until it is detached."""
    found = otel_context.set_value(_KEY, scope)
    if _sent_as_baggage:
        for name, value in scope.attributes.items():
            if name in _sent_as_baggage:
                found = baggage.set_baggage(name, str(value), found)
    return otel_context.attach(found)


@contextlib.contextmanager
def attached(scope: Scope, *, steps: bool = False) -> Iterator[None]:
    """As `with`, without a place on the stack of this task: for one step of a foreign body."""
    token = attach(scope)
    if steps:
        scope.stepped_by = _here()
    try:
        yield
    finally:
        scope.stepped_by = None
        detach(token)


def current_attributes(context: Context | None = None) -> Mapping[str, AttributeValue]:
    """The span attributes that the innermost `ai_context` stands for; of `context`, else the current one."""
    scope = otel_context.get_value(_KEY, context)
    if not isinstance(scope, Scope):
        return {}
    said = _late.get()
    late = None if said is None else said.get(scope)
    return {**scope.attributes, **late} if late else scope.attributes


# --- later words ---

_late: ContextVar[WeakKeyDictionary[Scope, Mapping[str, AttributeValue]] | None] = ContextVar(
    "otel-posthog-late", default=None
)
"""What was said after the beginning: apart from OpenTelemetry's context, which the end of any span resets."""


def say_late(more: Mapping[str, AttributeValue]) -> bool:
    """Add to the scope in force; False where there is none.

    In a task or thread it holds there, and in those that it starts later.
    """
    scope = otel_context.get_value(_KEY)
    if not isinstance(scope, Scope):
        return False
    if scope.stepped_by == _here():  # a generator's body: whoever runs its next step is to see it, too
        scope.attributes = {**scope.attributes, **more}
        return True
    late = WeakKeyDictionary(_late.get() or {})
    late[scope] = {**late.get(scope, {}), **more}
    _late.set(late)
    return True


def _here() -> tuple[int, object]:
    """Which thread and task this is."""
    loaded: Any = sys.modules.get("asyncio")
    task = None
    if loaded is not None:
        with contextlib.suppress(RuntimeError):  # no loop runs here
            task = loaded.current_task()
    return threading.get_ident(), task


# --- baggage, and the end ---

_sent_as_baggage: frozenset[str] = frozenset()


def send_as_baggage(names: Iterable[str]) -> None:
    """Put these attributes into OpenTelemetry's baggage from now on, wherever an `ai_context` is entered."""
    global _sent_as_baggage  # noqa: PLW0603  # one application, one list
    _sent_as_baggage = frozenset(names)


def detach(token: Token[Any]) -> None:
    """End the attachment; in another context than its own (a generator that the collector closes) do nothing.

    `opentelemetry.context.detach` would log an error there.
    """
    variable = getattr(token, "var", None)
    if variable is None:  # another runtime context than contextvars
        otel_context.detach(token)
        return
    with contextlib.suppress(ValueError, RuntimeError):
        variable.reset(token)
