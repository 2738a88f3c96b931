"""The span of one call to a model: opened with its request, filled with its response, ended exactly once.

Both SDKs share it. A `CallSpan` either owns its span, or completes the span that another instrumentor has
opened for the same call (`coexistence`); the attributes that we read off the wire are the same either way.
"""

from __future__ import annotations

import logging
import os
import re
import time
import traceback
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import SpanKind, Status, StatusCode

from instrumentors.common.attributes import HTTP_STATUS
from instrumentors.common.coexistence import AdoptedSpan, adopt, is_suppressed_by_instrumentor
from otel_posthog.sdk.context.ai_context import current_attributes, detach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from opentelemetry.trace import Span, Tracer

Attributes = dict[str, Any]

logger = logging.getLogger("otel_posthog")

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_YES = frozenset({"", "1", "true", "yes", "on", "span_only", "event_only", "span_and_event"})
_NO = frozenset({"0", "false", "no", "off", "no_content"})
# Set by instrumentors of frameworks (LangChain, LlamaIndex) that have a span for the call already.
_LANGUAGE_MODEL_SUPPRESSED = "suppress_language_model_instrumentation"
_DESCRIPTION_LIMIT = 1000
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OTHER = "_OTHER"  # the conventions' word for an error without a name


def captures_content(option: bool | None) -> bool:
    """Whether prompts and answers go onto spans: the argument, else the environment variable, else yes.

    An unknown word may be a mistyped no, so it captures nothing. `otel_posthog.config.resolve` reads the
    variable alike.
    """
    if option is not None:
        return option
    word = os.environ.get(CAPTURE_CONTENT, "").strip().lower()
    if word not in _YES | _NO:
        warn_once(
            "%s is not usable: true or false is expected; until it is, no content is captured",
            CAPTURE_CONTENT,
        )
    return word in _YES


@lru_cache(maxsize=256)
def warn_once(message: str, *values: str) -> None:
    """Log a warning the first time in this process."""
    logger.warning(message, *values)


def is_suppressed() -> bool:
    """Whether the caller wants no spans here, as with `suppress_instrumentation()`."""
    if is_instrumentation_enabled() and not context_api.get_value(_LANGUAGE_MODEL_SUPPRESSED):
        return False
    return not is_suppressed_by_instrumentor(trace.get_current_span())


def read_safely(reader: Callable[..., Attributes], *args: Any) -> Attributes:
    """Return the attributes that `reader` reads from foreign data; if it raises, none.

    None and an empty text mean that a value is missing: Azure's first chunk has an empty id and model.
    """
    attributes = read_piece(reader, *args) or {}
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def read_piece(reader: Callable[..., Any], *args: Any) -> Any:
    """Return one piece that `reader` reads from foreign data; None if it raises, so the others are kept."""
    try:
        return reader(*args)
    except Exception as error:  # noqa: BLE001 - whatever the data is, the user's call goes on
        name = getattr(reader, "__name__", "")
        logger.debug("otel-posthog could not read a call (%s): %s", name, type(error).__name__)
        return None


def read_pieces(reader: Callable[[Any], Any], pieces: Iterable[Any]) -> list[Any]:
    """Return the pieces that can be read, and are not None."""
    return [value for piece in pieces if (value := read_piece(reader, piece)) is not None]


def error_attributes(error: BaseException) -> Attributes:
    """Return an error's name (of Gemini's the HTTP code, of others the class) and its HTTP status."""
    code, status = getattr(error, "code", None), getattr(error, "status_code", None)
    if type(code) is int and code >= 400:  # codes of closed sockets, beyond HTTP's, name the error as well
        return {"error.type": str(code), HTTP_STATUS: code}
    attributes: Attributes = {"error.type": type(error).__name__}
    if type(status) is int:
        attributes[HTTP_STATUS] = status
    return attributes


