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
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from opentelemetry import context as otel_context

from otel_posthog.attributes import CONTEXT, FLAG, GROUP, PROPERTY

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = ["INHERITED", "ai_context", "current_attributes", "inherited_attributes"]

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

INHERITED = frozenset(name for names in CONTEXT.values() for name in names)
"""Attributes that a span hands down to the spans below it, with those of `INHERITED_PREFIXES`."""
INHERITED_PREFIXES = (GROUP, PROPERTY, FLAG)


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
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> None:
        self._tokens.append(self._attach())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _detach(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate: each call of `function` runs inside this context."""
        wrapped: Any = function
        if inspect.iscoroutinefunction(wrapped):

            @functools.wraps(wrapped)
            async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
                token = self._attach()
                try:
                    return await wrapped(*args, **kwargs)
                finally:
                    _detach(token)

            return cast("Callable[P, R]", run_coroutine)
        if inspect.isasyncgenfunction(wrapped):

            @functools.wraps(wrapped)
            def run_async_generator(*args: Any, **kwargs: Any) -> Any:
                return self._stepping_async(wrapped(*args, **kwargs))

            return cast("Callable[P, R]", run_async_generator)
        if inspect.isgeneratorfunction(wrapped):

            @functools.wraps(wrapped)
            def run_generator(*args: Any, **kwargs: Any) -> Any:
                return self._stepping(wrapped(*args, **kwargs))

            return cast("Callable[P, R]", run_generator)

        @functools.wraps(wrapped)
        def run(*args: Any, **kwargs: Any) -> Any:
            token = self._attach()
            try:
                return wrapped(*args, **kwargs)
            finally:
                _detach(token)

        return cast("Callable[P, R]", run)

    def _attach(self) -> Token[Context]:
        outer = current_attributes()
        merged = {**outer, **self._attributes} if outer else self._attributes
        return otel_context.attach(otel_context.set_value(_KEY, merged))

    # A generator's body must see the context and whoever drives the generator must not, so the context
    # is there for the length of each step only. It also means that one left early leaves nothing behind.

    def _stepping(self, generator: Any) -> Any:
        step: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                token = self._attach()
                try:
                    item = step()
                except StopIteration as end:
                    return end.value
                finally:
                    _detach(token)
                try:
                    sent = yield item
                    step = functools.partial(generator.send, sent)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  # thrown in by the driver, for the body to see
                    step = functools.partial(generator.throw, error)
        finally:
            token = self._attach()
            try:
                generator.close()
            finally:
                _detach(token)

    async def _stepping_async(self, generator: Any) -> Any:
        step: Callable[[], Any] = generator.__anext__
        try:
            while True:
                token = self._attach()
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
                finally:
                    _detach(token)
                try:
                    sent = yield item
                    step = functools.partial(generator.asend, sent)
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  # as above
                    step = functools.partial(generator.athrow, error)
        finally:
            token = self._attach()
            try:
                await generator.aclose()
            finally:
                _detach(token)


def current_attributes(context: Context | None = None) -> Mapping[str, AttributeValue]:
    """The span attributes that the innermost `ai_context` stands for; of `context`, else the current one."""
    found = otel_context.get_value(_KEY, context)
    return cast("Mapping[str, AttributeValue]", found) if found is not None else {}


def inherited_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a span's attributes that the spans below it share."""
    return {
        name: value
        for name, value in attributes.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }


def _detach(token: Token[Context]) -> None:
    """End the attachment; in another context than its own (a generator that the collector closes) do nothing.

    `opentelemetry.context.detach` would log an error there.
    """
    variable = getattr(token, "var", None)
    if variable is None:  # another runtime context than contextvars
        otel_context.detach(token)
        return
    with contextlib.suppress(ValueError, RuntimeError):
        variable.reset(token)
