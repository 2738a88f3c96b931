"""A dialect is mostly a table; this is what a table is made of and how it is read.

A rule says which field of which part of a `ModelCall` is read from which attributes, and how. Where
several attributes of a span mean the same field the first in the rule that has a usable value wins,
whatever their order on the span. Where two tables are joined, the first one's names win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_posthog.spans.values import text

__all__ = ["Parts", "Rule", "Table", "apply", "table"]

Reader = Callable[[Any], Any]
Parts = dict[str, dict[str, Any]]
"""What was read, by part of the `ModelCall`: see `PARTS`."""

PARTS = (
    "call",
    "usage",
    "parameters",
    "facts",
    "context",
    "error",
    "groups",
    "properties",
    "flags",
    "resource",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`part.field` is what `read` makes of the first of `names` that has a usable value."""

    part: str
    field: str
    read: Reader
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rules, made ready for looking up by attribute name."""

    rules: tuple[Rule, ...]
    by_name: Mapping[str, tuple[str, str, Reader, int]]
    """Part, field, reader, and the rank of the name among those of its field; 0 is the best."""
    prefixes: tuple[tuple[str, str, Reader], ...]
    """`(prefix, part, read)`: the rest of such an attribute's name is the field."""


def table(
    *rules: Rule, prefixes: tuple[tuple[str, str, Reader], ...] = (), base: Table | None = None
) -> Table:
    """A table of `rules` and those of `base`, whose names come after."""
    everything = (*rules, *(base.rules if base else ()))
    names_of: dict[tuple[str, str], list[tuple[str, Reader]]] = {}
    for rule in everything:
        names_of.setdefault((rule.part, rule.field), []).extend((name, rule.read) for name in rule.names)
    by_name: dict[str, tuple[str, str, Reader, int]] = {}
    for (part, field), names in names_of.items():
        for rank, (name, read) in enumerate(names):
            by_name.setdefault(name, (part, field, read, rank))
    return Table(everything, by_name, (*prefixes, *(base.prefixes if base else ())))


def apply(rules: Table, attributes: Mapping[str, Any]) -> Parts:
    """All that the table reads out of the attributes."""
    parts: Parts = {part: {} for part in PARTS}
    older: dict[str, int] = {}
    """Fields that an older name has filled so far, and that name's rank."""
    lookup = rules.by_name.get
    for name, value in attributes.items():
        rule = lookup(name)
        if rule is None:
            _by_prefix(rules, parts, name, value)
            continue
        part, field, read, rank = rule
        target = parts[part]
        if rank and field in target and older.get(part + field, 0) < rank:
            continue
        # Most attributes are text and are read as such; for them the call is spared.
        found = (value or None) if read is text and type(value) is str else read(value)
        if found is not None:
            target[field] = found
            if rank:
                older[part + field] = rank
            elif older:
                older.pop(part + field, None)
    return parts


def _by_prefix(rules: Table, parts: Parts, name: str, value: Any) -> None:
    for prefix, part, read in rules.prefixes:
        if name.startswith(prefix):
            if len(name) > len(prefix) and (found := read(value)) is not None:
                parts[part][name[len(prefix) :]] = found
            return
