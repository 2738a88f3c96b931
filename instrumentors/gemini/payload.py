"""Gemini's JSON, in which names are spelt either way: ``inlineData`` beside ``mime_type``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import orjson

from instrumentors.common.call_span import Attributes

_MODALITIES = frozenset({"text", "image", "audio"})  # those that have attributes of their own


class _Spellings(dict[str, str]):
    """Names in camel case as Python spells them, kept: our tables have only a few."""

    def __missing__(self, name: str) -> str:
        self[name] = spelling = snake_case(name)
        return spelling


_PYTHON = _Spellings()


def snake_case(name: str) -> str:
    """Return a name as Python spells it."""
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def get(value: Any, *path: str) -> Any:
    """Return the value at the end of a path in camel case, in either spelling; None if a name is missing.

    For names of our own alone, as their spellings are kept.
    """
    for name in path:
        if not isinstance(value, dict):
            return None
        inner = value.get(name)
        value = value.get(_PYTHON[name]) if inner is None else inner
    return value.value if value is not None and isinstance(value, Enum) else value


def get_list(value: Any) -> list[Any]:
    """Return `value` if it is a list, otherwise an empty one: only the SDK may read the user's iterators."""
    return list(value) if isinstance(value, (list, tuple)) else []


def get_names(value: Any) -> set[str]:
    """Return a list of names, or of enum members, in upper case."""
    return {str(getattr(name, "value", name)).upper() for name in get_list(value)}


def loads(text: Any) -> Any:
    """Parse JSON; the standard library accepts some that orjson is too strict for."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def merge_deep(value: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return `value` overlaid by `extra`, level by level, as the SDK does with ``extra_body``; both stay."""
    merged = dict(value)
    for name, one in extra.items():
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(one, Mapping)
        merged[name] = merge_deep(before, one) if both else one  # type: ignore[arg-type]
    return merged


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not None, so that a missing one does not replace an earlier one."""
    return {name: value for name, value in values.items() if value is not None}


def to_int(value: Any) -> int | None:
    """Return a whole number, also from text; None if it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def add_counts(*counts: Any) -> int | None:
    """Return the sum of the counts that are numbers; None if none is."""
    numbers = [number for count in counts if (number := to_int(count)) is not None]
    return sum(numbers) if numbers else None


def tokens_by_modality(usage: Any, fields: Iterable[tuple[str, str]], count: str) -> Attributes:
    """Return token counts by modality; `fields` are (list in `usage`, end of the attribute's name)."""
    attributes: Attributes = {}
    for field, suffix in fields:
        for detail in get_list(get(usage, field)):
            modality = str(get(detail, "modality")).lower()
            if modality in _MODALITIES and (tokens := to_int(get(detail, count))):
                attribute = f"gen_ai.usage.{modality}.{suffix}"
                attributes[attribute] = attributes.get(attribute, 0) + tokens
    return attributes
