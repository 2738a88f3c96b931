"""A dialect is mostly a table; this is what a table is made of and how it is read.

A rule says which field of which part of a `ModelCall` is read from which attributes, and how. Where
several attributes of a span mean the same field the first in the rule that has a usable value wins,
whatever their order on the span. Where two tables are joined, the first one's names win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_posthog.spans.values import MAX_LABEL, text

__all__ = ["Parts", "Rule", "Table", "apply", "table"]

Reader = Callable[[Any], Any]
Parts = dict[str, dict[str, Any]]
"""What was read, by part of the `ModelCall`: see `apply`."""

Plan = list[tuple[str, str, str, Reader]]
"""Attribute name, part, field, reader: later ones overwrite earlier ones."""

_MAX_PLANS = 512
_MAX_PLANNED_NAMES = 128
"""Spans with more attributes than this hardly share their names with others."""


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
    plans: dict[tuple[str, ...], Plan] = field(default_factory=dict)
    """What to read where certain names are present. The spans of one call site have the same names."""


def table(
    *rules: Rule, prefixes: tuple[tuple[str, str, Reader], ...] = (), base: Table | None = None
) -> Table:
    """A table of `rules` and those of `base`, whose names come after."""
    everything = (*rules, *(base.rules if base else ()))
    names_of: dict[tuple[str, str], list[tuple[str, Reader]]] = {}
    for rule in everything:
        names_of.setdefault((rule.part, rule.field), []).extend((name, rule.read) for name in rule.names)
    by_name: dict[str, tuple[str, str, Reader, int]] = {}
    for (part, name_of_field), names in names_of.items():
        for rank, (name, read) in enumerate(names):
            by_name.setdefault(name, (part, name_of_field, read, rank))
    return Table(everything, by_name, (*prefixes, *(base.prefixes if base else ())))


def apply(rules: Table, attributes: Mapping[str, Any]) -> Parts:
    """All that the table reads out of the attributes."""
    parts: Parts = {
        "call": {},
        "usage": {},
        "parameters": {},
        "facts": {},
        "context": {},
        "error": {},
        "groups": {},
        "properties": {},
        "flags": {},
    }
    names = tuple(attributes)
    plan = rules.plans.get(names)
    for name, part, field_name, read in _plan(rules, names) if plan is None else plan:
        value = attributes[name]
        # Most attributes are text and are read as such; for them the call is spared.
        found = (value[:MAX_LABEL] or None) if read is text and type(value) is str else read(value)
        if found is not None:
            parts[part][field_name] = found
    return parts


def _plan(rules: Table, names: tuple[str, ...]) -> Plan:
    """Which of the names are read, and how: the best name of a field comes last."""
    ranked = []
    for name in names:
        part, field_name, read, rank = rules.by_name.get(name) or _by_prefix(rules.prefixes, name)
        if part:
            ranked.append((rank, (name, part, field_name, read)))
    ranked.sort(key=lambda each: -each[0])
    plan = [each for _, each in ranked]
    if len(names) <= _MAX_PLANNED_NAMES:
        if len(rules.plans) >= _MAX_PLANS:
            rules.plans.clear()
        rules.plans[names] = plan
    return plan


def _by_prefix(prefixes: Iterable[tuple[str, str, Reader]], name: str) -> tuple[str, str, Reader, int]:
    for prefix, part, read in prefixes:
        if name.startswith(prefix) and len(name) > len(prefix):
            return part, name[len(prefix) :], read, 0
    return "", "", text, 0
