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
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from opentelemetry import context as otel_context

from otel_posthog.attributes import CONTEXT, FLAG, GROUP, PROPERTY

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = ["ai_context", "current_attributes", "detach", "in_use"]

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
        flags: variants in force by feature flag; they become `$feature/<key>`.
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
        flags: Mapping[str, Any] | None = None,
        privacy_mode: bool | None = None,
    ) -> None:
        given = {
            "feature": feature,
            "chat_id": chat_id,
            "user_id": user_id,
            "username": username,
            "ai_friend_id": ai_friend_id,
            "session_id": session_id,
            "conversation_id": conversation_id,
            "trace_id": trace_id,
            "privacy_mode": None if privacy_mode is None else bool(privacy_mode),
        }
        self._attributes: dict[str, AttributeValue] = {
            CONTEXT[_ARGUMENTS[name]][0]: value if isinstance(value, bool) else str(value)
            for name, value in given.items()
            if value is not None
        }
        for prefix, values in ((GROUP, groups), (PROPERTY, properties), (FLAG, flags)):
            for name, value in (values or {}).items():
                if value is not None:
                    self._attributes[f"{prefix}{name}"] = str(value) if prefix == GROUP else value

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

    def _attach(self) -> Token[Context]:
        global _in_use  # noqa: PLW0603  # for a hint, once
        _in_use = True
        outer = current_attributes()
        merged = {**outer, **self._attributes} if outer else self._attributes
        return otel_context.attach(otel_context.set_value(_KEY, merged))

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        """As `with self`, without a place on the stack of this task: for one step of a foreign body."""
        token = self._attach()
        try:
            yield
        finally:
            detach(token)


_entered: ContextVar[tuple[tuple[ai_context, Token[Context]], ...]] = ContextVar(
    "otel-posthog-entered", default=()
)
"""What `with` entered in this task or thread, the innermost last: one object may be in use by several."""


def _coroutine(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with context._attached():
            return await function(*args, **kwargs)

    return run


# A generator's body must see the context and whoever drives the generator must not, so the context
# is there for the length of each step only. It also means that one left early leaves nothing behind.


def _generator(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                try:
                    with context._attached():
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
            with context._attached():
                generator.close()

    return run


def _async_generator(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step: Callable[[], Any] = generator.__anext__
        try:
            while True:
                try:
                    with context._attached():
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
            with context._attached():
                await generator.aclose()

    return run


def _function(context: ai_context, function: Callable[..., Any]) -> Callable[..., Any]:
    """Any other callable; one that hands out a coroutine or a generator is seen by what it hands out."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with context._attached():
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
    found = otel_context.get_value(_KEY, context)
    return cast("Mapping[str, AttributeValue]", found) if found is not None else {}


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
