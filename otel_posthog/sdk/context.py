"""Whose call it is and for what: `ai_context` puts it into OpenTelemetry's context, the processor onto spans.

The values live in OpenTelemetry's own context, so they go wherever it goes: asyncio tasks,
`contextvars.copy_context`, threads under OpenTelemetry's threading instrumentation, an explicit
`context=` of `start_span`. This module needs OpenTelemetry's API and nothing else, so that
instrumentors may use it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from opentelemetry import baggage
from opentelemetry import context as otel_context

from otel_posthog.attributes import CONTEXT, FLAG, GROUP, PROPERTY, is_handed_down

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = [
    "ATTRIBUTES",
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

_KEY = otel_context.create_key("otel-posthog-ai-context")

_ARGUMENTS = {
    "feature": "feature",
    "chat_id": "chat_id",
    "user_id": "distinct_id",
    "username": "username",
    "ai_friend_id": "ai_friend_id",
    "session_id": "session_id",
    "conversation_id": "conversation_id",
    "trace_id": "trace_name",
    "privacy_mode": "privacy_mode",
}
"""Arguments of `ai_context`, and the piece of context each one is."""
ATTRIBUTES = {argument: CONTEXT[field][0] for argument, field in _ARGUMENTS.items()}
"""Arguments of `ai_context`, and the span attribute that carries each."""


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

    def __init__(
        self,
        *,
        feature: str | None = None,
        chat_id: str | int | None = None,
        user_id: str | int | None = None,
        username: str | None = None,
        ai_friend_id: str | int | None = None,
        session_id: str | None = None,
        conversation_id: str | int | None = None,
        trace_id: str | None = None,
        groups: Mapping[str, str | int] | None = None,
        properties: Mapping[str, Any] | None = None,
        flags: Any = None,
        privacy_mode: bool | None = None,
    ) -> None:
        self._attributes = _attributes(
            {
                "feature": feature,
                "chat_id": chat_id,
                "user_id": user_id,
                "username": username,
                "ai_friend_id": ai_friend_id,
                "session_id": session_id,
                "conversation_id": conversation_id,
                "trace_id": trace_id,
                "privacy_mode": privacy_mode,
            },
            groups=groups,
            properties=properties,
            flags=flags,
        )

    def __enter__(self) -> None:
        _entered.set((*_entered.get(), (self, self._attach())))

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
        for is_kind, wrapper in _WRAPPERS:
            if is_kind(function):
                return cast("Callable[P, R]", functools.wraps(function)(wrapper(self, function)))
        raise TypeError("ai_context decorates functions")

    def _scope(self) -> _Scope:
        """What holds from now on: these words, within the context in force."""
        global _in_use  # noqa: PLW0603  # for a hint, once
        _in_use = True
        return _Scope({**current_attributes(), **self._attributes})

    def _attach(self) -> Token[Context]:
        return _attach(self._scope())


class _Scope:
    """What holds from one entering of an `ai_context` to its end; later words are kept beside it."""

    __slots__ = ("__weakref__", "attributes", "stepped_by")

    def __init__(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.attributes = attributes
        self.stepped_by: object = None
        """The thread and task that run the body of a generator in it, now."""


def _attach(scope: _Scope) -> Token[Context]:
    found = otel_context.set_value(_KEY, scope)
    if _sent_as_baggage:
        for name, value in scope.attributes.items():
            if name in _sent_as_baggage:
                found = baggage.set_baggage(name, str(value), found)
    return otel_context.attach(found)


@contextlib.contextmanager
def _attached(scope: _Scope, *, steps: bool = False) -> Iterator[None]:
    """As `with`, without a place on the stack of this task: for one step of a foreign body."""
    token = _attach(scope)
    if steps:
        scope.stepped_by = _here()
    try:
        yield
    finally:
        scope.stepped_by = None
        detach(token)


def restored(attributes: Mapping[str, Any]) -> ai_context:
    """The context that `current_attributes` gave, maybe in another process."""
    made = ai_context()
    made._attributes = {
        name: value
        for name, value in attributes.items()
        if is_handed_down(name) and isinstance(value, str | bool | int | float)
    }
    return made


def update_ai_context(
    *,
    feature: str | None = None,
    chat_id: str | int | None = None,
    user_id: str | int | None = None,
    username: str | None = None,
    ai_friend_id: str | int | None = None,
    session_id: str | None = None,
    conversation_id: str | int | None = None,
    trace_id: str | None = None,
    groups: Mapping[str, str | int] | None = None,
    properties: Mapping[str, Any] | None = None,
    flags: Any = None,
    privacy_mode: bool | None = None,
) -> bool:
    """Say more in the `ai_context` in force: for spans that start from now on, until it ends.

    The arguments are those of `ai_context`. What is said in a task or thread holds there, and in those it
    starts later. False, with one warning, where no `ai_context` is in force: nothing would end it.
    """
    scope = otel_context.get_value(_KEY)
    if not isinstance(scope, _Scope):
        _warn_once()
        return False
    said = {name: value for name, value in locals().items() if name in _ARGUMENTS}
    more = _attributes(said, groups=groups, properties=properties, flags=flags)
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


_late: ContextVar[WeakKeyDictionary[_Scope, Mapping[str, AttributeValue]] | None] = ContextVar(
    "otel-posthog-late", default=None
)
"""What was said after the beginning: apart from OpenTelemetry's context, which the end of any span resets."""


