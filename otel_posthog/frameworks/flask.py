"""Flask: call `init_app(app, user=...)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, g, request

from otel_posthog.frameworks.request_context import check_plain, request_context
from otel_posthog.sdk.context.ai_context import ai_context, current_attributes, restore

__all__ = ["endpoint", "init_app"]

_ENTERED = "_otel_posthog"


def endpoint() -> str | None:
    """Return the endpoint of the current request, as `url_for` knows it: `blueprint.function`."""
    return request.endpoint


def init_app(
    app: Flask,
    *,
    feature: Callable[[], str | None] = endpoint,
    user: Callable[[], str | int | None] = lambda: None,
) -> None:
    """Run every request in an `ai_context`, a streamed response until its end.

    `feature` and `user` are called before the view, with Flask's `request`, `session` and `g`: for instance
    `user=lambda: session.get("user_id")` or `lambda: current_user.get_id()`. If one fails, the request is
    served without its value.
    """
    check_plain(feature=feature, user=user)

    def enter() -> None:
        context = request_context(feature, user)
        context.__enter__()
        setattr(g, _ENTERED, context)

    def stream(response: Response) -> Response:
        context = g.get(_ENTERED)
        if context is not None and response.is_streamed and not response.direct_passthrough:
            # With the values that the view added by `update_ai_context`.
            response.response = _streamed(restore(current_attributes()), response.response)
        return response

    def leave(_: BaseException | None) -> None:
        context = g.pop(_ENTERED, None)
        if context is not None:
            context.__exit__(None, None, None)

    app.before_request(enter)
    app.after_request(stream)
    app.teardown_request(leave)


def _streamed(context: ai_context, body: Iterable[Any]) -> Iterable[Any]:
    """Yield the body, each step inside the context: it is made after the request was torn down."""

    @context
    def run() -> Any:
        yield from body

    return run()  # type: ignore[no-any-return]
