"""Each call once: spans that show it united, spans around several calls taken for structure."""

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

__all__ = ["Result", "deduplicate", "may_meet", "stream_key"]


class Result(NamedTuple):
    """What became of the spans of a batch."""

    calls: dict[str, ModelCall]
    """What is left, by id."""
    stands_for: dict[str, str]
    """For spans that were taken into another: the id of that."""
    counted_by: dict[str, str | None]
    """For spans of calls: the id of the generation that counts it; None for structure."""


def may_meet(
    calls: Iterable[ModelCall],
    by_id: Mapping[str, ModelCall],
    above: Mapping[str, str | None],
    history: SpanHistory,
) -> bool:
    """Whether any span may show the same call as another: most batches hold no such pair."""
    scopes: dict[Any, str | None] = {}
    for call in calls:
        if not call.kind.is_model_call:
            continue
        span_id, scope, place = call.span_id, call.scope, above[call.span_id]
        if place is not None and (place in by_id or history.span(call.trace_id, place)):
            return True
        if (call.trace_id, place) in history.children or (call.trace_id, span_id) in history.children:
            return True
        if history.span(call.trace_id, span_id) or call.ended_after is not None:
            return True
        if scopes.setdefault((call.trace_id, place), scope) != scope:
            return True
        if call.response_id is not None and (
            scopes.setdefault(call.response_id, scope) != scope or call.response_id in history.by_response
        ):
            return True
    return False


def deduplicate(
    by_id: Mapping[str, ModelCall], above: Mapping[str, str | None], history: SpanHistory
) -> Result:
    """The calls by id, each once."""
    made, stands_for = dict(by_id), dict[str, str]()
    late = _join_ends(made, above, stands_for, history)
    calls = sorted((call for call in made.values() if call.kind.is_model_call), key=_outermost_first)
    groups = _Groups()
    around = _join_nested(calls, by_id, above, history, groups)
    _join_beside([call for call in calls if call.span_id not in around], by_id, above, history, groups)
    counted_by: dict[str, str | None] = {}
    for members in groups.of(call.span_id for call in calls):
        mine = [made[span_id] for span_id in members if span_id in made]
        before = [found for span_id in members if span_id not in made and (found := history.latest(span_id))]
        own = {call.span_id for call in mine}
        counted = next((each.counted_by for each in before if each.counted_by not in {None, *own}), None)
        first = mine[0]
        if first.span_id in around or first.span_id in late:
            counted = None
            for call in mine:
                made[call.span_id] = _as_structure(call, before)
        elif counted is not None:  # it was sent: what else shows it is a place to look, and counts nothing
            for call in mine:
                made[call.span_id] = _as_structure(call, before)
        else:
            counted = first.span_id
            for call in mine[1:]:
                made[counted] = merge(made[counted], made.pop(call.span_id))
                stands_for[call.span_id] = counted
        counted_by.update((call.span_id, counted) for call in mine)
    for span_id, taken_by in [*stands_for.items()]:  # an end whose request was taken into another in turn
        survivor = stands_for[span_id] = stands_for.get(taken_by, taken_by)
        counted_by.setdefault(span_id, counted_by.get(survivor))
    return Result(made, stands_for, counted_by)


def _outermost_first(call: ModelCall) -> tuple[int, int, str]:
    """An order in which outer spans come before inner ones, the same whatever the order of the batch."""
    return call.start_ns, -(call.end_ns or 0), call.span_id


