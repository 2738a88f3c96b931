"""The table that most of a dialect is, and how it is applied to the attributes of a span.

A rule names the attributes of one field of one part of a `ModelCall`, and their reader. If several attributes
of a span mean the same field, the first in the rule with a usable value wins, in whatever order the span has
them. A span in two dialects is read by both tables: the attributes of the first win, but of messages and
states the richer win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from otel_posthog.conversion.model_call import Kind, richness
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
"""Returns the value of an attribute in our terms, or None if it is not usable."""
Parts = dict[str, dict[str, Any]]
"""Fields by part of the `ModelCall`: the result of `apply`."""

Step = tuple[str, str, str, Reader]
"""Attribute name, part, field, reader."""


class Plan(NamedTuple):
    """The steps that read a span with certain attribute names."""

    texts: list[tuple[str, str, str]]
    """Steps whose reader is `text`."""
    others: list[Step]
    contested: list[Step]
    """Steps of fields with several names present: later steps overwrite earlier ones, the best is last."""


Complete = Callable[[Parts, SpanView], None]
"""Reads what no table can express: attributes with numbers in their names, JSON in JSON, span events."""

RICH = frozenset({"input", "output", "tools", "input_state", "output_state", "embedded"})
"""Fields of a call that one attribute may hold in more detail than another."""


class Rule(NamedTuple):
    """`part.field` is the value that `reader` returns for the first of `names` with a usable value."""

    part: str
    field: str
    reader: Reader
    names: tuple[str, ...]


class Dialect(NamedTuple):
    """How to read the spans of one family of instrumentors."""

    name: str
    rules: tuple[Rule, ...]
    prefixes: tuple[tuple[str, str, Reader], ...] = ()
    """`(prefix, part, reader)`: the rest of such an attribute's name is the field."""
    kind_of: Callable[[Parts, SpanView], Kind | None] = lambda _parts, _view: None
    """Returns the kind of the span; None if the dialect does not know."""
    complete: Complete | None = None


def rows(part: str, **fields: tuple[Any, ...]) -> tuple[Rule, ...]:
    """Return the rules of one part, given as `field=(reader, name, name, ...)`."""
    return tuple(Rule(part, field, row[0], row[1:]) for field, row in fields.items())


def apply(plan: Plan, attributes: Mapping[str, Any]) -> Parts:
    """Return all that the plan reads from the attributes."""
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
    for name, part, field in plan.texts:  # most attributes are texts, with `text` as their reader
        value = attributes[name]
        if type(value) is not str:
            value = text(value)
        if value:
            parts[part][field] = value if len(value) <= MAX_LABEL else value[:MAX_LABEL]
    for name, part, field, reader in plan.others:
        value = reader(attributes[name])
        if value is not None:
            parts[part][field] = value
    for name, part, field, reader in plan.contested:
        value = reader(attributes[name])
        if value is not None:
            if field in RICH:
                keep_richer(parts[part], field, value)
            else:
                parts[part][field] = value
    return parts


def keep_richer(call: dict[str, Any], field: str, value: Any) -> None:
    """Put the value into the field unless the field holds more."""
    if value and (not call.get(field) or richness(value) >= richness(call[field])):
        call[field] = value


class Index(NamedTuple):
    """The rules of some dialects, by attribute name."""

    by_name: Mapping[str, tuple[str, str, Reader, int]]
    """Part, field, reader, and the rank of the name among those of its field: 1 is the best."""
    prefixes: tuple[tuple[str, str, Reader], ...]


def index_of(dialects: Iterable[Dialect]) -> Index:
    """Return the rules of the dialects; names of earlier dialects rank before those of later ones."""
    by_name: dict[str, tuple[str, str, Reader, int]] = {}
    ranks: dict[tuple[str, str], int] = {}
    prefixes: list[tuple[str, str, Reader]] = []
    for dialect in dialects:
        prefixes += dialect.prefixes
        for part, field, reader, names in dialect.rules:
            for name in names:
                rank = ranks[part, field] = ranks.get((part, field), 0) + 1
                by_name.setdefault(name, (part, field, reader, rank))
    return Index(by_name, tuple(prefixes))


def plan_of(index: Index, names: Iterable[str]) -> Plan:
    """Return the steps that read a span with these attribute names."""
    ranked: list[tuple[int, Step]] = []
    for name in names:
        part, field, reader, rank = index.by_name.get(name) or _by_prefix(index.prefixes, name)
        if part:
            ranked.append((rank, (name, part, field, reader)))
    ranked.sort(key=lambda each: -each[0])
    times = Counter((part, field) for _, (_, part, field, _) in ranked)
    alone = [step for _, step in ranked if times[step[1], step[2]] == 1]
    return Plan(
        [(name, part, field) for name, part, field, reader in alone if reader is text],
        [step for step in alone if step[3] is not text],
        [step for _, step in ranked if times[step[1], step[2]] > 1],
    )


def _by_prefix(prefixes: Iterable[tuple[str, str, Reader]], name: str) -> tuple[str, str, Reader, int]:
    for prefix, part, reader in prefixes:
        if name.startswith(prefix) and len(name) > len(prefix):
            # The application's own properties rank before those in a library's metadata.
            return part, name[len(prefix) :], reader, 0 if prefix.startswith("posthog.") else 1
    return "", "", text, 0
