"""Functions, coroutines and generators that run inside a scope at each call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from otel_posthog.sdk.context.scope import Scope, attached

__all__ = ["within"]

P = ParamSpec("P")
R = TypeVar("R")
Begin = Callable[[], Scope]


def within(begin: Begin, function: Callable[P, R]) -> Callable[P, R]:
    """Return the function; each of its calls runs in a scope that begins with it.

    Raises:
        TypeError: the argument is no function.
    """
    for is_kind, wrapper in _WRAPPERS:
        if is_kind(function):
            return cast("Callable[P, R]", functools.wraps(function)(wrapper(begin, function)))
    raise TypeError("ai_context decorates functions")


def _coroutine(begin: Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with attached(begin()):
            return await function(*args, **kwargs)

    return run


# A generator's body must see the context and its caller must not, so the context is attached for
# each step only. So a generator that is left early leaves nothing attached.


def _generator(begin: Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        scope, generator = begin(), function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                try:
                    with attached(scope, steps=True):
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
            with attached(scope, steps=True):
                generator.close()

    return run


def _async_generator(begin: Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        scope, generator = begin(), function(*args, **kwargs)
        step: Callable[[], Any] = generator.__anext__
        try:
            while True:
                try:
                    with attached(scope, steps=True):
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
            with attached(scope, steps=True):
                await generator.aclose()

    return run


def _function(begin: Begin, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return another callable; its result tells whether it is a coroutine or a generator function."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with attached(begin()):
            result = function(*args, **kwargs)
        for is_kind, wrapper in _RESULTS:
            if is_kind(result):
                return wrapper(begin, lambda: result)()
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
