"""Each call once: spans that show it united, spans around several calls taken for structure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_posthog.calls import Kind, ModelCall
from otel_posthog.traces.seen import Seen
from otel_posthog.traces.twins import agree, are_twins
from otel_posthog.traces.union import united

__all__ = ["each_once", "may_meet", "stream_key"]


def may_meet(
    calls: Iterable[ModelCall], by_id: Mapping[str, ModelCall], above: Mapping[str, str | None], seen: Seen
) -> bool:
    """Whether any span may show the same call as another: most batches hold no such pair."""
    scopes: dict[Any, str | None] = {}
    for call in calls:
        if not call.kind.is_model_call:
            continue
        place, scope = above[call.span_id], call.scope
        if place is None:
            key: Any = call.trace_id
        else:
            if place in by_id or place in seen.spans or place in seen.below:
                return True
            key = place
        if call.span_id in seen.below or call.span_id in seen.spans or "ended_after" in call.facts:
            return True
        if scopes.setdefault(key, scope) != scope:
            return True
        if call.response_id is not None and scopes.setdefault((call.response_id,), scope) != scope:
            return True
    return False


def each_once(
    by_id: Mapping[str, ModelCall],
    above: Mapping[str, str | None],
    seen: Seen,
    stands_for: dict[str, str],
) -> dict[str, ModelCall]:
    """The calls by id, spans of one call united; `stands_for` says what became of the others."""
    made = dict(by_id)
    below: dict[str, list[ModelCall]] = defaultdict(list)
    for call in by_id.values():
        place = above[call.span_id]
        if call.kind.is_model_call and place is not None:
            below[place].append(call)
    _join_ends(made, above, stands_for)
    # From the inside to the outside: what an outer span is taken for depends on what is inside.
    for outer in sorted(by_id.values(), key=lambda call: (-call.start_ns, call.end_ns or 0)):
        if outer.kind.is_model_call and outer.span_id in made and (inner := below.get(outer.span_id)):
            _join_nested(outer.span_id, inner, made, stands_for)
    for together in _side_by_side(made, above):
        _join_siblings(together, made, stands_for)
    for call in [*made.values()]:
        if call.kind.is_model_call and (
            _is_late(call, above[call.span_id], seen) or _is_late_end(call, above, seen)
        ):
            made[call.span_id] = _as_structure(call)
    return made


def _join_nested(
    outer_id: str, inner: Iterable[ModelCall], made: dict[str, ModelCall], stands_for: dict[str, str]
) -> None:
    """Unite an outer span with the one call in it; around several it is structure."""
    outer = made[outer_id]
    present = [made[call.span_id] for call in inner if call.span_id in made]
    counted = [call for call in present if agree(outer, call) and not _is_attempt(outer, call)]
    scopes = [call.scope for call in counted]
    if len(set(scopes)) < len(scopes):
        made[outer_id] = _as_structure(outer)
        return
    for call in counted:
        _absorb(outer_id, call.span_id, made, stands_for)


def _is_attempt(outer: ModelCall, inner: ModelCall) -> bool:
    """Whether the inner span is a try that failed, of one instrumentor, inside of what worked in the end."""
    return outer.scope == inner.scope and inner.error is not None and outer.error is None


def _side_by_side(
    made: Mapping[str, ModelCall], above: Mapping[str, str | None]
) -> Iterable[list[ModelCall]]:
    """Calls of different scopes under one span, and calls that name one response."""
    places: dict[tuple[str, str | None], list[ModelCall]] = defaultdict(list)
    answers: dict[str, list[ModelCall]] = defaultdict(list)
    for call in made.values():
        if call.kind.is_model_call:
            if call.parent_id is not None:
                places[call.trace_id, above[call.span_id]].append(call)
            if call.response_id is not None:
                answers[call.response_id].append(call)
    for found in (*answers.values(), *places.values()):
        if len(found) > 1:
            yield sorted(found, key=lambda call: (call.start_ns, -(call.end_ns or 0)))


def _join_siblings(
    together: Sequence[ModelCall], made: dict[str, ModelCall], stands_for: dict[str, str]
) -> None:
    """Unite each call with the first one of another scope that it lies in, in order of their start."""
    taken: dict[str, set[str | None]] = defaultdict(set)
    for at, later in enumerate(together):
        for earlier in together[:at]:
            if earlier.span_id not in made or later.span_id not in made:
                continue
            outer, inner = made[earlier.span_id], made[later.span_id]
            if inner.scope in taken[outer.span_id] or not are_twins(outer, inner):
                continue
            taken[outer.span_id].add(inner.scope)
            _absorb(outer.span_id, inner.span_id, made, stands_for)
            break


def _join_ends(
    made: dict[str, ModelCall], above: Mapping[str, str | None], stands_for: dict[str, str]
) -> None:
    """Unite the record of how a stream ended (`facts["ended_after"]`) with the span of its request.

    Logfire writes two: one ends when the stream begins, the other is a log record when it is over.
    """
    for end in [call for call in made.values() if "ended_after" in call.facts]:
        began = end.start_ns - int(end.facts["ended_after"] * 1e9)
        requests = [
            call
            for call in made.values()
            if call.scope == end.scope
            and _place(call, above) == _place(end, above)
            and "ended_after" not in call.facts
            and call.usage.input is None
            and not call.output
            and call.start_ns <= end.start_ns
            and agree(call, end)
        ]
        if requests:  # the one that had been answered when the stream began
            request = min(requests, key=lambda call: abs((call.end_ns or call.start_ns) - began))
            made[request.span_id] = request._replace(stream=True, end_ns=end.end_ns)
            _absorb(request.span_id, end.span_id, made, stands_for)
        else:
            made[end.span_id] = end._replace(start_ns=began)


def _place(call: ModelCall, above: Mapping[str, str | None]) -> tuple[str, str | None]:
    """Where a span stands; without a span above, each is in a trace of its own."""
    return "" if call.parent_id is None else call.trace_id, above[call.span_id]


def _absorb(outer_id: str, inner_id: str, made: dict[str, ModelCall], stands_for: dict[str, str]) -> None:
    made[outer_id] = united(made[outer_id], made.pop(inner_id))
    for span_id, survivor in stands_for.items():
        if survivor == inner_id:
            stands_for[span_id] = outer_id
    stands_for[inner_id] = outer_id


def _is_late(call: ModelCall, place: str | None, seen: Seen) -> bool:
    """Whether the call was counted already, by a span that came in a batch before."""
    before = seen.spans.get(call.span_id)
    if before is not None:  # the very span, once more
        return not before.is_counted or before.stands_for != call.span_id
    outer = seen.spans.get(place) if place is not None else None
    if outer is not None and outer.is_counted and agree(outer, call):
        return True
    for span_id in seen.below.get(call.span_id, ()):
        inner = seen.spans.get(span_id)
        if inner is not None and inner.is_counted and agree(call, inner):
            return True
    for span_id in seen.below.get(place, ()) if place is not None else ():
        beside = seen.spans.get(span_id)
        if beside is not None and beside.is_counted and beside.trace_id == call.trace_id:
            outer_first = (beside, call) if beside.start_ns <= call.start_ns else (call, beside)
            if are_twins(*outer_first):
                return True
    return False


def _is_late_end(call: ModelCall, above: Mapping[str, str | None], seen: Seen) -> bool:
    """Whether the record tells the end of a request that was counted in a batch before."""
    if "ended_after" not in call.facts or call.span_id in seen.spans:
        return False
    key = stream_key(call, above)
    known = seen.streams.get(key, 0)
    if known:
        seen.streams[key] = known - 1
    return known > 0


def stream_key(call: ModelCall, above: Mapping[str, str | None]) -> tuple[Any, ...]:
    """What a request and the record of how its stream ended have in common."""
    return call.scope, call.request_model, *_place(call, above)


def _as_structure(call: ModelCall) -> ModelCall:
    return call._replace(kind=Kind.SPAN)
