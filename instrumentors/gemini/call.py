"""One call on its way through google-genai: the number of its tries, and the name of its error."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, CallSpan
from otel_posthog.sdk.context.ai_context import detach

if TYPE_CHECKING:
    from collections.abc import Callable

_current: ContextVar[GeminiCallSpan | None] = ContextVar("otel_posthog_gemini_call", default=None)
_REQUEST_IDS = frozenset({"x-request-id", "x-goog-request-id"})


class GeminiCallSpan(CallSpan):
    """A call whose tries can be counted from inside the SDK, which retries there."""

    __slots__ = ("response", "tries")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tries = 0
        self.response: Any = None
        """The HTTP response, if the SDK's result does not hold it."""

    def enter(self) -> Any:
        """Make the span current, and the call the one that `current_call` returns."""
        return super().enter(), _current.set(self)

    def leave(self, token: Any) -> None:
        """Make the caller's span current again."""
        if token is not None:
            span, call = token
            detach(call)
            super().leave(span)

    def end(self, attributes: Attributes, description: str = "", *, abandoned: bool = False) -> None:
        """End the span; an error of Gemini's is named by its HTTP code."""
        if self.tries > 1:
            attributes[names.RETRY_COUNT] = self.tries - 1
        status = attributes.get(names.HTTP_STATUS)
        if "error.type" in attributes and type(status) is int and status >= 400:
            attributes["error.type"] = str(status)
        super().end(attributes, description, abandoned=abandoned)

    def fail(self, error: BaseException, attributes: Attributes | None = None) -> None:
        """End the span with an error, and with the attributes that were read before it."""
        headers = getattr(getattr(error, "response", None), "headers", None)
        super().fail(error, {**(attributes or {}), **request_id(headers)})


def current_call() -> GeminiCallSpan | None:
    """Return the call that the SDK is working on in this context."""
    return _current.get()


def count_try(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Wrap a method that the SDK calls once per try, to count the tries."""
    if (call := _current.get()) is not None:
        call.tries += 1
    return wrapped(*args, **kwargs)


def request_id(headers: Any) -> Attributes:
    """Return the service's name for the request."""
    try:
        # Not every library's headers ignore case.
        value = next((headers[name] for name in headers if name.lower() in _REQUEST_IDS), None)
    except Exception:  # noqa: BLE001 - there may be none, or something else in their place
        return {}
    return {names.REQUEST_ID: str(value)} if value else {}