def _exception_attributes(error: BaseException, *, content: bool) -> Attributes:
    """Return the attributes of OpenTelemetry's exception event; message and stack can quote the prompt."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if not content:
        return {"exception.type": name}
    return {
        "exception.type": name,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
        "exception.escaped": "False",
    }


def encodable(value: Any) -> Any:
    """Return text, or texts, that UTF-8 can encode: half a surrogate pair fails an exporter's whole batch."""
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    return [encodable(one) for one in value] if isinstance(value, (list, tuple)) else value


def sanitized(attributes: Mapping[str, Any], *, content: bool) -> Attributes:
    """Return attributes that a span may carry: text that can be encoded, an error's name, an HTTP status.

    A service's error code can be any text; without `content`, one that does not look like a code becomes
    `_OTHER`.
    """
    safe = {encodable(name): encodable(value) for name, value in attributes.items()}
    if "error.type" in safe:
        kind = str(safe["error.type"])
        safe["error.type"] = kind if content or _CODE.fullmatch(kind) else _OTHER
    status = safe.get(HTTP_STATUS)
    if status is not None and not (type(status) is int and 100 <= status <= 599):
        del safe[HTTP_STATUS]
    return safe


def _wall_clock(moment: float) -> int:
    """Return a moment of `time.perf_counter()` in nanoseconds since 1970, as spans have it."""
    return time.time_ns() - int((time.perf_counter() - moment) * 1e9)


