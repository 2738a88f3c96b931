"""Whose call it is and for what: `ai_context` puts it into OpenTelemetry's context, the processor onto spans.

The values live in OpenTelemetry's own context (`scopes`), so they go wherever it goes: asyncio tasks,
`contextvars.copy_context`, threads under OpenTelemetry's threading instrumentation, an explicit
`context=` of `start_span`.
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
    in_use,
    say_late,
    send_as_baggage,
)

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = [
    "Words",
    "ai_context",
    "current_attributes",
    "detach",
    "in_use",
    "restored",
    "send_as_baggage",
    "update_ai_context",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Words(TypedDict, total=False):
    """What may be said of calls: the arguments of `ai_context` and `update_ai_context`."""

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
    """With the arguments in its signature, for `help()` and notebooks: they do not look into `Words`."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in get_type_hints(Words).items()
    ]
    cast("Any", thing).__signature__ = inspect.Signature(parameters)
    return thing


@_shown
class ai_context:  # noqa: N801  # it is used like contextlib's: `with ai_context(...)`, `@ai_context(...)`
    """Says for every model call inside whose it is and for what.

    A context manager and a decorator, of functions, coroutines, generators and async generators. Inside
    another `ai_context` it adds to it; what both say, the inner one decides. None says nothing.

    Args:
        feature: the feature of your product that makes the calls, such as "smart_reply".
        chat_id: the chat they belong to; also the conversation, where `conversation_id` is not given.
        user_id: your user: PostHog's distinct id.
        username: a name to read, beside the id.
        ai_friend_id: the persona that answers.
        session_id: PostHog's session id of the browser (`$session_id`): links to the session replay.
        conversation_id: groups traces into a conversation (`$ai_session_id`).
        trace_id: a name of your own for the trace; calls with the same name are one trace in PostHog.
        groups: group keys by group type, such as {"company": "acme"}.
        properties: properties of your own for every event.
        flags: variants in force by feature flag, or what `posthog.evaluate_flags` returns; they become
            `$feature/<key>`.
        privacy_mode: True keeps prompts, answers and error texts out of every event.
    """

    def __init__(self, **words: Unpack[Words]) -> None:
        self._attributes = _attributes("ai_context", words)

    def __enter__(self) -> None:
        _entered.set((*_entered.get(), (self, attach(self._scope()))))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = _entered.get()
        for place in reversed(range(len(entered))):
            context, token = entered[place]
            if context is self:  # else it was entered in another task, and ends with that one
                _entered.set(entered[:place] + entered[place + 1 :])
                detach(token)
                return

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate: each call of `function` runs inside this context."""
        return within(self._scope, function)

    def _scope(self) -> Scope:
        """What holds from now on: these words, within the context in force."""
        return Scope(self._attributes)


_entered: ContextVar[tuple[tuple[ai_context, Token[Context]], ...]] = ContextVar(
    "otel-posthog-entered", default=()
)
"""What `with` entered in this task or thread, the innermost last: one object may be in use by several."""


def restored(attributes: Mapping[str, Any]) -> ai_context:
    """The context that `current_attributes` gave, maybe in another process."""
    made = ai_context()
    made._attributes = {
        name: value
        for name, value in attributes.items()
        if is_inherited(name) and isinstance(value, str | bool | int | float)
    }
    return made


@_shown
def update_ai_context(**words: Unpack[Words]) -> bool:
    """Say more in the `ai_context` in force: for spans that start from now on, until it ends.

    The arguments are those of `ai_context`. What is said in a task or thread holds there, and in those it
    starts later. False, with one warning, where no `ai_context` is in force: nothing would end it.
    """
    if say_late(_attributes("update_ai_context", words)):
        return True
    warn_once(
        "update_ai_context",
        "update_ai_context() outside of any ai_context does nothing: enter one where the request begins.",
    )
    return False


def _attributes(function: str, words: Words) -> dict[str, AttributeValue]:
    """The span attributes for the arguments of `ai_context`."""
    unknown = words.keys() - Words.__annotations__.keys()
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument {min(unknown)!r}")
    made: dict[str, AttributeValue] = {}
    for name, attribute in ARGUMENTS.items():
        value = words.get(name)
        if value is not None:
            made[attribute] = bool(value) if name == "privacy_mode" else str(value)
    flags = _variants(words.get("flags"))
    for prefix, values in ((GROUP, words.get("groups")), (PROPERTY, words.get("properties")), (FLAG, flags)):
        if values is not None and not isinstance(values, Mapping):
            raise TypeError('groups, properties and flags are mappings, such as groups={"company": "acme"}')
        for name, value in (values or {}).items():
            if value is not None:
                made[f"{prefix}{name}"] = str(value) if prefix == GROUP else value
    return made


def _variants(flags: Any) -> Mapping[str, Any] | None:
    """Variants by key; of a snapshot of the `posthog` package without reporting that they were looked at."""
    if flags is None or isinstance(flags, Mapping):
        return flags
    if not hasattr(flags, "get_flag"):
        raise TypeError(
            'flags is a mapping, such as flags={"new-model": "small"}, or what posthog.evaluate_flags returns'
        )
    keys = getattr(flags, "keys", ())
    keys = keys() if callable(keys) else keys
    return {key: flags.get_flag(key, send_feature_flag_events=False) for key in keys}
