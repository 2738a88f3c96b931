"""A dialect is mostly a table; this is what a table is made of and how it is read.

A rule says which field of which part of a `ModelCall` is read from which attributes, and how. Where
several attributes of a span mean the same field the first in the rule that has a usable value wins,
whatever their order on the span. Where two tables are joined, the first one's names win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    prefixes: tuple[tuple[str, str, Reader], ...]
    """`(prefix, part, read)`: the rest of such an attribute's name is the field."""


def table(
    *rules: Rule, prefixes: tuple[tuple[str, str, Reader], ...] = (), base: Table | None = None
) -> Table:
    """A table of `rules`, which win over those of `base` field by field."""
    everything = (*rules, *(base.rules if base else ()))
    by_name: dict[str, tuple[str, str, Reader, int]] = {}
    for place, rule in enumerate(everything):
        for rank, name in enumerate(rule.names):
            by_name.setdefault(name, (rule.part, rule.field, rule.read, place * 100 + rank))
    return Table(everything, by_name, (*prefixes, *(base.prefixes if base else ())))


def apply(rules: Table, attributes: Mapping[str, Any]) -> Parts:
    """All that the table reads out of the attributes."""
    parts: Parts = {part: {} for part in PARTS}
    ranks: dict[tuple[str, str], int] = {}
    by_name = rules.by_name
    for name, value in attributes.items():
        rule = by_name.get(name)
        if rule is None:
            for prefix, part, read in rules.prefixes:
                if name.startswith(prefix):
                    if len(name) > len(prefix) and (found := read(value)) is not None:
                        parts[part][name[len(prefix) :]] = found
                    break
            continue
        part, field, read, rank = rule
        target = parts[part]
        if field in target and ranks[part, field] < rank:
            continue
        found = read(value)
        if found is not None:
            target[field] = found
            ranks[part, field] = rank
    return parts
