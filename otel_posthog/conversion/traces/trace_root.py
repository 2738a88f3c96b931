"""What stands for a trace: its head, with the first input and the last output of the calls in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otel_posthog.conversion.model_call import Kind, Message, ModelCall
from otel_posthog.conversion.traces.history import MAX_TRACES, SpanHistory, SpanKey, TimedText, keep_latest

__all__ = ["with_conversation"]

MAX_NOTES = 4 * MAX_TRACES
"""Traces, and spans in them, of which the first input and last output are remembered."""
_DEEPEST = 64
"""Spans above a call that are told what it says."""
MAX_TEXT = 8192
"""Characters of a text that are remembered for that."""

_GENERATION = Kind.GENERATION
_MAY_LEAD = frozenset({Kind.AGENT, Kind.WORKFLOW, Kind.CHAIN})
"""What is a trace's head where all above it is none of ours, such as the request to a server."""


def with_conversation(calls: list[ModelCall], history: SpanHistory) -> list[ModelCall]:
    """The head of each trace is its root; one that tells nothing itself gets what the calls below say."""
    has_roots = False
    may_lead: list[ModelCall] = []
    above = {call.span_id: call.context.parent_id for call in calls}
    for call in calls:
        if call.kind is _GENERATION:
            if not call.context.privacy_mode:
                _note(call, above, history)
        elif call.parent_id is None:
            has_roots = has_roots or not call.kind.is_model_call
        elif call.kind in _MAY_LEAD and call.context.parent_id == call.trace_key:
            may_lead.append(call)
    heads = {id(call) for call in sorted(may_lead, key=_earliest_first) if _is_head(call, history)}
    _hand_up(calls, above, history)
    if heads:
        calls = [_as_root(call) if id(call) in heads else call for call in calls]
    elif not has_roots:
        return calls
    return [
        _with_states(call, history) if call.parent_id is None and not call.kind.is_model_call else call
        for call in calls
    ]


def _earliest_first(call: ModelCall) -> tuple[int, str]:
    return call.start_ns, call.span_id


def _is_head(call: ModelCall, history: SpanHistory) -> bool:
    """Whether it is the first that may lead its trace: two would hide one another."""
    head = history.heads.setdefault(call.trace_key, call.span_id)
    keep_latest(history.heads, MAX_TRACES)
    return head == call.span_id


def _as_root(call: ModelCall) -> ModelCall:
    return call._replace(parent_id=None, context=call.context._replace(parent_id=None))


def _with_states(root: ModelCall, history: SpanHistory) -> ModelCall:
    changes = {}
    for side, notes in (("input", history.first_inputs), ("output", history.last_outputs)):
        if getattr(root, side + "_state") is None and not getattr(root, side):
            # A root is above all of its trace; of a head only what is below it is known to be its own.
            trace = root.trace_key
            is_head = history.heads.get(trace) == root.span_id
            said = notes.get((root.trace_id, root.span_id) if is_head else (trace, None))
            if said is not None and said[1] is not None:
                changes[side + "_state"] = said[1]
    return root._replace(**changes) if changes else root


def _note(call: ModelCall, above: Mapping[str, str | None], history: SpanHistory) -> None:
    """Remember what a call says, of its trace and of the spans above it that are known."""
    first = (call.start_ns, _first_said(call.input)) if call.input else None
    last = (call.end_ns or call.start_ns, _last_said(call.output)) if call.output else None
    if call.parent_id is not None:
        _note_said(history, (call.trace_key, None), first, last)
    for span_id in _above(call, above, history):
        _note_said(history, (call.trace_id, span_id), first, last)


def _note_said(history: SpanHistory, where: SpanKey, first: TimedText | None, last: TimedText | None) -> None:
    if first is not None and (where not in history.first_inputs or first[0] < history.first_inputs[where][0]):
        history.first_inputs[where] = first
        keep_latest(history.first_inputs, MAX_NOTES)
    if last is not None and (where not in history.last_outputs or last[0] >= history.last_outputs[where][0]):
        history.last_outputs[where] = last
        keep_latest(history.last_outputs, MAX_NOTES)


def _hand_up(calls: Sequence[ModelCall], above: Mapping[str, str | None], history: SpanHistory) -> None:
    """Hand what was said below a span up to those above it, which came later."""
    for call in calls:
        if not call.kind.is_model_call:
            here = (call.trace_id, call.span_id)
            first, last = history.first_inputs.get(here), history.last_outputs.get(here)
            if first is not None or last is not None:
                for span_id in _above(call, above, history):
                    _note_said(history, (call.trace_id, span_id), first, last)


def _above(call: ModelCall, above: Mapping[str, str | None], history: SpanHistory) -> Iterator[str]:
    """The ids of the spans that a call is below."""
    step = call.context.parent_id
    for _ in range(_DEEPEST):
        if step is None or step in (call.trace_id, call.context.trace_name):
            return
        yield step
        if step in above:
            step = above[step]
        else:
            known = history.span(call.trace_id, step)
            step = None if known is None else known.above


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
    return "\n".join(texts)[:MAX_TEXT] or None
