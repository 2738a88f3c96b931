"""Findings, and how they are shown: a line each for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["FAILED", "OK", "WARNING", "Finding", "as_json", "as_table", "is_well"]

OK, WARNING, FAILED = "ok", "warning", "failed"


class Finding(NamedTuple):
    """What a check found."""

    state: str
    """`ok`, `warning` or `failed`."""
    says: str
    """One sentence, with what to do about it."""
    facts: Mapping[str, Any] = {}


def as_table(name: str, found: Finding) -> str:
    """A finding as one line."""
    return f"{found.state:8}  {name:14}  {found.says}"


def as_json(findings: list[tuple[str, Finding]]) -> str:
    """All findings, for programs."""
    checks = [{"check": name, **found._asdict()} for name, found in findings]
    return json.dumps({"ok": is_well(findings), "checks": checks}, indent=2)


def is_well(findings: list[tuple[str, Finding]]) -> bool:
    """Whether nothing has failed; a warning, as of old prices, is to be read."""
    return all(found.state != FAILED for _, found in findings)
