"""Readers of single attribute values: each returns the value in our terms, or None if it is not usable.

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
    "javascript_bytes",
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
"""The largest count: JSON readers that use doubles, such as PostHog's, cannot hold larger ones exactly."""

_LONGEST_WRITTEN = 8192
"""Characters of an object that is parsed as Python; a longer text is not one."""

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
"""Characters of a name or an id; PostHog groups by nothing longer."""

_ENUM_PREFIX = re.compile(r"^.*\.")


def text(value: Any) -> str | None:
    """Return a name or an id, cut to `MAX_LABEL`. Numbers count as text: ids are often numbers."""
    if type(value) is str:
        return value[:MAX_LABEL] or None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else None  # str() raises beyond thousands of digits
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    return None


def number(value: Any) -> float | None:
    """Return a finite number, also one that is written as text."""
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
    """Return a whole number from 0 to 2**53."""
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else None
    value = number(value)
    if value is None or not 0 <= value <= MAX_COUNT or value != int(value):
        return None
    return int(value)


def seconds(value: Any) -> float | None:
    """Return a duration in seconds, not negative and at most a year."""
    value = number(value)
    return float(value) if value is not None and 0 <= value <= 31_536_000 else None


def dollars(value: Any) -> float | None:
    """Return a price in US dollars, from 0 to a million."""
    value = number(value)
    return value if value is not None and 0 <= value <= 1_000_000 else None


def boolean(value: Any) -> bool | None:
    """Return true or false, also from text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return None


def private(value: Any) -> bool:
    """Whether the value asks for privacy: everything that does not mean no does."""
    return boolean(value) is not False and value not in (None, 0, "", "0", "no", "off")


def anything(value: Any) -> Any:
    """Return the value as it is; None for a number that JSON cannot hold."""
    return None if type(value) is float and not math.isfinite(value) else value


def parse_json(value: Any) -> Any:
    """Return the value of a JSON text; any other value, and a text that is no JSON, as it is."""
    if type(value) is not str:
        return anything(value)
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:  # orjson rejects NaN, lone surrogates, numbers beyond 64 bits
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def parse_written(value: Any) -> Any:
    """Return a small object written as JSON or as Python's `str` of a dict; None for any other text."""
    parsed = parse_json(value)
    if not isinstance(parsed, str):
        return parsed
    if not parsed.startswith("{") or len(parsed) > _LONGEST_WRITTEN:
        return None
    try:
        return ast.literal_eval(parsed)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; an empty list if the value is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str] | None:
    """Return a list of texts, also from JSON or a single text."""
    if isinstance(value, str):
        value = parse_json(value) if value.lstrip().startswith("[") else [value]
    if not isinstance(value, list):
        return None
    return [item for item in map(text, value) if item is not None] or None


def finish_reason(value: Any) -> str | None:
    """Return one finish reason in the conventions' words; an unknown one in lower case."""
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
    """Return the finish reasons, one a choice."""
    if type(value) is list and len(value) == 1 and type(value[0]) is str and value[0] in _FINISH:
        return [_FINISH[value[0]]]
    return [reason for reason in map(finish_reason, texts(value) or ()) if reason is not None] or None


def milliseconds(value: Any) -> float | None:
    """Return a duration that is given in milliseconds, in seconds."""
    duration = number(value)
    return None if duration is None else seconds(duration / 1000)


def javascript_bytes(value: Any, min_fields: int = 1) -> bytes | None:
    """Return the bytes of a `Buffer` or `Uint8Array` as JavaScript writes it as JSON.

    An object with numbered fields counts as a `Uint8Array` if it has at least `min_fields`.
    """
    if type(value) is not dict:
        return None
    if value.get("type") == "Buffer":
        numbers = value.get("data")
    elif len(value) >= min_fields and "0" in value:
        numbers = [*value.values()]
    else:
        return None
    if isinstance(numbers, list) and all(type(each) is int and 0 <= each <= 255 for each in numbers):
        return bytes(numbers)
    return None


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
"""Field of `ModelCall.parameters` and reader, by the name that providers and frameworks use."""


def read_parameters(parts: dict[str, dict[str, Any]], request: dict[str, Any]) -> None:
    """Read model, stream and parameters from a request, given as one object."""
    call, parameters = parts["call"], parts["parameters"]
    model = text(request.get("model", request.get("model_name")))
    if model is not None:
        call.setdefault("request_model", model)
    stream = boolean(request.get("stream"))
    if stream is not None:
        call.setdefault("stream", stream)
    for name, value in request.items():
        field, reader = _PARAMETERS.get(name, ("", None))
        parameter = reader(value) if reader is not None else None
        if parameter is not None:
            parameters.setdefault(field, parameter)
