"""What the spans of a trace say about each other: which show one call, and what is above what.

Spans end from the inside to the outside, and reach us in batches that are cut anywhere. `resolve` looks at
one batch, with what is remembered of the ones before (`Seen`), and gives the calls back so that

- a model call that several instrumentors saw is there once, with the union of what they know;
- a span around several calls is structure, whatever it says of itself, and so is never costed;
- each knows the nearest span above that becomes an event;
- a trace that tells nothing itself has the first input and the last output of the calls in it.

Two spans show one call where they are of one kind (generation or embedding), do not contradict each other
(`_agree`), and

- one is the nearest AI span above the other, and the only one of its scope there; or
- they are of different scopes, side by side, one within the time of the other, begun within 50 ms; or
- they are of different scopes, overlap, and name one response; or
- one is the record of how the stream of the other ended.

Limits: a span whose twin was sent in a batch before becomes structure: counted once, but what only it knew
stands on that span. Two calls side by side of one model, seen by one instrumentor each, that begin within
50 ms of each other, one within the time of the other, are taken for one if neither response ids nor models
tell them apart. Twins without a span above them are in two traces, and are known by their response id only.
"""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from otel_posthog.calls import NO_CONTEXT, CallContext, Kind, Message, ModelCall, Usage

__all__ = ["Seen", "may_be_one", "resolve", "united"]

NEAR_NS = 50_000_000
"""Two wrappers around one request begin this close to each other."""
SLACK_NS = 5_000_000
"""An inner span may end a little after an outer one that does not wait for it."""
_MOST_BETWEEN = 1000
"""Spans of others between two of concern."""
MAX_SEEN = 4096
"""Spans that are remembered, the latest."""
MAX_TRACES = 512
"""Traces of which the first input and last output are remembered."""
MAX_SAID = 8192
"""Characters of a text that are remembered for that."""

_VERSION = re.compile(
    r"[-@:](?:latest|preview|exp|v?\d[\d.:-]*)(?:[-@:](?:latest|preview|exp|v?\d[\d.:-]*))*"
)

Said = tuple[int, Any]
"""When, and what."""


class Known(NamedTuple):
    """What is remembered of a span that became an event, or was taken into another: what `_agree` asks."""

    kind: Kind
    trace_id: str
    start_ns: int
    end_ns: int | None
    scope: str | None
    request_model: str | None
    response_model: str | None
    response_id: str | None
    usage: Usage
    above: str | None
    stands_for: str
    """The id of the span under which PostHog knows it."""
    is_counted: bool
    """Whether that is a generation or an embedding."""


Shown = ModelCall | Known


_GENERATION = Kind.GENERATION
_new = tuple.__new__  # `Known(...)` without names takes a third of the time


class Seen:
    """What came before: bounded, and without a clock."""

    def __init__(self) -> None:
        self.spans: OrderedDict[str, Known] = OrderedDict()
        self.below: dict[str, list[str]] = {}
        """Ids of the model calls under each span."""
        self.streams: OrderedDict[tuple[Any, ...], int] = OrderedDict()
        """How many requests were counted of which a record may still tell the end, by `_stream_key`."""
        self.first: OrderedDict[str, Said] = OrderedDict()
        self.last: OrderedDict[str, Said] = OrderedDict()

    def expect_end(self, key: tuple[Any, ...]) -> None:
        """A record may tell how the stream of a request ended that is counted now."""
        self.streams[key] = self.streams.get(key, 0) + 1
        _keep_latest(self.streams, MAX_TRACES)

    def remember(self, span_id: str, known: Known) -> None:
        """Add a span; the oldest are forgotten."""
        self.spans[span_id] = known
        if known.above is not None and known.kind.is_model_call:
            self.below.setdefault(known.above, []).append(span_id)
        while len(self.spans) > MAX_SEEN:
            _, oldest = self.spans.popitem(last=False)
            if oldest.above is not None:
                self.below.pop(oldest.above, None)


