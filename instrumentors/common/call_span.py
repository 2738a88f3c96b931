"""The span of one call to a model: opened with its request, filled with its response, ended exactly once.

Both SDKs share it. A `Call` either owns its span, or completes the span that another instrumentor has opened
for the same call (`neighbours`); what is read from the wire is the same either way.
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

from instrumentors.common.coexistence import AdoptedSpan, borrow, suppresses_us
from otel_posthog.sdk.context.ai_context import current_attributes, detach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

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
    """Say whether prompts and answers go onto spans: the argument, else the environment, else yes.

    A word that nobody knows may be a mistyped no. `otel_posthog.config.options` reads the variable alike.
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
def warn_once(sentence: str, *values: str) -> None:
    """Warn the first time in this process."""
    logger.warning(sentence, *values)


def suppressed() -> bool:
    """Say whether the caller asked for no spans here, as `suppress_instrumentation()` does."""
    if is_instrumentation_enabled() and not context_api.get_value(_LANGUAGE_MODEL_SUPPRESSED):
        return False
    return not suppresses_us(trace.get_current_span())


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
    if type(code) is int and code >= 400:  # beyond HTTP's there are those of sockets
        return {"error.type": str(code), "posthog.http.status": code}
    facts: Attributes = {"error.type": type(error).__name__}
    if type(status) is int:
        facts["posthog.http.status"] = status
    return facts


def _exception_facts(error: BaseException, *, content: bool) -> Attributes:
    """Give what OpenTelemetry records of an exception; messages and stack traces can quote the prompt."""
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


def sound(value: Any) -> Any:
    """Give text, or texts, that UTF-8 can hold: half a surrogate pair costs an exporter its whole batch."""
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    return [sound(one) for one in value] if isinstance(value, (list, tuple)) else value


def fitting(attributes: Mapping[str, Any], *, content: bool) -> Attributes:
    """Give attributes as they may stand on a span: text that can be sent, and errors by name and number.

    What a service says as a code may be any text; with content off a code has to look like one.
    """
    facts = {sound(name): sound(value) for name, value in attributes.items()}
    if "error.type" in facts:
        kind = str(facts["error.type"])
        facts["error.type"] = kind if content or _CODE.fullmatch(kind) else _OTHER
    status = facts.get("posthog.http.status")
    if status is not None and not (type(status) is int and 100 <= status <= 599):
        del facts["posthog.http.status"]
    return facts


class Call:
    """One call to a model as a span: our own, or one that a neighbour has opened for the same call.

    `content` says whether prompts and answers may be put onto it. `recording` is false for a span that was
    sampled out: then nothing needs to be read.
    """

    __slots__ = ("_borrowed", "_ended", "_first", "_span", "_started", "alone", "content", "recording")

    def __init__(self, span: Span, borrowed: AdoptedSpan | None, *, content: bool) -> None:
        self._span, self._borrowed = span, borrowed
        self._started, self._first, self._ended = time.perf_counter(), 0.0, False
        self.content = content
        self.recording = span.is_recording()
        self.alone = False
        """Whether neighbours inside of us are to be kept from opening a second span."""

    @classmethod
    def open(cls, tracer: Tracer, attributes: Attributes, *, content: bool) -> Call:
        """Open a span, or borrow the neighbour's that is current; samplers see the whole request of ours."""
        whom = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.agent.name", "")
        name = f"{attributes['gen_ai.operation.name']} {whom}".rstrip()
        context = current_attributes()  # for exporters without our processor
        if context:
            attributes = {**context, **attributes}
        name, attributes = sound(name), fitting(attributes, content=content)
        span = trace.get_current_span()
        if (
            span.is_recording()
            and (borrowed := borrow(span, attributes["gen_ai.operation.name"])) is not None
        ):
            span.update_name(name)
            borrowed.set(attributes)
            return cls(span, borrowed, content=content)
        return cls(
            tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes), None, content=content
        )

    def enter(self) -> Any:
        """Make the span current while the SDK works; give the token to `leave`."""
        if self._borrowed is not None:
            return None
        context = trace.set_span_in_context(self._span)
        if self.alone:
            context = context_api.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, context)
        return context_api.attach(context)

    def leave(self, token: Any) -> None:
        """Make the caller's span current again."""
        if token is not None:
            detach(token)

    def fill(self, attributes: Mapping[str, Any]) -> None:
        """Put attributes onto the span if it can still take them."""
        if attributes and self._span.is_recording():
            self._set(fitting(attributes, content=self.content))

    def _set(self, facts: Attributes) -> None:
        if self._borrowed is not None:
            self._borrowed.set(facts)
        else:
            self._span.set_attributes(facts)

    def hold(self) -> None:
        """Keep a borrowed span open until the stream that was answered has been read."""
        if self._borrowed is not None:
            self._borrowed.hold()

    def first_chunk(self) -> None:
        """Note that a stream's first chunk came; its delay in seconds becomes an attribute."""
        self._first = time.perf_counter()

    def chunk(self) -> None:
        """Note that a chunk came."""
        if not self._first:
            self.first_chunk()

    def finish(self, attributes: Attributes, description: str = "", *, left: bool = False) -> None:
        """Fill in the response and end the span. An ``error.type`` among `attributes` makes it an error.

        `left`: nobody reads on, and the owner of a borrowed span would hear of it too late. Nothing that
        goes wrong here, in other people's span processors for one, reaches the caller.
        """
        if self._ended:
            return
        self._ended = True
        try:
            try:
                self._conclude(attributes, description)
            finally:
                self._end(left=left)
        except Exception as error:  # noqa: BLE001 - the call is the user's, whatever becomes of its span
            logger.debug("otel-posthog could not end a span: %s", type(error).__name__)

    def _conclude(self, attributes: Attributes, description: str) -> None:
        if self._first:
            attributes["gen_ai.response.time_to_first_chunk"] = self._first - self._started
            attributes["posthog.stream.duration"] = time.perf_counter() - self._first
        if self._span.is_recording():
            facts = fitting(attributes, content=self.content)
            self._set(facts)
            if "error.type" in facts:
                said = sound(description) if self.content else ""
                (self._borrowed or self._span).set_status(
                    Status(StatusCode.ERROR, said or facts["error.type"])
                )

    def _end(self, *, left: bool) -> None:
        if self._borrowed is not None:
            self._borrowed.finished(now=left)
        else:
            self._span.end()

    def fail(self, error: BaseException, attributes: Attributes | None = None) -> None:
        """End the span with an error, keeping what was read until then."""
        if self._ended:
            return
        facts: Attributes = {**(attributes or {}), "error.type": type(error).__name__}
        facts.pop("error.message", None)  # the error has its own
        description = ""
        try:
            facts.update(error_facts(error))
            if self._span.is_recording():
                description = self._record(error)
        except Exception as unreadable:  # noqa: BLE001 - an error's own text can raise
            logger.debug("otel-posthog could not read an error: %s", type(unreadable).__name__)
        # Some neighbours do not see a cancelled call and would leave its span open for ever.
        self.finish(facts, description, left=not isinstance(error, Exception))

    def _record(self, error: BaseException) -> str:
        # Not by `record_exception`, which neighbours are kept from and which takes any text.
        said = {name: sound(value) for name, value in _exception_facts(error, content=self.content).items()}
        self._span.add_event("exception", said)
        return str(getattr(error, "message", None) or error)[:_DESCRIPTION_LIMIT] if self.content else ""


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
