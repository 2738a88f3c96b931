"""Other instrumentors of the same SDK: a call that has a span from one of them gets no second one.

Our wrappers stand inside theirs, at the SDK's one place of sending, where the span that another instrumentor
has made current can be seen. An `AdoptedSpan` makes that span carry everything that ours would. Attributes
that only the other instrumentor writes stay. If both write one, ours wins, because we read it off the wire.
Our status wins as well, and for a stream the moment of our end: others end such spans too early (Logfire),
too late or never (Traceloop, genai-openai), or report an abandoned stream as an error (genai-openai).
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
"""The scopes, or packages of scopes, of instrumentors that make one span per call to a model.

They are not prefixes of names: `openai_agents`, for example, has spans of agents and tools.
"""

_PACKAGES = tuple(f"{name}." for name in SCOPES)
_KINDS = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind")
_AGENTS = frozenset({"agent", "invoke_agent"})
_STRUCTURE = _AGENTS | {
    *("tool", "execute_tool", "chain", "workflow", "invoke_workflow", "task", "create_agent"),
    *("retriever", "reranker", "guardrail", "evaluator", "prompt"),
}
"""Kinds of spans that have calls to models inside and are none themselves."""

_adopted: weakref.WeakSet[Any] = weakref.WeakSet()


def adopt(span: Span, operation: str) -> AdoptedSpan | None:
    """Adopt the span if another instrumentor has opened it for the call that is being sent now."""
    if not _is_of_other_instrumentor(span) or not span.is_recording():
        return None
    sdk_span = _unwrapped(span)
    if sdk_span in _adopted or _is_structure(sdk_span, operation):
        return None
    _adopted.add(sdk_span)
    return AdoptedSpan(sdk_span)


def keep_span_current(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    """Call a method that returns a generator; keep another instrumentor's current span current in its steps.

    OpenInference's span is current during the call only, and Gemini's requests are sent with the first chunk.
    """
    span, stream = get_current_span(), wrapped(*args, **kwargs)
    return _steps(stream, span) if _is_of_other_instrumentor(span) else stream


async def keep_span_current_async(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
    """Do the same for a method that is awaited for an asynchronous generator."""
    span, stream = get_current_span(), await wrapped(*args, **kwargs)
    return _async_steps(stream, span) if _is_of_other_instrumentor(span) else stream


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
    """Whether the span is another instrumentor's and one of our calls completes it."""
    return _is_of_other_instrumentor(span) and _unwrapped(span) in _adopted


def _is_of_other_instrumentor(span: Span) -> bool:
    name = scope_name(span)
    return name in SCOPES or name.startswith(_PACKAGES)


def _is_structure(span: Any, operation: str) -> bool:
    """Whether the span is of a tool, or of an agent unless the call is one to an agent."""
    kinds = _STRUCTURE - _AGENTS if operation == "invoke_agent" else _STRUCTURE
    attributes = getattr(span, "attributes", None) or {}
    return any(str(attributes.get(name)).lower() in kinds for name in _KINDS)


def _unwrapped(span: Any) -> Any:
    # OpenInference and Logfire put an object of their own around the SDK's.
    while (inner := getattr(span, "__wrapped__", None) or getattr(span, "span", None)) is not None:
        span = inner
    return span


def is_suppressed_by_instrumentor(span: Span) -> bool:
    """Whether another instrumentor suppressed spans, not the application: Logfire does around its calls."""
    return span.is_recording() and scope_name(span).startswith("logfire.")


def scope_name(span: Span) -> str:
    """Return the name of the instrumentation that has opened the span."""
    return getattr(getattr(span, "instrumentation_scope", None), "name", "")


def has_hidden_wrapper(function: Any) -> bool:
    """Whether another instrumentor's wrapper is inside this function, and would open its span inside ours.

    Logfire replaces the method by a closure; our wrappers can get inside those of wrapt (see `patching`).
    """
    return getattr(function, "__wrapped__", None) is not None


def original_stream_class(stream_class: Any) -> Any:
    """Return the SDK's class of streams: Logfire's subclass of it would report the call a second time."""
    if not getattr(stream_class, "__module__", "").startswith("logfire"):
        return stream_class
    return next(iter(getattr(stream_class, "__orig_bases__", ())), stream_class)


class AdoptedSpan:
    """Another instrumentor's span; its owner may write until its end, but our values and status win."""

    __slots__ = ("_attributes", "_kept_open", "_owner_ended", "span")

    def __init__(self, span: Any) -> None:
        self.span = span
        self._attributes: dict[str, Any] = {}
        self._kept_open = False
        self._owner_ended = False
        if span.kind is not SpanKind.CLIENT:
            span._kind = SpanKind.CLIENT  # OpenInference sets INTERNAL; OpenTelemetry has no setter
        # Set on the instance; we go on using the methods of its class.
        span.end = self._end_of_owner
        span.set_status = span.record_exception = _ignore
        span.set_attribute = self._set_attribute
        span.set_attributes = self._set_attributes

    def keep_open(self) -> None:
        """Keep the span open past its owner's end: a stream is still to be read."""
        self._kept_open = True

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set our attributes on the span, now and once more at its end."""
        self._attributes.update(attributes)
        type(self.span).set_attributes(self.span, attributes)

    def set_status(self, status: Status) -> None:
        """Set the status; the owner's is ignored."""
        type(self.span).set_status(self.span, status)

    def release(self, *, end_now: bool) -> None:
        """Leave the end to the owner, unless it has ended the span already or would do so too late."""
        self._kept_open = False
        if end_now or self._owner_ended:
            self._end(None)

    def _end_of_owner(self, end_time: int | None = None) -> None:
        self._owner_ended = True
        if not self._kept_open:
            self._end(end_time)

    def _end(self, end_time: int | None) -> None:
        span = self.span
        for name in ("end", "set_status", "record_exception", "set_attribute", "set_attributes"):
            vars(span).pop(name, None)
        span.set_attributes(self._attributes)
        # In an empty context: Logfire exports no span that ends while it suppresses instrumentation.
        token = context_api.attach(Context())
        try:
            span.end(end_time)
        finally:
            context_api.detach(token)
        # OpenTelemetry would warn about every later call of the owner.
        for name in ("end", "set_status", "record_exception", "set_attribute", "set_attributes", "add_event"):
            setattr(span, name, _ignore)

    def _set_attribute(self, name: str, value: Any) -> None:
        if name == "error.type" or (name == _REASONS and [*value] == ["error"]):
            return  # an abandoned stream is no error; for one that failed we set them ourselves
        type(self.span).set_attribute(self.span, name, value)

    def _set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            self._set_attribute(name, value)


_REASONS = "gen_ai.response.finish_reasons"


def _ignore(*_: Any, **__: Any) -> None:
    """Do nothing, in place of a method of the owner's."""
