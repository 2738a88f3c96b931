"""The root of each trace, with the first input and the last output of the calls below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otel_posthog.conversion.model_call import Kind, Message, ModelCall
from otel_posthog.conversion.traces.history import (
    MAX_TRACES,
    SpanHistory,
    SpanKey,
    TimedText,
    keep_latest,
)

__all__ = ["with_trace_roots"]

MAX_TEXTS = 4 * MAX_TRACES
"""Traces, and spans in them, whose first input and last output are remembered."""
MAX_TEXT = 8192
"""Characters that are remembered of such a text."""
_MAX_ANCESTORS = 64
"""Ancestors of a call that remember its texts."""

_GENERATION = Kind.GENERATION
_MAY_BE_HEAD = frozenset({Kind.AGENT, Kind.WORKFLOW, Kind.CHAIN})
"""Kinds that may be a trace's root without being its first span: a server's request may be above them."""


def with_trace_roots(calls: list[ModelCall], history: SpanHistory) -> list[ModelCall]:
    """Return the calls; those at the head of a trace become its root, and a root without texts gets some."""
    has_roots = False
    may_be_heads: list[ModelCall] = []
    ancestors = {call.span_id: call.context.parent_id for call in calls}
    for call in calls:
        if call.kind is _GENERATION:
            if not call.context.privacy_mode:
                _remember_texts(call, ancestors, history)
        elif call.parent_id is None:
            has_roots = has_roots or not call.kind.is_model_call
        elif call.kind in _MAY_BE_HEAD and call.context.parent_id == call.trace_key:
            may_be_heads.append(call)
    heads = {id(call) for call in sorted(may_be_heads, key=_earliest_first) if _is_head(call, history)}
    _pass_up_texts(calls, ancestors, history)
    if heads:
        calls = [_as_root(call) if id(call) in heads else call for call in calls]
    elif not has_roots:
        return calls
    return [
        _with_texts(call, history) if call.parent_id is None and not call.kind.is_model_call else call
        for call in calls
    ]


def _earliest_first(call: ModelCall) -> tuple[int, str]:
    return call.start_ns, call.span_id


def _is_head(call: ModelCall, history: SpanHistory) -> bool:
    """Whether the call is the first head of its trace: PostHog would show only one of two roots."""
    head = history.heads.setdefault(call.trace_key, call.span_id)
    keep_latest(history.heads, MAX_TRACES)
    return head == call.span_id


def _as_root(call: ModelCall) -> ModelCall:
    return call._replace(parent_id=None, context=call.context._replace(parent_id=None))


def _with_texts(root: ModelCall, history: SpanHistory) -> ModelCall:
    changes: dict[str, Any] = {}
    for side, texts in (("input", history.first_inputs), ("output", history.last_outputs)):
        if getattr(root, side + "_state") is None and not getattr(root, side):
            # A real root is above the whole trace. A head owns only the calls that are known to be below it.
            trace = root.trace_key
            is_head = history.heads.get(trace) == root.span_id
            timed_text = texts.get((root.trace_id, root.span_id) if is_head else (trace, None))
            if timed_text is not None and timed_text[1] is not None:
                changes[side + "_state"] = timed_text[1]
    return root._replace(**changes) if changes else root


def _remember_texts(call: ModelCall, ancestors: Mapping[str, str | None], history: SpanHistory) -> None:
    """Remember the input and output of a call for its trace and its known ancestors."""
    first = (call.start_ns, _first_text(call.input)) if call.input else None
    last = (call.end_ns or call.start_ns, _last_text(call.output)) if call.output else None
    if call.parent_id is not None:
        _remember(history, (call.trace_key, None), first, last)
    for span_id in _known_ancestors(call, ancestors, history):
        _remember(history, (call.trace_id, span_id), first, last)


def _remember(history: SpanHistory, key: SpanKey, first: TimedText | None, last: TimedText | None) -> None:
    first_inputs, last_outputs = history.first_inputs, history.last_outputs
    if first is not None and (key not in first_inputs or first[0] < first_inputs[key][0]):
        first_inputs[key] = first
        keep_latest(first_inputs, MAX_TEXTS)
    if last is not None and (key not in last_outputs or last[0] >= last_outputs[key][0]):
        last_outputs[key] = last
        keep_latest(last_outputs, MAX_TEXTS)


def _pass_up_texts(
    calls: Sequence[ModelCall], ancestors: Mapping[str, str | None], history: SpanHistory
) -> None:
    """Remember the texts below a span for its ancestors too: those may arrive after it."""
    for call in calls:
        if not call.kind.is_model_call:
            key = (call.trace_id, call.span_id)
            first, last = history.first_inputs.get(key), history.last_outputs.get(key)
            if first is not None or last is not None:
                for span_id in _known_ancestors(call, ancestors, history):
                    _remember(history, (call.trace_id, span_id), first, last)


def _known_ancestors(
    call: ModelCall, ancestors: Mapping[str, str | None], history: SpanHistory
) -> Iterator[str]:
    """Yield the ids of the ancestors that are in the batch or the history, from the nearest up."""
    span_id = call.context.parent_id
    for _ in range(_MAX_ANCESTORS):
        if span_id is None or span_id in (call.trace_id, call.context.trace_name):
            return
        yield span_id
        if span_id in ancestors:
            span_id = ancestors[span_id]
        else:
            recent = history.span(call.trace_id, span_id)
            span_id = None if recent is None else recent.ancestor_id


def _first_text(messages: Sequence[Message]) -> str | None:
    return next((_text_of(message) for message in messages if message.get("role") != "system"), None)


def _last_text(messages: Sequence[Message]) -> str | None:
    return _text_of(messages[-1]) if messages else None


def _text_of(message: Message) -> str | None:
    """Return the text of a message, cut to `MAX_TEXT` characters; None if it has none."""
    texts = [
        part["content"]
        for part in message.get("parts", ())
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("content"), str)
    ]
    return "\n".join(texts)[:MAX_TEXT] or None
