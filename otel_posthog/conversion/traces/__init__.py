"""What the spans of a trace say about each other: which show one call, and what is above what.

Spans end from the inside to the outside, and reach us in batches that are cut anywhere. `resolve` looks at
one batch, with what is remembered of the ones before (`SpanHistory`), and gives the calls back so that

- a model call that several instrumentors saw is there once, with the union of what they know;
- a span around several calls is structure, whatever it says of itself, and so is never costed;
- each knows the nearest span above that becomes an event;
- a trace that tells nothing itself has the first input and the last output of the calls in it.

Two spans show one call where they are of one kind (generation or embedding), do not contradict each other
(`twins.agree`), and

- one is the nearest AI span above the other, and no other call is there, or only such as are its twins; or
- they are of different scopes, side by side, one within the time of the other, begun within 50 ms; or
- they are of different scopes, overlap, and name one response; or
- one is the record of how the stream of the other ended.

A try that failed, of one scope within a span that succeeded, is a call of its own.

Limits: a span whose twin was sent in a batch before becomes structure: counted once, but what only it knew
stands on that span. Of three nested spans the outermost and innermost cannot be known for twins as long as
the one between has not come. Two calls side by side of one model, history by one instrumentor each, that begin
within 50 ms of each other, one within the time of the other, are taken for one if neither response ids nor
models tell them apart. Twins without a span above them are in two traces, and are known by their response id
only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.traces.deduplication import deduplicate, may_meet, stream_key
from otel_posthog.conversion.traces.history import SpanHistory, recent_span
from otel_posthog.conversion.traces.matching import NEAR_NS, may_be_one
from otel_posthog.conversion.traces.merging import merge
from otel_posthog.conversion.traces.trace_root import with_conversation

__all__ = ["NEAR_NS", "Parents", "SpanHistory", "may_be_one", "merge", "resolve"]

Parents = Mapping[tuple[str, str], "str | None"]
"""Of spans, by the ids of their trace and themselves: the id of the parent."""

_MOST_BETWEEN = 1000
"""Spans of parents between two of concern."""


def resolve(
    calls: Sequence[ModelCall],
    history: SpanHistory | None = None,
    *,
    parents: Parents | None = None,
) -> list[ModelCall]:
    """The calls, each once, with their places in the trace.

    `parents` are spans that were none of ours. A span above that was not history is taken for one that will come.
    """
    history = SpanHistory() if history is None else history
    return [made for by_id in _with_ids(calls) for made in _resolved(by_id, history, parents)]


def _with_ids(calls: Sequence[ModelCall]) -> list[dict[str, ModelCall]]:
    """The calls by id; where traces share one, as what made up its ids may, each trace by itself."""
    by_id: dict[str, ModelCall] = {}
    for call in calls:
        if by_id.setdefault(call.span_id, call).trace_id != call.trace_id:
            break
        by_id[call.span_id] = call
    else:
        return [by_id]
    by_trace: dict[str, dict[str, ModelCall]] = {}
    for call in calls:
        by_trace.setdefault(call.trace_id, {})[call.span_id] = call
    return [*by_trace.values()]


def _resolved(
    by_id: Mapping[str, ModelCall], history: SpanHistory, parents: Parents | None
) -> list[ModelCall]:
    calls = by_id.values()
    parents = _with_told(calls, parents)
    above = {call.span_id: _above(call, by_id, parents, history) for call in calls}
    if may_meet(calls, by_id, above, history):
        made, stands_for, counted_by = deduplicate(by_id, above, history)
    else:
        made, stands_for = {**by_id}, {}
        counted_by = {call.span_id: call.span_id for call in calls if call.kind.is_model_call}
    result = [_placed(call, above, stands_for, history) for call in made.values()]
    result = with_conversation(result, history)
    ended = {
        stands_for[call.span_id]
        for call in calls
        if call.ended_after is not None and call.span_id in stands_for
    }
    for span_id, call in by_id.items():
        if (
            call.may_go_on
            and not history.span(call.trace_id, span_id)  # sent again, its end is expected already
            and ended.isdisjoint({span_id, stands_for.get(span_id)})
        ):
            history.expect_end(stream_key(call, above))
        survivor = stands_for.get(span_id, span_id)
        history.remember(recent_span(call, above[span_id], survivor, counted_by.get(span_id)))
    return result


def _above(
    call: ModelCall,
    by_id: Mapping[str, ModelCall],
    parents: Parents | None,
    history: SpanHistory,
) -> str | None:
    """The id of the nearest span above that is of concern; None where that is the trace."""
    context = call.context
    told = context.parent_id
    is_trace = told is not None and told in (call.trace_id, context.trace_name)
    if told is not None and not is_trace:
        return told
    step = call.parent_id
    for _ in range(_MOST_BETWEEN):
        if step is None:
            return None
        own = by_id.get(step)
        if (own is not None and own.trace_id == call.trace_id) or history.span(
            call.trace_id, step
        ) is not None:
            return step
        if is_trace:  # what begins below a span that has ended is told the trace, and finds it here
            return None
        if parents is None or (call.trace_id, step) not in parents:
            break
        step = parents[call.trace_id, step]
    return step


def _with_told(calls: Iterable[ModelCall], parents: Parents | None) -> Parents | None:
    """The spans of parents, and those of which a call was told what is above, where another was not.

    A span that shows what it is after its start was told nothing; the one beside it may have been.
    """
    if all(call.parent_id is None or call.context.parent_id is not None for call in calls):
        return parents
    found = dict(parents or {})
    for call in calls:
        told = call.context.parent_id
        if told is not None and call.parent_id is not None:
            found[call.trace_id, call.parent_id] = (
                None if told in (call.trace_id, call.context.trace_name) else told
            )
    return found


def _placed(
    call: ModelCall, above: Mapping[str, str | None], stands_for: Mapping[str, str], history: SpanHistory
) -> ModelCall:
    """The call with the id of the span above under which PostHog knows it."""
    if call.parent_id is None:
        return call
    place = above[call.span_id]
    if place is None:
        place = call.trace_key
    else:
        before = history.span(call.trace_id, place)
        place = stands_for.get(place) or (place if before is None else before.stands_for)
        if place == call.span_id:
            place = call.trace_key
    if place == call.context.parent_id:
        return call
    return call._replace(context=call.context._replace(parent_id=place))