def resolve(
    calls: Sequence[ModelCall],
    seen: Seen | None = None,
    *,
    others: Mapping[str, str | None] | None = None,
    whole: bool = False,
) -> list[ModelCall]:
    """The calls, each once, with their places in the trace.

    `others` are spans that were none of ours: the parent of each. A span above that was not seen is taken for
    one that will come; where what was seen is the `whole` of it, the trace stands for it.
    """
    seen = Seen() if seen is None else seen
    by_id = {call.span_id: call for call in calls}
    above = {call.span_id: _above(call, by_id, others, seen, whole=whole) for call in calls}
    stands_for: dict[str, str] = {}
    made = by_id
    if _may_meet(calls, by_id, above, seen):
        made = _each_once(by_id, above, seen, stands_for)
    result = [_placed(call, above, stands_for, seen) for call in made.values()]
    result = _with_conversation(result, seen)
    for span_id, call in by_id.items():
        survivor = stands_for.get(span_id, span_id)
        if "may_go_on" in call.facts and made[survivor] is call:
            seen.expect_end(_stream_key(call, above))
        seen.remember(span_id, _known(call, above[span_id], survivor, made[survivor].kind))
    return result


def _known(call: ModelCall, above: str | None, survivor: str, kind: Kind) -> Known:
    return _new(
        Known,
        (
            call.kind,
            call.trace_id,
            call.start_ns,
            call.end_ns,
            call.scope,
            call.request_model,
            call.response_model,
            call.response_id,
            call.usage,
            above,
            survivor,
            kind.is_model_call,
        ),
    )


