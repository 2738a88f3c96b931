"""The span of one call to a model: opened with its request, filled with its response, ended exactly once.

Both SDKs share it. A `Call` either owns its span, or completes the span that another instrumentor has opened
for the same call (`adopt`); what is read from the wire is the same either way.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_posthog.sdk.context import current_attributes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from opentelemetry.trace import Span, Tracer

Attributes = dict[str, Any]

logger = logging.getLogger("otel_posthog")

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_NO = frozenset({"false", "no", "0", "off", "no_content"})
# Set by instrumentors of frameworks (LangChain, LlamaIndex) that have a span for the call already.
_LANGUAGE_MODEL_SUPPRESSED = "suppress_language_model_instrumentation"
_DESCRIPTION_LIMIT = 1000


def captures_content(option: bool | None) -> bool:
    """Say whether prompts and answers go onto spans: the argument, else the environment, else yes."""
    if option is not None:
        return option
    return os.environ.get(CAPTURE_CONTENT, "").strip().lower() not in _NO


def suppressed() -> bool:
    """Say whether the caller asked for no spans here, as `suppress_instrumentation()` does."""
    return not is_instrumentation_enabled() or bool(context_api.get_value(_LANGUAGE_MODEL_SUPPRESSED))


def read(reader: Callable[..., Attributes], *args: Any) -> Attributes:
    """Read attributes from foreign data; what cannot be read is left out and never reaches the caller."""
    try:
        return {name: value for name, value in reader(*args).items() if value is not None}
    except Exception as error:  # noqa: BLE001 - whatever the data is, the user's call goes on
        logger.debug("otel-posthog could not read a call (%s): %s", reader.__name__, type(error).__name__)
        return {}


def error_facts(error: BaseException) -> Attributes:
    """Name an error: Gemini's by HTTP code, others by class, with the HTTP status where there is one."""
    code, status = getattr(error, "code", None), getattr(error, "status_code", None)
    if type(code) is int:
        return {"error.type": str(code), "posthog.http.status": code}
    facts: Attributes = {"error.type": type(error).__name__}
    if type(status) is int:
        facts["posthog.http.status"] = status
    return facts


