"""Readers of single fields of OTLP/JSON: protobuf's JSON mapping, with ids in hex.

The rules are those of protobuf.dev/programming-guides/json and of
opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: 64-bit integers are texts or numbers, enumerations
numbers or names, fields in camel case or as in the .proto, null is absent, what is unknown is passed over.

An `UnreadableError` reads as the rest of a path and what is wrong there (".value.intValue is not ..."):
whoever knows the way to a place puts it before.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

__all__ = ["UnreadableError", "attributes", "each", "fixed64", "hex_id", "member", "members", "one", "text"]

MAX_DEPTH = 64
"""Lists and maps around a value. Protobuf's readers stop at 100 messages, which is 47 lists."""

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_URL_SAFE = str.maketrans("-_", "+/")


class UnreadableError(ValueError):
    """A place in a document, and what is wrong there."""


# --- objects and lists -----------------------------------------------------------------------------


@cache
def _as_in_proto(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _field(holder: Any, name: str) -> Any:
    """What an object has under a name; None where it is absent or null."""
    if not isinstance(holder, dict):
        raise UnreadableError(" is not an object")
    found = holder.get(name)
    return holder.get(_as_in_proto(name)) if found is None else found


def members(holder: Any, name: str) -> list[Any]:
    """A repeated field, unread."""
    found = _field(holder, name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise UnreadableError(f".{name} is not a list")
    return found


def one(holder: Any, name: str, read: Callable[..., Any], default: Any, *args: Any) -> Any:
    """A single field, read."""
    found = _field(holder, name)
    if found is None:
        return default
    try:
        return read(found, *args)
    except UnreadableError as error:
        raise UnreadableError(f".{name}{error}") from None


def each(holder: Any, name: str, read: Callable[..., Any], *args: Any) -> list[Any]:
    """A repeated field, every member read."""
    made: list[Any] = []
    unread = members(holder, name)
    try:
        for found in unread:
            made.append(read(found, *args))  # noqa: PERF401  # its length is the index of what fails
    except UnreadableError as error:
        raise UnreadableError(f".{name}[{len(made)}]{error}") from None
    return made


# --- scalars ---------------------------------------------------------------------------------------


def text(found: Any) -> str:
    """A string."""
    if not isinstance(found, str):
        raise UnreadableError(" is not text")
    return found


def hex_id(found: Any) -> str:
    """An id as `bytes.hex` writes it."""
    if not isinstance(found, str) or not _HEX.fullmatch(found):
        raise UnreadableError(" is not hex")
    return found.lower()


def fixed64(found: Any) -> int:
    """An unsigned integer of 64 bits."""
    return _integer(found, 0, 2**64 - 1)


def _int64(found: Any) -> int:
    return _integer(found, -(2**63), 2**63 - 1)


def _integer(found: Any, low: int, high: int) -> int:
    written = isinstance(found, str) and _INTEGER.fullmatch(found)
    if written or (isinstance(found, float) and found.is_integer()):  # some writers know only doubles
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        raise UnreadableError(f" is not an integer from {low} to {high}")
    return found


def member(found: Any, prefix: str, ours: tuple[str, ...]) -> str:
    """A value of an enumeration, in our words for them; what a later OTLP may add is as the first."""
    if isinstance(found, str) and not _INTEGER.fullmatch(found):
        name = found.removeprefix(prefix)
        return name if name in ours else ours[0]
    number = _integer(found, -(2**31), 2**31 - 1)
    return ours[number] if 0 <= number < len(ours) else ours[0]


def _boolean(found: Any) -> bool:
    if not isinstance(found, bool):
        raise UnreadableError(" is not true or false")
    return found


def _double(found: Any) -> float:
    written = isinstance(found, str) and (found in _NOT_FINITE or _NUMBER.fullmatch(found))
    if not written and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise UnreadableError(" is not a number")
    try:
        return float(found)
    except OverflowError:
        raise UnreadableError(" is beyond what a double can hold") from None


def _binary(found: Any) -> bytes:
    try:
        standard = text(found).translate(_URL_SAFE).rstrip("=")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise UnreadableError(" is not base64") from None


# --- values of attributes --------------------------------------------------------------------------


def attributes(holder: Any, name: str = "attributes", depth: int = 0) -> dict[str, Any]:
    """A list of `KeyValue`, as a dict; of two with one key the later."""
    return dict(each(holder, name, _pair, depth))


def _pair(pair: Any, depth: int) -> tuple[str, Any]:
    return one(pair, "key", text, ""), one(pair, "value", _any_value, None, depth)


def _any_value(value: Any, depth: int) -> Any:
    """An `AnyValue`; None where it holds nothing that we know."""
    if not isinstance(value, dict):
        raise UnreadableError(" is not an object")
    for name, read in _VALUES.items():
        if _field(value, name) is not None:
            return one(value, name, read, None)
    for name, read_inner in _NESTED.items():
        if _field(value, name) is not None:
            if depth >= MAX_DEPTH:
                raise UnreadableError(f" is nested more than {MAX_DEPTH} deep")
            return one(value, name, read_inner, None, depth + 1)
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
