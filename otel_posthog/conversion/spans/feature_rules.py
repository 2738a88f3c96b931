"""Features named by attributes of the spans above a call: a route, a function, a queue."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["FeatureRules"]


class FeatureRules:
    """Rules of attribute, pattern (`*` and `?` as in a shell) and feature; the first that matches wins.

    `{}` in a feature stands for the attribute's value.
    """

    def __init__(self, rules: Iterable[tuple[str, str, str]]) -> None:
        self._rules = [(name, re.compile(fnmatch.translate(glob)), feature) for name, glob, feature in rules]
        self.names = frozenset(name for name, _, _ in self._rules)
        """The attributes that the rules read."""

    def feature_of(self, attributes: Mapping[str, Any]) -> str | None:
        """Return the feature of a span with these attributes; None if no rule matches."""
        if self.names.isdisjoint(attributes):
            return None
        for name, pattern, feature in self._rules:
            value = attributes.get(name)
            if value is not None and pattern.match(str(value)):
                return feature.replace("{}", str(value))
        return None
