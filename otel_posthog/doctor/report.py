"""Findings, and how they are shown: a line each for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["FAILED", "OK", "WARNING", "Finding", "as_json", "as_table", "is_well"]

OK, WARNING, FAILED = "ok", "warning", "failed"


class Finding(NamedTuple):
    """One result of a check."""

    state: str
    """`ok`, `warning` or `failed`."""
    says: str
    """One sentence, with what to do about it."""
    facts: Mapping[str, Any] = {}


def as_table(name: str, finding: Finding) -> str:
    """Return a finding as one line."""
    return f"{finding.state:8}  {name:14}  {finding.says}"


def as_json(findings: list[tuple[str, Finding]]) -> str:
    """Return all findings as JSON: `ok`, and `checks` with state, sentence and facts."""
    checks = [{"check": name, **finding._asdict()} for name, finding in findings]
    return json.dumps({"ok": is_well(findings), "checks": checks}, indent=2)


def is_well(findings: list[tuple[str, Finding]]) -> bool:
    """Whether no check failed; warnings, such as old prices, do not count."""
    return all(finding.state != FAILED for _, finding in findings)
