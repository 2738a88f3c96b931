"""The nearest ancestor of each span that becomes an event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.traces.history import SpanHistory

__all__ = ["Parents", "nearest_ancestors", "with_sent_ancestor"]

Parents = Mapping[tuple[str, str], "str | None"]
"""Parent ids of spans that are no GenAI spans, by trace id and span id."""

_MAX_BETWEEN = 1000
"""Other spans between two GenAI spans, at most: made-up parents may form a circle."""


def nearest_ancestors(
    by_id: Mapping[str, ModelCall], history: SpanHistory, parents: Parents | None
) -> dict[str, str | None]:
    """Return the id of the nearest GenAI ancestor by span id; None if only the trace is above."""
    parents = _with_known_ancestors(by_id.values(), parents)
    return {span_id: _nearest_ancestor(call, by_id, parents, history) for span_id, call in by_id.items()}


def _nearest_ancestor(
    call: ModelCall,
    by_id: Mapping[str, ModelCall],
    parents: Parents | None,
    history: SpanHistory,
) -> str | None:
    context = call.context
    context_ancestor = context.parent_id  # the processor has set it when the span began
    is_trace = context_ancestor is not None and context_ancestor in (call.trace_id, context.trace_name)
    if context_ancestor is not None and not is_trace:
        return context_ancestor
    span_id = call.parent_id
    for _ in range(_MAX_BETWEEN):
        if span_id is None:
            return None
        ancestor = by_id.get(span_id)
        if ancestor is not None and ancestor.trace_id == call.trace_id:
            return span_id
        if history.span(call.trace_id, span_id) is not None:
            return span_id
        if is_trace:  # a span that begins after its parent has ended gets the trace from the processor
            return None
        if parents is None or (call.trace_id, span_id) not in parents:
            break
        span_id = parents[call.trace_id, span_id]
    return span_id


def _with_known_ancestors(calls: Iterable[ModelCall], parents: Parents | None) -> Parents | None:
    """Return `parents`, and the ancestors that the processor set, if a sibling has none.

    A span that shows only after its start that it is a GenAI span has none; one beside it may have one.
    """
    if all(call.parent_id is None or call.context.parent_id is not None for call in calls):
        return parents
    extended = dict(parents or {})
    for call in calls:
        context_ancestor = call.context.parent_id
        if context_ancestor is not None and call.parent_id is not None:
            is_trace = context_ancestor in (call.trace_id, call.context.trace_name)
            extended[call.trace_id, call.parent_id] = None if is_trace else context_ancestor
    return extended


def with_sent_ancestor(
    call: ModelCall,
    ancestors: Mapping[str, str | None],
    merged_into: Mapping[str, str],
    history: SpanHistory,
) -> ModelCall:
    """Return the call with the id under which PostHog has its nearest ancestor, else the trace's."""
    if call.parent_id is None:
        return call
    ancestor_id = ancestors[call.span_id]
    if ancestor_id is None:
        ancestor_id = call.trace_key
    else:
        recent = history.span(call.trace_id, ancestor_id)
        ancestor_id = merged_into.get(ancestor_id) or (ancestor_id if recent is None else recent.sent_as)
        if ancestor_id == call.span_id:
            ancestor_id = call.trace_key
    if ancestor_id == call.context.parent_id:
        return call
    return call._replace(context=call.context._replace(parent_id=ancestor_id))
