"""Other instrumentors of the same SDK: a call that one of them has a span for gets no second one.

Ours stands inside of theirs, at the SDK's one place of sending, so a neighbour that makes its span current
shows it there. `AdoptedSpan` then makes that span say what ours would say. What a neighbour tells besides
stays;
where both say something, what we read off the wire holds, and so do our status and our moment of ending for a
stream: neighbours end such spans too early (Logfire), too late or never (Traceloop, genai-openai), or call a
stream that the user has seen enough of an error (genai-openai).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, get_current_span, use_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from opentelemetry.trace import Span, Status

__all__ = [
    "AdoptedSpan",
    "borrow",
    "carried",
    "carried_async",
    "covers",
    "is_adopted",
    "scope",
    "suppresses_us",
    "without_neighbour",
]

SCOPES = (
    "opentelemetry.instrumentation.openai",  # Traceloop
    "opentelemetry.instrumentation.openai_v2",
    "opentelemetry.instrumentation.genai.openai",
    "openinference.instrumentation.openai",
    "logfire.openai",
    "opentelemetry.instrumentation.google_genai",
    "opentelemetry.instrumentation.google_generativeai",
    "openinference.instrumentation.google_genai",
    "logfire.google_genai",
)
"""The scopes, or packages of scopes, of instrumentors that make one span a call to a model.

Not their beginnings: those of `openai_agents` have spans for agents and tools.
"""

_PACKAGES = tuple(f"{name}." for name in SCOPES)
_KINDS = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind")
_AGENTS = frozenset({"agent", "invoke_agent"})
_OTHERS = _AGENTS | {
    *("tool", "execute_tool", "chain", "workflow", "invoke_workflow", "task", "create_agent"),
    *("retriever", "reranker", "guardrail", "evaluator", "prompt"),
}
"""What a span says of itself that has calls to models inside, and is none."""

_borrowed: weakref.WeakSet[Any] = weakref.WeakSet()


def borrow(span: Span, operation: str) -> AdoptedSpan | None:
    """The span as ours, if a neighbour has opened it for the call that is being sent now."""
    if not _is_neighbours(span) or not span.is_recording():
        return None
    inner = _inner(span)
    if inner in _borrowed or _is_around(inner, operation):
        return None
    _borrowed.add(inner)
    return AdoptedSpan(inner)


def carried(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    """Call a method that gives a generator; a neighbour's span that is current now is so in its steps too.

    OpenInference's is current for the call only, and Gemini's requests go out with the first chunk.
    """
    span, stream = get_current_span(), wrapped(*args, **kwargs)
    return _steps(stream, span) if _is_neighbours(span) else stream


async def carried_async(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    """Do the same with a method that is awaited for an asynchronous generator."""
    span, stream = get_current_span(), await wrapped(*args, **kwargs)
    return _async_steps(stream, span) if _is_neighbours(span) else stream


def _steps(stream: Any, span: Span) -> Iterator[Any]:
    try:
        while True:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                chunk = next(stream, _END)
            if chunk is _END:
                return
            yield chunk
    finally:
        stream.close()


async def _async_steps(stream: Any, span: Span) -> AsyncIterator[Any]:
    try:
        while True:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                chunk = await anext(stream, _END)
            if chunk is _END:
                return
            yield chunk
    finally:
        await stream.aclose()


_END = object()


def is_adopted(span: Span) -> bool:
    """Whether the span is a neighbour's that one of our calls completes."""
    return _is_neighbours(span) and _inner(span) in _borrowed


def _is_neighbours(span: Span) -> bool:
    name = scope(span)
    return name in SCOPES or name.startswith(_PACKAGES)


def _is_around(span: Any, operation: str) -> bool:
    """Whether the span says that it is a tool or an agent that calls models, unless we call an agent."""
    others = _OTHERS - _AGENTS if operation == "invoke_agent" else _OTHERS
    attributes = getattr(span, "attributes", None) or {}
    return any(str(attributes.get(name)).lower() in others for name in _KINDS)


