"""A trace that tells nothing itself has the first input and the last output of the calls in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_posthog.calls import Kind, Message, ModelCall
from otel_posthog.traces.seen import MAX_TRACES, Seen, keep_latest

__all__ = ["with_conversation"]

MAX_SAID = 8192
"""Characters of a text that are remembered for that."""

_GENERATION = Kind.GENERATION


def with_conversation(calls: list[ModelCall], seen: Seen) -> list[ModelCall]:
    """Roots that tell nothing themselves get the first input and the last output of the calls below."""
    has_roots = False
    for call in calls:
        if call.parent_id is None:
            has_roots = has_roots or not call.kind.is_model_call
        elif call.kind is _GENERATION and not call.context.privacy_mode:
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