class CallSpan:
    """The span of one call to a model: our own, or one that another instrumentor opened for the same call.

    `content` is whether prompts and answers may go onto it. `recording` is False if the span was sampled out:
    then nothing needs to be read.
    """

    __slots__ = (
        "_adopted",
        "_ended",
        "_finished",
        "_first_chunk",
        "_span",
        "_started",
        "content",
        "recording",
        "suppresses_others",
    )

    def __init__(self, span: Span, adopted: AdoptedSpan | None, *, content: bool) -> None:
        self._span, self._adopted = span, adopted
        self._started, self._first_chunk, self._ended = time.perf_counter(), 0.0, False
        self._finished: float | None = None
        self.content = content
        self.recording = span.is_recording()
        self.suppresses_others = False
        """Whether instrumentors inside our wrapper must not open a second span."""

    @classmethod
    def open(
        cls, tracer: Tracer, attributes: Attributes, *, content: bool, started: float | None = None
    ) -> CallSpan:
        """Open a span, or adopt the current one of another instrumentor; samplers see our whole request.

        `started` is the `time.perf_counter()` of a call that began before it was known to be one.
        """
        target = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.agent.name", "")
        name = f"{attributes['gen_ai.operation.name']} {target}".rstrip()
        context = current_attributes()  # for exporters without our processor
        if context:
            attributes = {**context, **attributes}
        name, attributes = encodable(name), sanitized(attributes, content=content)
        span = trace.get_current_span()
        if span.is_recording() and (adopted := adopt(span, attributes["gen_ai.operation.name"])) is not None:
            span.update_name(name)
            adopted.set_attributes(attributes)
            return cls(span, adopted, content=content)
        start_time = None if started is None else _wall_clock(started)
        span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=start_time)
        call = cls(span, None, content=content)
        call._started = call._started if started is None else started
        return call

    def enter(self) -> Any:
        """Make the span current while the SDK works; return the token for `leave`."""
        if self._adopted is not None:
            return None
        context = trace.set_span_in_context(self._span)
        if self.suppresses_others:
            context = context_api.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, context)
        return context_api.attach(context)

    def leave(self, token: Any) -> None:
        """Make the caller's span current again."""
        if token is not None:
            detach(token)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes if the span can still take them."""
        if attributes and self._span.is_recording():
            self._set(sanitized(attributes, content=self.content))

    def _set(self, attributes: Attributes) -> None:
        (self._adopted or self._span).set_attributes(attributes)

    def keep_open(self) -> None:
        """Keep an adopted span open until the stream of the answer has been read."""
        if self._adopted is not None:
            self._adopted.keep_open()

    def note_chunk(self) -> None:
        """Note the time of a stream's first chunk."""
        if not self._first_chunk:
            self._first_chunk = time.perf_counter()

    def note_last_chunk(self) -> None:
        """Note the time of a stream's last chunk, if the span has to stay open after it."""
        self._finished = time.perf_counter()

    def end(self, attributes: Attributes, description: str = "", *, abandoned: bool = False) -> None:
        """Add the response and end the span. An ``error.type`` among `attributes` makes it an error.

        If a stream was `abandoned`, the owner of an adopted span would end it too late, so we do. No
        exception in here, for example of a span processor, reaches the caller.
        """
        if self._ended:
            return
        self._ended = True
        try:
            try:
                self._set_outcome(attributes, description)
            finally:
                if self._adopted is not None:
                    self._adopted.release(end_now=abandoned)
                else:
                    self._span.end(None if self._finished is None else _wall_clock(self._finished))
        except Exception as error:  # noqa: BLE001 - the call is the user's, whatever becomes of its span
            logger.debug("otel-posthog could not end a span: %s", type(error).__name__)

    def _set_outcome(self, attributes: Attributes, description: str) -> None:
        if self._first_chunk:
            attributes["gen_ai.response.time_to_first_chunk"] = self._first_chunk - self._started  # seconds
            last_chunk = time.perf_counter() if self._finished is None else self._finished
            attributes["posthog.stream.duration"] = last_chunk - self._first_chunk
        if self._span.is_recording():
            safe = sanitized(attributes, content=self.content)
            self._set(safe)
            if "error.type" in safe:
                text = encodable(description) if self.content else ""
                (self._adopted or self._span).set_status(Status(StatusCode.ERROR, text or safe["error.type"]))

    def fail(self, error: BaseException, attributes: Attributes | None = None) -> None:
        """End the span with an error, and with the attributes that were read before it."""
        if self._ended:
            return
        attributes = {**(attributes or {}), "error.type": type(error).__name__}
        attributes.pop("error.message", None)  # the description has the error's own
        description = ""
        try:
            attributes.update(error_attributes(error))
            if self._span.is_recording():
                description = self._record(error)
        except Exception as unreadable:  # noqa: BLE001 - an error's own text can raise
            logger.debug("otel-posthog could not read an error: %s", type(unreadable).__name__)
        # Some instrumentors do not see a cancelled call and would leave its span open for ever.
        self.end(attributes, description, abandoned=not isinstance(error, Exception))

    def _record(self, error: BaseException) -> str:
        """Record the exception and return the description for the status."""
        # Not by `record_exception`: an adopted span ignores it, and it does not make text encodable.
        attributes = _exception_attributes(error, content=self.content)
        self._span.add_event("exception", {name: encodable(value) for name, value in attributes.items()})
        return str(getattr(error, "message", None) or error)[:_DESCRIPTION_LIMIT] if self.content else ""


class SdkRequest(Protocol):
    """A request on its way through an SDK's one place of sending."""

    call: CallSpan
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def should_retry(self, error: Exception, /) -> bool:
        """Whether to send once more; `args` and `kwargs` then hold the new request."""

    def handle_result(self, result: Any) -> Any:
        """End the call, or follow its stream, and return the user's result."""


def send_in_span(wrapped: Callable[..., Any], request: SdkRequest) -> Any:
    """Send a request within its span."""
    call = request.call
    token = call.enter()
    try:
        try:
            result = wrapped(*request.args, **request.kwargs)
        except Exception as error:
            if not request.should_retry(error):
                raise
            result = wrapped(*request.args, **request.kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        call.leave(token)
    return request.handle_result(result)


async def send_in_span_async(wrapped: Callable[..., Awaitable[Any]], request: SdkRequest) -> Any:
    """Send a request within its span, as `send_in_span` does."""
    call = request.call
    token = call.enter()
    try:
        try:
            result = await wrapped(*request.args, **request.kwargs)
        except Exception as error:
            if not request.should_retry(error):
                raise
            result = await wrapped(*request.args, **request.kwargs)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        call.leave(token)
    return request.handle_result(result)