@functools.cache
def _warn_once() -> None:
    logging.getLogger("otel_posthog").warning(
        "update_ai_context() outside of any ai_context does nothing: enter one where the request begins."
    )


def _attributes(
    said: Mapping[str, Any],
    *,
    groups: Mapping[str, str | int] | None,
    properties: Mapping[str, Any] | None,
    flags: Any,
) -> dict[str, AttributeValue]:
    """The span attributes for the arguments of `ai_context`."""
    made: dict[str, AttributeValue] = {}
    for name, value in said.items():
        if value is not None:
            made[ATTRIBUTES[name]] = bool(value) if name == "privacy_mode" else str(value)
    for prefix, values in ((GROUP, groups), (PROPERTY, properties), (FLAG, _variants(flags))):
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
    keys = getattr(flags, "keys", ())
    keys = keys() if callable(keys) else keys
    return {key: flags.get_flag(key, send_feature_flag_events=False) for key in keys}


_entered: ContextVar[tuple[tuple[ai_context, Token[Context]], ...]] = ContextVar(
    "otel-posthog-entered", default=()
)
"""What `with` entered in this task or thread, the innermost last: one object may be in use by several."""


def _coroutine(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with _attached(context._scope()):
            return await function(*args, **kwargs)

    return run


# A generator's body must see the context and whoever drives the generator must not, so the context
# is there for the length of each step only. It also means that one left early leaves nothing behind.


def _generator(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        scope, generator = context._scope(), function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                try:
                    with _attached(scope, steps=True):
                        item = step()
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield item
                    step = functools.partial(generator.send, sent)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  # thrown in by the driver, for the body to see
                    step = functools.partial(generator.throw, error)
        finally:
            with _attached(scope, steps=True):
                generator.close()

    return run


def _async_generator(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        scope, generator = context._scope(), function(*args, **kwargs)
        step: Callable[[], Any] = generator.__anext__
        try:
            while True:
                try:
                    with _attached(scope, steps=True):
                        item = await step()
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                    step = functools.partial(generator.asend, sent)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  # as above
                    step = functools.partial(generator.athrow, error)
        finally:
            with _attached(scope, steps=True):
                await generator.aclose()

    return run


def _function(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    """Any other callable; one that hands out a coroutine or a generator is seen by what it hands out."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with _attached(context._scope()):
            result = function(*args, **kwargs)
        for is_kind, wrapper in _RESULTS:
            if is_kind(result):
                return wrapper(context, lambda: result)()
        return result

    return run


_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[..., Callable[..., Any]]], ...] = (
    (inspect.iscoroutinefunction, _coroutine),
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
    (callable, _function),
)
_RESULTS = (
    (inspect.iscoroutine, _coroutine),
    (inspect.isasyncgen, _async_generator),
    (inspect.isgenerator, _generator),
)


_in_use = False


def in_use() -> bool:
    """Whether this process has entered any `ai_context`."""
    return _in_use


def current_attributes(context: Context | None = None) -> Mapping[str, AttributeValue]:
    """The span attributes that the innermost `ai_context` stands for; of `context`, else the current one."""
    scope = otel_context.get_value(_KEY, context)
    if not isinstance(scope, _Scope):
        return {}
    said = _late.get()
    late = None if said is None else said.get(scope)
    return {**scope.attributes, **late} if late else scope.attributes


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
