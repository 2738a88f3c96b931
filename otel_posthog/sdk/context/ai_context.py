"""`ai_context`: who a call is for. It lives in OpenTelemetry's context, and the processor puts it onto spans.

The values go wherever that context goes: asyncio tasks, `contextvars.copy_context`, threads under
OpenTelemetry's threading instrumentation, an explicit `context=` of `start_span`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, cast, get_type_hints

from typing_extensions import Unpack

from otel_posthog.conversion.context_attributes import ARGUMENTS, FLAG, GROUP, PROPERTY, is_inherited
from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.decorators import within
from otel_posthog.sdk.context.scope import (
    Scope,
    attach,
    current_attributes,
    detach,
    entered_any,
    send_as_baggage,
    update_scope,
)

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = [
    "ContextFields",
    "ai_context",
    "current_attributes",
    "detach",
    "entered_any",
    "restore",
    "send_as_baggage",
    "update_ai_context",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class ContextFields(TypedDict, total=False):
    """The arguments of `ai_context` and `update_ai_context`."""

    feature: str | None
    chat_id: str | int | None
    user_id: str | int | None
    username: str | None
    ai_friend_id: str | int | None
    session_id: str | None
    conversation_id: str | int | None
    trace_id: str | None
    groups: Mapping[str, str | int] | None
    properties: Mapping[str, Any] | None
    flags: Any
    privacy_mode: bool | None


def _shown(thing: T) -> T:
    """Return the function with the arguments in its signature, for `help()` and notebooks."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in get_type_hints(ContextFields).items()
    ]
    cast("Any", thing).__signature__ = inspect.Signature(parameters)
    return thing


@_shown
class ai_context:  # noqa: N801  # it is used like contextlib's: `with ai_context(...)`, `@ai_context(...)`
    """The user, feature and chat of every model call inside.

    It is a context manager and a decorator of functions, coroutines, generators and async generators.
    Contexts nest: the inner one adds to the outer one and wins if both set a value. None sets nothing.

    Args:
        feature: the feature of your product that makes the calls, such as "smart_reply".
        chat_id: the chat of the calls; also the conversation, unless `conversation_id` is given.
        user_id: your user: PostHog's distinct id.
        username: a readable name, beside the id.
        ai_friend_id: the persona that answers.
        session_id: PostHog's session id of the browser (`$session_id`), which links to the session replay.
        conversation_id: groups traces into a conversation (`$ai_session_id`).
        trace_id: your own name for the trace; calls with the same name are one trace in PostHog.
        groups: group keys by group type, such as {"company": "acme"}.
        properties: your own properties for every event.
        flags: variants by feature flag, or the result of `posthog.evaluate_flags`; they become
            `$feature/<key>`.
        privacy_mode: True keeps prompts, answers and error texts out of every event.
    """

    def __init__(self, **fields: Unpack[ContextFields]) -> None:
        self._attributes = _attributes("ai_context", fields)

    def __enter__(self) -> None:
        _entered.set((*_entered.get(), (self, attach(self._scope()))))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = _entered.get()
        for place in reversed(range(len(entered))):
            context, token = entered[place]
            if context is self:  # else another task entered it, and ends it
                _entered.set(entered[:place] + entered[place + 1 :])
                detach(token)
                return

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return a function whose calls run inside this context."""
        return within(self._scope, function)

    def _scope(self) -> Scope:
        """Return the scope from now on: these values, within the scope in force."""
        return Scope(self._attributes)


_entered: ContextVar[tuple[tuple[ai_context, Token[Context]], ...]] = ContextVar(
    "otel-posthog-entered", default=()
)
"""The scopes that `with` entered in this task or thread, the innermost last: tasks may share one object."""


def restore(attributes: Mapping[str, Any]) -> ai_context:
    """Return the context that `current_attributes` returned, maybe in another process."""
    context = ai_context()
    context._attributes = {
        name: value
        for name, value in attributes.items()
        if is_inherited(name) and isinstance(value, str | bool | int | float)
    }
    return context


@_shown
def update_ai_context(**fields: Unpack[ContextFields]) -> bool:
    """Add values to the `ai_context` in force, for spans that start from now on.

    The arguments are those of `ai_context`. The values hold in this task or thread, and in those that it
    starts later, until that `ai_context` ends. Return False, and log one warning, outside of any
    `ai_context`.
    """
    if update_scope(_attributes("update_ai_context", fields)):
        return True
    warn_once(
        "update_ai_context",
        "update_ai_context() outside of any ai_context does nothing: enter one where the request begins.",
    )
    return False


def _attributes(function: str, fields: ContextFields) -> dict[str, AttributeValue]:
    """Return the span attributes for the arguments of `ai_context`."""
    unknown = fields.keys() - ContextFields.__annotations__.keys()
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument {min(unknown)!r}")
    attributes: dict[str, AttributeValue] = {}
    for name, attribute in ARGUMENTS.items():
        value = fields.get(name)
        if value is not None:
            attributes[attribute] = bool(value) if name == "privacy_mode" else str(value)
    flags = _variants(fields.get("flags"))
    for prefix, values in (
        (GROUP, fields.get("groups")),
        (PROPERTY, fields.get("properties")),
        (FLAG, flags),
    ):
        if values is not None and not isinstance(values, Mapping):
            raise TypeError('groups, properties and flags are mappings, such as groups={"company": "acme"}')
        for name, value in (values or {}).items():
            if value is not None:
                attributes[f"{prefix}{name}"] = str(value) if prefix == GROUP else value
    return attributes


def _variants(flags: Any) -> Mapping[str, Any] | None:
    """Return the variants by key. A snapshot of the `posthog` package does not report this reading."""
    if flags is None or isinstance(flags, Mapping):
        return flags
    if not hasattr(flags, "get_flag"):
        raise TypeError(
            'flags is a mapping, such as flags={"new-model": "small"}, or what posthog.evaluate_flags returns'
        )
    keys = getattr(flags, "keys", ())
    keys = keys() if callable(keys) else keys
    return {key: flags.get_flag(key, send_feature_flag_events=False) for key in keys}