class Call:
    """One call to a model as a span.

    `content` says whether prompts and answers may be put onto it. `recording` is false for a span that was
    sampled out: then nothing needs to be read.
    """

    __slots__ = ("_ended", "_first", "_owned", "_span", "_started", "content", "recording")

    def __init__(self, span: Span, *, content: bool, owned: bool) -> None:
        self._span, self._owned = span, owned
        self._started, self._first, self._ended = time.perf_counter(), 0.0, False
        self.content = content
        self.recording = span.is_recording()

    @classmethod
    def open(cls, tracer: Tracer, attributes: Attributes, *, content: bool) -> Call:
        """Open a span of our own; samplers and processors see the whole request."""
        name = f"{attributes['gen_ai.operation.name']} {attributes.get('gen_ai.request.model', '')}".rstrip()
        attributes = {**current_attributes(), **attributes}  # for exporters without our processor
        span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        return cls(span, content=content, owned=True)

    @classmethod
    def adopt(cls, span: Span, attributes: Attributes, *, content: bool) -> Call:
        """Complete a span that somebody else has opened for this call and will end."""
        call = cls(span, content=content, owned=False)
        name = f"{attributes['gen_ai.operation.name']} {attributes.get('gen_ai.request.model', '')}".rstrip()
        span.update_name(name)
        call.fill({**current_attributes(), **attributes})
        return call

    def enter(self) -> Any:
        """Make the span current while the SDK works; give the token to `leave`."""
        return context_api.attach(trace.set_span_in_context(self._span)) if self._owned else None

    def leave(self, token: Any) -> None:
        """Make the caller's span current again."""
        if token is not None:
            context_api.detach(token)

    def fill(self, attributes: Mapping[str, Any]) -> None:
        """Put attributes onto the span if it can still take them."""
        if attributes and self._span.is_recording():
            self._span.set_attributes(dict(attributes))

    def chunk(self) -> None:
        """Note that a chunk of a stream came; the first one's delay in seconds is an attribute."""
        if not self._first:
            self._first = time.perf_counter()
            self.fill({"gen_ai.response.time_to_first_chunk": self._first - self._started})

    def finish(self, attributes: Attributes, description: str = "") -> None:
        """Fill in the response and end the span. An ``error.type`` among `attributes` makes it an error."""
        if self._ended:
            return
        self._ended = True
        if self._first:
            attributes["posthog.stream.duration"] = time.perf_counter() - self._first
        self.fill(attributes)
        if "error.type" in attributes:
            self._set_error(description or str(attributes["error.type"]))
        if self._owned:
            getattr(self._span, "__dict__", {}).pop("end", None)  # see take_over
            self._span.end()

    def fail(self, error: BaseException, attributes: Attributes | None = None) -> None:
        """End the span with an error, keeping what was read until then."""
        if self._ended:
            return
        facts = {**(attributes or {}), **error_facts(error)}
        description = str(facts["error.type"])
        if self._span.is_recording():
            if self.content:
                self._span.record_exception(error)
                description = (
                    str(getattr(error, "message", None) or error)[:_DESCRIPTION_LIMIT] or description
                )
            else:
                # Messages and stack traces can quote the prompt.
                kind = f"{type(error).__module__}.{type(error).__qualname__}"
                self._span.add_event("exception", {"exception.type": kind})
        self.finish(facts, description)
        if not self._owned and not isinstance(error, Exception):
            # Traceloop does not see a cancelled call and would leave its span open for ever.
            self._span.end()

    def before_end(self, complete: Callable[[], None]) -> None:
        """Have `complete` run right before the owner of an adopted span ends it.

        The owner of a stream's span ends it inside its own proxy, sometimes before ours hears of it.
        """
        if self._owned:
            return
        span: Any = self._span

        def end(end_time: int | None = None) -> None:
            del span.end
            complete()
            if span.is_recording():
                span.end(end_time)

        span.end = end

    def end_for_owner(self) -> None:
        """End an adopted span now: its owner would hear too late that nobody reads on."""
        if not self._owned and self._span.is_recording():
            span: Any = self._span
            vars(span).pop("end", None)
            span.end()
            # What the owner still wants to say, OpenTelemetry would warn about.
            for name in _CHANGES:
                setattr(span, name, _ignore)

    def take_over(self) -> None:
        """Take the ending of an adopted span away from its owner, who would end it too early."""
        if not self._owned:
            span: Any = self._span
            span.end = _ignore
            self._owned = True

    def _set_error(self, description: str) -> None:
        span: Any = self._span
        if not span.is_recording():
            return
        span.set_status(Status(StatusCode.ERROR, description))
        if not self._owned:
            # The owner would go on to set OK, which in OpenTelemetry wins over ERROR, or to record the
            # exception again, with content that may not be there.
            span.set_status = span.record_exception = _ignore


_CHANGES = ("end", "set_attribute", "set_attributes", "set_status", "add_event", "record_exception")


def _ignore(*_: Any, **__: Any) -> None:
    """Take a call and do nothing."""


class Attempt(Protocol):
    """A request on its way through an SDK's one place of sending."""

    call: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def again(self, error: Exception, /) -> bool:
        """Say whether to send once more; `args` are then what to send."""

    def answered(self, result: Any) -> Any:
        """Take the result, end or follow the call, and give what the user gets."""


def send(wrapped: Callable[..., Any], attempt: Attempt) -> Any:
    """Send a request within its span."""
    call = attempt.call
    token = call.enter()
    try:
        try:
            result = wrapped(*attempt.args, **attempt.kwargs)
        except Exception as error:
            if not attempt.again(error):
                raise
            result = wrapped(*attempt.args, **attempt.kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        call.leave(token)
    return attempt.answered(result)


async def send_async(wrapped: Callable[..., Awaitable[Any]], attempt: Attempt) -> Any:
    """Send a request within its span; what `send` does, awaited."""
    call = attempt.call
    token = call.enter()
    try:
        try:
            result = await wrapped(*attempt.args, **attempt.kwargs)
        except Exception as error:
            if not attempt.again(error):
                raise
            result = await wrapped(*attempt.args, **attempt.kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        call.leave(token)
    return attempt.answered(result)
