"""Langfuse's SDKs from version 3 on: `langfuse.observation.*` and `langfuse.trace.*`.

Source: langfuse-python, _client/attributes.py and span.py (versions 3 to 5), and recordings. Usage and cost
are JSON objects with free keys; `input` excludes cached tokens if these have a key of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.readers.attribute_values import (
    count,
    dollars,
    finish_reasons,
    parse_json,
    read_parameters,
    text,
    texts,
)
from otel_posthog.conversion.readers.messages import messages
from otel_posthog.conversion.readers.provider_payloads import read_usage
from otel_posthog.conversion.readers.rule_table import Dialect, Parts, rows
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = ["DIALECT"]

_OBSERVATION, _TRACE = "langfuse.observation.", "langfuse.trace."

_KINDS = {
    "generation": Kind.GENERATION,
    "embedding": Kind.EMBEDDING,
    "agent": Kind.AGENT,
    "tool": Kind.TOOL,
    "chain": Kind.CHAIN,
    "retriever": Kind.RETRIEVAL,
    "evaluator": Kind.EVALUATOR,
    "guardrail": Kind.GUARDRAIL,
    "span": Kind.SPAN,
    "event": Kind.SPAN,
}
"""Kinds by `langfuse.observation.type`."""


def _json_reasons(value: Any) -> list[str] | None:
    """Return finish reasons; from version 5 on each value of the metadata is a JSON text."""
    return finish_reasons(parse_json(value))


def _json_text(value: Any) -> str | None:
    return text(parse_json(value))


_RULES = (
    *rows(
        "call",
        observation=(text, _OBSERVATION + "type"),
        request_model=(text, _OBSERVATION + "model.name", "model"),
        provider=(_json_text, _OBSERVATION + "metadata.ls_provider"),
        prompt_name=(text, _OBSERVATION + "prompt.name"),
        prompt_version=(text, _OBSERVATION + "prompt.version"),
        input_state=(parse_json, _OBSERVATION + "input", _TRACE + "input"),
        output_state=(parse_json, _OBSERVATION + "output", _TRACE + "output"),
    ),
    *rows(
        "context",
        distinct_id=(text, "langfuse.user.id", "user.id"),
        conversation_id=(text, "langfuse.session.id", "session.id"),
    ),
    *rows("call", finish_reasons=(_json_reasons, _OBSERVATION + "metadata.finish_reason")),
    *rows(
        "properties",
        trace_name=(text, _TRACE + "name"),
        tags=(texts, _TRACE + "tags"),
        environment=(text, "langfuse.environment"),
        release=(text, "langfuse.release"),
        version=(text, "langfuse.version"),
    ),
)


def kind_of(parts: Parts, _view: SpanView) -> Kind | None:
    """Return the kind by the type of the observation; without a type, Langfuse's spans are structure."""
    call = parts["call"]
    observation = call.pop("observation", None)
    if observation is not None:
        return _KINDS.get(observation.lower(), Kind.SPAN)
    return None if "operation" in call or parts["usage"] else Kind.SPAN


def complete(parts: Parts, view: SpanView) -> None:
    """Read messages of generations; usage, cost, parameters; errors; the time of the first token."""
    call, attributes = parts["call"], view.attributes
    observation = (call.get("observation") or "").lower()
    if observation == "generation":
        for side, role in (("input", "user"), ("output", "assistant")):
            state = call.pop(side + "_state", None)
            if isinstance(state, dict) and isinstance(state.get("tools"), list):
                call.setdefault("tools", state["tools"])
            if isinstance(state, dict) and "role" not in state:
                state = state.get("messages", state.get("input", state))
            call.setdefault(side, messages(state, role) or ())
    elif observation == "embedding":
        call.setdefault("embedded", call.pop("input_state", None))
        call.pop("output_state", None)
    _read_usage(parts, parse_json(attributes.get(_OBSERVATION + "usage_details")))
    cost = parse_json(attributes.get(_OBSERVATION + "cost_details"))
    if isinstance(cost, dict):
        _read_cost(call, cost)
    parameters = parse_json(attributes.get(_OBSERVATION + "model.parameters"))
    if isinstance(parameters, dict):
        read_parameters(parts, parameters)
    if attributes.get(_OBSERVATION + "level") == "ERROR":
        parts["error"].setdefault("type", "_OTHER")
        parts["error"].setdefault("message", text(attributes.get(_OBSERVATION + "status_message")))
    _read_first_token(call, view)