def _inner(span: Any) -> Any:
    # OpenInference and Logfire put an object of their own around the SDK's.
    while (deeper := getattr(span, "__wrapped__", None) or getattr(span, "span", None)) is not None:
        span = deeper
    return span


def suppresses_us(span: Span) -> bool:
    """Whether it is a neighbour and not the user who asked for silence: Logfire does, around its own call."""
    return span.is_recording() and scope(span).startswith("logfire.")


def scope(span: Span) -> str:
    """The name of the instrumentation that has opened the span."""
    return getattr(getattr(span, "instrumentation_scope", None), "name", "")


def covers(function: Any) -> bool:
    """Whether a neighbour hides in this function, out of reach, and would open its span inside of ours.

    Logfire replaces the method by a closure; wrappers of wrapt can be reached into (see `patches`).
    """
    return getattr(function, "__wrapped__", None) is not None


def without_neighbour(stream_class: Any) -> Any:
    """The SDK's class of streams: Logfire's subclass of it would report the call a second time."""
    if not getattr(stream_class, "__module__", "").startswith("logfire"):
        return stream_class
    return next(iter(getattr(stream_class, "__orig_bases__", ())), stream_class)


class AdoptedSpan:
    """A neighbour's span. It may write to it until it ends it; the last word, and status, are ours."""

    __slots__ = ("_facts", "_held", "_owner_ended", "span")

    def __init__(self, span: Any) -> None:
        self.span = span
        self._facts: dict[str, Any] = {}
        self._held = False
        self._owner_ended = False
        if span.kind is not SpanKind.CLIENT:
            span._kind = SpanKind.CLIENT  # OpenInference says INTERNAL; OpenTelemetry has no setter
        # On the instance, above the methods of its class, which we go on using.
        span.end = self._end_of_owner
        span.set_status = span.record_exception = _ignored
        span.set_attribute = self._set_attribute
        span.set_attributes = self._set_attributes

    def hold(self) -> None:
        """Keep the span open past its owner's end: a stream is still to be read."""
        self._held = True

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Put our attributes onto the span, now and once more at its end."""
        self._facts.update(attributes)
        type(self.span).set_attributes(self.span, attributes)

    def set_status(self, status: Status) -> None:
        """Set the status; the owner's is never heard."""
        type(self.span).set_status(self.span, status)

    def finished(self, *, now: bool) -> None:
        """Our part is over. The owner ends the span, but for `now`: then it will not hear in time."""
        self._held = False
        if now or self._owner_ended:
            self._end(None)

    def _end_of_owner(self, end_time: int | None = None) -> None:
        self._owner_ended = True
        if not self._held:
            self._end(end_time)

    def _end(self, end_time: int | None) -> None:
        span = self.span
        for name in ("end", "set_status", "record_exception", "set_attribute", "set_attributes"):
            vars(span).pop(name, None)
        span.set_attributes(self._facts)
        # In nobody's context: Logfire exports nothing that ends while it has instrumentation suppressed.
        token = context_api.attach(Context())
        try:
            span.end(end_time)
        finally:
            context_api.detach(token)
        # What the owner still wants to say, OpenTelemetry would warn about.
        for name in ("end", "set_status", "record_exception", "set_attribute", "set_attributes", "add_event"):
            setattr(span, name, _ignored)

    def _set_attribute(self, name: str, value: Any) -> None:
        if name == "error.type" or (name == _REASONS and [*value] == ["error"]):
            return  # a stream that the user has left is no error; of one that failed we say so
        type(self.span).set_attribute(self.span, name, value)

    def _set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            self._set_attribute(name, value)


_REASONS = "gen_ai.response.finish_reasons"


def _ignored(*_: Any, **__: Any) -> None:
    """Take what the owner says and do nothing."""