class _Groups:
    """Ids of spans that show one call: sets that grow together."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        self._leader[self.find(other)] = self.find(one)

    def of(self, span_ids: Iterable[str]) -> list[list[str]]:
        """All groups that have one of these, each with all its members, these first and in their order."""
        order = [*span_ids]
        found: dict[str, list[str]] = defaultdict(list)
        for span_id in dict.fromkeys([*order, *self._leader]):
            found[self.find(span_id)].append(span_id)
        wanted = set(order)
        return [members for members in found.values() if members[0] in wanted]

    def find(self, span_id: str) -> str:
        leader = self._leader.setdefault(span_id, span_id)
        while leader != self._leader[leader]:
            leader = self._leader[leader]
        self._leader[span_id] = leader
        return leader


# --- one within the other ---


def _join_nested(
    calls: Sequence[ModelCall],
    own: Container[str],
    above: Mapping[str, str | None],
    history: SpanHistory,
    groups: _Groups,
) -> set[str]:
    """Join outer spans with the one call in them; the ids of those that are around several.

    `own` are the ids of the batch, of which something may be remembered as well, since it is sent again.
    """
    inside: dict[SpanKey, list[CallOrRecent]] = defaultdict(list)
    for call in calls:
        inside[call.trace_id, above[call.span_id]].append(call)
    around: set[str] = set()
    for outer in calls:
        known = [
            each for each in history.calls_below((outer.trace_id, outer.span_id)) if each.span_id not in own
        ]
        same = _same_as(outer, [*inside.get((outer.trace_id, outer.span_id), ()), *known])
        if not _are_one(same):
            around.add(outer.span_id)
        else:
            for inner in same:
                groups.join(outer.span_id, inner.span_id)
    for (trace_id, place), found in inside.items():
        above_all = history.span(trace_id, place) if place is not None and place not in own else None
        if above_all is None or above_all.counted_by is None:
            continue
        taken = {each.scope for each in history.calls_below((trace_id, place)) if each.span_id not in own}
        for inner in _same_as(above_all, found):
            if inner.scope not in taken:  # another one of that scope is its twin already
                taken.add(inner.scope)
                groups.join(inner.span_id, above_all.span_id)
    return around


def _same_as(outer: CallOrRecent, inner: Iterable[CallOrRecent]) -> list[CallOrRecent]:
    if not outer.kind.is_model_call:
        return []
    return [each for each in inner if agree(outer, each) and not is_attempt(outer, each)]


def _are_one(inner: Sequence[CallOrRecent]) -> bool:
    """Whether spans within one are all of one call: each of another scope, at the same time."""
    if len(inner) > MAX_CANDIDATES:
        return False
    return all(
        one.scope != other.scope and agree(one, other) and overlap(one, other)
        for one, other in combinations(inner, 2)
    )


# --- side by side ---


def _join_beside(
    calls: Sequence[ModelCall],
    own: Container[str],
    above: Mapping[str, str | None],
    history: SpanHistory,
    groups: _Groups,
) -> None:
    """Join calls of different scopes that stand in one place, or name one response."""
    places: dict[SpanKey, list[ModelCall]] = defaultdict(list)
    answers: dict[str, list[ModelCall]] = defaultdict(list)
    for call in calls:
        if call.parent_id is not None:
            places[call.trace_id, above[call.span_id]].append(call)
        if call.response_id is not None:
            answers[call.response_id].append(call)
    for response_id, found in answers.items():
        known = [each for each in history.calls_with_response(response_id) if each.span_id not in own]
        _join_twins(found, known, groups, lambda _outer, _inner: True)
    for place, found in places.items():
        known = [each for each in history.calls_below(place) if each.span_id not in own]
        _join_twins(found, known, groups, _begin_together)


def _begin_together(outer: CallOrRecent, inner: CallOrRecent) -> bool:
    return inner.start_ns - outer.start_ns <= NEAR_NS


def _join_twins(
    found: Sequence[ModelCall],
    known: Sequence[RecentSpan],
    groups: _Groups,
    may: Callable[[CallOrRecent, CallOrRecent], bool],
) -> None:
    """Join each call with its twin before it that shows none of its scope yet, the closest in time."""
    if len({each.scope for each in found} | {each.scope for each in known}) < 2:
        return
    scopes: dict[str, set[str | None]] = {}
    for before in known:
        if before.counted_by is not None:
            groups.join(before.counted_by, before.span_id)
    everything: list[CallOrRecent] = [*known, *found]
    for each in everything:
        scopes.setdefault(groups.find(each.span_id), set()).add(each.scope)
    for at, later in enumerate(found):
        near: list[CallOrRecent] = [*known]
        near += [each for each in found[max(at - MAX_CANDIDATES, 0) : at] if may(each, later)]
        for earlier in sorted(near, key=partial(_distance, later)):
            one, other = groups.find(earlier.span_id), groups.find(later.span_id)
            if one != other and scopes[one].isdisjoint(scopes[other]) and are_twins(earlier, later):
                together = scopes.pop(one) | scopes.pop(other)
                groups.join(earlier.span_id, later.span_id)
                scopes[groups.find(later.span_id)] = together
                break


def _distance(one: CallOrRecent, other: CallOrRecent) -> tuple[int, str]:
    """How far apart two spans begin and end: those of one call are microseconds from each other."""
    apart = abs(one.start_ns - other.start_ns) + abs((one.end_ns or 0) - (other.end_ns or 0))
    return apart, other.span_id


# --- a stream and the record of its end ---


def _join_ends(
    made: dict[str, ModelCall],
    above: Mapping[str, str | None],
    stands_for: dict[str, str],
    history: SpanHistory,
) -> set[str]:
    """Unite the record of how a stream ended (`ended_after`) with the span of its request.

    Logfire writes two: one ends when the stream begins, the other is a log record when it is over. The ids of
    records whose request was counted in a batch before.
    """
    late, joined = set[str](), set[str]()
    begun: dict[Any, list[ModelCall]] = defaultdict(list)
    if any(call.ended_after is not None for call in made.values()):
        for call in made.values():
            if call.ended_after is None and call.usage.input is None and not call.output:
                begun[call.scope, _place(call, above)].append(call)
    ends = [(call, call.ended_after) for call in made.values() if call.ended_after is not None]
    for end, seconds in sorted(ends, key=lambda each: _outermost_first(each[0])):
        began = end.start_ns - int(seconds * 1e9)
        requests = [
            call
            for call in begun[end.scope, _place(end, above)][-MAX_CANDIDATES:]
            if call.start_ns <= end.start_ns and call.span_id not in joined and agree(call, end)
        ]
        if requests:  # the one that had been answered when the stream began
            request = min(requests, key=lambda call: (abs((call.end_ns or 0) - began), call.span_id))
            made[request.span_id] = merge(request._replace(stream=True, end_ns=end.end_ns), end)
            joined.add(request.span_id)
            del made[end.span_id]
            stands_for[end.span_id] = request.span_id
        else:
            made[end.span_id] = end._replace(start_ns=began)
            key = stream_key(end, above)
            before = history.span(end.trace_id, end.span_id)
            if before is not None:  # it is sent again, and is what it was
                if before.counted_by is None:
                    late.add(end.span_id)
            elif history.open_streams.get(key):
                history.open_streams[key] -= 1
                late.add(end.span_id)
    return late


def stream_key(call: ModelCall, above: Mapping[str, str | None]) -> tuple[Any, ...]:
    """What a request and the record of how its stream ended have in common."""
    return call.scope, call.request_model, *_place(call, above)


def _place(call: ModelCall, above: Mapping[str, str | None]) -> SpanKey:
    """Where a span stands; without a span above, each is in a trace of its own."""
    return "" if call.parent_id is None else call.trace_id, above[call.span_id]


def _as_structure(call: ModelCall, twins: Iterable[RecentSpan]) -> ModelCall:
    """The span as one of no call; where its twin was private, so is it."""
    call = call._replace(kind=Kind.SPAN)
    if not call.context.privacy_mode and any(twin.private for twin in twins):
        call = call._replace(context=call.context._replace(privacy_mode=True))
    return call
