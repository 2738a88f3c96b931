"""FastAPI and Starlette: `app.add_middleware(AiContextMiddleware, user=...)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from otel_posthog.frameworks.request_context import check_plain, request_context

__all__ = ["AiContextMiddleware", "route_name"]

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
_FULL = 2
"""`starlette.routing.Match.FULL`."""


def route_name(scope: Scope) -> str | None:
    """Return the name of a request's route: that of its function, unless it has another."""
    return _named(getattr(scope.get("app"), "routes", ()), scope)


def _named(routes: Iterable[Any], scope: Scope) -> str | None:
    for route in routes:
        match, child_scope = route.matches(scope)
        if match.value != _FULL:
            continue
        included = getattr(route, "effective_route_contexts", None)  # FastAPI's `include_router`
        if included is not None:
            contexts = (each for each in included() if each.matches(scope)[0].value == _FULL)
            return next((getattr(each.original_route, "name", None) for each in contexts), None)
        inner = getattr(route, "routes", None)
        if inner:  # a mounted application
            return _named(inner, {**scope, **child_scope}) or getattr(route, "name", None)
        return getattr(route, "name", None)
    return None


def _authenticated(scope: Scope) -> str | None:
    """Return the user of Starlette's AuthenticationMiddleware, if that is outside of this one."""
    user = scope.get("user")
    return str(user.identity) if user is not None and user.is_authenticated else None


class AiContextMiddleware:
    """Runs every request in an `ai_context` with its route's name as feature, until the last byte is sent.

    `feature` and `user` are functions of the ASGI scope (`Request(scope)` reads it), instead of the route's
    name and of the user of Starlette's AuthenticationMiddleware. `update_ai_context` adds values that you
    learn later, in a dependency that is an `async def`. If a function fails, the request is served without
    its value.
    """

    def __init__(
        self,
        app: App,
        *,
        feature: Callable[[Scope], str | None] = route_name,
        user: Callable[[Scope], str | int | None] = _authenticated,
    ) -> None:
        check_plain(feature=feature, user=user)
        self.app, self._feature, self._user = app, feature, user

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        with request_context(partial(self._feature, scope), partial(self._user, scope)):
            await self.app(scope, receive, send)
