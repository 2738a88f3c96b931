"""Lists out of attributes with numbers in their names, such as `llm.input_messages.0.message.role`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["listed"]

MAX_INDEX = 100_000
"""A larger number in a name is no index of a list."""
MAX_DEPTH = 24


def listed(attributes: Mapping[str, Any], prefixes: Iterable[str]) -> dict[str, list[Any]]:
    """Return the items, in order, for each of the prefixes (with their last dot) that is present.

    `p.1.a.b = x` is the second item `{"a": {"b": x}}`; missing indexes are skipped. A branch whose names are
    all numbers is a list in turn.
    """
    wanted = tuple(prefixes)
    trees: dict[str, dict[str, Any]] = {}
    for name, value in attributes.items():
        if name.startswith(wanted):
            prefix = next(each for each in wanted if name.startswith(each))
            path = name[len(prefix) :].split(".", MAX_DEPTH)
            if _is_index(path[0]):
                _put(trees.setdefault(prefix, {}), path, value)
    return {prefix: _as_list(tree) for prefix, tree in trees.items()}


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        inner = tree.get(step)
        if not isinstance(inner, _Branch):
            # The branch wins over a value of the same name: `tool_calls.0.id` over `tool_calls`.
            inner = tree[step] = _Branch()
        tree = inner
    if not isinstance(tree.get(path[-1]), _Branch):
        tree[path[-1]] = value


class _Branch(dict[str, Any]):
    """A dict built from names, so that it differs from a value that is a dict."""


def _as_list(tree: dict[str, Any]) -> list[Any]:
    return [_without_branches(tree[index]) for index in sorted(tree, key=int)]


def _without_branches(value: Any) -> Any:
    if not isinstance(value, _Branch):
        return value
    if all(map(_is_index, value)):
        return _as_list(value)
    return {name: _without_branches(inner) for name, inner in value.items()}


def _is_index(step: str) -> bool:
    return step.isdecimal() and step.isascii() and len(step) <= 6 and int(step) <= MAX_INDEX
