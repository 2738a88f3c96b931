"""One call instead of several spans that show it, and structure instead of spans around several calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

from otel_posthog.conversion.model_call import Kind, ModelCall
from otel_posthog.conversion.traces.history import (
    MAX_CANDIDATES,
    CallOrRecent,
    RecentSpan,
    SpanHistory,
    SpanKey,
)
from otel_posthog.conversion.traces.matching import NEAR_NS, agree, are_twins, is_attempt, overlap
from otel_posthog.conversion.traces.merging import merge

__all__ = ["Result", "deduplicate", "may_share_call", "stream_key"]


class Result(NamedTuple):
    """The deduplicated calls of a batch."""

    calls: dict[str, ModelCall]
    """By span id."""
    merged_into: dict[str, str]
    """By id of a span that was merged into another: the id of that one."""
    counted_by: Mapping[str, str | None]
    """By id of a span of a model call: the id of the generation that counts it; None for structure."""


def may_share_call(
    calls: Iterable[ModelCall],
    by_id: Mapping[str, ModelCall],
    ancestors: Mapping[str, str | None],
    history: SpanHistory,
) -> bool:
    """Whether two spans may show the same call. Most batches hold no such pair, and this check is cheap."""
    scopes: dict[Any, str | None] = {}
    for call in calls:
        if not call.kind.is_model_call:
            continue
        span_id, scope, ancestor_id = call.span_id, call.scope, ancestors[call.span_id]
        key = (call.trace_id, ancestor_id)
        if ancestor_id is not None and (ancestor_id in by_id or history.span(call.trace_id, ancestor_id)):
            return True
        if key in history.children or (call.trace_id, span_id) in history.children:
            return True
        if history.span(call.trace_id, span_id) or call.ended_after is not None:
            return True
        if scopes.setdefault(key, scope) != scope:
            return True
        if call.response_id is not None and (
            scopes.setdefault(call.response_id, scope) != scope or call.response_id in history.by_response
        ):
            return True
    return False


def deduplicate(
    by_id: Mapping[str, ModelCall], ancestors: Mapping[str, str | None], history: SpanHistory
) -> Result:
    """Return each call of the batch once."""
    calls, merged_into = dict(by_id), dict[str, str]()
    late_ends = _merge_stream_ends(calls, ancestors, merged_into, history)
    model_calls = sorted((call for call in calls.values() if call.kind.is_model_call), key=_outermost_first)
    groups = _Groups()
    outer_ids = _group_nested(model_calls, by_id, ancestors, history, groups)
    siblings = [call for call in model_calls if call.span_id not in outer_ids]
    _group_siblings(siblings, by_id, ancestors, history, groups)
    counted_by: dict[str, str | None] = {}
    for span_ids in groups.containing(call.span_id for call in model_calls):
        members = [calls[span_id] for span_id in span_ids if span_id in calls]
        recent = [span for span_id in span_ids if span_id not in calls and (span := history.latest(span_id))]
        own_ids = {call.span_id for call in members}
        counted = next((span.counted_by for span in recent if span.counted_by not in {None, *own_ids}), None)
        first = members[0]
        if first.span_id in outer_ids or first.span_id in late_ends:
            counted = None
            for call in members:
                calls[call.span_id] = _as_structure(call, recent)
        elif counted is not None:  # an earlier batch has sent the generation: other spans of it count nothing
            for call in members:
                calls[call.span_id] = _as_structure(call, recent)
        else:
            counted = first.span_id
            for call in members[1:]:
                calls[counted] = merge(calls[counted], calls.pop(call.span_id))
                merged_into[call.span_id] = counted
        counted_by.update((call.span_id, counted) for call in members)
    for span_id, target in [*merged_into.items()]:  # a stream's request may have been merged too
        survivor = merged_into[span_id] = merged_into.get(target, target)
        counted_by.setdefault(span_id, counted_by.get(survivor))
    return Result(calls, merged_into, counted_by)


def _outermost_first(call: ModelCall) -> tuple[int, int, str]:
    """Sort outer spans before inner ones, independently of their order in the batch."""
    return call.start_ns, -(call.end_ns or 0), call.span_id


class _Groups:
    """Sets of ids of spans that show one call: a union-find structure."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        self._leader[self.leader(other)] = self.leader(one)

    def containing(self, span_ids: Iterable[str]) -> list[list[str]]:
        """Return the groups of these spans with all members; these spans come first, in their order."""
        order = [*span_ids]
        groups: dict[str, list[str]] = defaultdict(list)
        for span_id in dict.fromkeys([*order, *self._leader]):
            groups[self.leader(span_id)].append(span_id)
        wanted = set(order)
        return [members for members in groups.values() if members[0] in wanted]

    def leader(self, span_id: str) -> str:
        leader = self._leader.setdefault(span_id, span_id)
        while leader != self._leader[leader]:
            leader = self._leader[leader]
        self._leader[span_id] = leader
        return leader


