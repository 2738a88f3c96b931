"""What stands for a trace: its head, with the first input and the last output of the calls in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_posthog.calls import Kind, Message, ModelCall
from otel_posthog.traces.seen import MAX_TRACES, Seen, keep_latest

__all__ = ["with_conversation"]

MAX_SAID = 8192
"""Characters of a text that are remembered for that."""

_GENERATION = Kind.GENERATION
_MAY_LEAD = frozenset({Kind.AGENT, Kind.WORKFLOW, Kind.CHAIN})
"""What is a trace's head where all above it is none of ours, such as the request to a server."""


def with_conversation(calls: list[ModelCall], seen: Seen) -> list[ModelCall]:
    """The head of each trace is its root; one that tells nothing itself gets what the calls below say."""
    has_roots = False
    may_lead: list[ModelCall] = []
    for call in calls:
        if call.parent_id is None:
            has_roots = has_roots or not call.kind.is_model_call
        elif call.kind is _GENERATION:
            if not call.context.privacy_mode:
                _note(seen, call)
        elif call.kind in _MAY_LEAD and call.context.parent_id == (call.context.trace_name or call.trace_id):
            may_lead.append(call)
    heads = {id(call) for call in sorted(may_lead, key=_earliest_first) if _is_head(call, seen)}
    if heads:
        calls = [_as_root(call) if id(call) in heads else call for call in calls]
    elif not has_roots:
        return calls
    return [
        _with_states(call, seen) if call.parent_id is None and not call.kind.is_model_call else call
        for call in calls
    ]


def _earliest_first(call: ModelCall) -> tuple[int, str]:
    return call.start_ns, call.span_id


def _is_head(call: ModelCall, seen: Seen) -> bool:
    """Whether it is the first that may lead its trace: two would hide one another."""
    head = seen.heads.setdefault(call.trace_id, call.span_id)
    keep_latest(seen.heads, MAX_TRACES)
    return head == call.span_id


def _as_root(call: ModelCall) -> ModelCall:
    return call._replace(parent_id=None, context=call.context._replace(parent_id=None))


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
        keep_latest(seen.first, MAX_TRACES)
    end = call.end_ns or call.start_ns
    last = seen.last.get(call.trace_id)
    if call.output and (last is None or end >= last[0]):
        seen.last[call.trace_id] = (end, _last_said(call.output))
        keep_latest(seen.last, MAX_TRACES)


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
