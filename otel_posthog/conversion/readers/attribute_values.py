"""Readers of single attribute values: each answers the value in our terms, or None for what is no such value.

Attributes are foreign data. A reader never raises, and never turns nonsense into a number.
"""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

import orjson

__all__ = [
    "anything",
    "boolean",
    "count",
    "dicts",
    "dollars",
    "finish_reasons",
    "milliseconds",
    "number",
    "parse_json",
    "parse_written",
    "private",
    "read_parameters",
    "seconds",
    "text",
    "texts",
]

MAX_COUNT = 2**53
"""Larger whole numbers are not exact in JSON readers that use doubles, PostHog's among them."""

_LONGEST_WRITTEN = 8192
"""Characters of a small object; a longer text is none."""

_FINISH = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "eos": "stop",
    "complete": "stop",
    "stop-sequence": "stop",
    "end-turn": "stop",
    "finish": "stop",
    "finished": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max-tokens": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "model_length": "length",
    "tool_call": "tool_call",
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "tool-calls": "tool_call",
    "tool-call": "tool_call",
    "requires_action": "tool_call",
    "function_call": "tool_call",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "content-filter": "content_filter",
    "guardrail_intervened": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "language": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "image_safety": "content_filter",
    "image_prohibited_content": "content_filter",
    "image_recitation": "content_filter",
    "refusal": "content_filter",
    "malformed_function_call": "error",
    "error": "error",
    "failed": "error",
    "cancelled": "error",
}
"""Providers' finish reasons in the words of the GenAI conventions (`gen_ai.response.finish_reasons`)."""

MAX_LABEL = 1024
"""Characters of a name or an id; nothing that PostHog groups by is longer."""

_ENUM_PREFIX = re.compile(r"^.*\.")


def text(value: Any) -> str | None:
    """A name or an id, cut to `MAX_LABEL`. Numbers count as text: ids are often numbers."""
    if type(value) is str:
        return value[:MAX_LABEL] or None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else None  # str() refuses thousands of digits
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    return None


def number(value: Any) -> float | None:
    """A finite number, also one that is written as text."""
    if type(value) is float and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) <= MAX_COUNT else value
    if isinstance(value, str):
        try:
            value = float(value) if value.strip() else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) <= MAX_COUNT else None
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) <= MAX_COUNT else value


def count(value: Any) -> int | None:
    """A whole number from 0 to 2**53."""
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else None
    value = number(value)
    if value is None or not 0 <= value <= MAX_COUNT or value != int(value):
        return None
    return int(value)


def seconds(value: Any) -> float | None:
    """A duration in seconds, not negative and at most a year."""
    value = number(value)
    return float(value) if value is not None and 0 <= value <= 31_536_000 else None


def dollars(value: Any) -> float | None:
    """A price in US dollars, not negative; nobody pays a million for a call."""
    value = number(value)
    return value if value is not None and 0 <= value <= 1_000_000 else None


def boolean(value: Any) -> bool | None:
    """True or false, also as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return None


def private(value: Any) -> bool:
    """Whether a call is to be kept private: whatever does not say no says yes."""
    return boolean(value) is not False and value not in (None, 0, "", "0", "no", "off")


def anything(value: Any) -> Any:
    """The value as it is; None for a number that JSON has no form for."""
    return None if type(value) is float and not math.isfinite(value) else value


def parse_json(value: Any) -> Any:
    """What a JSON text says; any other value, and a text that is no JSON, comes back as it is."""
    if type(value) is not str:
        return anything(value)
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:  # what orjson is too strict for: NaN, lone surrogates, numbers beyond 64 bits
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def parse_written(value: Any) -> Any:
    """A small object as JSON or as Python writes it (`str` of a dict); None for a text that is neither."""
    found = parse_json(value)
    if not isinstance(found, str):
        return found
    if not found.startswith("{") or len(found) > _LONGEST_WRITTEN:
        return None
    try:
        return ast.literal_eval(found)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str] | None:
    """A list of texts, also as JSON or as a single text."""
    if isinstance(value, str):
        value = parse_json(value) if value.lstrip().startswith("[") else [value]
    if not isinstance(value, list):
        return None
    found = [item for item in map(text, value) if item is not None]
    return found or None


def finish_reason(value: Any) -> str | None:
    """One finish reason in the convention's words; an unknown one in lower case."""
    if type(value) is str and value in _FINISH:
        return _FINISH[value]
    raw = text(value)
    if raw is None:
        return None
    word = _ENUM_PREFIX.sub("", raw).lower()
    if word in {"none", "null", "finish_reason_unspecified", "unspecified"}:
        return None
    return _FINISH.get(word, word)


def finish_reasons(value: Any) -> list[str] | None:
    """One finish reason a choice."""
    if type(value) is list and len(value) == 1 and type(value[0]) is str and value[0] in _FINISH:
        return [_FINISH[value[0]]]
    found = [reason for reason in map(finish_reason, texts(value) or ()) if reason is not None]
    return found or None


def milliseconds(value: Any) -> float | None:
    """A duration given in milliseconds, in seconds."""
    found = number(value)
    return None if found is None else seconds(found / 1000)


_PARAMETERS: dict[str, tuple[str, Any]] = {
    "temperature": ("temperature", number),
    "top_p": ("top_p", number),
    "topP": ("top_p", number),
    "top_k": ("top_k", number),
    "topK": ("top_k", number),
    "max_tokens": ("max_tokens", count),
    "max_completion_tokens": ("max_tokens", count),
    "max_output_tokens": ("max_tokens", count),
    "maxOutputTokens": ("max_tokens", count),
    "maxTokens": ("max_tokens", count),
    "frequency_penalty": ("frequency_penalty", number),
    "presence_penalty": ("presence_penalty", number),
    "stop": ("stop", texts),
    "stop_sequences": ("stop", texts),
    "stopSequences": ("stop", texts),
    "seed": ("seed", number),
    "n": ("n", count),
    "candidate_count": ("n", count),
    "reasoning_effort": ("reasoning_effort", text),
    "service_tier": ("service_tier", text),
    "previous_response_id": ("previous_response_id", text),
    "dimensions": ("dimensions", count),
}
"""What providers and frameworks call the parameters of a request, and what `ModelCall.parameters` does."""


def read_parameters(parts: dict[str, dict[str, Any]], asked: dict[str, Any]) -> None:
    """Read a request's parameters, given as one object: model and stream, and what steers the model."""
    call, parameters = parts["call"], parts["parameters"]
    model = text(asked.get("model", asked.get("model_name")))
    if model is not None:
        call.setdefault("request_model", model)
    stream = boolean(asked.get("stream"))
    if stream is not None:
        call.setdefault("stream", stream)
    for name, value in asked.items():
        field, read = _PARAMETERS.get(name, ("", None))
        found = read(value) if read is not None else None
        if found is not None:
            parameters.setdefault(field, found)