def _may_meet(
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


# --- what is above ------------------------------------------------------------------------------------


def _above(
    call: ModelCall,
    by_id: Mapping[str, ModelCall],
    others: Mapping[str, str | None] | None,
    seen: Seen,
    *,
    whole: bool,
) -> str | None:
    """The id of the nearest span above that is of concern; None where that is the trace."""
    context = call.context
    told = context.parent_id
    if told is not None:
        return None if told in (call.trace_id, context.trace_name) else told
    step = call.parent_id
    if step is None or step in by_id or step in seen.spans:
        return step
    for _ in range(_MOST_BETWEEN):
        if others is None or step not in others:
            break
        step = others[step]
        if step is None or step in by_id or step in seen.spans:
            return step
    return None if whole else step


def _trace(call: ModelCall) -> str:
    return call.context.trace_name or call.trace_id


def _placed(
    call: ModelCall, above: Mapping[str, str | None], stands_for: Mapping[str, str], seen: Seen
) -> ModelCall:
    """The call with the id of the span above under which PostHog knows it."""
    if call.parent_id is None:
        return call
    place = above[call.span_id]
    if place is None:
        place = _trace(call)
    else:
        known = seen.spans.get(place)
        place = stands_for.get(place) or (place if known is None else known.stands_for)
        if place == call.span_id:
            place = _trace(call)
    if place == call.context.parent_id:
        return call
    return call._replace(context=call.context._replace(parent_id=place))


# --- one call, one generation -------------------------------------------------------------------------


def _each_once(
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
    counted = [call for call in present if _agree(outer, call) and not _is_attempt(outer, call)]
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
            if inner.scope in taken[outer.span_id] or not _are_twins(outer, inner):
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
            and _agree(call, end)
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


def _are_twins(outer: Shown, inner: Shown) -> bool:
    """Whether two spans side by side show one call."""
    if not _agree(outer, inner) or outer.end_ns is None or inner.end_ns is None:
        return False
    if outer.scope == inner.scope or inner.start_ns >= outer.end_ns:
        return False
    if outer.response_id is not None and outer.response_id == inner.response_id:
        return True
    return inner.start_ns - outer.start_ns <= NEAR_NS and inner.end_ns <= outer.end_ns + SLACK_NS


def _agree(one: Shown, other: Shown) -> bool:
    """Whether nothing that both spans say speaks against their showing one call."""
    if one.kind is not other.kind:
        return False
    if one.response_id is not None and other.response_id is not None:
        return one.response_id == other.response_id
    return _same_model(one, other) or _same_tokens(one.usage, other.usage)


def may_be_one(outer: ModelCall, inner: ModelCall) -> bool:
    """Whether two spans under way, one within or beside the other, seem to show one call."""
    return outer.kind.is_model_call and outer.scope != inner.scope and _agree(outer, inner)


def _same_model(one: Shown, other: Shown) -> bool:
    mine = {_plain(name) for name in (one.request_model, one.response_model) if name}
    theirs = {_plain(name) for name in (other.request_model, other.response_model) if name}
    if not mine or not theirs:
        return True
    return any(a == b or _is_dated(a, b) or _is_dated(b, a) for a in mine for b in theirs)


def _is_dated(name: str, plain: str) -> bool:
    """Whether `name` is `plain` with a date or version behind: `gpt-5.1-2025-11-13`, `gemini-3-pro-001`."""
    return name.startswith(plain) and _VERSION.fullmatch(name, len(plain)) is not None


def _plain(model: str) -> str:
    """The model without who serves it: `openai/gpt-5.1`, `models/gemini-3-pro`."""
    return model.rpartition("/")[2].lower()


def _same_tokens(one: Usage, other: Usage) -> bool:
    return (
        one.input is not None
        and one.output is not None
        and (one.input, one.output) == (other.input, other.output)
    )


def _is_late(call: ModelCall, place: str | None, seen: Seen) -> bool:
    """Whether the call was counted already, by a span that came in a batch before."""
    before = seen.spans.get(call.span_id)
    if before is not None:  # the very span, once more
        return not before.is_counted or before.stands_for != call.span_id
    outer = seen.spans.get(place) if place is not None else None
    if outer is not None and outer.is_counted and _agree(outer, call):
        return True
    for span_id in seen.below.get(call.span_id, ()):
        inner = seen.spans.get(span_id)
        if inner is not None and inner.is_counted and _agree(call, inner):
            return True
    for span_id in seen.below.get(place, ()) if place is not None else ():
        beside = seen.spans.get(span_id)
        if beside is not None and beside.is_counted and beside.trace_id == call.trace_id:
            outer_first = (beside, call) if beside.start_ns <= call.start_ns else (call, beside)
            if _are_twins(*outer_first):
                return True
    return False


def _is_late_end(call: ModelCall, above: Mapping[str, str | None], seen: Seen) -> bool:
    """Whether the record tells the end of a request that was counted in a batch before."""
    if "ended_after" not in call.facts or call.span_id in seen.spans:
        return False
    key = _stream_key(call, above)
    known = seen.streams.get(key, 0)
    if known:
        seen.streams[key] = known - 1
    return known > 0


def _stream_key(call: ModelCall, above: Mapping[str, str | None]) -> tuple[Any, ...]:
    return call.scope, call.request_model, *_place(call, above)


def _as_structure(call: ModelCall) -> ModelCall:
    return call._replace(kind=Kind.SPAN)


# --- the union ----------------------------------------------------------------------------------------

_NOT_MERGED = frozenset(
    {"kind", "operation", "name", "trace_id", "span_id", "parent_id", "start_ns", "end_ns", "scope"}
)
_RICH = ("input", "output", "tools", "tools_called", "finish_reasons", "evaluations", "linked_traces")
_MAPPINGS = ("parameters", "facts", "resource")


def united(outer: ModelCall, inner: ModelCall) -> ModelCall:
    """One call of two spans that show it: the outer one's place and time, and all that either knows."""
    changes: dict[str, Any] = {}
    for name in outer._fields:
        mine, theirs = getattr(outer, name), getattr(inner, name)
        if name in _NOT_MERGED or theirs is None or mine == theirs:
            continue
        if name == "usage":
            changes[name] = _united_usage(mine, theirs)
        elif name == "context":
            changes[name] = _united_context(mine, theirs)
        elif name in _MAPPINGS:
            changes[name] = {**theirs, **mine}
        elif name in _RICH:
            if _weight(theirs) > _weight(mine):
                changes[name] = theirs
        elif mine is None:
            changes[name] = theirs
    if (
        outer.response_model is not None
        and outer.response_model == outer.request_model
        and inner.response_model
    ):
        changes["response_model"] = inner.response_model  # some repeat what was asked for
    if outer.error is not None and inner.error is not None:
        changes["error"] = outer.error._replace(
            type=outer.error.type or inner.error.type,
            message=outer.error.message or inner.error.message,
            http_status=outer.error.http_status or inner.error.http_status,
        )
    if outer.stream or inner.stream:
        changes["stream"] = True
    return outer._replace(**changes)


def _united_usage(mine: Usage, theirs: Usage) -> Usage:
    """The counts of both; where they differ those that add up, else the larger one, which left less out."""
    if _adds_up(mine) != _adds_up(theirs):
        base, more = (mine, theirs) if _adds_up(mine) else (theirs, mine)
    else:
        base, more = (theirs, mine) if (theirs.input or 0) > (mine.input or 0) else (mine, theirs)
    settled = _adds_up(base)
    counts: dict[str, int] = {}
    for name in base._fields:
        found = [count for count in (getattr(base, name), getattr(more, name)) if count is not None]
        if found and name != "cache_exclusive":
            counts[name] = found[0] if settled else max(found)
    exclusive = base.cache_exclusive if base.cache_exclusive is not None else more.cache_exclusive
    return Usage(**counts, cache_exclusive=exclusive)


def _adds_up(usage: Usage) -> bool:
    return usage.total is not None and usage.total == (usage.input or 0) + (usage.output or 0)


def _united_context(mine: CallContext, theirs: CallContext) -> CallContext:
    if theirs is NO_CONTEXT:
        return mine
    merged = {
        name: value if value is not None else getattr(theirs, name) for name, value in mine._asdict().items()
    }
    for name in ("groups", "properties", "flags"):
        merged[name] = {**getattr(theirs, name), **getattr(mine, name)}
    merged["parent_id"] = mine.parent_id
    merged["privacy_mode"] = mine.privacy_mode or theirs.privacy_mode
    return CallContext(**merged)


def _weight(value: Any) -> int:
    """How much is said: the length of all texts in it."""
    total, waiting = 0, [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list | tuple):
            total += 1
            waiting.extend(found)
        else:
            total += len(found) if isinstance(found, str | bytes) else 1
    return total


# --- the conversation of a trace ----------------------------------------------------------------------


def _with_conversation(calls: list[ModelCall], seen: Seen) -> list[ModelCall]:
    """Roots that tell nothing themselves get the first input and the last output of the calls below."""
    has_roots = False
    for call in calls:
        if call.parent_id is None:
            has_roots = has_roots or not call.kind.is_model_call
        elif call.kind is _GENERATION:
            _note(seen, call)
    if not has_roots:
        return calls
    return [
        _with_states(call, seen) if call.parent_id is None and not call.kind.is_model_call else call
        for call in calls
    ]


def _with_states(root: ModelCall, seen: Seen) -> ModelCall:
    changes = {}
    for side, notes in (("input", seen.first), ("output", seen.last)):
        if getattr(root, side + "_state") is None and not getattr(root, side):
            said = notes.get(root.trace_id)
            if said is not None and said[1] is not None:
                changes[side + "_state"] = said[1]
    return root._replace(**changes) if changes else root


def _note(seen: Seen, call: ModelCall) -> None:
    first = seen.first.get(call.trace_id)
    if call.input and (first is None or call.start_ns < first[0]):
        seen.first[call.trace_id] = (call.start_ns, _first_said(call.input))
        _keep_latest(seen.first, MAX_TRACES)
    end = call.end_ns or call.start_ns
    last = seen.last.get(call.trace_id)
    if call.output and (last is None or end >= last[0]):
        seen.last[call.trace_id] = (end, _last_said(call.output))
        _keep_latest(seen.last, MAX_TRACES)


def _keep_latest(notes: OrderedDict[Any, Any], number: int) -> None:
    while len(notes) > number:
        notes.popitem(last=False)


def _first_said(messages: Sequence[Message]) -> Any:
    return next((_text_of(message) for message in messages if message.get("role") != "system"), None)


def _last_said(messages: Sequence[Message]) -> Any:
    return _text_of(messages[-1]) if messages else None


def _text_of(message: Message) -> str | None:
    """All text of a message, a long one cut."""
    texts = [
        part["content"]
        for part in message.get("parts", ())
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("content"), str)
    ]
    return "\n".join(texts)[:MAX_SAID] or None
