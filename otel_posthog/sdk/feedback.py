"""Scores and feedback of the application: `$ai_metric` and `$ai_feedback` on a trace or generation."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from otel_posthog.conversion.context_attributes import CONTEXT, PARENT_ID, PROPERTY, inherited
from otel_posthog.conversion.model_call import Evaluation, Feedback, Kind
from otel_posthog.conversion.spans.sdk_span import attributes_of
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.forwarder import active_forwarder
from otel_posthog.runtime.log import warn_once
from otel_posthog.sdk.context.ai_context import current_attributes
from otel_posthog.sdk.context.posthog_sdk import posthog_attributes

__all__ = ["capture_feedback", "capture_metric", "current_trace_id"]

_TRACE_NAME = CONTEXT["trace_name"][0]
_USER = CONTEXT["distinct_id"][0]
_NO_TRACE = "%s: no trace is under way: give trace_id=, as current_trace_id() returned it inside of one."
_NOBODY_SENDS = (
    "%s: nothing is set up that sends to PostHog: call configure() or attach PostHogSpanProcessor(). If you"
    " did, an earlier warning names the problem with the key or the endpoint."
)


def current_trace_id() -> str | None:
    """Return the trace id for a front end that asks for feedback later; None outside of a trace.

    It is the `trace_id` of the `ai_context` in force, else OpenTelemetry's, 32 hexadecimal digits.
    """
    named = current_attributes().get(_TRACE_NAME)
    if named is not None:
        return str(named)
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None


def capture_metric(
    name: str,
    value: float | str | bool,
    *,
    trace_id: str | None = None,
    generation_id: str | None = None,
    user_id: str | int | None = None,
    properties: Mapping[str, Any] | None = None,
) -> bool:
    """Send `$ai_metric`: a score of an answer or a trace, such as `("relevance", 0.8)` or `("tone", "rude")`.

    It has the user, session, groups and feature of the `ai_context` in force.

    Args:
        name: the name of the score (`$ai_metric_name`).
        value: a number, a word, or a boolean (`$ai_metric_value`).
        trace_id: the judged trace; by default the current one.
        generation_id: the `$ai_span_id` of the judged generation, if it was one.
        user_id: the user who judged; by default the user of the `ai_context`.
        properties: your own properties.

    Returns:
        Whether it was queued. If not, the reason is logged once.
    """
    number = None
    if not isinstance(value, str):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            warn_once(
                "metric",
                "capture_metric: the value of %r is neither a number nor a word; it is not sent.",
                name,
            )
            return False
    score = Evaluation(
        name=str(name), value=number, label=value if isinstance(value, str) else None, own=True
    )
    return _capture("capture_metric", score, trace_id, generation_id, user_id, properties)


def capture_feedback(
    text: str,
    *,
    trace_id: str | None = None,
    generation_id: str | None = None,
    user_id: str | int | None = None,
    properties: Mapping[str, Any] | None = None,
) -> bool:
    """Send `$ai_feedback`: the words of a person about an answer or a trace.

    The arguments are those of `capture_metric`. The text is sent even if content is hidden, since it was
    written to be read. An empty one is not sent.
    """
    if not str(text).strip():
        return False
    return _capture("capture_feedback", Feedback(str(text)), trace_id, generation_id, user_id, properties)


def _capture(
    what: str,
    score: Evaluation | Feedback,
    trace_id: str | None,
    generation_id: str | None,
    user_id: str | int | None,
    properties: Mapping[str, Any] | None,
) -> bool:
    try:
        forwarder = active_forwarder()
        if forwarder is None:
            warn_once(what, _NOBODY_SENDS, what)
            return False
        of_trace = trace_id or current_trace_id()
        if of_trace is None:
            warn_once(what + " trace", _NO_TRACE, what)
            return False
        attributes: dict[str, Any] = posthog_attributes()
        span: Any = trace.get_current_span()
        if span.is_recording() and hasattr(span, "attributes"):
            attributes.update(inherited(attributes_of(span)))
        attributes.update(current_attributes())
        attributes.update({PROPERTY + name: value for name, value in (properties or {}).items()})
        attributes[_TRACE_NAME] = str(of_trace)
        if user_id is not None:
            attributes[_USER] = str(user_id)
        if generation_id is not None:
            attributes[PARENT_ID] = str(generation_id)
        call = forwarder.read(_moment(attributes))
        forwarder.score(call._replace(kind=Kind.EVALUATION, evaluations=[score]))
    except Exception as error:  # noqa: BLE001  # never into the application
        warn_once(what, "%s failed (%s); please report this.", what, type(error).__name__)
        return False
    return True


def _moment(attributes: dict[str, Any]) -> SpanView:
    """Return a span of no length that carries the context; random ids make its event unique."""
    now = time.time_ns()
    return SpanView(
        name="score",
        kind="INTERNAL",
        trace_id=os.urandom(16).hex(),
        span_id=os.urandom(8).hex(),
        parent_id=None,
        start_ns=now,
        end_ns=now,
        status="UNSET",
        status_message=None,
        attributes=attributes,
        events=(),
        links=(),
        scope=None,
        scope_version=None,
        resource={},
    )
