"""One call on its way through google-genai: how often it was sent, and by what name its error goes."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from instrumentors.common.call_span import Attributes, Call
from otel_posthog.sdk.context.ai_context import detach

if TYPE_CHECKING:
    from collections.abc import Callable

_current: ContextVar[GeminiCall | None] = ContextVar("otel_posthog_gemini_call", default=None)
_REQUEST_IDS = frozenset({"x-request-id", "x-goog-request-id"})


class GeminiCall(Call):
    """A call whose single tries can be counted from inside the SDK, where its retries are made."""

    __slots__ = ("response", "tries")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tries = 0
        self.response: Any = None
        """The HTTP response, where the SDK shows it nowhere else."""

    def enter(self) -> Any:
        """Make the span current, and the call known to `current`."""
        return super().enter(), _current.set(self)

    def leave(self, token: Any) -> None:
        """Make the caller's span current again."""
        if token is not None:
            span, call = token
            detach(call)
            super().leave(span)

    def finish(self, attributes: Attributes, description: str = "", *, left: bool = False) -> None:
        """End the span; Gemini's errors go by their HTTP code."""
        if self.tries > 1:
            attributes["posthog.retry.count"] = self.tries - 1
        status = attributes.get("posthog.http.status")
        if "error.type" in attributes and type(status) is int and status >= 400:
            attributes["error.type"] = str(status)
        super().finish(attributes, description, left=left)

    def fail(self, error: BaseException, attributes: Attributes | None = None) -> None:
        """End the span with an error, keeping what was read until then."""
        headers = getattr(getattr(error, "response", None), "headers", None)
        facts = {**(attributes or {}), **request_id(headers)}
        facts.pop("error.message", None)  # the error has its own
        super().fail(error, facts)


def current() -> GeminiCall | None:
    """Give the call that the SDK is working on here."""
    return _current.get()


def tried(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Wrap what the SDK does once per try, to count it."""
    if (call := _current.get()) is not None:
        call.tries += 1
    return wrapped(*args, **kwargs)


def request_id(headers: Any) -> Attributes:
    """Read the service's name for the request."""
    try:
        # Not every library's headers are found in any spelling.
        found = next((headers[name] for name in headers if name.lower() in _REQUEST_IDS), None)
    except Exception:  # noqa: BLE001 - there may be none, or something else in their place
        return {}
    return {"posthog.request.id": str(found)} if found else {}