# --- nested spans ---


def _group_nested(
    calls: Sequence[ModelCall],
    own: Container[str],
    ancestors: Mapping[str, str | None],
    history: SpanHistory,
    groups: _Groups,
) -> set[str]:
    """Group outer spans with the one call inside; return the ids of spans around several calls.

    `own` are the ids of the batch. The history may hold some of them, because a batch may be sent again.
    """
    inside: dict[SpanKey, list[CallOrRecent]] = defaultdict(list)
    for call in calls:
        inside[call.trace_id, ancestors[call.span_id]].append(call)
    outer_ids: set[str] = set()
    for outer in calls:
        key = (outer.trace_id, outer.span_id)
        recent = [span for span in history.calls_below(key) if span.span_id not in own]
        matches = _matches_inside(outer, [*inside.get(key, ()), *recent])
        if not _show_one_call(matches):
            outer_ids.add(outer.span_id)
        else:
            for inner in matches:
                groups.join(outer.span_id, inner.span_id)
    for (trace_id, ancestor_id), inner_calls in inside.items():
        recent_outer = None
        if ancestor_id is not None and ancestor_id not in own:
            recent_outer = history.span(trace_id, ancestor_id)
        if recent_outer is None or recent_outer.counted_by is None:
            continue
        siblings = history.calls_below((trace_id, ancestor_id))
        scopes = {span.scope for span in siblings if span.span_id not in own}
        for inner in _matches_inside(recent_outer, inner_calls):
            if inner.scope not in scopes:  # else an earlier span of that scope is the twin
                scopes.add(inner.scope)
                groups.join(inner.span_id, recent_outer.span_id)
    return outer_ids


def _matches_inside(outer: CallOrRecent, inner: Iterable[CallOrRecent]) -> list[CallOrRecent]:
    if not outer.kind.is_model_call:
        return []
    return [span for span in inner if agree(outer, span) and not is_attempt(outer, span)]


def _show_one_call(spans: Sequence[CallOrRecent]) -> bool:
    """Whether spans below one span all show one call: each of another scope, at the same time."""
    if len(spans) > MAX_CANDIDATES:
        return False
    return all(
        one.scope != other.scope and agree(one, other) and overlap(one, other)
        for one, other in combinations(spans, 2)
    )


# --- siblings ---


def _group_siblings(
    calls: Sequence[ModelCall],
    own: Container[str],
    ancestors: Mapping[str, str | None],
    history: SpanHistory,
    groups: _Groups,
) -> None:
    """Group calls of different scopes that have one ancestor, or one response id."""
    siblings: dict[SpanKey, list[ModelCall]] = defaultdict(list)
    by_response: dict[str, list[ModelCall]] = defaultdict(list)
    for call in calls:
        if call.parent_id is not None:
            siblings[call.trace_id, ancestors[call.span_id]].append(call)
        if call.response_id is not None:
            by_response[call.response_id].append(call)
    for response_id, same_response in by_response.items():
        recent = [span for span in history.calls_with_response(response_id) if span.span_id not in own]
        _group_twins(same_response, recent, groups, lambda _outer, _inner: True)
    for key, same_ancestor in siblings.items():
        recent = [span for span in history.calls_below(key) if span.span_id not in own]
        _group_twins(same_ancestor, recent, groups, _begin_together)


def _begin_together(outer: CallOrRecent, inner: CallOrRecent) -> bool:
    return inner.start_ns - outer.start_ns <= NEAR_NS


