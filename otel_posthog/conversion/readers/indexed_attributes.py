"""Attributes that spell a list out, `llm.input_messages.0.message.role`, put together again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["listed"]

MAX_INDEX = 100_000
"""A larger number in a name is no position of anything."""
MAX_DEPTH = 24


def listed(attributes: Mapping[str, Any], prefixes: Iterable[str]) -> dict[str, list[Any]]:
    """For each of the prefixes (with their last dot) that is there: its items, in order.

    `p.1.a.b = x` is `{"a": {"b": x}}` in second place; a missing place takes none. Names whose parts are
    all numbers are lists in turn.
    """
    wanted = tuple(prefixes)
    trees: dict[str, dict[str, Any]] = {}
    for name, value in attributes.items():
        if name.startswith(wanted):
            prefix = next(each for each in wanted if name.startswith(each))
            path = name[len(prefix) :].split(".", MAX_DEPTH)
            if _is_place(path[0]):
                _put(trees.setdefault(prefix, {}), path, value)
    return {prefix: _as_list(tree) for prefix, tree in trees.items()}


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        inner = tree.get(step)
        if not isinstance(inner, _Branch):
            # A value where a branch is as well: `tool_calls` beside `tool_calls.0.id`.
            inner = tree[step] = _Branch()
        tree = inner
    if not isinstance(tree.get(path[-1]), _Branch):
        tree[path[-1]] = value


class _Branch(dict[str, Any]):
    """Made of names, and so told from a value that is a map."""


def _as_list(tree: dict[str, Any]) -> list[Any]:
    return [_finished(tree[place]) for place in sorted(tree, key=int)]


def _finished(value: Any) -> Any:
    if not isinstance(value, _Branch):
        return value
    if all(map(_is_place, value)):
        return _as_list(value)
    return {name: _finished(inner) for name, inner in value.items()}


def _is_place(step: str) -> bool:
    return step.isdecimal() and step.isascii() and len(step) <= 6 and int(step) <= MAX_INDEX
