"""Deduplicated calls with their ancestors, out of the spans of a trace.

Spans end from the inside to the outside, and arrive in batches that are cut anywhere. `resolve` takes one
batch and the `SpanHistory` of the batches before it. In the calls that it returns,
- each model call is there once, merged from all spans that show it;
- a span around several model calls is structure, whatever kind it reports, so that it is never costed;
- each call knows its nearest ancestor that becomes an event;
- a root without input and output has the first input and the last output of the calls below it.

Two spans show one call if both are generations or both are embeddings, if nothing they report contradicts
(`matching.agree`), and if one of these rules holds:

1. One is the nearest GenAI ancestor of the other, and every other call below it shows the same call.
2. They are siblings of different scopes, one runs within the other, and they begin within 50 ms.
3. They are of different scopes, overlap in time, and name the same response.
4. One is the record of how the stream of the other ended.

A failed attempt inside a successful span of the same scope is a call of its own.

Limits:

- If the twin of a span was sent in an earlier batch, the span becomes structure. The call is counted once,
  but details that only this span has stay on its `$ai_span`.
- If the middle of three nested spans arrives last, the outer and inner ones are not matched until then.
- Two parallel calls of one model, each seen by one instrumentor, are taken for one call if one runs within
  the other, they begin within 50 ms, and neither response ids nor models differ.
- Twins without a parent are in two traces. Only a common response id matches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.traces.ancestry import Parents, nearest_ancestors, with_sent_ancestor
from otel_posthog.conversion.traces.deduplication import Result, deduplicate, may_share_call, stream_key
from otel_posthog.conversion.traces.history import SpanHistory, recent_span
from otel_posthog.conversion.traces.matching import NEAR_NS, may_be_one
from otel_posthog.conversion.traces.merging import merge
from otel_posthog.conversion.traces.trace_root import with_trace_roots

__all__ = ["NEAR_NS", "Parents", "SpanHistory", "may_be_one", "merge", "resolve"]


def resolve(
    calls: Sequence[ModelCall], history: SpanHistory | None = None, *, parents: Parents | None = None
) -> list[ModelCall]:
    """Return the calls, each once, with their nearest ancestors that become events.

    `parents` are the parents of spans that are no GenAI spans. An ancestor that is neither in `calls` nor in
    `history` nor in `parents` is taken for one that will arrive. The calls are added to `history`.
    """
    history = SpanHistory() if history is None else history
    return [call for by_id in _by_trace(calls) for call in _resolve_trace(by_id, history, parents)]


def _by_trace(calls: Sequence[ModelCall]) -> list[dict[str, ModelCall]]:
    """Return the calls by span id: all in one mapping unless traces share a span id, as invented ids may."""
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


def _resolve_trace(
    by_id: Mapping[str, ModelCall], history: SpanHistory, parents: Parents | None
) -> list[ModelCall]:
    calls = by_id.values()
    ancestors = nearest_ancestors(by_id, history, parents)
    if may_share_call(calls, by_id, ancestors, history):
        result = deduplicate(by_id, ancestors, history)
    else:
        result = Result(
            {**by_id}, {}, {call.span_id: call.span_id for call in calls if call.kind.is_model_call}
        )
    resolved = [
        with_sent_ancestor(call, ancestors, result.merged_into, history) for call in result.calls.values()
    ]
    resolved = with_trace_roots(resolved, history)
    _remember(calls, ancestors, result, history)
    return resolved


def _remember(
    calls: Iterable[ModelCall], ancestors: Mapping[str, str | None], result: Result, history: SpanHistory
) -> None:
    merged_into = result.merged_into
    ended_requests = {
        merged_into[call.span_id]
        for call in calls
        if call.ended_after is not None and call.span_id in merged_into
    }
    for call in calls:
        span_id = call.span_id
        if (
            call.may_go_on
            and not history.span(call.trace_id, span_id)  # if it was sent before, its end is expected already
            and ended_requests.isdisjoint({span_id, merged_into.get(span_id)})
        ):
            history.expect_end(stream_key(call, ancestors))
        sent_as = merged_into.get(span_id, span_id)
        history.remember(recent_span(call, ancestors[span_id], sent_as, result.counted_by.get(span_id)))