def _group_twins(
    calls: Sequence[ModelCall],
    recent: Sequence[RecentSpan],
    groups: _Groups,
    may_match: Callable[[CallOrRecent, CallOrRecent], bool],
) -> None:
    """Group each call with the closest twin before it whose group has no span of the call's scope."""
    if len({span.scope for span in calls} | {span.scope for span in recent}) < 2:
        return
    scopes: dict[str, set[str | None]] = {}
    for span in recent:
        if span.counted_by is not None:
            groups.join(span.counted_by, span.span_id)
    spans: list[CallOrRecent] = [*recent, *calls]
    for each in spans:
        scopes.setdefault(groups.leader(each.span_id), set()).add(each.scope)
    for at, later in enumerate(calls):
        candidates: list[CallOrRecent] = [*recent]
        candidates += [call for call in calls[max(at - MAX_CANDIDATES, 0) : at] if may_match(call, later)]
        for earlier in sorted(candidates, key=partial(_distance, later)):
            one, other = groups.leader(earlier.span_id), groups.leader(later.span_id)
            if one != other and scopes[one].isdisjoint(scopes[other]) and are_twins(earlier, later):
                joined_scopes = scopes.pop(one) | scopes.pop(other)
                groups.join(earlier.span_id, later.span_id)
                scopes[groups.leader(later.span_id)] = joined_scopes
                break


def _distance(one: CallOrRecent, other: CallOrRecent) -> tuple[int, str]:
    """Return how far apart two spans begin and end: twins are microseconds apart."""
    apart = abs(one.start_ns - other.start_ns) + abs((one.end_ns or 0) - (other.end_ns or 0))
    return apart, other.span_id


# --- a stream and the record of its end ---


def _merge_stream_ends(
    calls: dict[str, ModelCall],
    ancestors: Mapping[str, str | None],
    merged_into: dict[str, str],
    history: SpanHistory,
) -> set[str]:
    """Merge the record of the end of a stream (`ended_after`) into the span of its request.

    Logfire writes both: the span ends when the stream begins, and a log record follows when it is over.
    Return the ids of the records whose request an earlier batch has counted.
    """
    late_ids, taken_ids = set[str](), set[str]()
    open_requests: dict[Any, list[ModelCall]] = defaultdict(list)
    if any(call.ended_after is not None for call in calls.values()):
        for call in calls.values():
            if call.ended_after is None and call.usage.input is None and not call.output:
                open_requests[call.scope, _ancestor_key(call, ancestors)].append(call)
    ends = [(call, call.ended_after) for call in calls.values() if call.ended_after is not None]
    for end, seconds in sorted(ends, key=lambda pair: _outermost_first(pair[0])):
        began_ns = end.start_ns - int(seconds * 1e9)
        requests = [
            call
            for call in open_requests[end.scope, _ancestor_key(end, ancestors)][-MAX_CANDIDATES:]
            if call.start_ns <= end.start_ns and call.span_id not in taken_ids and agree(call, end)
        ]
        if requests:  # take the one that ended closest to the begin of the stream
            request = min(requests, key=lambda call: (abs((call.end_ns or 0) - began_ns), call.span_id))
            calls[request.span_id] = merge(request._replace(stream=True, end_ns=end.end_ns), end)
            taken_ids.add(request.span_id)
            del calls[end.span_id]
            merged_into[end.span_id] = request.span_id
        else:
            calls[end.span_id] = end._replace(start_ns=began_ns)
            key = stream_key(end, ancestors)
            recent = history.span(end.trace_id, end.span_id)
            if recent is not None:  # the record is sent again, and is resolved as before
                if recent.counted_by is None:
                    late_ids.add(end.span_id)
            elif history.open_streams.get(key):
                history.open_streams[key] -= 1
                late_ids.add(end.span_id)
    return late_ids


def stream_key(call: ModelCall, ancestors: Mapping[str, str | None]) -> tuple[Any, ...]:
    """Return the key that a request and the record of its stream's end have in common."""
    return call.scope, call.request_model, *_ancestor_key(call, ancestors)


def _ancestor_key(call: ModelCall, ancestors: Mapping[str, str | None]) -> SpanKey:
    """Return the key of the nearest ancestor; spans without a parent, each a trace of its own, share one."""
    return "" if call.parent_id is None else call.trace_id, ancestors[call.span_id]


def _as_structure(call: ModelCall, twins: Iterable[RecentSpan]) -> ModelCall:
    """Return the call as a mere span, which is private if one of its twins is."""
    call = call._replace(kind=Kind.SPAN)
    if not call.context.privacy_mode and any(twin.private for twin in twins):
        call = call._replace(context=call.context._replace(privacy_mode=True))
    return call
