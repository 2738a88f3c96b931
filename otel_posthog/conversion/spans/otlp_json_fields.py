"""Readers of single fields of OTLP/JSON: protobuf's JSON mapping, with ids in hex.

The rules are those of protobuf.dev/programming-guides/json and of
opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: 64-bit integers are texts or numbers, enumerations
numbers or names, fields in camel case or as in the .proto, null is absent, unknown fields are ignored.

The text of an `UnreadableError` is the end of a path and the fault there (".value.intValue is not ..."); each
caller puts its part of the path in front.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

__all__ = ["UnreadableError", "attributes", "each", "fixed64", "hex_id", "member", "members", "one", "text"]

MAX_DEPTH = 64
"""Lists and maps around a value. Protobuf's readers stop at 100 messages, which are 47 lists."""

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_URL_SAFE = str.maketrans("-_", "+/")


class UnreadableError(ValueError):
    """A fault in a document: its path and the reason."""


# --- objects and lists -----------------------------------------------------------------------------


@cache
def _as_in_proto(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _field(holder: Any, name: str) -> Any:
    """Return a field of an object; None if it is absent or null."""
    if not isinstance(holder, dict):
        raise UnreadableError(" is not an object")
    value = holder.get(name)
    return holder.get(_as_in_proto(name)) if value is None else value


def members(holder: Any, name: str) -> list[Any]:
    """Return the items of a repeated field, unread."""
    items = _field(holder, name)
    if items is None:
        return []
    if not isinstance(items, list):
        raise UnreadableError(f".{name} is not a list")
    return items


def one(holder: Any, name: str, reader: Callable[..., Any], default: Any, *args: Any) -> Any:
    """Return the value of a single field; `default` if it is absent."""
    value = _field(holder, name)
    if value is None:
        return default
    try:
        return reader(value, *args)
    except UnreadableError as error:
        raise UnreadableError(f".{name}{error}") from None


def each(holder: Any, name: str, reader: Callable[..., Any], *args: Any) -> list[Any]:
    """Return the values of a repeated field."""
    values: list[Any] = []
    items = members(holder, name)
    try:
        for item in items:
            values.append(reader(item, *args))  # noqa: PERF401  # the length is the index of the item that fails
    except UnreadableError as error:
        raise UnreadableError(f".{name}[{len(values)}]{error}") from None
    return values


# --- scalars ---------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Return a string."""
    if not isinstance(value, str):
        raise UnreadableError(" is not text")
    return value


def hex_id(value: Any) -> str:
    """Return an id as `bytes.hex` writes it."""
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise UnreadableError(" is not hex")
    return value.lower()


def fixed64(value: Any) -> int:
    """Return an unsigned integer of 64 bits."""
    return _integer(value, 0, 2**64 - 1)


def _int64(value: Any) -> int:
    return _integer(value, -(2**63), 2**63 - 1)


def _integer(value: Any, low: int, high: int) -> int:
    written = isinstance(value, str) and _INTEGER.fullmatch(value)
    if written or (isinstance(value, float) and value.is_integer()):  # some writers know only doubles
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UnreadableError(f" is not an integer from {low} to {high}")
    return value


def member(value: Any, prefix: str, words: tuple[str, ...]) -> str:
    """Return our word for a value of an enumeration; the first for values that a later OTLP may add."""
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        name = value.removeprefix(prefix)
        return name if name in words else words[0]
    number = _integer(value, -(2**31), 2**31 - 1)
    return words[number] if 0 <= number < len(words) else words[0]


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnreadableError(" is not true or false")
    return value


def _double(value: Any) -> float:
    written = isinstance(value, str) and (value in _NOT_FINITE or _NUMBER.fullmatch(value))
    if not written and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UnreadableError(" is not a number")
    try:
        return float(value)
    except OverflowError:
        raise UnreadableError(" is beyond what a double can hold") from None


def _binary(value: Any) -> bytes:
    try:
        standard = text(value).translate(_URL_SAFE).rstrip("=")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise UnreadableError(" is not base64") from None


# --- values of attributes --------------------------------------------------------------------------


def attributes(holder: Any, name: str = "attributes", depth: int = 0) -> dict[str, Any]:
    """Return a list of `KeyValue` as a dict; the later of two with one key wins."""
    return dict(each(holder, name, _pair, depth))


def _pair(pair: Any, depth: int) -> tuple[str, Any]:
    return one(pair, "key", text, ""), one(pair, "value", _any_value, None, depth)


def _any_value(value: Any, depth: int) -> Any:
    """Return the value of an `AnyValue`; None if it holds no kind that we know."""
    if not isinstance(value, dict):
        raise UnreadableError(" is not an object")
    for name, reader in _VALUES.items():
        if _field(value, name) is not None:
            return one(value, name, reader, None)
    for name, nested_reader in _NESTED.items():
        if _field(value, name) is not None:
            if depth >= MAX_DEPTH:
                raise UnreadableError(f" is nested more than {MAX_DEPTH} deep")
            return one(value, name, nested_reader, None, depth + 1)
    return None


def _array(array: Any, depth: int) -> list[Any]:
    return each(array, "values", lambda inner: None if inner is None else _any_value(inner, depth))


def _kvlist(kvlist: Any, depth: int) -> dict[str, Any]:
    return attributes(kvlist, "values", depth)


_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "stringValue": text,
    "intValue": _int64,
    "boolValue": _boolean,
    "doubleValue": _double,
    "bytesValue": _binary,
}
_NESTED: Mapping[str, Callable[[Any, int], Any]] = {"arrayValue": _array, "kvlistValue": _kvlist}
