"""Gemini's streamed arguments of a function: pieces of values, each with the path it belongs to.

Source: google-genai, `types.PartialArg`: `{"jsonPath": "$.city", "stringValue": "Os", "willContinue": true}`.
"""

from __future__ import annotations

import re
from typing import Any

from instrumentors.common.call_span import read_piece
from instrumentors.gemini.payload import get, get_list

_KEYS = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[['\"]([^'\"]+)['\"]\]")


def join_calls(parts: list[Any]) -> list[Any]:
    """Return the parts with the pieces of each function call as one call with all of its arguments."""
    joined: list[Any] = []
    open_call: dict[str, Any] | None = None
    for part in parts:
        call = get(part, "functionCall")
        if not isinstance(call, dict) or not (
            open_call or get(call, "partialArgs") or get(call, "willContinue")
        ):
            joined.append(part)
            continue
        if open_call is None or get(call, "name"):
            open_call = {"name": get(call, "name"), "id": get(call, "id"), "args": {}}
            joined.append({"functionCall": open_call})
        open_call["args"].update(get(call, "args") or {})
        for piece in get_list(get(call, "partialArgs")):
            read_piece(_add, open_call["args"], piece)
        if not get(call, "willContinue"):
            open_call = None
    return joined


def _add(arguments: Any, piece: Any) -> None:
    keys: list[Any] = [
        int(index) if index else name or quoted
        for name, index, quoted in _KEYS.findall(str(get(piece, "jsonPath")))
    ]
    *above, last = keys
    place = arguments
    for key, following in zip(above, keys[1:], strict=True):
        place = _at(place, key, [] if isinstance(following, int) else {})
    words = get(piece, "stringValue")
    if isinstance(words, str):
        _set(place, last, _at(place, last, "") + words)
    else:
        value = next(
            (v for name in ("numberValue", "boolValue") if (v := get(piece, name)) is not None), None
        )
        _set(place, last, value)


def _at(place: Any, key: Any, default: Any) -> Any:
    """Return the value at a key; it is `default` from now on if there is none."""
    if isinstance(place, dict):
        return place.setdefault(key, default)
    if key >= len(place):
        place.append(default)
    return place[key]


def _set(place: Any, key: Any, value: Any) -> None:
    _at(place, key, value)
    place[key if isinstance(place, dict) else min(key, len(place) - 1)] = value
