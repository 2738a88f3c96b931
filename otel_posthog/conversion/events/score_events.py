"""`$ai_metric` and `$ai_feedback`: what somebody said of an answer, a run or a trace."""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.events.event_envelope import (
    LIB,
    common_properties,
    make_event,
    person_properties,
    reported,
)
from otel_posthog.conversion.model_call import Evaluation, Feedback, Kind, ModelCall
from otel_posthog.runtime.version import __version__

__all__ = ["evaluation_events"]


def evaluation_events(call: ModelCall, *, content: bool) -> list[dict[str, Any]]:
    """One event a score, on the trace and span that were judged.

    `$ai_metric_value` is the number, else the word; an explanation may quote the answer and is content.
    """
    distinct_id, person = person_properties(call)
    judged: str | None = call.span_id
    if call.kind is Kind.EVALUATION:  # the span of whoever judged; the one above it was judged
        judged = call.context.parent_id or call.parent_id
    where = {
        "$ai_lib": LIB,
        "$ai_lib_version": __version__,
        "$ai_trace_id": call.trace_key,
        "$ai_span_id": judged,
        "$ai_session_id": call.context.conversation_id or call.context.chat_id,
    }
    made = []
    for place, score in enumerate(call.evaluations):
        name = "$ai_feedback" if isinstance(score, Feedback) else "$ai_metric"
        said = reported(_said(score, content=content))
        properties = common_properties(call) | reported(where) | said | person
        at_ns = call.end_ns or call.start_ns
        # Each score of a span is an event of its own.
        event = make_event(f"{name}:{place}", call, at_ns, distinct_id, properties)
        if isinstance(score, Feedback) or score.own:  # written to be read
            event["properties"] = {**event["properties"], **said}
        made.append({**event, "event": name})
    return made


def _said(score: Evaluation | Feedback, *, content: bool) -> dict[str, Any]:
    if isinstance(score, Feedback):
        return {"$ai_feedback_text": score.text}
    return {
        "$ai_metric_name": score.name,
        "$ai_metric_value": score.value if score.value is not None else score.label,
        "$ai_metric_label": score.label if score.value is not None else None,
        "$ai_metric_explanation": score.explanation if content else None,
        "$ai_completion_id": score.response_id,
    }
