"""A dialect is mostly a table; this is what a table is made of and how it is read.

A rule says which field of which part of a `ModelCall` is read from which attributes, and how. Where
several attributes of a span mean the same field the first in the rule that has a usable value wins,
whatever their order on the span. A span in two dialects is read by both tables, the first one's names
winning; but of messages and states the richer wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.readers.attribute_values import MAX_LABEL, text
from otel_posthog.conversion.spans.span_view import SpanView

__all__ = [
    "Complete",
    "Dialect",
    "Index",
    "Parts",
    "Plan",
    "Rule",
    "apply",
    "index_of",
    "keep_richer",
    "plan_of",
    "rows",
]

Reader = Callable[[Any], Any]
Parts = dict[str, dict[str, Any]]
"""What was read, by part of the `ModelCall`: see `apply`."""

Step = tuple[str, str, str, Reader]
"""Attribute name, part, field, reader."""


class Plan(NamedTuple):
    """What to read where certain names are present."""

    texts: list[tuple[str, str, str]]
    """What is read by `text` alone."""
    others: list[Step]
    contested: list[Step]
    """Several names of one field: later ones overwrite earlier ones, the best comes last."""


Complete = Callable[[Parts, SpanView], None]
"""Reads what no table can say: attributes with numbers in their names, JSON in JSON, span events."""

RICH = frozenset({"input", "output", "tools", "input_state", "output_state", "embedded"})
"""Fields of a call of which dialects tell more or less, and not just the same in other words."""


class Rule(NamedTuple):
    """`part.field` is what `read` makes of the first of `names` that has a usable value."""

    part: str
    field: str
    read: Reader
    names: tuple[str, ...]


class Dialect(NamedTuple):
    """How the spans of one family of instrumentors are read."""

    name: str
    rules: tuple[Rule, ...]
    prefixes: tuple[tuple[str, str, Reader], ...] = ()
    """`(prefix, part, read)`: the rest of such an attribute's name is the field."""
    kind_of: Callable[[Parts, SpanView], Kind | None] = lambda _parts, _view: None
    """What the span stands for; None where the dialect does not say."""
    complete: Complete | None = None


def rows(part: str, **fields: tuple[Any, ...]) -> tuple[Rule, ...]:
    """Rules of one part: `field=(read, name, name, ...)`."""
    return tuple(Rule(part, field, row[0], row[1:]) for field, row in fields.items())


def apply(plan: Plan, attributes: Mapping[str, Any]) -> Parts:
    """All that the plan reads out of the attributes."""
    parts: Parts = {
        "call": {},
        "usage": {},
        "parameters": {},
        "details": {},
        "context": {},
        "error": {},
        "groups": {},
        "properties": {},
        "flags": {},
    }
    for name, part, field in plan.texts:  # most attributes are text and are read as such
        value = attributes[name]
        if type(value) is not str:
            value = text(value)
        if value:
            parts[part][field] = value if len(value) <= MAX_LABEL else value[:MAX_LABEL]
    for name, part, field, read in plan.others:
        found = read(attributes[name])
        if found is not None:
            parts[part][field] = found
    for name, part, field, read in plan.contested:
        found = read(attributes[name])
        if found is not None:
            if field in RICH:
                keep_richer(parts[part], field, found)
            else:
                parts[part][field] = found
    return parts


def keep_richer(call: dict[str, Any], field_name: str, found: Any) -> None:
    """Put `found` into the field unless what is there tells more."""
    if found and (not call.get(field_name) or richness(found) >= richness(call[field_name])):
        call[field_name] = found


def richness(value: Any) -> int:
    """How much a value tells: the length of all that it holds, without the names it is held under."""
    total, waiting = 0, [value]
    while waiting:  # no recursion: JSON may be nested deeper than Python likes
        found = waiting.pop()
        kind = type(found)
        if kind is dict:
            waiting.extend(found.values())
        elif kind is list or kind is tuple:
            waiting.extend(found)
        elif kind is str or kind is bytes:
            total += len(found)
        elif found is not None:
            total += 1
    return total


class Index(NamedTuple):
    """The rules of some dialects, ready for looking up by attribute name."""

    by_name: Mapping[str, tuple[str, str, Reader, int]]
    """Part, field, reader, and the rank of the name among those of its field: 1 is the best."""
    prefixes: tuple[tuple[str, str, Reader], ...]


def index_of(dialects: Iterable[Dialect]) -> Index:
    """The rules of the dialects; what the first ones say goes before the same of later ones."""
    by_name: dict[str, tuple[str, str, Reader, int]] = {}
    ranks: dict[tuple[str, str], int] = {}
    prefixes: list[tuple[str, str, Reader]] = []
    for dialect in dialects:
        prefixes += dialect.prefixes
        for part, field, read, names in dialect.rules:
            for name in names:
                rank = ranks[part, field] = ranks.get((part, field), 0) + 1
                by_name.setdefault(name, (part, field, read, rank))
    return Index(by_name, tuple(prefixes))


def plan_of(index: Index, names: Iterable[str]) -> Plan:
    """Which of the names are read, and how."""
    ranked: list[tuple[int, Step]] = []
    for name in names:
        part, field, read, rank = index.by_name.get(name) or _by_prefix(index.prefixes, name)
        if part:
            ranked.append((rank, (name, part, field, read)))
    ranked.sort(key=lambda each: -each[0])
    times = Counter((part, field) for _, (_, part, field, _) in ranked)
    alone = [step for _, step in ranked if times[step[1], step[2]] == 1]
    return Plan(
        [(name, part, field) for name, part, field, read in alone if read is text],
        [step for step in alone if step[3] is not text],
        [step for _, step in ranked if times[step[1], step[2]] > 1],
    )


def _by_prefix(prefixes: Iterable[tuple[str, str, Reader]], name: str) -> tuple[str, str, Reader, int]:
    for prefix, part, read in prefixes:
        if name.startswith(prefix) and len(name) > len(prefix):
            # What the application says itself goes before what is in anybody's metadata.
            return part, name[len(prefix) :], read, 0 if prefix.startswith("posthog.") else 1
    return "", "", text, 0
