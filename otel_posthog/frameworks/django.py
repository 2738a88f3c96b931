"""Django: put `otel_posthog.frameworks.django.AiContextMiddleware` into MIDDLEWARE, after authentication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from django.http import Http404, HttpRequest
from django.urls import resolve
from django.utils.decorators import sync_and_async_middleware

from otel_posthog.frameworks.request_context import failed, request_context
from otel_posthog.sdk.context.ai_context import current_attributes, restore

__all__ = ["AiContextMiddleware", "user_id", "view_name"]


def view_name(request: HttpRequest) -> str | None:
    """Return the name of the view that will serve the request, as `reverse` knows it."""
    try:
        return resolve(request.path_info, getattr(request, "urlconf", None)).view_name or None
    except Http404:
        return None


def user_id(user: Any) -> str | None:
    """Return the key of the logged-in user, or None."""
    return str(user.pk) if user is not None and user.is_authenticated else None


@sync_and_async_middleware  # type: ignore[untyped-decorator]  # Django ships no types
def AiContextMiddleware(get_response: Callable[..., Any]) -> Callable[..., Any]:  # noqa: N802  # a middleware's name
    """Run every request in an `ai_context` with the view's name as feature and the logged-in user.

    A streamed response runs in it until its end. `update_ai_context` adds values that you learn later.
    """
    if iscoroutinefunction(get_response):

        async def serve_async(request: HttpRequest) -> Any:
            user = await _user(request)
            with request_context(partial(view_name, request), partial(user_id, user)):
                return _followed(await get_response(request))

        return serve_async

    def serve(request: HttpRequest) -> Any:
        with request_context(partial(view_name, request), lambda: user_id(getattr(request, "user", None))):
            return _followed(get_response(request))

    return serve


async def _user(request: HttpRequest) -> Any:
    try:
        return await request.auser() if hasattr(request, "auser") else None
    except Exception as error:  # noqa: BLE001  # whatever it is, the request is to be served
        failed("user", error)
        return None


def _followed(response: Any) -> Any:
    """Return the response. A streamed body runs in the context as the view left it.

    It is made when the middleware has returned, so it gets the values of `update_ai_context` as well.
    """
    if getattr(response, "streaming", False) and not getattr(response, "file_to_stream", None):
        steps = _async_steps if response.is_async else _steps
        context = restore(current_attributes())
        response.streaming_content = context(steps)(response.streaming_content)
    return response


def _steps(body: Iterator[Any]) -> Iterator[Any]:
    yield from body


async def _async_steps(body: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for part in body:
        yield part
