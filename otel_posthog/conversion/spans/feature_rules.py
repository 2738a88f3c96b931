"""Which feature a span is of, by what a span above it says of where it is: a route, a function, a queue."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["FeatureRules", "Rule"]


class Rule(NamedTuple):
    """A span whose attribute matches the pattern (`*` and `?` as in a shell) is of the feature."""

    attribute: str
    pattern: str
    feature: str
    """`{}` in it stands for the attribute's value."""


class FeatureRules:
    """Rules, the first that fits counts."""

    def __init__(self, rules: Iterable[tuple[str, str, str]]) -> None:
        self._rules = [(name, re.compile(fnmatch.translate(glob)), word) for name, glob, word in rules]
        self.names = frozenset(name for name, _, _ in self._rules)
        """The attributes that are asked for."""

    def feature_of(self, attributes: Mapping[str, Any]) -> str | None:
        """The feature of a span with these attributes, as far as they tell."""
        if self.names.isdisjoint(attributes):
            return None
        for name, pattern, feature in self._rules:
            value = attributes.get(name)
            if value is not None and pattern.match(str(value)):
                return feature.replace("{}", str(value))
        return None
