"""Reading Gemini's JSON, in which names are spelt either way: ``inlineData`` beside ``mime_type``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import orjson

from instrumentors.common.call_span import Attributes

_NUMBERED = frozenset({"text", "image", "audio"})  # the modalities that have attributes of their own


class _Spelling(dict[str, str]):
    """Names in camel case as Python spells them; the few there are in our tables."""

    def __missing__(self, name: str) -> str:
        self[name] = found = snake(name)
        return found


_PYTHON = _Spelling()


def snake(name: str) -> str:
    """Spell a name as Python does."""
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


def get(value: Any, *names: str) -> Any:
    """Follow names, given in camel case, into nested objects; None where one is missing.

    For names of our own alone: their spellings are kept.
    """
    for name in names:
        if not isinstance(value, dict):
            return None
        found = value.get(name)
        value = value.get(_PYTHON[name]) if found is None else found
    return value.value if value is not None and isinstance(value, Enum) else value


def items(value: Any) -> list[Any]:
    """Give a list; what is no list has no items, and an iterator is the user's to consume."""
    return list(value) if isinstance(value, (list, tuple)) else []


def names_in(value: Any) -> set[str]:
    """Give a list of names, enumerated or not, in upper case."""
    return {str(getattr(word, "value", word)).upper() for word in items(value)}


def loads(text: Any) -> Any:
    """Parse JSON; the standard library's parser takes what the faster one is too strict for."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def merged(value: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `extra` over `value`, level by level, as the SDK does with ``extra_body``, in a new dict."""
    result = dict(value)
    for name, one in extra.items():
        before = result.get(name)
        both = isinstance(before, Mapping) and isinstance(one, Mapping)
        result[name] = merged(before, one) if both else one  # type: ignore[arg-type]
    return result


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None: it says nothing, and is not to hide what was said before."""
    return {name: value for name, value in values.items() if value is not None}


def number(value: Any) -> int | None:
    """Read a whole number, which may be there as text; None where there is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def total(*counts: Any) -> int | None:
    """Add up the counts that are there."""
    found = [read for count in counts if (read := number(count)) is not None]
    return sum(found) if found else None


def by_modality(usage: Any, names: Iterable[tuple[str, str]], count: str) -> Attributes:
    """Read token counts per modality: `names` are (list in `usage`, end of the attribute's name)."""
    facts: Attributes = {}
    for name, suffix in names:
        for detail in items(get(usage, name)):
            kind = str(get(detail, "modality")).lower()
            if kind in _NUMBERED and (tokens := number(get(detail, count))):
                attribute = f"gen_ai.usage.{kind}.{suffix}"
                facts[attribute] = facts.get(attribute, 0) + tokens
    return facts