def _read_cost(call: dict[str, Any], details: Mapping[str, Any]) -> None:
    """Read `input`, `output` and `total`; without a total it is the sum of all parts."""
    costs = {name: cost for name, value in details.items() if (cost := dollars(value)) is not None}
    if costs and "total" not in costs:
        costs["total"] = round(sum(costs.values()), 12)
    for name, field in (("total", "cost_usd"), ("input", "input_cost_usd"), ("output", "output_cost_usd")):
        if name in costs:
            call.setdefault(field, costs[name])


_USAGE = {
    "input": "input",
    "output": "output",
    "total": "total",
    "promptTokens": "input",
    "completionTokens": "output",
    "totalTokens": "total",
    "input_cached_tokens": "cache_read",
    "cache_read_input_tokens": "cache_read",
    "input_cache_read": "cache_read",
    "cache_creation_input_tokens": "cache_write",
    "input_cache_creation": "cache_write",
    "output_reasoning_tokens": "reasoning",
    "output_reasoning": "reasoning",
    "reasoning_tokens": "reasoning",
    "input_audio_tokens": "input_audio",
    "output_audio_tokens": "output_audio",
}
"""Keys of `usage_details` as Langfuse and its integrations write them."""


def _read_usage(parts: Parts, details: Any) -> None:
    if not isinstance(details, dict):
        return
    figures = {name: figure for name, value in details.items() if (figure := count(value)) is not None}
    usage = parts["usage"]
    for name, field in _USAGE.items():
        if name in figures:
            usage.setdefault(field, figures[name])
    given, output, total = (figures.get(name) for name in ("input", "output", "total"))
    # Every key is a kind of token of its own, unless the total says otherwise.
    if total is None or total != (given or 0) + (output or 0):
        for side, figure in (("input", given), ("output", output)):
            if figure is not None and usage.get(side) == figure:
                usage[side] += sum(more for name, more in figures.items() if _is_part(name, side, figures))
    read_usage(parts, details)
    if "input_tokens" in figures and not _RAW_CACHED.isdisjoint(figures) and total is None:
        usage.setdefault("cache_exclusive", True)  # Anthropic's own object


_RAW_CACHED = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"})


def _is_part(name: str, side: str, figures: Mapping[str, int]) -> bool:
    whole = name.rpartition("_")[0]
    if name == side or (whole != side and whole in figures):  # `input_cache_creation_5m`: a part of a part
        return False
    return name.startswith(side + "_") or (side == "input" and name.endswith("_input_tokens"))


def _read_first_token(call: dict[str, Any], view: SpanView) -> None:
    """Read `completion_start_time`, a time in ISO format, sometimes in quotes."""
    written = parse_json(view.attributes.get(_OBSERVATION + "completion_start_time"))
    if isinstance(written, str):
        try:
            moment = datetime.fromisoformat(written.replace("Z", "+00:00"))
            began = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        except (ValueError, OverflowError, OSError):
            return
        seconds = began - view.start_ns / 1e9
        if 0 <= seconds <= 86_400:
            call.setdefault("time_to_first_token", seconds)
            call.setdefault("stream", True)


DIALECT = Dialect(
    "langfuse",
    _RULES,
    prefixes=(
        (_OBSERVATION + "metadata.", "properties", parse_json),
        (_TRACE + "metadata.", "properties", parse_json),
    ),
    kind_of=kind_of,
    complete=complete,
)
