"""An event as JSON bytes. Encoding never fails: a value that JSON or PostHog cannot hold becomes a note."""

from __future__ import annotations

import base64
import dataclasses
import enum
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

# PostHog's rust/capture reads a body with serde_json, which rejects more than 128 levels; the batch has four.
MAX_DEPTH = 64

_LISTS = (list, tuple, set, frozenset, deque)


def encode(event: Mapping[str, Any]) -> bytes:
    """Return `event` as UTF-8 JSON that PostHog can read.

    A usual event costs one `orjson.dumps`. A foreign value in it (see `jsonable`) costs a walk over it.
    """
    try:
        data = orjson.dumps(event)
    except TypeError:
        return orjson.dumps(jsonable(event))
    # A NUL is legal JSON, but no database behind PostHog accepts it.
    if b"\\" in data and b"\\u0000" in data:
        return orjson.dumps(jsonable(event))
    # The length after `replace` is three times as fast as `count`, which goes byte by byte.
    brackets = 2 * len(data) - len(data.replace(b"{", b"")) - len(data.replace(b"[", b""))
    if brackets > MAX_DEPTH and _deeper_than(event, MAX_DEPTH):
        return orjson.dumps(jsonable(event))
    return data


def jsonable(value: Any) -> Any:
    """Return `value` as JSON types only.

    Lone surrogates and NUL become U+FFFD (a split surrogate pair is joined); whole numbers beyond 64 bits
    become text; bytes become their UTF-8 text or else base64; enums become their value; keys become text. A
    circular reference, an object of a foreign type and a value deeper than 64 levels become a note in angle
    brackets. NaN and infinities become null in the encoder.
    """
    return _jsonable(value, 0, set())


def _jsonable(value: Any, depth: int, above: set[int]) -> Any:
    if value is None or type(value) in (bool, float):
        return value
    try:
        if isinstance(value, enum.Enum):
            return _jsonable(value.value, depth, above)
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, int):
            return _whole_number(value)
        if isinstance(value, (float, Decimal)):
            return float(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _bytes_text(bytes(value))
        if isinstance(value, (date, time)):
            return value.isoformat()
        if isinstance(value, UUID):
            return str(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
        if isinstance(value, (Mapping, *_LISTS)):
            return _jsonable_container(value, depth, above)
    except Exception:  # noqa: BLE001 - a foreign object may raise anything from anywhere
        return f"<unreadable {type(value).__name__}>"
    return _type_note(value)


def _jsonable_container(value: Mapping[Any, Any] | Iterable[Any], depth: int, above: set[int]) -> Any:
    if depth >= MAX_DEPTH:
        return "<nested too deep>"
    if id(value) in above:
        return "<circular>"
    above.add(id(value))
    try:
        if not isinstance(value, Mapping):
            return [_jsonable(each, depth + 1, above) for each in tuple(value)]
        result: dict[str, Any] = {}
        for key, each in tuple(value.items()):
            name = key if type(key) is str else _key_text(key)
            name = clean_text(name)
            if name in result:
                name = f"{name} #{len(result)}"  # two foreign keys have the same text: keep both values
            result[name] = _jsonable(each, depth + 1, above)
        return result
    finally:
        above.discard(id(value))


def _key_text(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, (bytes, bytearray)):
        return _bytes_text(bytes(key))
    if isinstance(key, int):
        return str(_whole_number(key))
    if isinstance(key, (float, date, time, UUID)):
        return str(key)
    return _type_note(key)


def clean_text(text: str) -> str:
    """Return `text` without NUL and lone surrogates."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def _whole_number(value: int) -> int | str:
    if -(2**63) <= value < 2**64:
        return int(value)
    # Python raises for numbers of more than some thousand digits.
    return str(int(value)) if value.bit_length() < 10_000 else f"<int of {value.bit_length()} bits>"


def _bytes_text(value: bytes) -> str:
    try:
        return clean_text(value.decode())
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _type_note(value: Any) -> str:
    return clean_text(f"<{type(value).__name__}>")


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            each
            for node in layer
            for each in (node.values() if isinstance(node, dict) else node)
            if isinstance(each, (dict, list, tuple))
        ]
        if not layer:
            return False
    return True
