"""`$ai_metric` and `$ai_feedback`: scores and feedback for a response, a run or a trace."""

from __future__ import annotations

from typing import Any

from otel_posthog.conversion.events.event_envelope import (
    LIB_PROPERTIES,
    common_properties,
    make_event,
    person_properties,
    reported,
)
from otel_posthog.conversion.model_call import Evaluation, Feedback, Kind, ModelCall

__all__ = ["evaluation_events"]


def evaluation_events(call: ModelCall, *, content: bool) -> list[dict[str, Any]]:
    """Return one event per score of a call, on the trace and span that were judged.

    `$ai_metric_value` is the number, else the label. An explanation may quote the response and is content.
    """
    distinct_id, person = person_properties(call)
    judged: str | None = call.span_id
    if call.kind is Kind.EVALUATION:  # the evaluator's span: it judges the one above it
        judged = call.context.parent_id or call.parent_id
    target = {
        **LIB_PROPERTIES,
        "$ai_trace_id": call.trace_key,
        "$ai_span_id": judged,
        "$ai_session_id": call.context.conversation_id or call.context.chat_id,
    }
    events = []
    for number, score in enumerate(call.evaluations):
        name = "$ai_feedback" if isinstance(score, Feedback) else "$ai_metric"
        values = reported(_score_properties(score, content=content))
        properties = common_properties(call) | reported(target) | values | person
        at_ns = call.end_ns or call.start_ns
        # The number gives each score of a span a uuid of its own.
        event = make_event(f"{name}:{number}", call, at_ns, distinct_id, properties)
        if (
            isinstance(score, Feedback) or score.own
        ):  # the application gave it to PostHog, so nothing is hidden
            event["properties"] = {**event["properties"], **values}
        events.append({**event, "event": name})
    return events


def _score_properties(score: Evaluation | Feedback, *, content: bool) -> dict[str, Any]:
    if isinstance(score, Feedback):
        return {"$ai_feedback_text": score.text}
    return {
        "$ai_metric_name": score.name,
        "$ai_metric_value": score.value if score.value is not None else score.label,
        "$ai_metric_label": score.label if score.value is not None else None,
        "$ai_metric_explanation": score.explanation if content else None,
        "$ai_completion_id": score.response_id,
    }
